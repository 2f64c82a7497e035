/**
 * One range of the client's memory, as described by a DMA_MAP.
 *
 * @module
 */

import { EFAULT, EINVAL, EIO, ENOSPC, SystemError } from "../../ffi/errno.ts";
import type { FileStat, OwnedFd } from "../../ffi/fd.ts";
import type { Mapping } from "../../ffi/memory.ts";
import { MAX_DMA_MAP_SIZE } from "../base/limits.ts";
import { DmaMapFlags, type DmaMapRequest } from "../wire/dma.ts";
import { type ClientFile, examineFile } from "./client_file.ts";
import { MapWindow, type WindowSurroundings } from "./dma_window.ts";
import type { DmaRange } from "./device_dma.ts";
import { DeviceError, DmaError } from "./served_device.ts";
import type { FileMaps } from "./file_maps.ts";
import { hex } from "../text/hex.ts";

const RIGHTS = DmaMapFlags.READ | DmaMapFlags.WRITE;
const MODES = DmaMapFlags.MMAP | DmaMapFlags.FILE_IO;

/**
 * The file's bytes for a range: mapped here, or behind a descriptor.
 */
interface Source {
  readonly stat: FileStat;
  readonly mapping?: Mapping;
  readonly fd?: OwnedFd;
  close(): void;
}

/** A range of the client's memory: reached here if it came with a file, else to be asked for. */
export class DmaMap {
  /** The first address. */
  readonly address: bigint;
  /** The first address behind it. */
  readonly end: bigint;
  /** `DmaMapFlags`: READ, WRITE or both. */
  readonly rights: number;
  readonly #modes: number; // `DmaMapFlags`: MMAP, FILE_IO
  readonly #offset: bigint; // in the file
  readonly #source: Source | undefined;
  readonly #mapping: Mapping | undefined; // of the source, at hand without a step between
  #isClosed = false;
  #cause: Error | undefined; // why it is closed, if not by the client's unmap
  #window: MapWindow | undefined; // once a device wants one

  private constructor(request: DmaMapRequest, source?: Source) {
    this.address = request.address;
    this.end = request.address + request.size;
    this.rights = request.flags & RIGHTS;
    this.#modes = request.flags & MODES;
    this.#offset = source === undefined ? 0n : request.offset;
    this.#source = source;
    this.#mapping = source?.mapping;
  }

  /**
   * Maps the file, all of it that is meant, or keeps a descriptor of it. The caller's may be closed
   * then.
   *
   * @param file if the client gave one
   * @param maps what is mapped of the client's files
   * @param requireSealed refuses files whose mapping can fault
   * @throws {DeviceError} as {@linkcode examineFile}; ENOSPC if it is more than can be mapped; else
   *   as mmap(2) fails
   */
  static create(
    request: DmaMapRequest,
    file: OwnedFd | undefined,
    maps: FileMaps,
    requireSealed: boolean,
  ): DmaMap {
    if (file === undefined) return new DmaMap(request);
    const found = examineFile(file, request, requireSealed);
    try {
      return new DmaMap(
        request,
        found.mode === "map" ? map(found, request, maps) : keep(found, maps),
      );
    } catch (error) {
      if (error instanceof SystemError) throw new DeviceError(error.errno, error.message);
      if (error instanceof RangeError) throw new DeviceError(EINVAL, error.message);
      throw error;
    }
  }

