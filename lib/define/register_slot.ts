/**
 * One register of a map as a device keeps it. A slot knows the place of the bytes, and the bits
 * that a client reads, changes, clears and sets.
 *
 * @module
 */

import type { Register, RegisterField } from "../registers/map.ts";
import type { RegisterHooks } from "./register_types.ts";

/** Values of a register: a number up to 4 bytes, a bigint of 8. */
export type AnyValue = number | bigint;

/** A register, or all registers of an array. */
export class RegisterSlot {
  /** The register of the map. */
  readonly register: Register;
  /** Its bytes. */
  readonly width: number;
  /** The number of them. */
  readonly count: number;
  /** Bytes from one to the next. */
  readonly stride: number;
  /** Bytes from its offset to those that hold it; more than 0 for the second of a pair. */
  shift = 0;
  /** The register at the same place that takes the accesses of the other direction, if any. */
  counterpart: RegisterSlot | undefined;
  /** Hooks that a client's accesses call, if any. */
  hooks: RegisterHooks<AnyValue> = {};
  /** Bits by byte of the register: those that a client reads as they are, */
  readonly readable: Uint8Array;
  /** those that it writes, */
  readonly writable: Uint8Array;
  /** those that ones clear, */
  readonly clearable: Uint8Array;
  /** those that ones set, */
  readonly settable: Uint8Array;
  /** and those that reading clears. */
  readonly clearedByRead: Uint8Array;
  readonly #isReadAsIs: boolean;
  readonly #direction: "read" | "write" | undefined;

  constructor(register: Register) {
    this.register = register;
    this.width = register.width;
    this.count = register.array?.count ?? 1;
    this.stride = register.array?.stride ?? register.width;
    // bits of no field are reserved: a client reads them
    this.readable = new Uint8Array(this.width).fill(0xff);
    this.writable = new Uint8Array(this.width);
    this.clearable = new Uint8Array(this.width);
    this.settable = new Uint8Array(this.width);
    this.clearedByRead = new Uint8Array(this.width);
    const whole = { low: 0, high: this.width * 8 - 1, access: register.access };
    for (const each of register.fields.length === 0 ? [whole] : register.fields) this.#add(each);
    this.#isReadAsIs = this.readable.every((bits) => bits === 0xff) &&
      this.clearedByRead.every((bits) => bits === 0);
    this.#direction = directionOf(register);
  }

  /** True if reading the register is copying its bytes, and nothing else. */
  get isPlain(): boolean {
    return this.#isReadAsIs && this.hooks.read === undefined;
  }

  /** Returns the index in an array of the element that holds the byte at `offset`. */
  indexAt(offset: number): number {
    return this.count === 1 ? 0 : Math.floor((offset - this.register.offset) / this.stride);
  }

  /** Returns the offset at which the element of that index begins. */
  startOf(index: number): number {
    return this.register.offset + index * this.stride;
  }

  /** Returns the place of the bytes that hold the element of that index. */
  storeOf(index: number): number {
    return this.startOf(index) + this.shift;
  }

  /** True if one of the two is only read, the other only written, and both are at one place. */
  isPairOf(other: RegisterSlot): boolean {
    const isSamePlace = this.register.offset === other.register.offset &&
      this.width === other.width && this.count === other.count && this.stride === other.stride;
    const [first, second] = [this.#direction, other.#direction];
    return isSamePlace && first !== undefined && second !== undefined && first !== second;
  }

  /** The register of the pair that takes an access; this one, if it is alone. */
  takerOf(access: "read" | "write"): RegisterSlot {
    const { counterpart } = this;
    return counterpart === undefined || this.#direction === access ? this : counterpart;
  }

  /** The value in `view` at `start`. */
  get(view: DataView, start: number): AnyValue {
    switch (this.width) {
      case 1:
        return view.getUint8(start);
      case 2:
        return view.getUint16(start, true);
      case 4:
        return view.getUint32(start, true);
      default:
        return view.getBigUint64(start, true);
    }
  }

  /**
   * Puts a value into `view` at `start`.
   *
   * @throws {RangeError} if it does not fit, or is of the wrong type
   */
  put(view: DataView, start: number, value: AnyValue): void {
    if (!this.#fits(value)) {
      const bits = this.width * 8;
      const type = this.width === 8 ? "a bigint" : "a whole number";
      throw new RangeError(
        `${this.register.name} can't hold ${String(value)}: it takes ${type} of ${bits} bits`,
      );
    }
    switch (this.width) {
      case 1:
        return view.setUint8(start, value as number);
      case 2:
        return view.setUint16(start, value as number, true);
      case 4:
        return view.setUint32(start, value as number, true);
      default:
        return view.setBigUint64(start, value as bigint, true);
    }
  }

  #fits(value: AnyValue): boolean {
    if (this.width === 8) return typeof value === "bigint" && BigInt.asUintN(64, value) === value;
    return Number.isInteger(value) && value as number >= 0 &&
      value as number < 2 ** (8 * this.width);
  }

  /** Takes a field into the bits that its access is about. */
  #add({ low, high, access }: Pick<RegisterField, "low" | "high" | "access">): void {
    for (let at = low >> 3; at <= high >> 3; at++) {
      const [first, last] = [Math.max(low - at * 8, 0), Math.min(high - at * 8, 7)];
      const bits = (0xff << first) & (0xff >> (7 - last));
      if (access === "wo") this.readable[at]! &= ~bits;
      if (access === "rw" || access === "wo") this.writable[at]! |= bits;
      if (access === "w1c") this.clearable[at]! |= bits;
      if (access === "w1s") this.settable[at]! |= bits;
      if (access === "rc") this.clearedByRead[at]! |= bits;
    }
  }
}

/** The only accesses that a register is for; undefined if it is for both. */
function directionOf({ access, fields }: Register): "read" | "write" | undefined {
  const all = [access, ...fields.map((field) => field.access)];
  if (all.every((each) => each === "wo")) return "write";
  return all.every((each) => each === "ro" || each === "rc") ? "read" : undefined;
}

/**
 * Finds the pairs of a register that is only read and one that is only written. The second of a
 * pair is held by bytes behind the region's.
 *
 * @returns the number of those bytes
 */
export function pairUp(slots: readonly RegisterSlot[], end: number): number {
  const alone = new Map<number, RegisterSlot>(); // by offset
  let extra = 0;
  for (const slot of slots) {
    const { offset } = slot.register;
    const other = alone.get(offset);
    if (other === undefined || !other.isPairOf(slot)) {
      alone.set(offset, slot);
      continue;
    }
    slot.shift = end + extra - offset;
    extra += (slot.count - 1) * slot.stride + slot.width;
    [slot.counterpart, other.counterpart] = [other, slot];
    alone.delete(offset);
  }
  return extra;
}
