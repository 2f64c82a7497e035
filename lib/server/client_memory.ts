/**
 * The client's memory as the device sees it. It consists of the ranges that the client has mapped
 * with DMA_MAP, and of accesses to them.
 *
 * @module
 */

import { EACCES, EEXIST, EFAULT, EINVAL, ENOSPC, ENOTSUP } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { ConnectionError } from "../base/errors.ts";
import { inLanes } from "../base/lanes.ts";
import { DEFAULT_MAX_DATA_XFER_SIZE, DEFAULT_TIMEOUT_MS, MAX_DMA_ACCESS } from "../base/limits.ts";
import type { VfioProxy } from "../transport/proxy.ts";
import { DmaMapFlags, type DmaMapRequest, type DmaUnmap, DmaUnmapFlags } from "../wire/dma.ts";
import type { DmaLoggingReportData, DmaLoggingStartData } from "../wire/feature.ts";
import type { Capabilities } from "../wire/version.ts";
import type { DeviceDma, DmaAccessOptions, DmaRange, DmaWindow } from "./device_dma.ts";
import { DeviceError, DmaError } from "./served_device.ts";
import { DirtyLog } from "./dirty_log.ts";
import { DmaMap } from "./dma_map.ts";
import { bytesOf, type MapWindow, PageViews } from "./dma_window.ts";
import { FileMaps } from "./file_maps.ts";
import { describeAccess, DmaRequests } from "./dma_requests.ts";
import type { Offer } from "./offer.ts";
import { hex } from "../text/hex.ts";

/** The first address that 64 bits do not hold. */
const ADDRESS_END = 1n << 64n;

/** Windows are found by what their IOVAs are near to: SPDK's client maps 2 MiB at a time. */
const WINDOW_SLOTS = 64;
const WINDOW_SLOT_SIZE = 2 << 20;

const MAP_FLAGS = DmaMapFlags.READ | DmaMapFlags.WRITE | DmaMapFlags.MMAP | DmaMapFlags.FILE_IO;

/** Options of a server for its client's memory. */
export interface DmaOptions {
  /**
   * Maps only files whose memory no client can take away: memfds sealed with F_SEAL_SHRINK, without
   * huge pages. Others are refused, or read and written by calls if the client allows file I/O. A
   * client that takes away what is mapped ends this process (SIGBUS) at the next access. Most
   * clients do not seal their memory, QEMU for one: they are trusted unless this is set. Default
   * false.
   */
  requireSealed?: boolean | undefined;
  /**
   * Sends DMA_READ and DMA_WRITE with a count of 32 bits, as QEMU 10.1's client expects. Default
   * false: 64 bits, as specified.
   */
  dmaCount32?: boolean | undefined;
  /**
   * The time that a client may take to answer DMA_READ and DMA_WRITE. In milliseconds; default
   * 5000.
   */
  dmaTimeoutMs?: number | undefined;
}

/** The log of what the device writes, while the client wants one; windows see it too. */
class Written {
  log: DirtyLog | undefined;
  #views: PageViews | undefined;

  get views(): PageViews {
    return this.#views ??= new PageViews();
  }
}

/** A piece of an access that one map holds. */
interface Piece {
  readonly map: DmaMap;
  readonly address: bigint;
  /** Bytes from the start of the access. */
  readonly start: number;
  readonly length: number;
}

/**
 * A DMA_UNMAP of a part of a map. All maps stay, and the client may believe some of them gone:
 * the server reports this error besides answering EINVAL.
 */
export class CutMapError extends DeviceError {
  /** @ignore made by `ClientMemory.unmap` */
  constructor(map: DmaMap, address: bigint, end: bigint) {
    super(
      EINVAL,
      `Cannot unmap ${range(address, end)} of the client's memory: that is a part of the map ` +
        `${range(map.address, map.end)}, and all maps stay; the client has to unmap whole maps`,
    );
  }
}

