/**
 * Which pages of the client's memory the device has written. `Device.dmaLogging` tells.
 *
 * @module
 */

import type { Negotiated, WaitOptions } from "./device.ts";
import type { DmaSpace } from "./dma.ts";
import { ProtocolError } from "./errors.ts";
import type { DeviceFeatures } from "./features.ts";
import { MIN_LOGGING_PAGE_SIZE } from "./limits.ts";
import type { VfioProxy } from "./proxy.ts";
import { DmaLoggingReportData, DmaLoggingStartData, Feature } from "./wire/feature.ts";

/** A part of the IOVA space. */
export interface IovaRange {
  /** The first address. */
  readonly iova: bigint | number;
  /** Bytes of it. */
  readonly length: bigint | number;
}

/** What is logged. */
export interface LoggingOptions extends WaitOptions {
  /** Bytes of a page: a power of two from 4096; default that. */
  pageSize?: number;
  /** Default all that is mapped; all of the IOVA space if nothing is. */
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

  /** How many pages of the range are dirty. */
  get count(): number {
    let count = 0;
    for (const { length } of this.ranges()) count += Number(length / BigInt(this.pageSize));
    return count;
  }

  /** Whether a byte is in a dirty page. */
  has(iova: bigint | number): boolean {
    const offset = BigInt(iova) - this.iova;
    return offset >= 0n && offset < this.length &&
      this.#isSet(Number(offset / BigInt(this.pageSize)));
  }

  /** Where the dirty pages are, by address; those next to each other together. */
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

/** What a DmaLogging has of its device. */
export interface DmaLoggingHost {
  /** The connection. */
  readonly proxy: VfioProxy;
  /** What was agreed on. */
  readonly negotiated: Negotiated;
  /** The features that it is made of. */
  readonly features: DeviceFeatures;
  /** What is mapped. */
  readonly dma: DmaSpace;
}

/** Bytes of a DEVICE_FEATURE ahead of the data, and of a report ahead of its bitmap. */
const HEAD_SIZE = 8;
const REPORT_HEAD_SIZE = 24;

/**
 * The log of pages that the device writes. `Device.dmaLogging` gives it. Only devices that migrate have one; it ends with the connection.
 *
 * @example
 * ```ts
 * import { connect } from "./client.ts";
 * import { DemoDevice } from "./devices/demo.ts";
 * import { Server } from "./server/server.ts";
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
  #pageSize = MIN_LOGGING_PAGE_SIZE;

  /** @ignore made by `Device` */
  constructor(host: DmaLoggingHost) {
    this.#host = host;
  }

  /**
   * Starts a log.
   *
   * @throws {RangeError} if the page size is no power of two from 4096, or a range is none
   * @throws {RemoteError} if the server refuses: the device does not migrate, or another log is on
   */
  async start(options: LoggingOptions = {}): Promise<void> {
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
    await this.#host.features.set(Feature.DMA_LOGGING_START, data, { ...wait, doing });
    this.#pageSize = pageSize;
  }

  /** Ends the log. */
  async stop(options: WaitOptions = {}): Promise<void> {
    const doing = "stop logging which pages the device writes";
    await this.#host.features.set(Feature.DMA_LOGGING_STOP, undefined, { ...options, doing });
  }

  /**
   * Which pages of a range were written since they were last reported. libvfio-user tells of one map at a time.
   *
   * @param range whole pages
   * @param options `pageSize` other than that of the log: larger pages are dirty if a part of them is; default that of the log
   * @throws {RangeError} if the range is not of whole pages, or larger than one message tells of
   * @throws {RemoteError} if the server refuses: no log is on, or the range is not logged
   * @throws {ProtocolError} if it answers about something else, or the bitmap has another size; the connection is then closed
   */
  async report(
    range: IovaRange,
    options: WaitOptions & { pageSize?: number } = {},
  ): Promise<DirtyPages> {
    const { pageSize = this.#pageSize, ...wait } = options;
    const iova = BigInt(range.iova);
    const length = BigInt(range.length);
    const size = this.#bitmapSize(iova, length, pageSize);
    const asked = { iova, length, pageSize: BigInt(pageSize), bitmap: new Uint8Array() };
    const data = await this.#host.features.get(
      Feature.DMA_LOGGING_REPORT,
      REPORT_HEAD_SIZE + size,
      { ...wait, data: DmaLoggingReportData.encode(asked) },
    );
    try {
      const came = DmaLoggingReportData.decode(data);
      const isSame = came.iova === iova && came.length === length &&
        came.pageSize === asked.pageSize && came.bitmap.length === size;
      if (isSame) return new DirtyPages(iova, length, pageSize, came.bitmap);
      throw new ProtocolError(
        `The server answered with a bitmap of ${came.bitmap.length} bytes for ${came.length} bytes ` +
          `at IOVA 0x${came.iova.toString(16)}; asked for ${size} for ${length} at 0x${
            iova.toString(16)
          }`,
      );
    } catch (error) {
      this.#host.proxy.close(error as Error);
      throw error;
    }
  }

  #bitmapSize(iova: bigint, length: bigint, pageSize: number): number {
    checkPageSize(pageSize);
    const page = BigInt(pageSize);
    const what = `Cannot ask about ${length} bytes at IOVA 0x${iova.toString(16)}`;
    if (iova < 0n || length < 1n || iova % page !== 0n || length % page !== 0n) {
      throw new RangeError(`${what}: it is not of whole pages of ${pageSize} bytes`);
    }
    const size = (length / page + 63n) / 64n * 8n;
    const most = this.#host.negotiated.maxDataXferSize - HEAD_SIZE - REPORT_HEAD_SIZE;
    if (size > BigInt(most)) {
      throw new RangeError(
        `${what}: the bitmap has ${size} bytes, ${most} fit a message; take larger pages, or parts`,
      );
    }
    return Number(size);
  }
}

function checkPageSize(pageSize: number): void {
  const isPower = Number.isSafeInteger(pageSize) && Number.isInteger(Math.log2(pageSize));
  if (isPower && pageSize >= MIN_LOGGING_PAGE_SIZE) return;
  throw new RangeError(
    `Cannot log pages of ${pageSize} bytes: a power of two from ${MIN_LOGGING_PAGE_SIZE} on is needed`,
  );
}
