/**
 * Which pages of the client's memory a device has written (specification: "VFIO_DEVICE_FEATURE_DMA_LOGGING_START" and its
 * companions).
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { MAX_DIRTY_LOG_SIZE, MAX_LOGGING_RANGES, MIN_LOGGING_PAGE_SIZE } from "../limits.ts";
import type { DmaLoggingReportData, DmaLoggingStartData } from "../wire/feature.ts";
import { DeviceError } from "./device.ts";

/** The first address that 64 bits do not hold. */
const ADDRESS_END = 1n << 64n;
/** Bytes of the bitmap that are allocated together: 4096 pages. */
const CHUNK_SIZE = 512;
const CHUNK_PAGES = CHUNK_SIZE * 8;
/** Page numbers of different sizes are compared in units of the smallest page: they are exact as numbers. */
const UNIT = BigInt(MIN_LOGGING_PAGE_SIZE);

/** From an address to the one behind the last. */
interface Span {
  readonly start: bigint;
  readonly end: bigint;
}

/** A log that is on. Memory is used for what was written only, and never more than a bound. */
export class DirtyLog {
  readonly #pageSize: bigint;
  readonly #shift: bigint;
  readonly #spans: readonly Span[]; // by address, with gaps between them
  readonly #chunks = new Map<number, Uint8Array>(); // bitmaps by page number / CHUNK_PAGES
  readonly #maxChunks: number;
  #isFull = false;

  /**
   * Starts a log.
   *
   * @param ranges what is logged; all of the memory if there are none
   * @param maxSize bytes that it may use
   * @throws {DeviceError} EINVAL if the page size is no power of two from 4 KiB, or a range is none
   */
  constructor({ pageSize, ranges }: DmaLoggingStartData, maxSize: number = MAX_DIRTY_LOG_SIZE) {
    checkPageSize(pageSize);
    this.#pageSize = pageSize;
    this.#shift = BigInt(pageSize.toString(2).length - 1);
    this.#spans = joinRanges(ranges, pageSize);
    this.#maxChunks = Math.floor(maxSize / CHUNK_SIZE);
  }

