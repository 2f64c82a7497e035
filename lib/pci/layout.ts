/**
 * Registers that a table describes: their fields, decoded, and as words for a person. Names of
 * registers and fields are those that `lspci` prints, as far as it has one.
 *
 * @module
 */

import type { CapabilityReader } from "./capability_reader.ts";
import { sign } from "./labels.ts";
import { hexDigits } from "../text/hex.ts";

/** The form of a field's value: a bit, a number, names of its values, or words of its own. */
export type FieldForm =
  | "flag"
  | "decimal"
  | "hex"
  | readonly string[]
  | ((value: number) => string);

/** A field of a register. */
export interface FieldLayout {
  /** Its name, one word. */
  readonly name: string;
  /** Its lowest bit. */
  readonly low: number;
  /** The number of its bits. */
  readonly width: number;
  /** The form in which it is shown. */
  readonly form: FieldForm;
}

/** A register of a capability. */
export interface RegisterLayout {
  /** Its name. */
  readonly name: string;
  /** Bytes from the start of the capability. */
  readonly offset: number;
  /** Its bytes. */
  readonly width: 1 | 2 | 4 | 8;
  /** Its fields; a register without any is shown as a number. */
  readonly fields: readonly FieldLayout[];
}

/** The registers of a capability: the same ones always, or those that its own words announce. */
export type CapabilityLayout =
  | readonly RegisterLayout[]
  | ((at: CapabilityReader) => readonly RegisterLayout[]);

/** A field of a register, decoded. */
export interface DecodedField {
  /** Its name, as "IntSup". */
  name: string;
  /** Its value; of a bit, whether it is set. */
  value: boolean | number | bigint;
  /** The meaning of the value, as "8GT/s", where it is more than a number. */
  text?: string;
}

/** A register of a capability, decoded. */
export interface DecodedRegister {
  /** Its name, as "DOECap". */
  name: string;
  /** Bytes from the start of the capability. */
  offset: number;
  /** Its bytes. */
  width: 1 | 2 | 4 | 8;
  /** Its value. */
  value: number | bigint;
  /** Its fields that have a name. */
  fields: DecodedField[];
}

/** A field of one bit. */
export function flag(name: string, low: number): FieldLayout {
  return { name, low, width: 1, form: "flag" };
}

/** One-bit fields in a row, from bit `low` up; the name "_" leaves a bit out. */
export function flagsFrom(low: number, names: string): FieldLayout[] {
  return names.split(" ").map((name, i) => flag(name, low + i)).filter(({ name }) => name !== "_");
}

/** A field that is a number, or that `form` shows. */
export function field(
  name: string,
  low: number,
  width: number,
  form: FieldForm = "decimal",
): FieldLayout {
  return { name, low, width, form };
}

/** A register at `offset`. */
export function register(
  name: string,
  offset: number,
  width: RegisterLayout["width"],
  ...fields: readonly (FieldLayout | readonly FieldLayout[])[]
): RegisterLayout {
  return { name, offset, width, fields: fields.flat() };
}

/** Decodes the registers of a layout that are inside the configuration space. */
export function decodeLayout(at: CapabilityReader, layout: CapabilityLayout): DecodedRegister[] {
  const registers = typeof layout === "function" ? layout(at) : layout;
  return registers.filter(({ offset, width }) => at.has(offset, width))
    .map(({ name, offset, width, fields }) => {
      const value = at.unsigned(offset, width);
      return {
        name,
        offset,
        width,
        value: width === 8 ? value : Number(value),
        fields: fields.map((each) => decodeField(value, each)),
      };
    });
}

function decodeField(register: bigint, { name, low, width, form }: FieldLayout): DecodedField {
  const value = BigInt.asUintN(width, register >> BigInt(low));
  if (form === "flag") return { name, value: value === 1n };
  if (width > 32) return { name, value, text: hexDigits(value, Math.ceil(width / 4)) };
  const number = Number(value);
  if (form === "decimal") return { name, value: number };
  return { name, value: number, text: fieldText(number, width, form) };
}

function fieldText(
  value: number,
  width: number,
  form: Exclude<FieldForm, "flag" | "decimal">,
): string {
  if (form === "hex") return hexDigits(value, Math.ceil(width / 4));
  if (typeof form === "function") return form(value);
  return form[value] ?? `unknown(${value})`;
}

/** The words of a register: its fields, or its value. */
export function registerWords({ width, value, fields }: DecodedRegister): string[] {
  if (fields.length === 0) return [hexDigits(value, 2 * width)];
  return fields.map(({ name, value, text }) =>
    typeof value === "boolean" ? sign(name, value) : `${name}=${text ?? value}`
  );
}
