/**
 * The configuration space of a served PCI device: bytes, and which bits of them a client may write.
 *
 * @module
 */

import { RegionFlags } from "../wire/region.ts";
import type { ServedRegion } from "./served_device.ts";
import { HEADER, HEADER_NORMAL, STATUS } from "../pci/registers.ts";

/** Bytes of the smallest base address register. Its lowest 2 bits, or 4 of memory, are its kind. */
const MIN_BAR_SIZE = { io: 4, memory: 16 } as const;

/** Bytes of the smallest ROM, whose register has other bits below. */
const MIN_ROM_SIZE = 0x800;

/** The declaration of a base address register. */
export interface BarOptions {
  /** Bytes: a power of two, 16 or more; 4 or more of I/O ports. */
  size: number;
  /** I/O ports in place of memory. */
  io?: boolean;
  /** Takes two registers. */
  is64Bit?: boolean;
  /** Reading has no side effects. */
  prefetchable?: boolean;
}

/** Returns the bytes of the smallest base address register of that kind. */
export function leastBarSize({ io = false }: Pick<BarOptions, "io">): number {
  return io ? MIN_BAR_SIZE.io : MIN_BAR_SIZE.memory;
}

/** Called when a client has written to registers, or is about to read them. */
interface Watcher {
  readonly at: number;
  readonly end: number;
  readonly call: () => void | Promise<void>;
}

/**
 * A configuration space. Bits are read-only unless they were declared writable, as on hardware: so
 * writing all ones to a BAR and reading it back yields its size. Bits that were declared clearable
 * are cleared by writing ones.
 *
 * @example
 * ```ts
 * import { ConfigRegion } from "./config.ts";
 *
 * const config = new ConfigRegion(256);
 * config.set16(0, 0x1234);
 * config.setBar(0, { size: 4096 });
 * config.write(0x10, new Uint8Array([0xff, 0xff, 0xff, 0xff]));
 * const register = new Uint8Array(4);
 * config.read(0x10, register);
 * console.assert(register.join() === "0,240,255,255");
 * ```
 */
export class ConfigRegion implements ServedRegion {
  /** READ and WRITE. */
  readonly flags = RegionFlags.READ | RegionFlags.WRITE;
  /** 256, or 4096 with extended capabilities. */
  readonly size: number;
  /** Bytes that a client reads. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #writable: Uint8Array;
  readonly #clearable: Uint8Array;
  readonly #changing: Uint8Array; // bits that the device itself changes
  readonly #initial: Uint8Array;
  readonly #readers: Watcher[] = [];
  readonly #writers: Watcher[] = [];
  #lastCapability = 0;

  /**
   * A space full of zeros that clients cannot write.
   *
   * @param size in bytes: 256 or 4096
   */
  constructor(size: 256 | 4096) {
    this.size = size;
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
    this.#writable = new Uint8Array(size);
    this.#clearable = new Uint8Array(size);
    this.#changing = new Uint8Array(size);
    this.#initial = new Uint8Array(size);
  }

  /** Sets 8 bits, which of them a client may write, and which it clears by writing ones. */
  set8(at: number, value: number, writable = 0, clearable = 0): void {
    this.#view.setUint8(at, value);
    this.#writable[at] = writable;
    this.#clearable[at] = clearable;
    this.#initial[at] = value;
  }

  /** As `set8`, with 16 bits. */
  set16(at: number, value: number, writable = 0, clearable = 0): void {
    this.#set(2, at, value, writable, clearable);
  }

  /** As `set8`, with 32 bits. */
  set32(at: number, value: number, writable = 0, clearable = 0): void {
    this.#set(4, at, value, writable, clearable);
  }