  /** Compares this map with the one that another request would make. */
  isSame(request: DmaMapRequest, file: OwnedFd | undefined): boolean {
    if (request.address !== this.address || request.address + request.size !== this.end) {
      return false;
    }
    if ((request.flags & RIGHTS) !== this.rights || (request.flags & MODES) !== this.#modes) {
      return false;
    }
    if (file === undefined || this.#source === undefined) return file === this.#source;
    const { device, inode } = file.stat();
    const { stat } = this.#source;
    return device === stat.device && inode === stat.inode && request.offset === this.#offset;
  }

  /** The map as a device sees it. */
  get range(): DmaRange {
    const { address: iova, end, rights } = this;
    return { iova, size: end - iova, rights, isShared: this.#source !== undefined };
  }

  /** Counts those of `length` bytes from `address` on that are in the map. */
  contains(address: bigint, length: number): number {
    const rest = this.end - address;
    return rest < BigInt(length) ? Number(rest) : length;
  }

  /** The memory of a piece; undefined if it is not mapped here. */
  bytes(address: bigint, length: number): Uint8Array<ArrayBuffer> | undefined {
    const mapping = this.#mapping;
    if (mapping === undefined) return undefined;
    return new Uint8Array(mapping.buffer, Number(address - this.address), length);
  }

  /** The window of all of it; undefined if it is not mapped here. As `DeviceDma.window`. */
  window(around: WindowSurroundings, check?: () => void): MapWindow | undefined {
    const mapping = this.#mapping;
    if (mapping === undefined) return undefined;
    const known = this.#window;
    // A window is dead as well if a device has transferred its memory to another thread.
    if (known !== undefined && known.length > 0 && known.check === check) return known;
    const { address: iova, rights } = this;
    return this.#window = new MapWindow({ iova, rights, buffer: mapping.buffer }, around, check);
  }

  /** True if it is reached through a descriptor. */
  get hasFile(): boolean {
    return this.#source?.fd !== undefined;
  }

  /**
   * Reads a piece through the descriptor.
   *
   * @returns false if there is none
   * @throws {DeviceError} as pread(2) fails; EIO if the file ends before
   */
  readFile(address: bigint, into: Uint8Array): boolean {
    const fd = this.#source?.fd;
    if (fd === undefined) return false;
    this.#transfer("read", address, into, (part, offset) => fd.readAt(part, offset));
    return true;
  }

  /** Writes a piece through the descriptor. As {@linkcode DmaMap.readFile}. */
  writeFile(address: bigint, data: Uint8Array): boolean {
    const fd = this.#source?.fd;
    if (fd === undefined) return false;
    this.#transfer("write", address, data, (part, offset) => {
      // A write beyond the end would make the file longer. The size of a process's memory is 0.
      const isThere = this.#source!.stat.size === 0n ||
        fd.stat().size >= offset + BigInt(part.length);
      return isThere ? fd.writeAt(part, offset) : 0;
    });
    return true;
  }

  #transfer(
    verb: "read" | "write",
    address: bigint,
    bytes: Uint8Array,
    call: (part: Uint8Array, offset: bigint) => number,
  ): void {
    const start = this.#offset + (address - this.address);
    const fail = (errno: number, reason: string) => {
      const at = hex(address);
      return new DeviceError(errno, `Cannot ${verb} the client's memory at ${at}: ${reason}`);
    };
    for (let done = 0; done < bytes.length;) {
      let count: number;
      try {
        count = call(bytes.subarray(done), start + BigInt(done));
      } catch (error) {
        if (error instanceof SystemError) throw fail(error.errno, error.message);
        throw error;
      }
      if (count === 0) throw fail(EIO, "the client's file ends there");
      done += count;
    }
  }

  /** @throws {Error} the reason why it is closed, if it is */
  assertOpen(): void {
    if (this.#isClosed) throw this.#cause ?? this.#unmapped();
  }

  /**
   * Unmaps it. Views have length 0 then; nothing more is asked of the client.
   *
   * @param cause why; default that the client has unmapped it
   */
  close(cause?: Error): void {
    this.#source?.close();
    this.#isClosed = true;
    this.#cause = cause;
  }

  #unmapped(): DmaError {
    const range = `${hex(this.address)} to ${hex(this.end - 1n)}`;
    return new DmaError(
      EFAULT,
      `Cannot access the client's memory: it has unmapped ${range}`,
    );
  }
}

function map(file: ClientFile, request: DmaMapRequest, maps: FileMaps): Source {
  const { offset, size, flags } = request;
  if (size > MAX_DMA_MAP_SIZE) {
    throw new DeviceError(ENOSPC, `one map has ${MAX_DMA_MAP_SIZE} bytes at most`);
  }
  const writable = (flags & DmaMapFlags.WRITE) !== 0;
  const mapping = maps.map(file, { offset, length: Number(size), writable });
  return { stat: file.stat, mapping, close: () => mapping.close() };
}

function keep(file: ClientFile, maps: FileMaps): Source {
  const fd = maps.keep(file);
  return { stat: file.stat, fd, close: () => maps.release(fd) };
}
