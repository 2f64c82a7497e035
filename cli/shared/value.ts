/**
 * Values of registers as a user writes them, and as they are shown.
 *
 * @module
 */

import type { Width } from "../../lib/client/info.ts";
import { readSize } from "../../lib/text/size.ts";
import { hex } from "../../lib/text/hex.ts";

/** A value, or the bits of one. */
export interface MaskedValue {
  /** The bits. */
  readonly value: bigint;
  /** The bits that count; undefined: all. */
  readonly mask?: bigint;
}

/** The base in which numbers are shown. */
export type Base = "hex" | "dec" | "bin";

const RADIX = { hex: 16, dec: 10, bin: 2 } as const;
const PREFIX = { hex: "0x", dec: "", bin: "0b" } as const;

/** More is work for `vfu dump`, which does not hold it in memory. */
const MAX_COUNT = 1 << 24;

/**
 * Reads a value: decimal, or hexadecimal, octal or binary after 0x, 0o or 0b. It may have a unit of
 * bytes (K, M, G, T), and `_` between digits.
 *
 * @throws {SyntaxError} if it is none
 *
 * @example
 * ```ts
 * import { parseValue } from "./value.ts";
 *
 * if (parseValue("0xdead_beef") !== 0xdeadbeefn || parseValue("1M") !== 0x10_0000n) {
 *   throw new Error();
 * }
 * ```
 */
export function parseValue(text: string): bigint {
  const value = readSize(text);
  if (value !== undefined) return value;
  throw new SyntaxError(`"${text}" is no value; write it as 26, 0x1a, 0b11010, 0o32 or 64K`);
}

/**
 * Reads `VALUE` or `VALUE:MASK`.
 *
 * @throws {SyntaxError} if it is neither
 * @throws {RangeError} if the value has bits that the mask has not: one of the two is a mistake
 */
export function parseMaskedValue(text: string): MaskedValue {
  const at = text.indexOf(":");
  if (at < 0) return { value: parseValue(text) };
  const value = parseValue(text.slice(0, at));
  const mask = parseValue(text.slice(at + 1));
  if ((value & ~mask) !== 0n) {
    throw new RangeError(`${hex(value)} has bits outside its mask ${hex(mask)}`);
  }
  return { value, mask };
}

/**
 * Checks that value and mask have no more bits than the register.
 *
 * @throws {RangeError} if they have
 */
export function checkFits({ value, mask }: MaskedValue, width: Width): void {
  for (const each of [value, mask ?? 0n]) {
    if (each >> BigInt(width * 8) !== 0n) {
      throw new RangeError(`${hex(each)} does not fit ${width * 8} bits`);
    }
  }
}

/** Reports whether the bits that count are as they should be. */
export function matches(actual: number | bigint, { value, mask }: MaskedValue): boolean {
  return mask === undefined ? BigInt(actual) === value : (BigInt(actual) & mask) === value;
}

/**
 * Reads how many there are to be.
 *
 * @throws {SyntaxError} if it is no number
 * @throws {RangeError} if it is 0 or more than 16 Mi
 */
export function parseCount(text: string): number {
  const count = parseValue(text);
  if (count < 1n || count > BigInt(MAX_COUNT)) {
    throw new RangeError(`It takes 1 at least and ${MAX_COUNT} at most`);
  }
  return Number(count);
}

/** The value with the prefix of its base: hexadecimal and binary with all digits of the width. */
export function formatValue(value: number | bigint, width: Width, base: Base = "hex"): string {
  return PREFIX[base] + formatDigits(value, width, base);
}

/** The value without a prefix. */
export function formatDigits(value: number | bigint, width: Width, base: Base): string {
  const digits = value.toString(RADIX[base]);
  if (base === "dec") return digits;
  return digits.padStart(base === "hex" ? width * 2 : width * 8, "0");
}

/** `VALUE` or `VALUE under the mask MASK`, for messages. */
export function formatMasked({ value, mask }: MaskedValue, width: Width): string {
  const text = formatValue(value, width);
  return mask === undefined ? text : `${text} under the mask ${formatValue(mask, width)}`;
}
