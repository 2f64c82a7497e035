/**
 * Pages of the client's memory that a device has written (specification:
 * "VFIO_DEVICE_FEATURE_DMA_LOGGING_START" and its companions).
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { MAX_LOGGING_RANGES, MIN_LOGGING_PAGE_SIZE } from "../base/limits.ts";
import { bitmapSize, isPowerOfTwo, PageLog, type Span } from "../base/page_log.ts";
import type { DmaLoggingReportData, DmaLoggingStartData } from "../wire/feature.ts";
import { DeviceError } from "./served_device.ts";

/** The first address that 64 bits do not hold. */
const ADDRESS_END = 1n << 64n;
const MIN_PAGE_SIZE = BigInt(MIN_LOGGING_PAGE_SIZE);

/** A log that is on. */
export class DirtyLog {
  /** Bytes of a page: what the client has hinted at, or what comes nearest to that. */
  readonly pageSize: bigint;
  readonly #spans: readonly Span[]; // by address, with gaps between them
  readonly #pages: PageLog;

  /**
   * Starts a log.
   *
   * @param start the ranges that are logged, all of the memory if there are none; and a hint at the
   *   size of a page
   * @param maxSize bytes that it may use
   * @throws {DeviceError} EINVAL if a range is none, or there are too many
   */
  constructor({ pageSize, ranges }: DmaLoggingStartData, maxSize?: number) {
    this.pageSize = choosePageSize(pageSize);
    this.#spans = joinRanges(ranges, this.pageSize);
    this.#pages = new PageLog(this.pageSize, maxSize);
  }

  /** Compares this log with the one that another request would start. */
  isSame(start: DmaLoggingStartData): boolean {
    const other = new DirtyLog(start);
    return other.pageSize === this.pageSize && other.#spans.length === this.#spans.length &&
      other.#spans.every(({ start, end }, i) =>
        start === this.#spans[i]!.start && end === this.#spans[i]!.end
      );
  }

  /** The device has written `length` bytes from an address on. */
  mark(iova: bigint, length: number): void {
    this.#pages.mark(iova, length);
  }

  /**
   * Reports the pages of a range that were written since the last report. Their size may differ
   * from the logged size. A larger page is dirty if a part of it is; a smaller page is dirty if the
   * logged page around it is.
   *
   * @param maxSize bytes that the bitmap may have
   * @returns the bitmap: one bit a page, the lowest first, in whole u64s
   * @throws {DeviceError} EINVAL if the page size is no power of two. Also if the range is not
   *   logged, not of whole pages, or too large for the bitmap
   */
  report(
    { iova, length, pageSize }: Omit<DmaLoggingReportData, "bitmap">,
    maxSize: number,
  ): Uint8Array {
    if (!isPowerOfTwo(pageSize)) {
      throw new DeviceError(
        EINVAL,
        `a page of ${pageSize} bytes is none: a power of two is needed`,
      );
    }
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
    this.#pages.collect({ start: iova, end }, pageSize, bitmap);
    return bitmap;
  }
}

/**
 * The size of a page is a hint: the largest power of two that is not above it is taken, from 4096
 * on.
 */
function choosePageSize(hint: bigint): bigint {
  if (hint <= MIN_PAGE_SIZE) return MIN_PAGE_SIZE;
  return 1n << BigInt(hint.toString(2).length - 1);
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
