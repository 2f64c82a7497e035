/**
 * `DmaMap`: memory that a device may access at an address.
 *
 * @module
 */

import { describeRange, type DmaSource, type Memory } from "./dma_memory.ts";
import type { WaitOptions } from "./info.ts";

/** Rights of the device to memory: read and write, only read, only write. */
export type DmaPermission = "rw" | "ro" | "wo";

/** Options of a map. */
export interface DmaMapOptions {
  /** The first address as the device sees it, a multiple of the page size. */
  iova: bigint | number;
  /** In bytes, a multiple of the page size. */
  size: number;
  /** Rights of the device; default "rw". */
  access?: DmaPermission;
  /** Source of the memory; default "memfd". */
  share?: DmaSource;
}

/** The space of addresses that a map is in. */
interface DmaMapOwner {
  /** True while the server can be sent requests. */
  readonly isConnected: boolean;
  /** Tells whether a map is in force. */
  has(map: DmaMap): boolean;
  /** Takes the memory back, blocking. */
  unmap(map: DmaMap, options?: { timeoutMs?: number }): void;
  /** Takes the memory back. */
  unmapAsync(map: DmaMap, options?: WaitOptions): Promise<void>;
}

/** Memory that is mapped. */
export class DmaMap implements Disposable {
  /** The first address as the device sees it. */
  readonly iova: bigint;
  /** In bytes. */
  readonly size: number;
  /** Rights of the device. */
  readonly access: DmaPermission;
  /** True if the device accesses the memory by itself. Else its accesses come as messages. */
  readonly isShared: boolean;
  readonly #space: DmaMapOwner;
  readonly #memory: Memory;

  /** @ignore made by `DmaSpace.map` */
  constructor(space: DmaMapOwner, iova: bigint, access: DmaPermission, memory: Memory) {
    this.#space = space;
    this.#memory = memory;
    this.iova = iova;
    this.size = memory.bytes.length;
    this.access = access;
    this.isShared = memory.fd !== undefined;
  }

  /** The first address behind it. */
  get end(): bigint {
    return this.iova + BigInt(this.size);
  }

  /**
   * The memory. After `unmap` a view of shared memory that was taken is empty, and taking another
   * one throws.
   *
   * @throws {RangeError} if it is not mapped any more
   */
  get bytes(): Uint8Array<ArrayBuffer> {
    if (this.#memory.state === "gone") {
      throw new RangeError(`${describeRange(this.iova, this.size)} is not mapped`);
    }
    return this.#memory.bytes;
  }

  /** Takes the memory back from the device. Throws as {@linkcode DmaSpace.unmap}. */
  unmap(options?: { timeoutMs?: number }): void {
    this.#space.unmap(this, options);
  }

  /** Takes the memory back from the device, asynchronously. */
  unmapAsync(options?: WaitOptions): Promise<void> {
    return this.#space.unmapAsync(this, options);
  }

  /** Unmaps the memory, if it is still mapped. A connection that has ended is no error. */
  [Symbol.dispose](): void {
    if (!this.#space.has(this)) return;
    try {
      this.unmap();
    } catch (error) {
      if (this.#space.isConnected) throw error;
    }
  }
}
