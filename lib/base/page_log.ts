/**
 * Pages of an IOVA space that were written, as bits. The server's log and the client's own count
 * are made of it.
 *
 * @module
 */

import { MAX_DIRTY_LOG_SIZE } from "./limits.ts";

/** Bytes of the bitmap that are allocated together: 4096 pages. */
const CHUNK_SIZE = 512;
const CHUNK_PAGES = CHUNK_SIZE * 8;

/** A part of an IOVA space, from an address to the first one behind it. */
export interface Span {
  /** The first address. */
  readonly start: bigint;
  /** The first address behind it. */
  readonly end: bigint;
}

/**
 * Pages that were written. Memory is used for those only, and never more than a bound: beyond it
 * all pages count as written.
 */
export class PageLog {
  readonly #pageSize: bigint;
  readonly #shift: bigint;
  readonly #chunks = new Map<number, Uint8Array>(); // bitmaps by page number / CHUNK_PAGES
  readonly #maxChunks: number;
  #isFull = false;

  /**
   * A log of which no page is written.
   *
   * @param pageSize bytes of a page, a power of two from 4096
   * @param maxSize bytes that it may use
   */
  constructor(pageSize: bigint, maxSize: number = MAX_DIRTY_LOG_SIZE) {
    this.#pageSize = pageSize;
    this.#shift = BigInt(pageSize.toString(2).length - 1);
    this.#maxChunks = Math.floor(maxSize / CHUNK_SIZE);
  }

  /** Counts the pages as written that the `length` bytes from an address on are in. */
  mark(iova: bigint, length: number | bigint): void {
    if (this.#isFull || BigInt(length) === 0n) return;
    const first = Number(iova >> this.#shift);
    const last = Number((iova + BigInt(length) - 1n) >> this.#shift);
    const lastChunk = Math.floor(last / CHUNK_PAGES);
    for (let index = Math.floor(first / CHUNK_PAGES); index <= lastChunk; index++) {
      const bitmap = this.#chunk(index);
      if (bitmap === undefined) return;
      const page = index * CHUNK_PAGES;
      setBits(bitmap, Math.max(first - page, 0), Math.min(last - page + 1, CHUNK_PAGES));
    }
  }

  /** The bitmap for a chunk. None if that is too many: from then on all pages count as written. */
  #chunk(index: number): Uint8Array | undefined {
    let bitmap = this.#chunks.get(index);
    if (bitmap === undefined) {
      if (this.#chunks.size >= this.#maxChunks) {
        this.#isFull = true;
        this.#chunks.clear();
        return undefined;
      }
      this.#chunks.set(index, bitmap = new Uint8Array(CHUNK_SIZE));
    }
    return bitmap;
  }

  /**
   * Sets the bits of what was written of a span, and forgets that it was. Pages of another size
   * than the log's are written if a part of them is, or if what they are a part of is.
   *
   * @param pageSize bytes of a page in `into`, a power of two; the span begins and ends with one
   * @param into one bit a page, the lowest first
   */
  collect({ start, end }: Span, pageSize: bigint, into: Uint8Array): void {
    const length = Number(end - start);
    const reported = Number(pageSize);
    if (this.#isFull) return setBits(into, 0, length / reported);
    const first = Number(start >> this.#shift);
    const last = Number((end - 1n) >> this.#shift);
    const logged = Number(this.#pageSize);
    for (const index of this.#chunksBetween(first, last)) {
      const bitmap = this.#chunks.get(index)!;
      // Offsets from the start of the span are exact as numbers: each is a multiple of the smaller
      // page size, and a bitmap that fits a message has 2^23 pages at most.
      const base = Number((BigInt(index * CHUNK_PAGES) << this.#shift) - start);
      for (let byte = 0; byte < CHUNK_SIZE; byte++) {
        for (let bits = bitmap[byte]!; bits !== 0; bits &= bits - 1) {
          const bit = 31 - Math.clz32(bits & -bits);
          const page = index * CHUNK_PAGES + byte * 8 + bit;
          if (page < first || page > last) continue;
          const at = base + (byte * 8 + bit) * logged;
          setBits(
            into,
            Math.floor(Math.max(at, 0) / reported),
            Math.ceil(Math.min(at + logged, length) / reported),
          );
          // A page of which only a part was asked about stays written.
          if (at >= 0 && at + logged <= length) bitmap[byte]! &= ~(1 << bit);
        }
      }
    }
  }

  /** The chunks that hold one of these pages at least: there are few, however long the span is. */
  #chunksBetween(first: number, last: number): number[] {
    const from = Math.floor(first / CHUNK_PAGES);
    const to = Math.floor(last / CHUNK_PAGES);
    return [...this.#chunks.keys()].filter((index) => index >= from && index <= to);
  }
}

/** Bytes of the bitmap of so many bytes of memory: one bit a page, in whole u64s. */
export function bitmapSize(length: bigint, pageSize: bigint): bigint {
  return (length / pageSize + 63n) / 64n * 8n;
}

/** Tells whether a number is a power of two. */
export function isPowerOfTwo(value: bigint): boolean {
  return value > 0n && (value & (value - 1n)) === 0n;
}

/** Sets the bits from one to another, exclusive. */
export function setBits(bitmap: Uint8Array, from: number, to: number): void {
  for (let bit = from; bit < to;) {
    if (bit % 8 === 0 && to - bit >= 8) {
      bitmap.fill(0xff, bit / 8, Math.floor(to / 8));
      bit = to - to % 8;
      continue;
    }
    bitmap[Math.floor(bit / 8)]! |= 1 << (bit % 8);
    bit++;
  }
}
