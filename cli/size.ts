/**
 * Numbers of bytes for people.
 *
 * @module
 */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/**
 * Bytes in the largest unit that is not above them, with one digit after the point unless that is 0.
 *
 * @example
 * ```ts
 * import { humanSize } from "./size.ts";
 *
 * if (humanSize(16384n) !== "16 KiB" || humanSize(1536n) !== "1.5 KiB") throw new Error();
 * ```
 */
export function humanSize(bytes: bigint): string {
  let unit = 0;
  while (unit + 1 < UNITS.length && bytes >= 1n << BigInt(10 * (unit + 1))) unit++;
  const tenths = (bytes * 10n) >> BigInt(10 * unit);
  const fraction = tenths % 10n === 0n ? "" : `.${tenths % 10n}`;
  return `${tenths / 10n}${fraction} ${UNITS[unit]}`;
}
