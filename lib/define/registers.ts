/**
 * Regions of registers.
 *
 * A client may access any bytes of the region. The meaning for registers is decided here, and
 * nowhere else:
 *
 * - Each register that an access touches takes its part, from the lowest address up. An access of a
 *   part of a register is an access of that register. Bytes that were not written stay as they are,
 *   and clear and set nothing.
 * - The bits take the written value by their access (`rw`, `ro`, `wo`, `w1c`, `w1s`, `rc`). The map
 *   declares the access of the field, or else of the register. Then the register's `write` hook is
 *   called, once.
 * - A read calls the register's `read` hook once, and takes the requested bytes from its result.
 *   Without a hook `wo` reads as 0, and `rc` bits are cleared, those of the bytes that were read.
 * - Bytes between registers and behind them read as 0 and ignore writes. So do reserved bits,
 *   except that they show the reset value.
 * - Where registers overlap, a register with exactly the access's offset and width takes it. Else
 *   the register that comes first in the map takes the access.
 * - Two registers may share a place if one is only read (`ro`, `rc`) and one only written (`wo`),
 *   as a UART's receive and transmit registers. Each takes its accesses, and has bytes of its own.
 * - If a hook throws, the client gets an errno, and the rest of the access does not happen.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { MAX_REGISTER_SPACE } from "../base/limits.ts";
import type { Width } from "../client/info.ts";
import type { Register } from "../registers/map.ts";
import { DeviceError, type ServedIoFd } from "../server/served_device.ts";
import { IoFdType } from "../wire/io_fds.ts";
import { RegionFlags } from "../wire/region.ts";
import {
  alternatives,
  checkOptions,
  type Form,
  type Forms,
  FUNCTION,
  isObject,
  isPlain,
  LIST,
  Mistakes,
  NUMBER,
  shown,
  TEXT,
} from "./mistakes.ts";
import { keepOrigin } from "./origin.ts";
import {
  BAR_KIND,
  type BarKind,
  barKind,
  barSize,
  type DeviceRegion,
  type RegionReview,
  sealRegion,
} from "./device_region.ts";
import { hex } from "../text/hex.ts";
import { plural } from "../text/plural.ts";
import { makeCells } from "./register_cells.ts";
import { type AnyValue, pairUp, RegisterSlot } from "./register_slot.ts";
import { isLoaded, type RegisterSource, resolveRegisterMap } from "./register_source.ts";
import type { HooksOf, RegisterHooks, RegistersOf } from "./register_types.ts";

/** The way in which a region of registers is made. */
export interface RegistersOptions extends BarKind {
  /**
   * Bytes of the region, which are rounded up to a power of two. Registers beyond them are left
   * out. Default: all registers.
   */
  readonly size?: number;
  /**
   * Name of the region, for a map of several: "bar0". Default: the region of its first register.
   */
  readonly region?: string;
  /**
   * Bytes of every access: others, and those at no multiple of it, are refused with EINVAL.
   * Default: any access is possible.
   */
  readonly accessWidth?: Width;
  /** Names of registers for which a client may have an eventfd: signalling it is writing 0. */
  readonly ioeventfds?: readonly string[];
  /**
   * Names of registers for which a client may have an eventfd with shadow memory. Signalling it
   * writes the value that the client left in the memory.
   */
  readonly shadowIoeventfds?: readonly string[];
}

const WIDTH: Form = {
  accepts: (value) => [1, 2, 4, 8].includes(value as number),
  what: "1, 2, 4 or 8 bytes",
};

const OPTIONS: Forms<RegistersOptions> = {
  ...BAR_KIND,
  size: NUMBER,
  region: TEXT,
  accessWidth: WIDTH,
  ioeventfds: LIST,
  shadowIoeventfds: LIST,
};

const HOOKS: Forms<RegisterHooks<AnyValue>> = { read: FUNCTION, write: FUNCTION };

/** The options that name registers, and the descriptors of these. */
const EVENT_OPTIONS = [
  ["ioeventfds", IoFdType.IOEVENTFD],
  ["shadowIoeventfds", IoFdType.SHADOW_IOEVENTFD],
] as const;

/** A region of registers. */
export class RegisterRegion<M extends RegisterSource = RegisterSource> implements DeviceRegion {
  /** READ and WRITE. */
  readonly flags = RegionFlags.READ | RegionFlags.WRITE;
  /** Bytes of the region: a power of two. */
  readonly size: number;
  /** The fields of its base address register. */
  readonly bar: BarKind;
  /** The registers by name. */
  readonly regs: RegistersOf<M>;
  /** Current bytes of the registers. */
  readonly contents: readonly Uint8Array[];
  /** Parts that a client may write by eventfds. */
  readonly ioFds: readonly ServedIoFd[];
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #initial: Uint8Array;
  readonly #slots: readonly RegisterSlot[];
  readonly #slotAt: Uint16Array | Uint32Array; // by byte: the index of the slot, plus 1
  // by offset and width: registers that others hide
  readonly #exact = new Map<string, RegisterSlot>();
  readonly #scratch = new DataView(new ArrayBuffer(8));
  readonly #accessWidth: Width | undefined;
  readonly #map: string;
  readonly #leftOut: readonly string[];
  readonly #isForMany: boolean; // a map of a file: what is beyond the size is left out on purpose

