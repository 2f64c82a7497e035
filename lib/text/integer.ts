/**
 * Whole numbers as a person writes them into a file.
 *
 * @module
 */

/**
 * Reads a number that is not negative: an integer of YAML as it is, or text. Text is decimal, or
 * hexadecimal, octal or binary after 0x, 0o or 0b. `_` may stand between digits. Exact at any size.
 *
 * @returns undefined if it is none
 *
 * @example
 * ```ts
 * import { readInteger } from "./integer.ts";
 *
 * if (readInteger("0xdead_beef") !== 0xdeadbeefn) throw new Error();
 * if (readInteger("5:4") !== undefined) throw new Error();
 * ```
 */
export function readInteger(value: unknown): bigint | undefined {
  if (typeof value === "bigint") return value >= 0n ? value : undefined;
  if (typeof value !== "string" || value.length > MAX_LENGTH) return undefined;
  const plain = value.replaceAll(/(?<=[\da-fA-F])_(?=[\da-fA-F])/g, "");
  return INTEGER.test(plain) ? BigInt(plain) : undefined;
}

/**
 * Reads the decimal number of a thing that may have a name instead: a region, a vector, an errno.
 *
 * @returns undefined if `text` is no such number, or has more than 9 digits
 */
export function readIndex(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/** The text that {@linkcode readInteger} takes. */
export const INTEGER = /^(?:\d+|0[xX][\da-fA-F]+|0[oO][0-7]+|0[bB][01]+)$/;

/** No number of 64 bits is longer, in binary and with `_` between all its digits. */
const MAX_LENGTH = 2 * 64 + 2;
