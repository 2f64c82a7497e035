/**
 * Windows: the client's memory where it is mapped here, for a device's hot loops.
 *
 * A window makes its typed arrays once. They lie in the map's only ArrayBuffer, which is detached
 * ahead of munmap(2). So an access to a dead window finds arrays of length 0, and never memory.
 *
 * @module
 */

import { EACCES, EFAULT } from "../../ffi/errno.ts";
import { DEFAULT_PGSIZES, DMA_VIEW_SLOTS } from "../base/limits.ts";
import { hex } from "../text/hex.ts";
import { DmaMapFlags } from "../wire/dma.ts";
import type { DirtyLog } from "./dirty_log.ts";
import type { DmaWindow } from "./device_dma.ts";
import { DmaError } from "./served_device.ts";

/** The longest copy by a loop, in elements: it costs less than a view does. */
const LOOP_LENGTH = 32;
const { READ, WRITE } = DmaMapFlags;

/** Windows of one client's memory share this. */
export interface WindowSurroundings {
  /** The log of what the device writes, while the client wants one. */
  readonly log: DirtyLog | undefined;
  /** Views of whole pages. */
  readonly views: PageViews;
}

/** The range of a window. */
export interface WindowRange {
  /** The first IOVA. */
  readonly iova: bigint;
  /** The memory of the range. */
  readonly buffer: ArrayBuffer;
  /** `DmaMapFlags`: READ, WRITE or both. */
  readonly rights: number;
}

/**
 * Views of whole pages, by the number of the page. Each is made once, because a view costs half of
 * what a copy of its page does. Their number is bounded: a page takes the slot of another one.
 */
export class PageViews {
  readonly #pages = new Float64Array(DMA_VIEW_SLOTS).fill(-1);
  readonly #views: (Uint8Array | undefined)[] = Array.from({ length: DMA_VIEW_SLOTS });

  /**
   * Returns the view of a page.
   *
   * @param page its IOVA / 4096
   * @param bytes the memory that has it, from `at` on
   */
  get(page: number, bytes: Uint8Array, at: number): Uint8Array {
    const slot = page % DMA_VIEW_SLOTS;
    const known = this.#views[slot];
    // The view of a map that is gone is empty; another map may have its page now.
    if (known !== undefined && this.#pages[slot] === page && known.length > 0) return known;
    const view = bytes.subarray(at, at + DEFAULT_PGSIZES);
    this.#pages[slot] = page;
    this.#views[slot] = view;
    return view;
  }
}

/** A window of all of a map. */
export class MapWindow implements DmaWindow {
  /** As {@linkcode DmaWindow.iova}. */
  readonly iova: bigint;
  /** Refuses an access that its owner may not do now, by throwing; undefined: it may do all. */
  readonly check: (() => void) | undefined;
  readonly #start: number; // the first IOVA; NaN if numbers do not hold all of the window
  readonly #firstPage: number;
  readonly #end: bigint;
  readonly #rights: number;
  readonly #around: WindowSurroundings;
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #u64: BigUint64Array;

  /**
   * A window.
   *
   * @param check called ahead of each access, which it may refuse by throwing
   */
  constructor(
    { iova, buffer, rights }: WindowRange,
    around: WindowSurroundings,
    check: (() => void) | undefined,
  ) {
    this.iova = iova;
    this.#end = iova + BigInt(buffer.byteLength);
    this.#start = this.#end > Number.MAX_SAFE_INTEGER ? NaN : Number(iova);
    this.#firstPage = Number(iova / BigInt(DEFAULT_PGSIZES));
    this.#rights = rights;
    this.#around = around;
    this.check = check;
    this.#u8 = new Uint8Array(buffer);
    this.#u16 = new Uint16Array(buffer);
    this.#u32 = new Uint32Array(buffer);
    this.#u64 = new BigUint64Array(buffer);
  }

  /** As {@linkcode DmaWindow.length}. */
  get length(): number {
    return this.#u8.length;
  }

