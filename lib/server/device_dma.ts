/**
 * The client's memory, as a device sees it.
 *
 * @module
 */

/** A range of the client's memory, as the client has mapped it. */
export interface DmaRange {
  /** The first IOVA. */
  readonly iova: bigint;
  /** Bytes, above 0. */
  readonly size: bigint;
  /** `DmaMapFlags`: READ, WRITE or both. */
  readonly rights: number;
  /** True if the range came with a file: accesses need no message to the client. */
  readonly isShared: boolean;
}

/** The way of an access to the client's memory. */
export interface DmaAccessOptions {
  /**
   * `"message"`: asks the client by DMA_READ or DMA_WRITE, also for memory that is shared. A mock
   * tests a client's answers so.
   */
  readonly via?: "message" | undefined;
}

/**
 * The client's memory, as far as the client has mapped it for DMA. Addresses are IOVAs. An access
 * may go across maps that adjoin.
 *
 * Memory that the client mapped with a file is accessed there and then. For the rest the server
 * asks the client, by DMA_READ and DMA_WRITE: in pieces of its `max_data_xfer_size`, several at a
 * time. The synchronous methods block the thread for that.
 *
 * The methods throw, or reject with:
 * - `DmaError` EFAULT where nothing is mapped, or not any more; EACCES where the client does not
 *   allow the access. A region's hook may let the error pass on to the client.
 * - `DeviceError` EAGAIN if thousands of accesses wait already.
 * - `RemoteError` if the client refuses, `TimeoutError` if it does not answer, `ConnectionError`
 *   when it is gone.
 * - `RangeError` for a length that is negative, or above 1 GiB.
 */
export interface DeviceDma {
  /** Reads; the bytes are the caller's. */
  read(
    iova: bigint,
    length: number,
    options?: DmaAccessOptions,
  ): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * As `read`, into memory that the device has. This spares a frequent reader new memory for each
   * access, which costs more than the access. `into` is not to be touched until the promise is
   * settled, and holds anything if the promise is rejected.
   */
  readInto(iova: bigint, into: Uint8Array, options?: DmaAccessOptions): Promise<void>;
  /** Writes. `data` must stay as it is until the promise is settled. */
  write(iova: bigint, data: Uint8Array, options?: DmaAccessOptions): Promise<void>;
  /** As `read`, blocking. */
  readSync(
    iova: bigint,
    length: number,
    options?: DmaAccessOptions,
  ): Uint8Array<ArrayBuffer>;
  /** As `write`, blocking. */
  writeSync(iova: bigint, data: Uint8Array, options?: DmaAccessOptions): void;
  /** The ranges that are mapped, by address. None while no client is connected. */
  maps(): DmaRange[];
  /**
   * The memory itself, without a copy. Its length becomes 0 as soon as the client takes it back or
   * goes: ask again for each use, and hold it across no `await`.
   *
   * @param rights `DmaMapFlags` that the map has to have; default READ. Without WRITE what is
   *   written to the view stays in it, or is missed by a client that logs which pages the device
   *   writes. With WRITE all of the view counts as written
   * @returns undefined unless one map holds all of it, whose file is mapped here: `read` and
   *   `write` work elsewhere too, or say why not
   */
  view(iova: bigint, length: number, rights?: number): Uint8Array<ArrayBuffer> | undefined;
  /**
   * The window of the map that has all of a range, for synchronous access in a hot loop. The same
   * map has the same window: asking is cheap, and finds the map of each range.
   *
   * @param check called ahead of each access of the window, which it refuses by throwing
   * @returns undefined where `view` returns undefined: `read` and `write` work there, or report why
   *   not
   * @throws {RangeError} for an IOVA that is no whole number, or a length as above
   *
   * @example
   * ```ts
   * import type { DeviceDma } from "./device_dma.ts";
   *
   * // Follows a list in shared memory: each element begins with the address of the next one.
   * export function last(dma: DeviceDma, iova: number): number {
   *   for (let left = 100; left > 0; left--) {
   *     const next = dma.window(iova, 4)?.getUint32(iova);
   *     if (next === undefined) throw new Error("the memory is not shared");
   *     if (next === 0) return iova;
   *     iova = next;
   *   }
   *   throw new Error("the list is too long");
   * }
   * ```
   */
  window(iova: number | bigint, length: number, check?: () => void): DmaWindow | undefined;
  /**
   * Copies out of the client's memory: at once where `window` has the range, else as `readInto`. A
   * device of `defineDevice` copies more than 4 MiB as `readInto`, too. Waiting only for promises
   * spares a hot loop those that are settled already.
   *
   * @returns undefined if it is done
   */
  copyTo(iova: number | bigint, into: Uint8Array | Uint32Array): Promise<void> | undefined;
  /** Copies into the client's memory: at once, or as `write`. As `copyTo`. */
  copyFrom(iova: number | bigint, data: Uint8Array | Uint32Array): Promise<void> | undefined;
}

/**
 * All of one map of the client's memory, for hot loops: its methods wait for nothing and make no
 * promises or objects. Addresses are IOVAs: bigints, or whole numbers up to 2^53 - 1, which are
 * faster. Values are little-endian.
 *
 * A value of 16, 32 or 64 bits whose address is a multiple of its size is one access, in the order
 * of the program. A client that sees the value also sees earlier writes. Other values, and copies,
 * are accesses of bytes in any order.
 *
 * The window ends with its map: by DMA_UNMAP, or with the connection. The methods throw
 * - `DmaError` EFAULT for an address outside the window, or after its end; EACCES where the client
 *   does not allow the access;
 * - in a device of `defineDevice`, `DeviceError` EPERM while COMMAND's bus master enable is off,
 *   and ECANCELED during a reset.
 *
 * Writes count as written for a client that logs dirty pages.
 */
export interface DmaWindow {
  /** The first IOVA. */
  readonly iova: bigint;
  /** The number of bytes; 0 after the end of the window. */
  readonly length: number;
  /** Returns the byte at an address. */
  getUint8(iova: number | bigint): number;
  /** Returns the 16 bits at an address. */
  getUint16(iova: number | bigint): number;
  /** Returns the 32 bits at an address. */
  getUint32(iova: number | bigint): number;
  /** Returns the 64 bits at an address. */
  getUint64(iova: number | bigint): bigint;
  /** Writes the lowest 8 bits of a value. */
  setUint8(iova: number | bigint, value: number): void;
  /** Writes the lowest 16 bits of a value. */
  setUint16(iova: number | bigint, value: number): void;
  /** Writes the lowest 32 bits of a value. */
  setUint32(iova: number | bigint, value: number): void;
  /** Writes the lowest 64 bits of a value. */
  setUint64(iova: number | bigint, value: bigint): void;
  /** Copies out of the client's memory: as many bytes as `into` has. */
  copyTo(iova: number | bigint, into: Uint8Array | Uint32Array): void;
  /**
   * Copies all bytes of `data` into the client's memory. Of up to 32 elements the last one is
   * written after all others, in one access. A client that sees it sees the others as well.
   */
  copyFrom(iova: number | bigint, data: Uint8Array | Uint32Array): void;
}
