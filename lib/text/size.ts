/**
 * Numbers of bytes, and addresses, as people write them.
 *
 * @module
 */

import { readInteger } from "./integer.ts";

/** The units that may follow a number. */
const UNITS = "BKMGT";

/**
 * Reads a number of bytes, or an address: decimal, or hexadecimal, octal or binary after 0x, 0o or
 * 0b. It may have `_` between digits, and a unit: 4096, 0x1000, 64K, 2MiB, 1G.
 *
 * @returns undefined if it is none
 *
 * @example
 * ```ts
 * import { readSize } from "./size.ts";
 *
 * if (readSize("64K") !== 65536n || readSize("0x1000") !== 4096n) throw new Error();
 * if (readSize("64 apples") !== undefined) throw new Error();
 * ```
 */
export function readSize(text: string): bigint | undefined {
  const [, digits, unit = "B"] = /^([\da-z_]+?)(?:([KMGT])(?:iB)?)?$/i.exec(text) ?? [];
  const value = readInteger(digits);
  return value === undefined ? undefined : value << BigInt(10 * UNITS.indexOf(unit.toUpperCase()));
}

/** Reads what {@linkcode readSize} does, with a minus sign ahead or not. */
export function readSignedSize(text: string): bigint | undefined {
  if (!text.startsWith("-")) return readSize(text);
  const value = readSize(text.slice(1));
  return value === undefined ? undefined : -value;
}
