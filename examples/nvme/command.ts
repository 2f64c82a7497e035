/**
 * An NVMe command, as it lies in a submission queue.
 *
 * @module
 */

/** Bytes of a command. */
export const COMMAND_SIZE = 64;

/** A command. Its bytes are replaced by the next one. */
export class Command {
  /** The 64 bytes of the queue's entry. */
  readonly bytes = new Uint8Array(COMMAND_SIZE);
  readonly #view = new DataView(this.bytes.buffer);

  /** The opcode. */
  get opcode(): number {
    return this.bytes[0]!;
  }

  /** Bits 1:0 are FUSE, bits 7:6 are PSDT. */
  get flags(): number {
    return this.bytes[1]!;
  }

  /** The driver's number of the command. */
  get id(): number {
    return this.#view.getUint16(2, true);
  }

  /** The namespace that it is about. */
  get namespace(): number {
    return this.dword(1);
  }

  /** The address at which the data begin. */
  get prp1(): bigint {
    return this.#view.getBigUint64(24, true);
  }

  /** The second page of the data, or a list of the further ones. */
  get prp2(): bigint {
    return this.#view.getBigUint64(32, true);
  }

  /** The first block of an I/O command, in dwords 10 and 11. */
  get firstBlock(): bigint {
    return this.#view.getBigUint64(40, true);
  }

  /** The number of blocks that an I/O command is about. */
  get blockCount(): number {
    return this.word(12, 0) + 1;
  }

  /** One of the 16 dwords. */
  dword(index: number): number {
    return this.#view.getUint32(index * 4, true);
  }

  /** The lower (0) or upper (1) half of a dword. */
  word(index: number, half: 0 | 1): number {
    return this.#view.getUint16(index * 4 + half * 2, true);
  }
}