  /** Tells if it has an address, and so many bytes from there on. */
  holds(iova: number | bigint, length: number): boolean {
    const at = this.#offset(iova);
    const end = this.#u8.length; // 0 of a dead window, which has no address
    return at >= 0 && at < end && at + length <= end && Number.isInteger(at);
  }

  /** As {@linkcode DmaWindow.getUint8}. */
  getUint8(iova: number | bigint): number {
    return this.#u8[this.#at(iova, 1, READ)]!;
  }

  /** As {@linkcode DmaWindow.getUint16}. */
  getUint16(iova: number | bigint): number {
    const at = this.#at(iova, 2, READ);
    if ((at & 1) === 0) return Atomics.load(this.#u16, at / 2);
    return this.#u8[at]! | this.#u8[at + 1]! << 8;
  }

  /** As {@linkcode DmaWindow.getUint32}. */
  getUint32(iova: number | bigint): number {
    const at = this.#at(iova, 4, READ);
    if ((at & 3) === 0) return Atomics.load(this.#u32, at / 4);
    return this.#unaligned(at).getUint32(0, true);
  }

  /** As {@linkcode DmaWindow.getUint64}. */
  getUint64(iova: number | bigint): bigint {
    const at = this.#at(iova, 8, READ);
    if ((at & 7) === 0) return Atomics.load(this.#u64, at / 8);
    return this.#unaligned(at).getBigUint64(0, true);
  }

  /** As {@linkcode DmaWindow.setUint8}. */
  setUint8(iova: number | bigint, value: number): void {
    const at = this.#at(iova, 1, WRITE);
    Atomics.store(this.#u8, at, value);
    this.#mark(at, 1);
  }

  /** As {@linkcode DmaWindow.setUint16}. */
  setUint16(iova: number | bigint, value: number): void {
    const at = this.#at(iova, 2, WRITE);
    if ((at & 1) === 0) Atomics.store(this.#u16, at / 2, value);
    else this.#unaligned(at).setUint16(0, value, true);
    this.#mark(at, 2);
  }

  /** As {@linkcode DmaWindow.setUint32}. */
  setUint32(iova: number | bigint, value: number): void {
    const at = this.#at(iova, 4, WRITE);
    if ((at & 3) === 0) Atomics.store(this.#u32, at / 4, value);
    else this.#unaligned(at).setUint32(0, value, true);
    this.#mark(at, 4);
  }

  /** As {@linkcode DmaWindow.setUint64}. */
  setUint64(iova: number | bigint, value: bigint): void {
    const at = this.#at(iova, 8, WRITE);
    if ((at & 7) === 0) Atomics.store(this.#u64, at / 8, value);
    else this.#unaligned(at).setBigUint64(0, value, true);
    this.#mark(at, 8);
  }

  /** As {@linkcode DmaWindow.copyTo}. */
  copyTo(iova: number | bigint, into: Uint8Array | Uint32Array): void {
    const at = this.#at(iova, into.byteLength, READ);
    const isWords = into instanceof Uint32Array;
    if (isWords ? (at & 3) !== 0 : into.length !== into.byteLength) {
      return this.copyTo(iova, bytesOf(into));
    }
    const memory = isWords ? this.#u32 : this.#u8;
    const first = isWords ? at / 4 : at;
    const { length } = into;
    if (isShort(into, memory)) { for (let i = 0; i < length; i++) into[i] = memory[first + i]!; }
    else if (isWords) into.set(memory.subarray(first, first + length));
    else into.set(this.#view(at, length));
  }

  /** As {@linkcode DmaWindow.copyFrom}. */
  copyFrom(iova: number | bigint, data: Uint8Array | Uint32Array): void {
    const at = this.#at(iova, data.byteLength, WRITE);
    const isWords = data instanceof Uint32Array;
    if (isWords ? (at & 3) !== 0 : data.length !== data.byteLength) {
      return this.copyFrom(iova, bytesOf(data));
    }
    const memory = isWords ? this.#u32 : this.#u8;
    const first = isWords ? at / 4 : at;
    const { length } = data;
    if (isShort(data, memory)) {
      const last = length - 1;
      for (let i = 0; i < last; i++) memory[first + i] = data[i]!;
      if (length > 0) Atomics.store(memory, first + last, data[last]!);
    } else if (isWords) memory.set(data, first);
    else this.#view(at, length).set(data);
    this.#mark(at, data.byteLength);
  }

  /** Bytes from the start of the window; NaN or a fraction for what is no address. */
  #offset(iova: number | bigint): number {
    if (typeof iova === "bigint") return Number(iova - this.iova);
    const isExact = Number.isNaN(this.#start) && Number.isSafeInteger(iova);
    return isExact ? Number(BigInt(iova) - this.iova) : iova - this.#start;
  }

  #at(iova: number | bigint, length: number, right: number): number {
    const at = typeof iova === "number" ? iova - this.#start : Number(iova - this.iova);
    // The memory of a dead window has length 0.
    const isInside = at >= 0 && at + length <= this.#u8.length && Number.isInteger(at);
    if (!isInside || (this.#rights & right) === 0) {
      const other = this.#offset(iova); // of a number in a window that goes beyond 2^53
      if (Number.isNaN(at) && !Number.isNaN(other)) return this.#at(BigInt(iova), length, right);
      throw this.#failure(iova, length, right);
    }
    this.check?.();
    return at;
  }

  #failure(iova: number | bigint, length: number, right: number): DmaError {
    const verb = right === READ ? "read" : "write";
    const address = typeof iova === "bigint" || !Number.isInteger(iova) || iova < 0
      ? iova
      : BigInt(iova);
    const at = typeof address === "bigint" ? hex(address) : address;
    const fail = (errno: number, reason: string) =>
      new DmaError(
        errno,
        `Cannot ${verb} ${length} bytes of the client's memory at ${at}: ${reason}`,
      );
    const range = `${hex(this.iova)} to ${hex(this.#end - 1n)}`;
    if (this.#u8.length === 0) return fail(EFAULT, `the client has unmapped ${range}`);
    if (!this.holds(iova, length) || typeof address !== "bigint") {
      return fail(EFAULT, `the window is ${range}`);
    }
    return fail(EACCES, "the client does not allow it");
  }

  /** Bytes for one value that is not aligned. */
  #unaligned(at: number): DataView {
    return new DataView(this.#u8.buffer, this.#u8.byteOffset + at);
  }

  #view(at: number, length: number): Uint8Array {
    if (length !== DEFAULT_PGSIZES || at % DEFAULT_PGSIZES !== 0) {
      return this.#u8.subarray(at, at + length);
    }
    return this.#around.views.get(this.#firstPage + at / DEFAULT_PGSIZES, this.#u8, at);
  }

  #mark(at: number, length: number): void {
    this.#around.log?.mark(this.iova + BigInt(at), length);
  }
}

/** Tells if a loop copies to or from memory: little, and not of the same memory (a view). */
function isShort(bytes: Uint8Array | Uint32Array, memory: Uint8Array | Uint32Array): boolean {
  return bytes.length <= LOOP_LENGTH && bytes.buffer !== memory.buffer;
}

/**
 * The bytes of an array, which a device written without types may have taken for another one.
 *
 * @throws {TypeError} if it has no bytes
 */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  if (array instanceof Uint8Array) return array;
  if (!ArrayBuffer.isView(array)) {
    const kind = Object.prototype.toString.call(array).slice("[object ".length, -1);
    const article = /^[AEIOU]/.test(kind) ? "an" : "a";
    throw new TypeError(
      `Cannot access the client's memory: the bytes are ${article} ${kind}, not a Uint8Array`,
    );
  }
  const { buffer, byteOffset, byteLength } = array;
  return new Uint8Array(buffer, byteOffset, byteLength);
}
