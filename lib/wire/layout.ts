/**
 * Fixed layouts. A struct of the wire is written down once, as a table of fields with their
 * offsets, and is read and written by that table. All integers are little-endian, as on every
 * machine that is supported.
 *
 * @module
 */

import { DecodeError } from "../base/errors.ts";

/** An unsigned integer in a {@linkcode Layout}: up to 32 bits a number, 64 bits a bigint. */
export interface Field<V extends number | bigint> {
  /** Bytes from the start of the struct. */
  readonly offset: number;
  /** Bytes of the integer. */
  readonly width: 1 | 2 | 4 | 8;
  /** The largest value that fits. */
  readonly max: V;
  /** The names of its bits, or of groups of bits, if it has flags. */
  readonly flags?: FlagTable;
}

/** Flags by name: one bit each, or a mask of several, which hold a number. */
export type FlagTable = Readonly<Record<string, number | bigint>>;

/** The fields of a struct by name. */
export type FieldTable = Readonly<Record<string, Field<number> | Field<bigint>>>;

/** The value that a table of fields describes. */
export type LayoutValues<F extends FieldTable> = {
  [K in keyof F]: F[K] extends Field<infer V> ? V : never;
};

/** The form of a struct: enough to take one apart. */
export interface StructForm {
  /** The name of the struct, for error messages: "DMA_MAP request". */
  readonly name: string;
  /** Bytes of the struct. */
  readonly size: number;
  /** Its fields by name. */
  readonly fields: FieldTable;
}

/** A struct of the wire with a fixed size. */
export interface Layout<T> extends StructForm {
  /** The offset of each field, for code that can't afford a whole decode. */
  readonly offsets: { readonly [K in keyof T]: number };
  /**
   * Reads the struct at byte `at` (default 0). Bytes after it are left alone.
   *
   * @throws {ProtocolError} if the bytes end before the struct does
   */
  decode(bytes: Uint8Array, at?: number): T;
  /**
   * The struct as new bytes.
   *
   * @throws {RangeError} if a value does not fit its field
   */
  encode(value: T): Uint8Array;
  /**
   * Writes the struct at byte `at` (default 0). Bytes that belong to no field become 0.
   *
   * @throws {RangeError} if a value does not fit its field, or the struct does not fit `into`
   */
  write(value: T, into: Uint8Array, at?: number): void;
}

/** A `u8` at a byte offset. */
export function u8(offset: number): Field<number> {
  return { offset, width: 1, max: 0xff };
}

/** A `u16` at a byte offset. */
export function u16(offset: number): Field<number> {
  return { offset, width: 2, max: 0xffff };
}

/** A `u32` at a byte offset, with flags if it has some. */
export function u32(offset: number, flags?: FlagTable): Field<number> {
  return { offset, width: 4, max: 0xffff_ffff, ...(flags && { flags }) };
}

/** A `u64` at a byte offset, a bigint, with flags if it has some. */
export function u64(offset: number, flags?: FlagTable): Field<bigint> {
  return { offset, width: 8, max: 0xffff_ffff_ffff_ffffn, ...(flags && { flags }) };
}

/**
 * Declares a struct of the wire.
 *
 * @param name what it is, for error messages
 * @param size its bytes, padding included
 * @param table its fields; bytes that no field names are padding
 * @throws {RangeError} if two fields overlap or one ends after the struct
 *
 * @example
 * ```ts
 * import { layout, u32, u64 } from "./layout.ts";
 *
 * const Range = layout("range", 16, { address: u64(0), count: u32(8) });
 * const bytes = Range.encode({ address: 0x1000n, count: 4 });
 * console.assert(bytes.length === 16);
 * console.assert(Range.decode(bytes).address === 0x1000n);
 * ```
 */
export function layout<F extends FieldTable>(
  name: string,
  size: number,
  table: F,
): Layout<LayoutValues<F>> {
  type T = LayoutValues<F>;
  const fields = Object.entries(table).map(([key, field]) => ({ key, ...field }));
  checkTable(name, size, fields);

  function write(value: T, into: Uint8Array, at = 0): void {
    if (at < 0 || into.length - at < size) {
      throw new RangeError(
        `Cannot encode ${name} at byte ${at}: it takes ${size} bytes, the buffer has ` +
          `${into.length}`,
      );
    }
    const view = new DataView(into.buffer, into.byteOffset + at, size);
    // Checked before anything is written, so that a bad value leaves the buffer as it was.
    for (const { key, width, max } of fields) checkValue(name, key, width, max, value[key]);
    into.fill(0, at, at + size);
    for (const { key, offset, width } of fields) {
      putUint(view, offset, width, value[key] as number | bigint);
    }
  }

  return {
    name,
    size,
    fields: table,
    offsets: Object.fromEntries(fields.map(({ key, offset }) => [key, offset])) as {
      readonly [K in keyof T]: number;
    },
    decode(bytes: Uint8Array, at = 0): T {
      if (bytes.length - at < size) {
        const came = Math.max(0, bytes.length - at);
        throw new DecodeError(name, `${came} bytes came, ${size} are needed`);
      }
      const view = new DataView(bytes.buffer, bytes.byteOffset + at, size);
      const value: Record<string, number | bigint> = {};
      for (const { key, offset, width } of fields) value[key] = getUint(view, offset, width);
      return value as T;
    },
    encode(value: T): Uint8Array {
      const bytes = new Uint8Array(size);
      write(value, bytes);
      return bytes;
    },
    write,
  };
}

function getUint(view: DataView, offset: number, width: 1 | 2 | 4 | 8): number | bigint {
  switch (width) {
    case 1:
      return view.getUint8(offset);
    case 2:
      return view.getUint16(offset, true);
    case 4:
      return view.getUint32(offset, true);
    case 8:
      return view.getBigUint64(offset, true);
  }
}

function putUint(
  view: DataView,
  offset: number,
  width: 1 | 2 | 4 | 8,
  value: number | bigint,
): void {
  switch (width) {
    case 1:
      return view.setUint8(offset, value as number);
    case 2:
      return view.setUint16(offset, value as number, true);
    case 4:
      return view.setUint32(offset, value as number, true);
    case 8:
      return view.setBigUint64(offset, value as bigint, true);
  }
}

function checkValue(
  name: string,
  key: string,
  width: number,
  max: number | bigint,
  value: unknown,
): void {
  const fits = typeof max === "bigint"
    ? typeof value === "bigint" && value >= 0n && value <= max
    : Number.isInteger(value) && (value as number) >= 0 && (value as number) <= max;
  if (fits) return;
  const shown = typeof value === "bigint" ? `${value}n` : String(value);
  const wanted = `an unsigned ${width * 8}-bit ${width === 8 ? "bigint" : "integer"}`;
  throw new RangeError(`Cannot encode ${name}: ${key} is ${shown}, not ${wanted}`);
}

function checkTable(
  name: string,
  size: number,
  fields: readonly { key: string; offset: number; width: number }[],
): void {
  let end = 0;
  for (const { key, offset, width } of fields.toSorted((a, b) => a.offset - b.offset)) {
    if (offset < end) {
      throw new RangeError(`Layout of ${name}: ${key} overlaps the field before it`);
    }
    end = offset + width;
    if (end > size) throw new RangeError(`Layout of ${name}: ${key} ends after byte ${size}`);
  }
}