  #set(width: 2 | 4, at: number, value: number, writable: number, clearable: number): void {
    for (let i = 0; i < width; i++) {
      const byte = (bits: number) => (bits >>> (8 * i)) & 0xff;
      this.set8(at + i, byte(value), byte(writable), byte(clearable));
    }
  }

  /** Lets a client write bits of a byte that are declared already. */
  allow(at: number, writable: number): void {
    this.#writable[at]! |= writable;
  }

  /**
   * Declares which bits of a byte the device itself changes, as a pending bit. These bits are
   * state, though clients do not write them.
   */
  change(at: number, bits: number): void {
    this.#changing[at]! |= bits;
  }

  /**
   * Checks that `bytes` could be this space at another time: the bits that never change have their
   * declared values.
   */
  mayBecome(bytes: Uint8Array): boolean {
    return bytes.length === this.size && this.differences(bytes).length === 0;
  }

  /** Offsets of the bytes in which bits that never change differ from those of `bytes`. */
  differences(bytes: Uint8Array): number[] {
    return [...this.#initial.keys()].filter((at) => {
      const changes = this.#writable[at]! | this.#clearable[at]! | this.#changing[at]!;
      return (((bytes[at] ?? 0) ^ this.#initial[at]!) & ~changes) !== 0;
    });
  }

  /**
   * Takes `bytes` as far as a client or the device can change them; what never changes stays. Calls
   * no watchers.
   */
  adopt(bytes: Uint8Array): void {
    for (const [at, initial] of this.#initial.entries()) {
      const changes = this.#writable[at]! | this.#clearable[at]! | this.#changing[at]!;
      this.bytes[at] = (initial & ~changes) | (bytes[at]! & changes);
    }
  }

  /**
   * Calls `written` after each write of a client that reaches any of `size` bytes from `at` on. If
   * the call returns a promise, the client is answered when the promise is settled.
   */
  onWrite(at: number, size: number, written: () => void | Promise<void>): void {
    this.#writers.push({ at, end: at + size, call: written });
  }

  /**
   * Calls `reading` before each read of a client that reaches any of `size` bytes from `at` on. If
   * the call returns a promise, the bytes are read when the promise is settled.
   */
  onRead(at: number, size: number, reading: () => void | Promise<void>): void {
    this.#readers.push({ at, end: at + size, call: reading });
  }

  /** The 16 bits at an offset, as they are now. */
  get16(at: number): number {
    return this.#view.getUint16(at, true);
  }

  /**
   * Declares base address register `index`, 0 to 5.
   *
   * @throws {RangeError} if there is no such register, or its size is not possible
   */
  setBar(index: number, options: BarOptions): void {
    const { size, io = false, is64Bit = false, prefetchable = false } = options;
    const last = is64Bit ? 4 : 5;
    if (!Number.isInteger(index) || index < 0 || index > last) {
      const what = is64Bit ? " with 64 bits" : "";
      throw new RangeError(`Cannot declare BAR${index}${what}: 0 to ${last} are possible`);
    }
    const largest = is64Bit ? Number.MAX_SAFE_INTEGER : 2 ** 31;
    if (!Number.isInteger(Math.log2(size)) || size < leastBarSize(options) || size > largest) {
      throw new RangeError(
        `Cannot declare BAR${index}: ${size} is not a power of two in its range`,
      );
    }
    const type = io ? 1 : (is64Bit ? 4 : 0) | (prefetchable ? 8 : 0);
    const mask = -BigInt(size); // the address bits above the size
    this.set32(HEADER_NORMAL.BASE_ADDRESS_0 + index * 4, type, Number(BigInt.asUintN(32, mask)));
    if (is64Bit) {
      this.set32(
        HEADER_NORMAL.BASE_ADDRESS_0 + index * 4 + 4,
        0,
        Number(BigInt.asUintN(32, mask >> 32n)),
      );
    }
  }

  /**
   * Declares the register of the expansion ROM.
   *
   * @param size in bytes: a power of two, 2 KiB to 2 GiB
   * @throws {RangeError} if that is not possible
   */
  setRom(size: number): void {
    if (!Number.isInteger(Math.log2(size)) || size < MIN_ROM_SIZE || size > 2 ** 31) {
      throw new RangeError(`Cannot declare the ROM: ${size} is not a power of two in its range`);
    }
    const enable = 1;
    this.set32(HEADER_NORMAL.ROM_ADDRESS, 0, Number(BigInt.asUintN(32, -BigInt(size))) | enable);
  }

  /** Links a capability into the chain. Its body is set by the caller, from `at` + 2 on. */
  addCapability(at: number, id: number): void {
    this.set8(HEADER.STATUS, this.bytes[HEADER.STATUS]! | STATUS.CAP_LIST);
    this.set8(this.#lastCapability === 0 ? HEADER.CAPABILITY_LIST : this.#lastCapability + 1, at);
    this.set8(at, id);
    this.#lastCapability = at;
  }

  /** Sets the header of an extended capability. The first is at 0x100; `next` is 0 for the last. */
  addExtendedCapability(at: number, id: number, version: number, next: number): void {
    this.set32(at, id | version << 16 | next << 20);
  }

  /** Copies out of the space. */
  read(offset: number, into: Uint8Array): void | Promise<void> {
    const end = offset + into.length;
    const copy = () => into.set(this.bytes.subarray(offset, end));
    const late = callInOrder(reachedOf(this.#readers, offset, end));
    return late === undefined ? copy() : late.then(copy);
  }

  /** Changes the bits that are writable, clears those that are clearable. */
  write(offset: number, data: Uint8Array): void | Promise<void> {
    for (let i = 0; i < data.length; i++) {
      const [at, value] = [offset + i, data[i]!];
      const mask = this.#writable[at]!;
      const changed = (this.bytes[at]! & ~mask) | (value & mask);
      this.bytes[at] = changed & ~(value & this.#clearable[at]!);
    }
    return callInOrder(reachedOf(this.#writers, offset, offset + data.length));
  }

  /** Puts every register back to what it was declared with. */
  reset(): void {
    this.bytes.set(this.#initial);
  }
}

function reachedOf(watchers: readonly Watcher[], offset: number, end: number): Watcher[] {
  return watchers.filter((each) => each.at < end && offset < each.end);
}

function callInOrder(watchers: readonly Watcher[]): void | Promise<void> {
  for (const [i, { call }] of watchers.entries()) {
    const result = call();
    if (result instanceof Promise) return result.then(() => callInOrder(watchers.slice(i + 1)));
  }
}
