/**
 * One range of the client's memory, as a DMA_MAP told of it.
 *
 * @module
 */

import { EFAULT, EINVAL, ENOSPC, SystemError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { canShrink, Mapping, MAX_MAPPING } from "../../ffi/memory.ts";
import { MAX_DMA_MAP_SIZE } from "../limits.ts";
import { DmaMapFlags, type DmaMapRequest } from "../wire/dma.ts";
import { DeviceError } from "./device.ts";

const RIGHTS = DmaMapFlags.READ | DmaMapFlags.WRITE;

/** A range of the client's memory: mapped here if it came with a file, else to be asked for. */
export class DmaMap {
  /** The first address. */
  readonly address: bigint;
  /** The first address behind it. */
  readonly end: bigint;
  /** `DmaMapFlags`: READ, WRITE or both. */
  readonly rights: number;
  readonly #offset: bigint;
  readonly #inode: bigint | undefined; // of the file
  readonly #mappings: readonly Mapping[]; // one for each MAX_MAPPING bytes; none without a file
  readonly #closed = new AbortController();

  private constructor(request: DmaMapRequest, inode?: bigint, mappings: Mapping[] = []) {
    this.address = request.address;
    this.end = request.address + request.size;
    this.rights = request.flags & RIGHTS;
    this.#offset = inode === undefined ? 0n : request.offset;
    this.#inode = inode;
    this.#mappings = mappings;
  }

  /**
   * Maps the file, all of it that is meant; it may be closed then.
   *
   * @param file if the client gave one
   * @param requireSealed refuses a file that can be made shorter
   * @throws {DeviceError} EINVAL if it is no file or too short, ENOSPC if it is more than can be mapped, else as mmap(2) fails
   */
  static create(request: DmaMapRequest, file: OwnedFd | undefined, requireSealed: boolean): DmaMap {
    if (file === undefined) return new DmaMap(request);
    const { isFile, size, inode } = file.stat();
    if (!isFile) throw new DeviceError(EINVAL, "the file descriptor is not that of a file");
    if (request.offset + request.size > size) {
      throw new DeviceError(EINVAL, `the file has ${size} bytes`);
    }
    if (request.size > MAX_DMA_MAP_SIZE) throw new DeviceError(ENOSPC);
    if (requireSealed && canShrink(file)) {
      throw new DeviceError(EINVAL, "the file is not sealed against shrinking");
    }
    return new DmaMap(request, inode, mapAll(file, request));
  }

  /** Whether another request would make the same map. */
  isSame(request: DmaMapRequest, file: OwnedFd | undefined): boolean {
    return request.address === this.address && request.address + request.size === this.end &&
      (request.flags & RIGHTS) === this.rights && file?.stat().inode === this.#inode &&
      (file === undefined || request.offset === this.#offset);
  }

  /** How many of `length` bytes from `address` on are here, and in one piece. */
  contiguous(address: bigint, length: number): number {
    const rest = this.end - address;
    const inMap = rest < BigInt(length) ? Number(rest) : length;
    if (this.#mappings.length === 0) return inMap;
    return Math.min(inMap, MAX_MAPPING - Number(address - this.address) % MAX_MAPPING);
  }

  /** The memory of a contiguous piece; undefined if the client has to be asked for it. */
  bytes(address: bigint, length: number): Uint8Array<ArrayBuffer> | undefined {
    if (this.#mappings.length === 0) return undefined;
    const at = Number(address - this.address);
    const mapping = this.#mappings[Math.floor(at / MAX_MAPPING)]!;
    return new Uint8Array(mapping.buffer, at % MAX_MAPPING, length);
  }

  /** Aborted when it is closed. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /**
   * Unmaps it. Views have length 0 then; what was asked of the client is given up.
   *
   * @param cause why; default that the client has unmapped it
   */
  close(cause?: Error): void {
    for (const mapping of this.#mappings) mapping.close();
    if (this.#mappings.length === 0) this.#closed.abort(cause ?? this.#unmapped());
  }

  #unmapped(): DeviceError {
    const range = `0x${this.address.toString(16)} to 0x${(this.end - 1n).toString(16)}`;
    return new DeviceError(
      EFAULT,
      `Cannot access the client's memory: it has unmapped ${range}`,
    );
  }
}

function mapAll(file: OwnedFd, { offset, size, flags }: DmaMapRequest): Mapping[] {
  const mappings: Mapping[] = [];
  const writable = (flags & DmaMapFlags.WRITE) !== 0;
  try {
    for (let at = 0; at < size; at += MAX_MAPPING) {
      const length = Math.min(MAX_MAPPING, Number(size) - at);
      mappings.push(Mapping.create(file, { length, offset: offset + BigInt(at), writable }));
    }
    return mappings;
  } catch (error) {
    for (const mapping of mappings) mapping.close();
    if (error instanceof SystemError) throw new DeviceError(error.errno, error.message);
    if (error instanceof RangeError) throw new DeviceError(EINVAL, error.message); // it has shrunk since
    throw error;
  }
}