  static {
    sealRegion(this.prototype);
  }

  /** As {@linkcode registers}. */
  constructor(source: M, options: RegistersOptions = {}) {
    keepOrigin(this);
    checkOptions("Cannot make a region of registers", "options", options, OPTIONS);
    const map = resolveRegisterMap(source);
    const all = registersOf(map.registers, options);
    this.#map = map.name;
    const names = new Set(all.map(({ name }) => name));
    this.#leftOut = namesIn(map.registers, options).filter((name) => !names.has(name));
    this.#isForMany = isLoaded(source);
    const end = Math.max(1, ...all.map(endOf));
    if (end > MAX_REGISTER_SPACE) {
      throw new RangeError(
        `The registers of ${map.name} take ${end} bytes; ${MAX_REGISTER_SPACE} are possible. ` +
          `Give a size`,
      );
    }
    this.size = barSize(options.size ?? end, options);
    this.bar = barKind(options);
    this.#accessWidth = options.accessWidth;
    this.#slots = all.map((each) => new RegisterSlot(each));
    const extra = pairUp(this.#slots, end);
    this.#bytes = new Uint8Array(end + extra);
    this.#view = new DataView(this.#bytes.buffer);
    this.#initial = new Uint8Array(end + extra);
    this.contents = [this.#bytes];
    const Marks = this.#slots.length < 2 ** 16 ? Uint16Array : Uint32Array;
    this.#slotAt = new Marks(end);
    const initial = new DataView(this.#initial.buffer);
    for (const [i, slot] of this.#slots.entries()) this.#place(slot, i + 1, initial);
    this.reset();
    this.regs = makeCells(this.#slots, { view: this.#view, initial }, this.#leftOut) as RegistersOf<
      M
    >;
    const mistakes = new Mistakes();
    this.ioFds = EVENT_OPTIONS.flatMap(([option, type]) =>
      (options[option] ?? []).flatMap((name, i) => {
        const slot = this.#slot(name, `${option}[${i}]`, mistakes);
        return slot === undefined ? [] : eventsOf(slot, type);
      })
    );
    mistakes.throwAny("Cannot make a region of registers");
  }

  /**
   * Sets the hooks for a client's reads and writes of registers. Hooks of a register replace those
   * that it had.
   *
   * @throws {DefinitionError} if there is no such register or hook: the error has all mistakes,
   *   each with the nearest name, and no hook is set then
   */
  on(hooks: HooksOf<M>): this {
    const mistakes = new Mistakes();
    if (!isObject(hooks)) mistakes.add(this.#map, `${shown(hooks)}, not { NAME: { read, write } }`);
    mistakes.throwAny("Cannot set hooks");
    const entries = Object.entries(hooks as Record<string, RegisterHooks<AnyValue> | undefined>);
    const found = entries.map(([name, each]) => {
      const path = `${this.#map}.${name}`;
      if (each !== undefined) checkHooks(path, each, mistakes);
      return [this.#slot(name, path, mistakes), each ?? {}] as const;
    });
    mistakes.throwAny("Cannot set hooks");
    for (const [slot, each] of found) slot!.hooks = each;
    return this;
  }

  /** The registers by name, and those beyond the region's size. */
  review(): RegionReview {
    return {
      parts: this.#slots.map(({ register, width, count, stride }) => ({
        path: `${this.#map}.${register.name}`,
        offset: register.offset,
        width,
        count,
        stride,
        register,
      })),
      unreachable: (this.#isForMany ? [] : this.#leftOut).map((name) =>
        `${this.#map}.${name}: can't be reached; it is beyond the region's size`
      ),
    };
  }

  /** Puts every register back to its reset value. Calls no hooks. */
  reset(): void {
    this.#bytes.set(this.#initial);
  }

  /** A client reads. */
  read(offset: number, into: Uint8Array): void | Promise<void> {
    // The read of a whole register that only shows its bytes: nearly all reads of nearly all
    // devices. If there is an access width, a register of another is of no use.
    const slot = this.#slots[this.#slotAt[offset]! - 1];
    const isWhole = slot !== undefined && slot.width === into.length;
    if (isWhole && slot.isPlain && into.length === (this.#accessWidth ?? into.length)) {
      if (slot.startOf(slot.indexAt(offset)) === offset && this.#exact.size === 0) {
        for (let i = 0; i < into.length; i++) into[i] = this.#bytes[offset + i]!;
        return;
      }
    }
    this.#checkWidth(offset, into.length);
    return this.#readFrom(0, offset, into);
  }

  /** A client writes. */
  write(offset: number, data: Uint8Array): void | Promise<void> {
    this.#checkWidth(offset, data.length);
    return this.#writeFrom(0, offset, data);
  }

  #checkWidth(offset: number, length: number): void {
    const width = this.#accessWidth;
    if (width === undefined || (length === width && offset % width === 0)) return;
    throw new DeviceError(
      EINVAL,
      `Cannot access ${length} bytes at ${hex(offset)} of ${this.#map}: ` +
        `accesses have ${plural(width, "byte")}, at multiples of that`,
    );
  }

  #readFrom(from: number, offset: number, into: Uint8Array): void | Promise<void> {
    for (let at = from; at < into.length;) {
      const slot = this.#slotFor(offset, at, into.length)?.takerOf("read");
      if (slot === undefined) {
        into[at++] = 0;
        continue;
      }
      const index = slot.indexAt(offset + at);
      const start = slot.startOf(index) - offset; // counted as `at`
      const stop = Math.min(into.length, start + slot.width);
      const value = slot.hooks.read?.(index);
      if (value instanceof Promise) {
        const from = at;
        return value.then((settled) => {
          this.#deliver(slot, settled, start, into.subarray(0, stop), from, offset);
          return this.#readFrom(stop, offset, into);
        });
      }
      this.#deliver(slot, value, start, into.subarray(0, stop), at, offset);
      at = stop;
    }
  }

  /** Puts a register's bytes from `at` on into `into`: of `value`, or those that it holds. */
  #deliver(
    slot: RegisterSlot,
    value: AnyValue | void,
    start: number,
    into: Uint8Array,
    at: number,
    offset: number,
  ): void {
    if (value !== undefined) {
      slot.put(this.#scratch, 0, value);
      for (; at < into.length; at++) into[at] = this.#scratch.getUint8(at - start);
      return;
    }
    const from = offset + slot.shift;
    for (; at < into.length; at++) {
      into[at] = this.#bytes[from + at]! & slot.readable[at - start]!;
      this.#bytes[from + at]! &= ~slot.clearedByRead[at - start]!;
    }
  }

  #writeFrom(from: number, offset: number, data: Uint8Array): void | Promise<void> {
    for (let at = from; at < data.length;) {
      const slot = this.#slotFor(offset, at, data.length)?.takerOf("write");
      if (slot === undefined) {
        at++;
        continue;
      }
      const index = slot.indexAt(offset + at);
      const start = slot.startOf(index);
      const stop = Math.min(data.length, start + slot.width - offset);
      const result = this.#writeSlot(slot, index, data.subarray(at, stop), offset + at - start);
      if (result instanceof Promise) {
        return result.then(() => this.#writeFrom(stop, offset, data));
      }
      at = stop;
    }
  }

  /** Writes bytes of one register, from its byte `first` on. */
  #writeSlot(
    slot: RegisterSlot,
    index: number,
    data: Uint8Array,
    first: number,
  ): void | Promise<void> {
    const start = slot.storeOf(index);
    const { write } = slot.hooks;
    const old = write && slot.get(this.#view, start);
    for (let i = 0; i < data.length; i++) {
      const [at, bits] = [first + i, data[i]!];
      const held = this.#bytes[start + at]!;
      const mask = slot.writable[at]!;
      const taken = (held & ~mask) | (bits & mask) | (bits & slot.settable[at]!);
      this.#bytes[start + at] = taken & ~(bits & slot.clearable[at]!);
    }
    if (write === undefined) return;
    this.#scratch.setUint32(0, 0);
    this.#scratch.setUint32(4, 0);
    for (let i = 0; i < data.length; i++) this.#scratch.setUint8(first + i, data[i]!);
    const value = slot.get(this.#view, start);
    const restore = (error: unknown): never => {
      if (slot.get(this.#view, start) === value) slot.put(this.#view, start, old!);
      throw error;
    };
    try {
      const result = write.call(slot.hooks, value, old!, index, slot.get(this.#scratch, 0));
      return result instanceof Promise ? result.catch(restore) : undefined;
    } catch (error) {
      restore(error);
    }
  }

  /** The register that byte `at` of an access of `length` bytes at `offset` is of. */
  #slotFor(offset: number, at: number, length: number): RegisterSlot | undefined {
    if (at === 0 && this.#exact.size > 0) {
      const exact = this.#exact.get(`${offset}+${length}`);
      if (exact !== undefined) return exact;
    }
    return this.#slots[this.#slotAt[offset + at]! - 1];
  }

  #place(slot: RegisterSlot, mark: number, initial: DataView): void {
    const reset = slot.register.reset ?? 0n;
    for (let index = 0; index < slot.count; index++) {
      const start = slot.storeOf(index);
      if (slot.shift > 0) {
        slot.put(initial, start, slot.width === 8 ? reset : Number(reset));
        continue;
      }
      const bytes = this.#slotAt.subarray(start, start + slot.width);
      if (bytes.every((each) => each === 0)) {
        bytes.fill(mark);
        slot.put(initial, start, slot.width === 8 ? reset : Number(reset));
      } else {
        this.#exact.set(`${start}+${slot.width}`, slot);
        for (const [i, each] of bytes.entries()) if (each === 0) bytes[i] = mark;
        if (slot.register.reset === undefined) continue; // the other one's holds
        slot.put(initial, start, slot.width === 8 ? reset : Number(reset));
      }
    }
  }

  #slot(name: string, path: string, mistakes: Mistakes): RegisterSlot | undefined {
    const slot = this.#slots.find((each) => each.register.name === name);
    if (slot !== undefined) return slot;
    if (typeof name !== "string") return void mistakes.add(path, `${shown(name)}, not a name`);
    const names = this.#slots.map((each) => each.register.name);
    const hint = this.#leftOut.includes(name)
      ? "it is beyond the region's size"
      : alternatives(name, names);
    mistakes.add(path, `there is no such register in the region; ${hint}`);
  }
}

/** The parts of a register, or of each of an array, that a client may write by an eventfd. */
function eventsOf(
  slot: RegisterSlot,
  type: (typeof EVENT_OPTIONS)[number][1],
): ServedIoFd[] {
  return Array.from({ length: slot.count }, (_, index) => {
    const part = { offset: slot.startOf(index), size: slot.width };
    return type === IoFdType.IOEVENTFD ? { ...part, type } : { ...part, type };
  });
}

/**
 * Makes a region of registers, from a map in a file (`await loadRegisterMap("./uart.yaml")`) or one
 * that is written here, in the same form. The module's text describes accesses of parts of
 * registers, and of several.
 *
 * @throws {DefinitionError} with all that is wrong with the map, or with the options
 * @throws {RangeError} if there can't be such a region
 *
 * @example A register whose writes count
 * ```ts
 * import { registers } from "./registers.ts";
 *
 * const bar0 = registers({
 *   registers: [
 *     {
 *       name: "CTRL",
 *       offset: 0,
 *       width: 4,
 *       fields: [{ name: "EN", bits: 0 }, { name: "MODE", bits: "5:4" }],
 *     },
 *     { name: "COUNT", offset: 4, width: 4, access: "ro" },
 *   ],
 * });
 * const { regs } = bar0;
 * bar0.on({ CTRL: { write: () => void regs.COUNT.value++ } });
 *
 * bar0.write(0, new Uint8Array([0x31])); // one byte of CTRL
 * console.assert(regs.CTRL.EN === 1 && regs.CTRL.MODE === 3 && regs.COUNT.value === 1);
 * ```
 */
export function registers<const M extends RegisterSource>(
  source: M,
  options: RegistersOptions = {},
): RegisterRegion<M> {
  return new RegisterRegion(source, options);
}

/** Hooks of one register. */
function checkHooks(path: string, hooks: unknown, mistakes: Mistakes): void {
  if (!isObject(hooks)) {
    mistakes.add(path, `${shown(hooks)}, not { read, write }`);
    return;
  }
  mistakes.check(path, hooks, HOOKS);
  if (isPlain(hooks) || hooks["read"] !== undefined || hooks["write"] !== undefined) return;
  mistakes.add(path, "has neither read nor write");
}

/** The registers of the region. */
function inRegion(
  all: readonly Register[],
  { region = all[0]?.region }: RegistersOptions,
): Register[] {
  return all.filter((each) => each.region === region);
}

function namesIn(all: readonly Register[], options: RegistersOptions): string[] {
  return inRegion(all, options).map(({ name }) => name);
}

/** The registers of the region that are whole within its size; arrays as far as they are. */
function registersOf(all: readonly Register[], options: RegistersOptions): Register[] {
  const { size = Infinity } = options;
  return inRegion(all, options).flatMap((each) => {
    const count = Math.floor((size - each.offset - each.width) / strideOf(each)) + 1;
    if (count < 1) return [];
    if (each.array === undefined) return [each];
    return [{ ...each, array: { ...each.array, count: Math.min(count, each.array.count) } }];
  });
}

function strideOf({ array, width }: Register): number {
  return array?.stride ?? width;
}

function endOf(register: Register): number {
  const last = (register.array?.count ?? 1) - 1;
  return register.offset + last * strideOf(register) + register.width;
}
