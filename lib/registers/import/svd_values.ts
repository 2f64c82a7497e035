/**
 * Numbers, indexes and bits as CMSIS-SVD writes them.
 *
 * @module
 */

/** Values of an enumerated value with bits that do not count: more are not listed. */
const MAX_ALIKE = 64;
/** Digits of a number of 64 bits, and some to spare. */
const MAX_DIGITS = 80;

const SCALES: ReadonlyMap<string, bigint> = new Map([
  ["", 1n],
  ["k", 1n << 10n],
  ["m", 1n << 20n],
  ["g", 1n << 30n],
  ["t", 1n << 40n],
]);

/** Reads a number: 16, 0x10, #10000 or 0b10000, perhaps with a unit as 4K. */
export function readSvdNumber(text: string): bigint | undefined {
  if (text.length > MAX_DIGITS) return undefined;
  const match = /^\+?(?:0[xX]([\da-fA-F]+)|(?:#|0[bB])([01]+)|(\d+))([kmgtKMGT]?)$/.exec(text);
  if (match === null) return undefined;
  const [, hexadecimal, binary, decimal, unit] = match;
  const value = hexadecimal !== undefined
    ? BigInt(`0x${hexadecimal}`)
    : binary !== undefined
    ? BigInt(`0b${binary}`)
    : BigInt(decimal!);
  return value * SCALES.get(unit!.toLowerCase())!;
}

/**
 * Reads the value of an enumerated value: a number, or bits of which some do not count, as #1xx.
 *
 * @returns all values that are meant; undefined if it is none, or they are too many
 */
export function readSvdValues(text: string): bigint[] | undefined {
  const match = /^\+?(?:#|0[bB])([01xX]{1,64})$/.exec(text);
  if (match === null) {
    const value = readSvdNumber(text);
    return value === undefined ? undefined : [value];
  }
  let values = [0n];
  for (const bit of match[1]!) {
    values = values.flatMap((value) =>
      bit === "x" || bit === "X" ? [value << 1n, (value << 1n) | 1n] : [value << 1n | BigInt(bit)]
    );
    if (values.length > MAX_ALIKE) return undefined;
  }
  return values;
}

/**
 * Reads the words for `%s`: `0-3`, `A-D`, or `A,B,C`.
 *
 * @returns undefined if it is none of these
 */
export function readSvdIndex(text: string, most: number): string[] | undefined {
  const numbers = /^(\d{1,9})-(\d{1,9})$/.exec(text);
  if (numbers !== null) return range(Number(numbers[1]), Number(numbers[2]), most, String);
  const letters = /^([A-Z])-([A-Z])$/.exec(text);
  if (letters !== null) {
    const [from, to] = [letters[1]!.charCodeAt(0), letters[2]!.charCodeAt(0)];
    return range(from, to, most, (code) => String.fromCharCode(code));
  }
  const words = text.split(",").map((each) => each.trim());
  return words.length <= most && words.every((each) => /^\w+$/.test(each)) ? words : undefined;
}

function range(
  from: number,
  to: number,
  most: number,
  word: (at: number) => string,
): string[] | undefined {
  const count = to - from + 1;
  if (count < 1 || count > most) return undefined;
  return Array.from({ length: count }, (_, i) => word(from + i));
}

/** Reads the bits of a field: `[7:4]`. */
export function readBitRange(text: string): { high: number; low: number } | undefined {
  const match = /^\[\s*(\d{1,4})\s*:\s*(\d{1,4})\s*\]$/.exec(text);
  return match === null ? undefined : { high: Number(match[1]), low: Number(match[2]) };
}
