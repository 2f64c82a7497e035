/**
 * Numbers in hexadecimal.
 *
 * @module
 */

/**
 * A number as "0x1c".
 *
 * @param value one below 0 has its sign ahead, as "-0x4"
 * @param digits at least so many, zeros ahead
 */
export function hex(value: number | bigint, digits = 0): string {
  const isNegative = value < 0;
  return `${isNegative ? "-" : ""}0x${hexDigits(isNegative ? -value : value, digits)}`;
}

/**
 * A number as "001c": hexadecimal digits alone.
 *
 * @param value not below 0
 * @param digits the least number of digits, zeros ahead
 */
export function hexDigits(value: number | bigint, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}

/**
 * An integer as JSON holds it exactly: a number, or above 2^53 - 1 a string as
 * "0x8000000000000000".
 */
export function jsonInteger(value: number | bigint): number | string {
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : hex(value);
}
