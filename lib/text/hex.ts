/**
 * Numbers in hexadecimal, for messages.
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
  const text = (isNegative ? -value : value).toString(16).padStart(digits, "0");
  return `${isNegative ? "-" : ""}0x${text}`;
}
