/**
 * The log of pages of the client's memory that the device has written. `Device.dmaLogging` has it.
 *
 * @module
 */

import { ENOTSUP } from "../../ffi/errno.ts";
import type { Negotiated, WaitOptions } from "./info.ts";
import type { DmaSpace } from "./dma.ts";
import type { DmaMap } from "./dma_map.ts";
import { ProtocolError, RemoteError } from "../base/errors.ts";
import type { DeviceFeatures } from "./features.ts";
import { MAX_DIRTY_LOG_SIZE, MIN_LOGGING_PAGE_SIZE } from "../base/limits.ts";
import { bitmapSize, isPowerOfTwo, PageLog, setBits, type Span } from "../base/page_log.ts";
import { Queue } from "../base/queue.ts";
import { isUnanswered, TAKE_BACK_TIMEOUT_MS } from "./take_back.ts";
import type { VfioProxy } from "../transport/proxy.ts";
import { DmaLoggingReportData, DmaLoggingStartData, Feature } from "../wire/feature.ts";
import { hex } from "../text/hex.ts";

/** A part of the IOVA space. */
export interface IovaRange {
  /** The first address. */
  readonly iova: bigint | number;
  /** Bytes of it. */
  readonly length: bigint | number;
}

/** Options of logging. */
export interface LoggingOptions extends WaitOptions {
  /**
   * Bytes of a page, a power of two: a hint to the server, which tells what it has chosen. Default
   * 4096.
   */
  pageSize?: number;
  /** Ranges that are logged. Default: all maps, or all of the IOVA space without a map. */
  ranges?: readonly IovaRange[];
}

/** Pages of a range that the device has written. */
export class DirtyPages {
  /** The first address of the range. */
  readonly iova: bigint;
  /** Bytes of the range. */
  readonly length: bigint;
  /** Bytes of a page. */
  readonly pageSize: number;
  /** One bit a page, the lowest first, in whole u64s. */
  readonly bitmap: Uint8Array;

  /** @ignore made by `DmaLogging.report` */
  constructor(iova: bigint, length: bigint, pageSize: number, bitmap: Uint8Array) {
    this.iova = iova;
    this.length = length;
    this.pageSize = pageSize;
    this.bitmap = bitmap;
  }

  /** Number of pages of the range that are dirty. */
  get count(): number {
    let count = 0;
    for (const { length } of this.ranges()) count += Number(length / BigInt(this.pageSize));
    return count;
  }

  /** Tells whether a byte is in a dirty page. */
  has(iova: bigint | number): boolean {
    const offset = BigInt(iova) - this.iova;
    return offset >= 0n && offset < this.length &&
      this.#isSet(Number(offset / BigInt(this.pageSize)));
  }

  /** Ranges of dirty pages, by address; adjacent pages are joined. */
  *ranges(): Generator<{ readonly iova: bigint; readonly length: bigint }, void> {
    const pages = Number(this.length / BigInt(this.pageSize));
    const size = BigInt(this.pageSize);
    for (let page = 0; page < pages;) {
      if (page % 8 === 0 && this.bitmap[page >>> 3] === 0) page += 8;
      else if (!this.#isSet(page)) page++;
      else {
        const first = page;
        while (page < pages && this.#isSet(page)) page++;
        yield { iova: this.iova + BigInt(first) * size, length: BigInt(page - first) * size };
      }
    }
  }

  #isSet(page: number): boolean {
    return (this.bitmap[page >>> 3]! >>> (page & 7) & 1) === 1;
  }
}

/** Parts of a device that a DmaLogging needs. */
export interface DmaLoggingHost {
  /** The connection. */
  readonly proxy: VfioProxy;
  /** The limits that both ends agreed on. */
  readonly negotiated: Negotiated;
  /** The features that it is made of. */
  readonly features: DeviceFeatures;
  /** The maps in force. */
  readonly dma: DmaSpace;
}

/** Bytes of a DEVICE_FEATURE ahead of the data, and of a report ahead of its bitmap. */
const HEAD_SIZE = 8;
const REPORT_HEAD_SIZE = 24;

const STOPPING = "stop logging which pages the device writes";

/** A part of a range that the server is asked about by itself. */
interface Part extends Span {
  /**
   * The place: in a map, beside one, or in a range of which nothing is mapped. Of that the server
   * is to say so itself.
   */
  readonly kind: "map" | "gap" | "unmapped";
  /** The map. */
  readonly map?: DmaMap;
}

/**
 * The log of pages that the device writes. `Device.dmaLogging` returns it. Only devices that
 * migrate have one, and the log ends with the connection.
 *
 * The server logs what the device writes into shared memory. Writes by message (DMA_WRITE) are done
 * by this process, which counts them itself: servers differ in whether they log those, and
 * libvfio-user does not.
 *
 * @example
 * ```ts
 * import { connect } from "./connect.ts";
 * import { DemoDevice } from "../devices/demo_device.ts";
 * import { Server } from "../server/server.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * await device.dma.mapAsync({ iova: 0x100000, size: 0x10000 });
 * await device.dmaLogging.start();
 * // ... the device works ...
 * const dirty = await device.dmaLogging.report({ iova: 0x100000, length: 0x10000 });
 * console.assert(dirty.count === 0);
 * await device.dmaLogging.stop();
 * ```
 */
export class DmaLogging {
  readonly #host: DmaLoggingHost;
  readonly #changes = new Queue(); // of the log's state: a start that fails is taken back
  #pageSize = MIN_LOGGING_PAGE_SIZE;
  #own: PageLog | undefined; // while the log is on: what the server does not tell, or not again

