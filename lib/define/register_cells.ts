/**
 * Registers as a device's author sees them: `regs.CSTS.value`, `regs.CSTS.RDY = 1`,
 * `regs.PIN.at(3)`.
 *
 * @module
 */

import { fieldMask, type RegisterField } from "../registers/map.ts";
import type { AnyValue, RegisterSlot } from "./register_slot.ts";
import { alternatives, isObject, shown } from "./mistakes.ts";
import type { RegisterCell, RegisterCells } from "./register_types.ts";
import { sealClass, sealed } from "./sealed.ts";
import { plural } from "../text/plural.ts";

/** Bits of the widest field that a number holds. */
const MAX_FIELD_BITS = 53;

/** The bytes of all registers. */
export interface CellStore {
  /** Current bytes of the registers. */
  readonly view: DataView;
  /** Bytes of the registers after a reset. */
  readonly initial: DataView;
}

/**
 * Makes the object by which a device reaches its registers: each by name, an array as
 * {@linkcode RegisterCells}.
 *
 * @param leftOut names of registers of the map that are not in the region
 */
export function makeCells(
  slots: readonly RegisterSlot[],
  store: CellStore,
  leftOut: readonly string[],
): Record<string, unknown> {
  const cells: Record<string, unknown> = {};
  for (const slot of slots) {
    const { name, array } = slot.register;
    const cell = array === undefined ? new Cell(slot, 0, store) : new Cells(slot, store);
    Object.defineProperty(cells, name, {
      enumerable: true,
      get: () => cell,
      set: () => refuseWrite(name, array !== undefined),
    });
  }
  return sealed(cells, {
    path: "regs",
    remedy: (_, name) =>
      leftOut.includes(name) ? "the register is beyond the region's size" : undefined,
  });
}

/** A register was written where its value was meant. */
function refuseWrite(name: string, isArray: boolean): never {
  throw new TypeError(
    isArray
      ? `Cannot write regs.${name}: it is an array of registers; write regs.${name}.at(0).value`
      : `Cannot write regs.${name}: it is a register; write regs.${name}.value, or a field of it`,
  );
}

class Cells implements RegisterCells<Cell> {
  readonly name: string;
  readonly length: number;
  readonly #slot: RegisterSlot;
  readonly #store: CellStore;
  readonly #made = new Map<number, Cell>();

  static {
    sealClass<Cells>(this.prototype, {
      path: ({ name }) => name,
      remedy: (cells, wrong) => {
        const { name } = cells;
        const { fields } = cells.#slot.register;
        if (/^\d+$/.test(wrong)) return `did you mean "${name}.at(${wrong})"?`;
        const isOfOne = Object.hasOwn(Cell.prototype, wrong) ||
          fields.some((field) => field.name === wrong);
        return isOfOne ? `did you mean "${name}.at(0).${wrong}"?` : undefined;
      },
    });
  }

  constructor(slot: RegisterSlot, store: CellStore) {
    this.#slot = slot;
    this.#store = store;
    this.name = slot.register.name;
    this.length = slot.count;
    Object.freeze(this);
  }

  at(index: number): Cell {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) {
      throw new RangeError(
        `There is no ${this.name}[${index}]; ${this.name}[0] to ${this.name}[${
          this.length - 1
        }] are`,
      );
    }
    let cell = this.#made.get(index);
    if (cell === undefined) this.#made.set(index, cell = new Cell(this.#slot, index, this.#store));
    return cell;
  }
}

class Cell implements RegisterCell<AnyValue> {
  readonly name: string;
  readonly #slot: RegisterSlot;
  readonly #start: number;
  readonly #store: CellStore;

  static {
    sealClass<Cell>(this.prototype, {
      path: (cell) => cell.#path,
      remedy: (cell, wrong) =>
        cell.#slot.register.fields.some(({ name }) => name === wrong)
          ? `the field has more bits than a number; it is in ${cell.#path}.value`
          : undefined,
    });
  }

  constructor(slot: RegisterSlot, index: number, store: CellStore) {
    this.#slot = slot;
    this.#start = slot.storeOf(index);
    this.#store = store;
    this.name = slot.register.name;
    for (const field of slot.register.fields) this.#addField(field);
    Object.freeze(this);
  }

  get value(): AnyValue {
    return this.#slot.get(this.#store.view, this.#start);
  }

  set value(value: AnyValue) {
    this.#slot.put(this.#store.view, this.#start, value);
  }

  set(fields: Readonly<Record<string, number | undefined>>): void {
    if (!isObject(fields)) {
      throw new TypeError(
        `Cannot set fields of ${this.#path}: ${shown(fields)}, not { NAME: value }; ` +
          `write ${this.#path}.value for all of it`,
      );
    }
    let value = BigInt(this.value);
    for (const [name, bits] of Object.entries(fields)) {
      const field = this.#slot.register.fields.find((each) => each.name === name);
      if (field === undefined) throw this.#unknownField(name);
      if (bits !== undefined) value = withField(value, field, bits);
    }
    this.value = this.#slot.width === 8 ? value : Number(value);
  }

  reset(): void {
    this.value = this.#slot.get(this.#store.initial, this.#start);
  }

  get #path(): string {
    const { register, stride, shift } = this.#slot;
    const index = (this.#start - shift - register.offset) / stride;
    return register.array === undefined ? this.name : `${this.name}.at(${index})`;
  }

  #unknownField(name: string): TypeError {
    const hint = alternatives(name, this.#slot.register.fields.map((each) => each.name));
    return new TypeError(`Cannot set ${this.#path}.${name}: there is no such field; ${hint}`);
  }

  /**
   * Adds a property for a field, unless a number can't hold the field or its name is taken here.
   */
  #addField(field: RegisterField): void {
    if (field.high - field.low >= MAX_FIELD_BITS || field.name in this) return;
    const size = 2 ** (field.high - field.low + 1);
    const isNarrow = field.high < 32;
    Object.defineProperty(this, field.name, {
      enumerable: true,
      get: () => {
        if (isNarrow && this.#slot.width <= 4) {
          return Math.floor(this.value as number / 2 ** field.low) % size;
        }
        return Number((BigInt(this.value) & fieldMask(field)) >> BigInt(field.low));
      },
      set: (bits: number) => this.set({ [field.name]: bits }),
    });
  }
}

function withField(value: bigint, field: RegisterField, bits: number): bigint {
  const size = field.high - field.low + 1;
  if (!Number.isSafeInteger(bits) || bits < 0 || BigInt(bits) >> BigInt(size) !== 0n) {
    const width = plural(size, "bit");
    throw new RangeError(`${field.name} can't hold ${bits}: it has ${width}`);
  }
  return value & ~fieldMask(field) | BigInt(bits) << BigInt(field.low);
}
