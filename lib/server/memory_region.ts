/**
 * Regions made of memory.
 *
 * @module
 */

import { createMemfd, MappedFile, type Mapping } from "../../ffi/memory.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { type RegionCapability, RegionFlags, type SparseArea } from "../wire/region.ts";
import type { AdoptableMemory, ServedRegion } from "./served_device.ts";

/**
 * A region that is plain memory, which clients may map, as a whole or in areas. The memory is a
 * memfd that no client can shrink.
 *
 * @example
 * ```ts
 * import { MemoryRegion } from "./memory_region.ts";
 *
 * using region = new MemoryRegion("bar2", 0x4000, [{ offset: 0x1000n, size: 0x1000n }]);
 * region.write(0, new Uint8Array([1, 2]));
 * console.assert(region.bytes[1] === 2);
 * ```
 */
export class MemoryRegion implements ServedRegion, Disposable {
  /** READ, WRITE and MMAP. */
  readonly flags = RegionFlags.READ | RegionFlags.WRITE | RegionFlags.MMAP;
  /** Bytes of the region. */
  readonly size: number;
  /** The memfd. */
  readonly fds: readonly OwnedFd[];
  readonly #fds: OwnedFd[];
  /** The areas, if not all of it may be mapped. */
  readonly capabilities: readonly RegionCapability[];
  /** The memory itself. Its length is 0 after `close`. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #file: MappedFile;
  readonly #mapping: Mapping;

  /**
   * Makes the memory.
   *
   * @param name of the memfd, seen in /proc
   * @param size in bytes, a multiple of the page size
   * @param areas what may be mapped: page-aligned; all of it if left out
   * @throws {RangeError} if an area is not inside the region, or that is more than can be mapped
   */
  constructor(name: string, size: number, areas?: readonly SparseArea[]) {
    for (const area of areas ?? []) {
      if (area.offset + area.size > BigInt(size)) {
        throw new RangeError(`An area of ${name} ends after the region`);
      }
    }
    const fd = createMemfd(name, size);
    try {
      this.#file = MappedFile.create(fd, { length: size });
      this.#mapping = this.#file.part(0, size);
    } catch (error) {
      fd.close();
      throw error;
    }
    this.bytes = this.#mapping.bytes;
    this.size = size;
    this.fds = this.#fds = [fd];
    this.capabilities = areas ? [{ kind: "sparse_mmap", version: 1, areas: [...areas] }] : [];
  }

  /** The region itself, whose memory a new version of the device may adopt. */
  get memory(): AdoptableMemory {
    return this;
  }

  /** Copies out of the memory. */
  read(offset: number, into: Uint8Array): void {
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  /** The memory itself: a long read is sent from there. */
  view(offset: number, length: number): Uint8Array {
    return this.bytes.subarray(offset, offset + length);
  }

  /** Copies into the memory. */
  write(offset: number, data: Uint8Array): void {
    this.bytes.set(data, offset);
  }

  /**
   * Becomes the memory of another region of the same size, which clients may have mapped. What this
   * one held is gone. Views of it stay valid, and both regions are closed as before.
   *
   * @throws {RangeError} if the sizes differ
   * @throws {SystemError} as fcntl(2) or mmap(2) fail: it then is as it was
   */
  adopt(other: AdoptableMemory): void {
    if (!(other instanceof MemoryRegion) || other.size !== this.size) {
      throw new RangeError(`Memory of ${this.size} bytes cannot become one of ${other.size}`);
    }
    const fd = other.#fds[0]!.duplicate();
    try {
      this.#file.replace(fd);
    } catch (error) {
      fd.close();
      throw error;
    }
    this.#fds[0]!.close();
    this.#fds[0] = fd;
  }

  /** Frees the memory. Clients that have mapped it keep theirs. */
  close(): void {
    this.#mapping.close();
    for (const fd of this.fds) fd[Symbol.dispose]();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