  /** @ignore made by `Device` */
  constructor(host: DmaLoggingHost) {
    this.#host = host;
  }

  /** Bytes of a page of the log, as the server has chosen; 4096 before `start`. */
  get pageSize(): number {
    return this.#pageSize;
  }

  /**
   * Starts a log. If the time limit or the signal ends the wait, the server is asked to stop it
   * again, for which the server has another second. `start` and `stop` are done one after another.
   *
   * @returns bytes of a page, as the server has chosen: `pageSize` is a hint
   * @throws {RangeError} if the page size is no power of two, or a range is none
   * @throws {RemoteError} if the server refuses: the device does not migrate, or another log is on
   * @throws {ProtocolError} if the server chooses a page size that is none; the connection is then
   *   closed
   */
  async start(options: LoggingOptions = {}): Promise<number> {
    const { pageSize = MIN_LOGGING_PAGE_SIZE, ranges, ...wait } = options;
    checkPageSize(pageSize);
    const mapped = this.#host.dma.maps.map(({ iova, size }) => ({ iova, length: size }));
    const data = DmaLoggingStartData.encode({
      pageSize: BigInt(pageSize),
      ranges: (ranges ?? mapped).map(({ iova, length }) => ({
        iova: BigInt(iova),
        length: BigInt(length),
      })),
    });
    const doing = `start logging which pages of ${pageSize} bytes the device writes`;
    const set = { ...wait, doing };
    return await this.#changes.run(doing, wait, () => this.#start(data, pageSize, set));
  }

  async #start(
    data: Uint8Array,
    pageSize: number,
    options: WaitOptions & { doing: string },
  ): Promise<number> {
    const before = this.#own;
    const own = before ?? new PageLog(BigInt(MIN_LOGGING_PAGE_SIZE));
    this.#host.dma.countWritten(own); // the device may write before the answer is here
    try {
      const answer = await this.#host.features.set(Feature.DMA_LOGGING_START, data, options);
      this.#pageSize = this.#chosen(answer, pageSize);
      this.#own = own;
    } catch (error) {
      this.#host.dma.countWritten(before);
      if (before === undefined && isUnanswered(error, options.signal)) {
        await this.#stop({ timeoutMs: TAKE_BACK_TIMEOUT_MS, doing: STOPPING }).catch(() => {});
      }
      throw error;
    }
    return this.#pageSize;
  }

  /**
   * The page size that the server has answered. An answer without one leaves it at what was asked.
   */
  #chosen(answer: Uint8Array, asked: number): number {
    if (answer.length < 8) return asked;
    const chosen = new DataView(answer.buffer, answer.byteOffset).getBigUint64(0, true);
    if (isPowerOfTwo(chosen) && chosen <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(chosen);
    const error = new ProtocolError(
      `The server says that it logs pages of ${chosen} bytes, which is no power of two up to 2^52`,
    );
    this.#host.proxy.close(error);
    throw error;
  }

