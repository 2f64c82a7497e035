/**
 * An NVMe command, as it lies in a submission queue.
 *
 * @module
 */

/** Bytes of a command. */
export const COMMAND_SIZE = 64;

/** A command. Its bytes are replaced by the next one. */
export class Command {
  /** The 16 dwords of the queue's entry. */
  readonly words = new Uint32Array(COMMAND_SIZE / 4);
  readonly #longs = new BigUint64Array(this.words.buffer);

  /** The opcode. */
  get opcode(): number {
    return this.words[0]! & 0xff;
  }

  /** Bits 1:0 are FUSE, bits 7:6 are PSDT. */
  get flags(): number {
    return this.words[0]! >>> 8 & 0xff;
  }

  /** The driver's number of the command. */
  get id(): number {
    return this.words[0]! >>> 16;
  }

  /** The namespace that it is about. */
  get namespace(): number {
    return this.dword(1);
  }

  /** The address at which the data begin. */
  get prp1(): bigint {
    return this.long(6);
  }

  /** The second page of the data, or a list of the further ones. */
  get prp2(): bigint {
    return this.long(8);
  }

  /** The first block of an I/O command; beyond 2^53 about that: no disk has so many. */
  get firstBlock(): number {
    return this.words[11]! * 2 ** 32 + this.words[10]!;
  }

  /** The number of blocks that an I/O command is about. */
  get blockCount(): number {
    return this.word(12, 0) + 1;
  }

  /** One of the 16 dwords. */
  dword(index: number): number {
    return this.words[index]!;
  }

  /** The 64 bits that begin with an even dword. */
  long(index: number): bigint {
    return this.#longs[index / 2]!;
  }

  /** The lower (0) or upper (1) half of a dword. */
  word(index: number, half: 0 | 1): number {
    return this.words[index]! >>> 16 * half & 0xffff;
  }
}
