/**
 * The value of a register, field by field.
 *
 * @module
 */

import { wrap } from "../text/wrap.ts";
import { bitsText, fieldMask, type Register, type RegisterField } from "./map.ts";
import { hex, hexDigits } from "../text/hex.ts";

/** A field and what it holds. */
export interface DecodedField {
  /** Its name. */
  readonly name: string;
  /** Its bits: "7:4", or "3". */
  readonly bits: string;
  /** The value of the bits, counted from the lowest of them. */
  readonly value: bigint;
  /** The name of the value, if it has one. */
  readonly meaning?: string;
}

/** Bits of the widest field that is shown in decimal: a number; wider ones are addresses. */
const MAX_DECIMAL_BITS = 16;

/**
 * Takes the value of a register apart, from its lowest field to its highest.
 *
 * @example
 * ```ts
 * import { decodeRegister } from "./decode.ts";
 * import { loadRegisterMap } from "./load.ts";
 *
 * const nvme = await loadRegisterMap("nvme");
 * const cap = nvme.registers.find(({ name }) => name === "CAP")!;
 * const mqes = decodeRegister(cap, 0x0040_1820_0f01_07ffn)[0]!;
 * if (mqes.name !== "MQES" || mqes.bits !== "15:0" || mqes.value !== 2047n) throw new Error();
 * ```
 */
export function decodeRegister(
  register: Pick<Register, "fields">,
  value: number | bigint,
): DecodedField[] {
  return register.fields.map((field) => decodeField(field, value));
}

/**
 * Takes one field out of the value of its register.
 *
 * @param value all bits of the register
 * @returns the value of the field, counted from its lowest bit, and the name of that value, if any
 * @throws {RangeError} if `value` is not an integer
 *
 * @example
 * ```ts
 * import { loadRegisterMap } from "./load.ts";
 * import { decodeField } from "./decode.ts";
 *
 * const nvme = await loadRegisterMap("nvme");
 * const csts = nvme.registers.find(({ name }) => name === "CSTS")!;
 * const shst = csts.fields.find(({ name }) => name === "SHST")!;
 * if (decodeField(shst, 1).meaning !== "normal operation") throw new Error();
 * ```
 */
export function decodeField(field: RegisterField, value: number | bigint): DecodedField {
  const bits = (BigInt(value) & fieldMask(field)) >> BigInt(field.low);
  const meaning = field.enum.get(bits);
  return {
    name: field.name,
    bits: bitsText(field),
    value: bits,
    ...(meaning !== undefined && { meaning }),
  };
}

/**
 * The value of a field for a person: decimal, or hexadecimal if it is wider than 16 bits, and its
 * meaning.
 *
 * @param value all bits of the register
 * @throws {RangeError} if `value` is not an integer
 */
export function fieldText({ high, low, ...field }: RegisterField, value: number | bigint): string {
  const { value: bits, meaning } = decodeField({ high, low, ...field }, value);
  const digits = high - low < MAX_DECIMAL_BITS ? String(bits) : hex(bits);
  return meaning === undefined ? digits : `${digits} (${meaning})`;
}

/**
 * The fields of a register for a person, as "RDY=1" and "SHST=0 (normal operation)", from the
 * lowest. Bits that are set and belong to no field come last. A register without fields has none.
 *
 * @param value all bits of the register
 * @throws {RangeError} if `value` is not an integer
 */
export function fieldWords({ fields }: Register, value: number | bigint): string[] {
  if (fields.length === 0) return [];
  const words = fields.map((field) => `${field.name}=${fieldText(field, value)}`);
  const known = fields.reduce((mask, field) => mask | fieldMask(field), 0n);
  const rest = BigInt(value) & ~known;
  if (rest !== 0n) words.push(`reserved=${hex(rest)}`);
  return words;
}

/**
 * {@linkcode fieldWords} in lines of less than 80 columns that are indented by two. Without fields
 * there are no lines.
 *
 * @param value all bits of the register
 * @throws {RangeError} if `value` is not an integer
 */
export function fieldLines(register: Register, value: number | bigint): string[] {
  const words = fieldWords(register, value);
  return words.length === 0 ? [] : wrap("  ", words, 2);
}

/**
 * A register for a person: its name and value, then {@linkcode fieldLines}.
 *
 * @example
 * ```ts
 * import { loadRegisterMap } from "./load.ts";
 * import { registerLines } from "./decode.ts";
 *
 * const nvme = await loadRegisterMap("nvme");
 * const csts = nvme.registers.find(({ name }) => name === "CSTS")!;
 * const [first, second] = registerLines(csts, 1);
 * const fields = "  RDY=1 CFS=0 SHST=0 (normal operation)";
 * if (first !== "CSTS 0x00000001" || !second?.startsWith(fields)) throw new Error();
 * ```
 */
export function registerLines(register: Register, value: number | bigint): string[] {
  const digits = hexDigits(value, register.width * 2);
  return [`${register.name} 0x${digits}`, ...fieldLines(register, value)];
}