  /** Ends the log. */
  async stop(options: WaitOptions = {}): Promise<void> {
    const set = { ...options, doing: STOPPING };
    await this.#changes.run(STOPPING, options, () => this.#stop(set));
  }

  async #stop(options: WaitOptions & { doing: string }): Promise<void> {
    await this.#host.features.set(Feature.DMA_LOGGING_STOP, undefined, options);
    this.#own = undefined;
    this.#host.dma.countWritten(undefined);
  }

  /**
   * Reports pages of a range that were written since the last report. The server is asked map by
   * map, because libvfio-user knows nothing else. Memory by message is counted here.
   *
   * @param range whole pages
   * @param options `pageSize` other than that of the log, which is the default: larger pages are
   *   dirty if a part of them is
   * @throws {RangeError} if the range is not of whole pages, or its bitmap too large
   * @throws {RemoteError} if the server refuses: no log is on, or the range is not logged. Pages
   *   that it had reported by then are reported again
   * @throws {ProtocolError} if it answers about something else, or the bitmap has another size; the
   *   connection is then closed
   */
  async report(
    range: IovaRange,
    options: WaitOptions & { pageSize?: number } = {},
  ): Promise<DirtyPages> {
    const { pageSize = this.#pageSize, ...wait } = options;
    checkPageSize(pageSize);
    const iova = BigInt(range.iova);
    const length = BigInt(range.length);
    const whole = { start: iova, end: iova + length };
    const bitmap = new Uint8Array(checkRange(whole, pageSize));
    if (this.#mostPages === 0) {
      throw new RangeError("Cannot ask about dirty pages: no bitmap fits a message of the server");
    }
    const own = this.#own;
    const told: DirtyPages[] = [];
    try {
      for (const part of this.#parts(whole, pageSize)) {
        const dirty = await this.#ask(part, pageSize, wait);
        if (dirty !== undefined) told.push(dirty);
      }
    } catch (error) {
      // The server tells nothing twice.
      for (const dirty of told) remember(dirty, spanOf(dirty), own);
      throw error;
    }
    for (const dirty of told) {
      merge(dirty, whole, pageSize, bitmap);
      remember(dirty, { start: dirty.iova, end: iova }, own);
    }
    own?.collect(whole, BigInt(pageSize), bitmap);
    return new DirtyPages(iova, length, pageSize, bitmap);
  }

  /**
   * Parts that the server is asked about: map by map, the gaps between, and as much as one message
   * reports.
   */
  *#parts(whole: Span, pageSize: number): Generator<Part> {
    let at = whole.start;
    for (const map of this.#host.dma.maps) {
      if (map.end <= at || map.iova >= whole.end) continue;
      if (map.iova > at) yield* this.#cut({ start: at, end: map.iova, kind: "gap" }, pageSize);
      const [start, end] = [maxOf(at, map.iova), minOf(map.end, whole.end)];
      // All that the device writes into memory by message passes through this process.
      const isKnown = !map.isShared && this.#own !== undefined;
      if (!isKnown) yield* this.#cut({ start, end, kind: "map", map }, pageSize);
      at = end;
    }
    if (at === whole.end) return;
    const kind = at === whole.start ? "unmapped" : "gap";
    yield* this.#cut({ start: at, end: whole.end, kind }, pageSize);
  }

  *#cut(part: Part, pageSize: number): Generator<Part> {
    const step = BigInt(this.#mostPages) * BigInt(pageSizeOf(part, pageSize));
    // A gap may be of any size, and at best a map was there that the device has written to before
    // it was unmapped.
    if (part.kind === "gap" && part.end - part.start > step) return;
    for (let start = part.start; start < part.end; start += step) {
      yield { ...part, start, end: minOf(start + step, part.end) };
    }
  }

  /** Number of pages that the bitmap of one message reports. */
  get #mostPages(): number {
    const { maxDataXferSize } = this.#host.negotiated;
    return Math.floor((maxDataXferSize - HEAD_SIZE - REPORT_HEAD_SIZE) / 8) * 64;
  }

  async #ask(part: Part, pageSize: number, wait: WaitOptions): Promise<DirtyPages | undefined> {
    try {
      return await this.#request(part, pageSize, wait);
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
      if (part.kind === "gap") return undefined; // nothing is written where nothing is mapped
      // libvfio-user knows a map by its beginning only.
      const start = part.map?.iova;
      if (error.errno !== ENOTSUP || start === undefined || start === part.start) throw error;
      const span = { start, end: part.end };
      const pages = (span.end - start) / BigInt(pageSizeOf(span, pageSize));
      if (pages > BigInt(this.#mostPages)) throw error;
      return await this.#request(span, pageSize, wait);
    }
  }

  async #request(span: Span, pageSize: number, wait: WaitOptions): Promise<DirtyPages> {
    const { start: iova, end } = span;
    const length = end - iova;
    const size = pageSizeOf(span, pageSize);
    const bytes = Number(bitmapSize(length, BigInt(size)));
    const asked = { iova, length, pageSize: BigInt(size), bitmap: new Uint8Array() };
    const data = await this.#host.features.get(
      Feature.DMA_LOGGING_REPORT,
      REPORT_HEAD_SIZE + bytes,
      { ...wait, data: DmaLoggingReportData.encode(asked) },
    );
    try {
      const came = DmaLoggingReportData.decode(data);
      const isSame = came.iova === iova && came.length === length &&
        came.pageSize === asked.pageSize && came.bitmap.length === bytes;
      if (isSame) return new DirtyPages(iova, length, size, came.bitmap);
      throw new ProtocolError(
        `The server answered with a bitmap of ${came.bitmap.length} bytes for ` +
          `${came.length} bytes at IOVA ${hex(came.iova)}; asked for ${bytes} for ${length} at ${
            hex(iova)
          }`,
      );
    } catch (error) {
      this.#host.proxy.close(error as Error);
      throw error;
    }
  }
}