  /** Whether another request would start the same. */
  isSame(start: DmaLoggingStartData): boolean {
    const other = new DirtyLog(start);
    return other.#pageSize === this.#pageSize && other.#spans.length === this.#spans.length &&
      other.#spans.every(({ start, end }, i) =>
        start === this.#spans[i]!.start && end === this.#spans[i]!.end
      );
  }

  /** The device has written `length` bytes from an address on. */
  mark(iova: bigint, length: number): void {
    if (length === 0 || this.#isFull) return;
    const first = Number(iova >> this.#shift);
    const last = Number((iova + BigInt(length) - 1n) >> this.#shift);
    for (let page = first; page <= last; page++) {
      const bitmap = this.#chunk(Math.floor(page / CHUNK_PAGES));
      if (bitmap === undefined) return;
      const bit = page % CHUNK_PAGES;
      bitmap[bit >>> 3]! |= 1 << (bit & 7);
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
   * Which pages of a range were written since they were last reported. They need not have the size that is logged: a larger page is
   * written if a part of it is, a smaller one if what it is a part of is.
   *
   * @param maxSize bytes that the bitmap may have
   * @returns the bitmap: one bit a page, the lowest first, in whole u64s
   * @throws {DeviceError} EINVAL if the range is not logged, not of whole pages, or too large for the bitmap
   */
  report(
    { iova, length, pageSize }: Omit<DmaLoggingReportData, "bitmap">,
    maxSize: number,
  ): Uint8Array {
    checkPageSize(pageSize);
    const end = iova + length;
    if (length === 0n || iova % pageSize !== 0n || length % pageSize !== 0n) {
      throw new DeviceError(EINVAL, `the range is not of whole pages of ${pageSize} bytes`);
    }
    if (!this.#spans.some((span) => span.start <= iova && end <= span.end)) {
      throw new DeviceError(EINVAL, "the range is not logged");
    }
    const size = bitmapSize(length, pageSize);
    if (size > BigInt(maxSize)) {
      throw new DeviceError(EINVAL, `the bitmap has ${size} bytes, ${maxSize} are possible`);
    }
    const bitmap = new Uint8Array(Number(size));
    if (this.#isFull) setBits(bitmap, 0, Number(length / pageSize));
    else this.#collect({ start: iova, end }, pageSize, bitmap);
    return bitmap;
  }

  /** Sets the bits of what was written, and forgets that it was. */
  #collect({ start, end }: Span, pageSize: bigint, into: Uint8Array): void {
    const first = Number(start >> this.#shift);
    const last = Number((end - 1n) >> this.#shift);
    const [logged, reported] = [Number(this.#pageSize / UNIT), Number(pageSize / UNIT)];
    const [from, to] = [Number(start / UNIT), Number(end / UNIT)];
    for (const index of this.#chunksBetween(first, last)) {
      const bitmap = this.#chunks.get(index)!;
      for (let byte = 0; byte < CHUNK_SIZE; byte++) {
        for (let bits = bitmap[byte]!; bits !== 0; bits &= bits - 1) {
          const bit = 31 - Math.clz32(bits & -bits);
          const page = index * CHUNK_PAGES + byte * 8 + bit;
          if (page < first || page > last) continue;
          const [unit, unitEnd] = [page * logged, (page + 1) * logged];
          setBits(
            into,
            Math.floor((Math.max(unit, from) - from) / reported),
            Math.ceil((Math.min(unitEnd, to) - from) / reported),
          );
          // One of which only a part was asked about stays written.
          if (unit >= from && unitEnd <= to) bitmap[byte]! &= ~(1 << bit);
        }
      }
    }
  }

  /** The chunks that hold one of these pages at least: there are few, however long the range is. */
  #chunksBetween(first: number, last: number): number[] {
    const from = Math.floor(first / CHUNK_PAGES);
    const to = Math.floor(last / CHUNK_PAGES);
    return [...this.#chunks.keys()].filter((index) => index >= from && index <= to);
  }
}

/** Bytes of the bitmap of a range. */
export function bitmapSize(length: bigint, pageSize: bigint): bigint {
  return (length / pageSize + 63n) / 64n * 8n;
}

function setBits(bitmap: Uint8Array, from: number, to: number): void {
  for (let bit = from; bit < to;) {
    if (bit % 8 === 0 && to - bit >= 8) {
      bitmap.fill(0xff, bit >>> 3, to >>> 3);
      bit = to - to % 8;
      continue;
    }
    bitmap[bit >>> 3]! |= 1 << (bit & 7);
    bit++;
  }
}

function checkPageSize(pageSize: bigint): void {
  if (pageSize >= UNIT && (pageSize & (pageSize - 1n)) === 0n) return;
  throw new DeviceError(
    EINVAL,
    `pages of ${pageSize} bytes can't be logged: a power of two from ${UNIT} on is needed`,
  );
}

/** The ranges as whole pages, by address; those that meet are one. */
function joinRanges(ranges: DmaLoggingStartData["ranges"], pageSize: bigint): Span[] {
  if (ranges.length > MAX_LOGGING_RANGES) {
    throw new DeviceError(EINVAL, `${ranges.length} ranges: ${MAX_LOGGING_RANGES} are possible`);
  }
  if (ranges.length === 0) return [{ start: 0n, end: ADDRESS_END }];
  const joined: Span[] = [];
  for (const { iova, length } of ranges.toSorted((a, b) => a.iova < b.iova ? -1 : 1)) {
    if (length === 0n || iova + length > ADDRESS_END) {
      throw new DeviceError(EINVAL, "a range is empty, or goes beyond 64 bits");
    }
    const start = iova / pageSize * pageSize;
    const end = (iova + length + pageSize - 1n) / pageSize * pageSize;
    const last = joined.at(-1);
    if (last === undefined || start > last.end) joined.push({ start, end });
    else if (end > last.end) joined[joined.length - 1] = { start: last.start, end };
  }
  return joined;
}
