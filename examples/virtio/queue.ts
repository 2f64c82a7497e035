/**
 * A split virtqueue (Virtio 1.2, section 2.7), as a device sees it. The rings are in the driver's
 * memory, and the driver may write anything there at any time. So each number is read once, and
 * compared with the queue before it is used.
 *
 * @module
 */

import type { DeviceContext } from "../../mod.ts";

/** The most buffers that a queue may have here. */
export const MAX_SIZE = 256;

/** Bytes that are copied at once: others may have their turn in between. */
const PIECE = 1 << 20;

/** Flags of a descriptor. */
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** The flag of the available ring: the driver wants no interrupt. */
const NO_INTERRUPT = 1;

/** A driver that does not keep the rules. Only a reset of the device gets over that. */
export class QueueError extends Error {}

/** The places of a queue's three parts, by IOVA, and the number of its descriptors. */
export interface QueuePlace {
  readonly size: number;
  readonly descriptors: bigint;
  readonly available: bigint;
  readonly used: bigint;
}

/** A range of the driver's memory. */
export interface Segment {
  readonly at: bigint;
  readonly length: number;
}

/** A buffer of the driver: first what the device reads, then what it writes. */
export interface Chain {
  /** The index of its first descriptor. */
  readonly head: number;
  readonly readable: readonly Segment[];
  readonly writable: readonly Segment[];
}

/** The queue. Its buffers are used in the order in which they became available. */
export class Virtqueue {
  /** The number of buffers that were taken, modulo 2^16: the index of both rings. */
  taken = 0;
  readonly #dma: DeviceContext["dma"];
  #place: QueuePlace = { size: 1, descriptors: 0n, available: 0n, used: 0n };

  constructor(dma: DeviceContext["dma"]) {
    this.#dma = dma;
  }

  /** From here on the queue is there. Throws a `QueueError` if it can't be there. */
  place(place: QueuePlace): void {
    const { size, descriptors, available, used } = place;
    if (size < 1 || size > MAX_SIZE || (size & (size - 1)) !== 0) {
      throw new QueueError(`a queue has 1, 2, 4 ... ${MAX_SIZE} descriptors, not ${size}`);
    }
    if (descriptors % 16n !== 0n || available % 2n !== 0n || used % 4n !== 0n) {
      throw new QueueError("the parts of a queue begin at multiples of 16, 2 and 4 bytes");
    }
    this.#place = place;
  }

  /** Takes the next buffer, if there is one. Throws a `QueueError` for one that can't be. */
  async take(): Promise<Chain | undefined> {
    const { size, available } = this.#place;
    const waiting = ((await this.#load16(available + 2n)) - this.taken) & 0xffff;
    if (waiting > size) throw new QueueError(`${waiting} buffers are in a queue of ${size}`);
    if (waiting === 0) return undefined;
    const entry = await this.#load16(available + 4n + 2n * BigInt(this.taken % size));
    const chain = await this.#chain(entry);
    this.taken = (this.taken + 1) & 0xffff;
    return chain;
  }

  /**
   * Tells the driver that the buffer which was taken last is done.
   *
   * @param written bytes that were written to it, from the start of what is writable
   * @returns true if the driver wants an interrupt
   */
  async finish({ head }: Chain, written: number): Promise<boolean> {
    const { size, available, used } = this.#place;
    const last = (this.taken - 1) & 0xffff;
    const element = used + 4n + 8n * BigInt(last % size);
    await this.#dma.copyFrom(element, Uint32Array.of(head, written));
    // The flags, which are 0, and the index, in one access: the driver sees no half of it.
    await this.#dma.copyFrom(used, Uint32Array.of(this.taken << 16));
    return ((await this.#load16(available)) & NO_INTERRUPT) === 0;
  }

  /** Follows a chain of descriptors, of which there are no more than the queue has. */
  async #chain(head: number): Promise<Chain> {
    const { size, descriptors } = this.#place;
    const [readable, writable]: [Segment[], Segment[]] = [[], []];
    const bytes = new DataView(new ArrayBuffer(16));
    for (let index = head, left = size;; left--) {
      if (index >= size) throw new QueueError(`there is no descriptor ${index} of ${size}`);
      if (left === 0) throw new QueueError(`the chain at descriptor ${head} has a loop`);
      await this.#dma.copyTo(descriptors + 16n * BigInt(index), new Uint8Array(bytes.buffer));
      const flags = bytes.getUint16(12, true);
      if ((flags & INDIRECT) !== 0) throw new QueueError(`descriptor ${index} is indirect`);
      const isWritable = (flags & WRITE) !== 0;
      if (!isWritable && writable.length > 0) {
        throw new QueueError(`descriptor ${index} is to be read, behind one to be written`);
      }
      const segment = { at: bytes.getBigUint64(0, true), length: bytes.getUint32(8, true) };
      (isWritable ? writable : readable).push(segment);
      if ((flags & NEXT) === 0) return { head, readable, writable };
      index = bytes.getUint16(14, true);
    }
  }

  /** Reads a number that the driver changes meanwhile, in one access. */
  async #load16(at: bigint): Promise<number> {
    const shared = this.#dma.window(at, 2)?.getUint16(at);
    return shared ?? new DataView((await this.#dma.read(at, 2)).buffer).getUint16(0, true);
  }
}

/** The number of bytes of segments. */
export function sizeOf(segments: readonly Segment[]): number {
  return segments.reduce((size, { length }) => size + length, 0);
}

/** Cuts `length` bytes from byte `start` on out of segments, in pieces of 1 MiB at most. */
export function* cut(
  segments: Iterable<Segment>,
  start: number,
  length: number,
): Generator<Segment> {
  for (const { at, length: size } of segments) {
    const skipped = Math.min(start, size);
    const end = Math.min(size, skipped + length);
    for (let from = skipped; from < end; from += PIECE) {
      yield { at: at + BigInt(from), length: Math.min(PIECE, end - from) };
    }
    start -= skipped;
    length -= end - skipped;
  }
}