/** The memory of one client, by IOVA. */
export class ClientMemory implements DeviceDma {
  readonly #requests: DmaRequests;
  readonly #options: DmaOptions;
  readonly #offer: Offer;
  readonly #maps: DmaMap[] = []; // by address
  readonly #files = new FileMaps();
  #isOpen = true;
  readonly #written = new Written();
  readonly #windows: (MapWindow | undefined)[] = Array.from({ length: WINDOW_SLOTS });

  /**
   * A memory of which nothing is mapped.
   *
   * @param proxy where the server's commands go
   * @param client what the client said of itself
   * @param offer limits of this server
   */
  constructor(proxy: VfioProxy, client: Capabilities, options: DmaOptions, offer: Offer) {
    this.#options = options;
    this.#offer = offer;
    const { maxDataXferSize = DEFAULT_MAX_DATA_XFER_SIZE } = client;
    this.#requests = new DmaRequests(proxy, {
      chunkSize: Math.min(maxDataXferSize, offer.maxDataXferSize),
      count32: options.dmaCount32 ?? false,
      timeoutMs: options.dmaTimeoutMs ?? DEFAULT_TIMEOUT_MS,
    });
  }

  /**
   * DMA_MAP. A request that is the same as one before succeeds, as with libvfio-user.
   *
   * @param fds what came with it; they stay the caller's
   * @returns the new range; undefined if there was such a map before
   * @throws {DeviceError} EINVAL, EEXIST, ENOSPC, or as mmap(2) fails
   * @throws {ConnectionError} if the client is gone
   */
  map(request: DmaMapRequest, fds: readonly OwnedFd[]): DmaRange | undefined {
    if (!this.#isOpen) throw new ConnectionError("Cannot map the client's memory: it is gone");
    checkMap(request, fds.length, this.#offer.pageSize);
    const [file] = fds;
    const index = this.#indexAfter(request.address);
    const before = this.#maps[index - 1];
    const after = this.#maps[index];
    if (before?.isSame(request, file)) return undefined;
    const isTaken = (before !== undefined && before.end > request.address) ||
      (after !== undefined && after.address < request.address + request.size);
    if (isTaken) throw new DeviceError(EEXIST, "it overlaps another map");
    const { maxDmaMaps } = this.#offer;
    const { requireSealed = false } = this.#options;
    if (this.#maps.length >= maxDmaMaps) {
      throw new DeviceError(ENOSPC, `there are ${maxDmaMaps} maps already`);
    }
    const map = DmaMap.create(request, file, this.#files, requireSealed);
    this.#maps.splice(index, 0, map);
    return map.range;
  }

  /**
   * DMA_UNMAP: removes every map inside the range, as the kernel's VFIO does. A range without maps
   * is no error: a client behind a vIOMMU unmaps whole powers of two. Nothing of the range is
   * mapped or held afterwards; accesses that wait for the client fail.
   *
   * @returns the ranges that were mapped
   * @throws {DeviceError} EINVAL for a range or flags that can't be; ENOTSUP for a dirty bitmap
   * @throws {CutMapError} EINVAL if the range cuts a map; all maps stay
   */
  unmap({ flags, address, size }: DmaUnmap): DmaRange[] {
    if ((flags & DmaUnmapFlags.GET_DIRTY_BITMAP) !== 0) throw new DeviceError(ENOTSUP);
    if ((flags & ~DmaUnmapFlags.ALL) !== 0) throw new DeviceError(EINVAL, "unknown flags");
    if (flags === DmaUnmapFlags.ALL) {
      if (address !== 0n || size !== 0n) throw new DeviceError(EINVAL, "all has no range");
      return this.#unmapAll();
    }
    checkRange(address, size, this.#offer.pageSize);
    const end = address + size;
    const before = this.#maps[this.#indexAfter(address) - 1];
    const last = this.#maps[this.#indexAfter(end - 1n) - 1];
    if (before !== undefined && before.address < address && before.end > address) {
      throw new CutMapError(before, address, end);
    }
    if (last !== undefined && last.end > end) throw new CutMapError(last, address, end);
    const first = this.#indexAfter(address - 1n);
    return this.#remove(first, this.#indexAfter(end - 1n) - first);
  }

  /** As {@linkcode DeviceDma.maps}. */
  maps(): DmaRange[] {
    return this.#maps.map(({ range }) => range);
  }

  /** Unmaps everything: the client is gone. Returns what was mapped. */
  close(): DmaRange[] {
    this.#isOpen = false;
    return this.#unmapAll(
      new ConnectionError("Cannot access the client's memory: the client is gone"),
    );
  }

  #unmapAll(cause?: Error): DmaRange[] {
    return this.#remove(0, this.#maps.length, cause);
  }

  #remove(first: number, count: number, cause?: Error): DmaRange[] {
    return this.#maps.splice(first, count).map((map) => {
      map.close(cause);
      return map.range;
    });
  }

  /**
   * DMA_LOGGING_START. A request that is the same as the one before succeeds, and changes nothing.
   *
   * @returns bytes of a page, which the request only hints at
   * @throws {DeviceError} EINVAL if another log is on, or the request makes no sense
   */
  startLogging(start: DmaLoggingStartData): bigint {
    if (this.#written.log === undefined) this.#written.log = new DirtyLog(start);
    else if (!this.#written.log.isSame(start)) throw new DeviceError(EINVAL, "another log is on");
    return this.#written.log.pageSize;
  }

  /** DMA_LOGGING_STOP. */
  stopLogging(): void {
    this.#written.log = undefined;
  }

  /**
   * DMA_LOGGING_REPORT: the bitmap, of `maxSize` bytes at most.
   *
   * @throws {DeviceError} EINVAL if no log is on, or as {@linkcode DirtyLog.report}
   */
  report(range: Omit<DmaLoggingReportData, "bitmap">, maxSize: number): Uint8Array {
    if (this.#written.log === undefined) throw new DeviceError(EINVAL, "no log is on");
    return this.#written.log.report(range, maxSize);
  }

  // Mapped bytes are copied first, at once. Only then is the client asked for the rest: while the
  // request is in flight, the client may unmap.

  /** As {@linkcode DeviceDma.read}. */
  async read(
    iova: bigint,
    length: number,
    options?: DmaAccessOptions,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const pieces = this.#pieces("read", iova, length);
    const into = new Uint8Array(length);
    await this.#readPieces(pieces, into, options);
    return into;
  }

  /** As {@linkcode DeviceDma.readInto}. */
  async readInto(iova: bigint, into: Uint8Array, options?: DmaAccessOptions): Promise<void> {
    const bytes = bytesOf(into);
    await this.#readPieces(this.#pieces("read", iova, bytes.length), bytes, options);
  }

  #readPieces(
    pieces: readonly Piece[],
    into: Uint8Array,
    options: DmaAccessOptions | undefined,
  ): Promise<unknown> | undefined {
    return all(
      asks(options) ? pieces : pieces.filter((piece) => !copyOut(piece, into)),
      (each) => this.#requests.read(each.address, partOf(into, each), each.map),
    );
  }

  /** As {@linkcode DeviceDma.write}. */
  async write(iova: bigint, data: Uint8Array, options?: DmaAccessOptions): Promise<void> {
    data = bytesOf(data);
    const pieces = this.#pieces("write", iova, data.length);
    const rest = asks(options) ? pieces : pieces.filter((piece) => !copyIn(piece, data));
    this.#written.log?.mark(iova, data.length);
    if (rest.length === 0) return;
    try {
      await all(
        rest,
        (each) => this.#requests.write(each.address, partOf(data, each), each.map),
      );
    } finally {
      // Again: it arrives at a time of the client's, who may have had a report since it was sent.
      this.#written.log?.mark(iova, data.length);
    }
  }

  /** As {@linkcode DeviceDma.readSync}. */
  readSync(
    iova: bigint,
    length: number,
    options?: DmaAccessOptions,
  ): Uint8Array<ArrayBuffer> {
    const pieces = this.#pieces("read", iova, length);
    const into = new Uint8Array(length);
    const rest = asks(options) ? pieces : pieces.filter((piece) => !copyOut(piece, into));
    for (const each of rest) {
      this.#requests.readSync(each.address, partOf(into, each), each.map);
    }
    return into;
  }

  /** As {@linkcode DeviceDma.writeSync}. */
  writeSync(iova: bigint, data: Uint8Array, options?: DmaAccessOptions): void {
    data = bytesOf(data);
    const pieces = this.#pieces("write", iova, data.length);
    const rest = asks(options) ? pieces : pieces.filter((piece) => !copyIn(piece, data));
    this.#written.log?.mark(iova, data.length);
    if (rest.length === 0) return;
    try {
      for (const each of rest) {
        this.#requests.writeSync(each.address, partOf(data, each), each.map);
      }
    } finally {
      // Again: the client may have had a report meanwhile.
      this.#written.log?.mark(iova, data.length);
    }
  }

  /** As {@linkcode DeviceDma.view}. */
  view(
    iova: bigint,
    length: number,
    rights: number = DmaMapFlags.READ,
  ): Uint8Array<ArrayBuffer> | undefined {
    checkLength(length);
    const map = this.#find(iova);
    if (map === undefined || (map.rights & rights) !== rights) return undefined;
    const bytes = map.contains(iova, length) === length ? map.bytes(iova, length) : undefined;
    if (bytes !== undefined && (rights & DmaMapFlags.WRITE) !== 0) {
      this.#written.log?.mark(iova, length);
    }
    return bytes;
  }

  /** As {@linkcode DeviceDma.window}. */
  window(iova: number | bigint, length: number, check?: () => void): DmaWindow | undefined {
    const slot = Math.floor(Number(iova) / WINDOW_SLOT_SIZE) & (WINDOW_SLOTS - 1);
    const window = this.#windows[slot];
    if (window !== undefined && window.check === check && window.holds(iova, length)) {
      checkLength(length);
      return window;
    }
    return this.#windows[slot] = this.#makeWindow(iova, length, check);
  }

  /** As {@linkcode DeviceDma.copyTo}. */
  copyTo(iova: number | bigint, into: Uint8Array | Uint32Array): Promise<void> | undefined {
    const window = this.window(iova, into.byteLength);
    if (window === undefined) return this.readInto(BigInt(iova), bytesOf(into));
    window.copyTo(iova, into);
  }

  /** As {@linkcode DeviceDma.copyFrom}. */
  copyFrom(iova: number | bigint, data: Uint8Array | Uint32Array): Promise<void> | undefined {
    const window = this.window(iova, data.byteLength);
    if (window === undefined) return this.write(BigInt(iova), bytesOf(data));
    window.copyFrom(iova, data);
  }

  #makeWindow(
    iova: number | bigint,
    length: number,
    check: (() => void) | undefined,
  ): MapWindow | undefined {
    checkLength(length);
    if (typeof iova === "number" && !Number.isSafeInteger(iova)) {
      throw new RangeError(
        `Cannot access the client's memory at ${iova}: up to 2^53 - 1 it may be a whole number, ` +
          "else a bigint",
      );
    }
    const address = BigInt(iova);
    const map = this.#find(address);
    if (map === undefined || map.contains(address, length) < length) return undefined;
    return map.window(this.#written, check);
  }

  /** The pieces of an access, all of which are mapped with the right. */
  #pieces(verb: "read" | "write", iova: bigint, length: number): Piece[] {
    checkLength(length);
    const right = verb === "read" ? DmaMapFlags.READ : DmaMapFlags.WRITE;
    const fail = (errno: number, reason: string) =>
      new DmaError(errno, `Cannot ${describeAccess(verb, iova, length)}: ${reason}`);
    if (!this.#isOpen) {
      throw new ConnectionError(`Cannot ${describeAccess(verb, iova, length)}: the client is gone`);
    }
    const pieces: Piece[] = [];
    for (let start = 0; start < length;) {
      const address = start === 0 ? iova : iova + BigInt(start);
      const map = this.#find(address);
      if (map === undefined) throw fail(EFAULT, `nothing is mapped at ${hex(address)}`);
      if ((map.rights & right) === 0) {
        throw fail(EACCES, `the client does not allow it at ${hex(address)}`);
      }
      const count = map.contains(address, length - start);
      pieces.push({ map, address, start, length: count });
      start += count;
    }
    return pieces;
  }

  #find(address: bigint): DmaMap | undefined {
    const map = this.#maps[this.#indexAfter(address) - 1];
    return map !== undefined && address < map.end ? map : undefined;
  }

  /** The index of the first map that begins after an address. */
  #indexAfter(address: bigint): number {
    let low = 0;
    for (let high = this.#maps.length; low < high;) {
      const middle = (low + high) >>> 1;
      if (this.#maps[middle]!.address > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/**
 * Does all pieces at a time. Mostly there is one, which is spared what several need.
 *
 * @returns settled when none is under way any more; undefined if there are no pieces
 */
function all(
  pieces: readonly Piece[],
  act: (piece: Piece) => Promise<void>,
): Promise<unknown> | undefined {
  const [first] = pieces;
  if (first === undefined) return undefined;
  return pieces.length === 1 ? act(first) : inLanes(pieces.length, pieces, act);
}

function checkMap(request: DmaMapRequest, fdCount: number, pageSize: bigint): void {
  const { flags, offset, address, size } = request;
  if (fdCount > 1) throw new DeviceError(EINVAL, `${fdCount} file descriptors came`);
  if ((flags & ~MAP_FLAGS) !== 0) throw new DeviceError(EINVAL, "unknown flags");
  if ((flags & (DmaMapFlags.READ | DmaMapFlags.WRITE)) === 0) {
    throw new DeviceError(EINVAL, "it could neither be read nor written");
  }
  if (fdCount === 0 && (flags & (DmaMapFlags.MMAP | DmaMapFlags.FILE_IO)) !== 0) {
    throw new DeviceError(EINVAL, "no file came that could be mapped, or read and written");
  }
  if (fdCount > 0 && offset % pageSize !== 0n) {
    throw new DeviceError(EINVAL, `the offset is not aligned to ${pageSize}`);
  }
  checkRange(address, size, pageSize);
}

/** Refuses a range of addresses that is not of whole pages within 64 bits. */
function checkRange(address: bigint, size: bigint, pageSize: bigint): void {
  if (address % pageSize !== 0n || size % pageSize !== 0n) {
    throw new DeviceError(EINVAL, `it is not aligned to ${pageSize}`);
  }
  if (size === 0n) throw new DeviceError(EINVAL, "it has no bytes");
  if (address + size > ADDRESS_END) throw new DeviceError(EINVAL, "it goes beyond 64 bits");
}

function checkLength(length: number): void {
  if (Number.isInteger(length) && length >= 0 && length <= MAX_DMA_ACCESS) return;
  throw new RangeError(
    `Cannot access ${length} bytes of the client's memory: from 0 to ${MAX_DMA_ACCESS} are ` +
      `possible`,
  );
}

/** Sees whether the client is asked for memory that is shared, too. */
function asks(options: DmaAccessOptions | undefined): boolean {
  return options?.via === "message";
}

function partOf(bytes: Uint8Array, { start, length }: Piece): Uint8Array {
  if (length === bytes.length) return bytes; // mostly it is all of them
  return bytes.subarray(start, start + length);
}

/** Reads a piece that can be reached here; false if the client has to be asked. */
function copyOut(piece: Piece, into: Uint8Array): boolean {
  const bytes = piece.map.bytes(piece.address, piece.length);
  if (bytes === undefined) {
    return piece.map.hasFile && piece.map.readFile(piece.address, partOf(into, piece));
  }
  into.set(bytes, piece.start);
  return true;
}

/** Writes a piece that can be reached here; false if the client has to be asked. */
function copyIn(piece: Piece, data: Uint8Array): boolean {
  const bytes = piece.map.bytes(piece.address, piece.length);
  if (bytes === undefined) {
    return piece.map.hasFile && piece.map.writeFile(piece.address, partOf(data, piece));
  }
  bytes.set(partOf(data, piece));
  return true;
}

/** Addresses as people read them: the first and the last. */
function range(start: bigint, end: bigint): string {
  return `${hex(start)} to ${hex(end - 1n)}`;
}
