/**
 * Numbers of bytes as people write and read them.
 *
 * @module
 */

import { readSize } from "../../lib/text/size.ts";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
/** Units as they are written; bytes have none. */
const LETTERS = ["", "K", "M", "G", "T"];

/**
 * Bytes in the largest unit that is not above them, with one digit after the point unless that is
 * 0.
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

/**
 * Bytes as {@linkcode parseSize} reads them, in the largest unit of which they are a whole number.
 *
 * @example
 * ```ts
 * import { writtenSize } from "./size.ts";
 *
 * if (writtenSize(16777216n) !== "16M" || writtenSize(1000n) !== "1000") throw new Error();
 * ```
 */
export function writtenSize(bytes: bigint): string {
  let unit = 0;
  let left = bytes;
  while (left > 0n && left % 1024n === 0n && unit < LETTERS.length - 1) {
    left /= 1024n;
    unit++;
  }
  return `${left}${LETTERS[unit]}`;
}

/**
 * Reads a number of bytes, or an address: a value as `parseValue` takes it, and a unit: 4096,
 * 0x1000, 64K, 2MiB, 1G.
 *
 * @throws {SyntaxError} if it is none
 *
 * @example
 * ```ts
 * import { parseSize } from "./size.ts";
 *
 * if (parseSize("64K") !== 65536n || parseSize("0x1000") !== 4096n) throw new Error();
 * ```
 */
export function parseSize(text: string): bigint {
  const size = readSize(text);
  if (size !== undefined) return size;
  throw new SyntaxError(`"${text}" is no size; write it as 4096, 0x1000, 64K or 2MiB`);
}