function checkPageSize(pageSize: number): void {
  if (Number.isSafeInteger(pageSize) && isPowerOfTwo(BigInt(pageSize))) return;
  throw new RangeError(`Cannot log pages of ${pageSize} bytes: a power of two is needed`);
}

/** Returns the bytes of the bitmap of a range. */
function checkRange({ start, end }: Span, pageSize: number): number {
  const length = end - start;
  const page = BigInt(pageSize);
  const what = `Cannot ask about ${length} bytes at IOVA ${hex(start)}`;
  if (start < 0n || length < 1n || start % page !== 0n || length % page !== 0n) {
    throw new RangeError(`${what}: it is not of whole pages of ${pageSize} bytes`);
  }
  const size = bitmapSize(length, page);
  if (size <= BigInt(MAX_DIRTY_LOG_SIZE)) return Number(size);
  throw new RangeError(
    `${what}: the bitmap has ${size} bytes, ${MAX_DIRTY_LOG_SIZE} are possible; ` +
      "take larger pages, or parts",
  );
}

/**
 * The page size that a server is asked for: what is wanted, or the largest of which the part has
 * whole ones.
 */
function pageSizeOf({ start, end }: Span, wanted: number): number {
  const edges = start | end;
  return Number(minOf(BigInt(wanted), edges & -edges));
}

/** Sets the bits of the pages of a range that a report has. */
function merge(dirty: DirtyPages, { start, end }: Span, pageSize: number, into: Uint8Array): void {
  const isWhole = dirty.iova === start && dirty.length === end - start &&
    dirty.pageSize === pageSize;
  if (isWhole) return into.set(dirty.bitmap);
  for (const { iova, length } of dirty.ranges()) {
    const [first, last] = [maxOf(iova, start), minOf(iova + length, end)];
    if (first >= last) continue;
    const bits = [first - start, last - start].map((offset) => Number(offset) / pageSize);
    setBits(into, Math.floor(bits[0]!), Math.ceil(bits[1]!));
  }
}

/** Keeps the report of a span for the next report. */
function remember(dirty: DirtyPages, { start, end }: Span, log: PageLog | undefined): void {
  for (const { iova, length } of dirty.ranges()) {
    const [first, last] = [maxOf(iova, start), minOf(iova + length, end)];
    if (first < last) log?.mark(first, last - first);
  }
}

function spanOf({ iova, length }: DirtyPages): Span {
  return { start: iova, end: iova + length };
}

function maxOf(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function minOf(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
