/**
 * Many values on a screen.
 *
 * @module
 */

import type { Width } from "../../lib/client/info.ts";
import { type Base, formatDigits } from "./value.ts";
import { hexDigits } from "../../lib/text/hex.ts";

/** The form in which bytes are shown. */
export interface HexdumpOptions {
  /** Offset of the first byte; an address of 64 bits is a bigint. */
  readonly start: number | bigint;
  /** Bytes of one number, little-endian; the bytes are a multiple of it. Default 1. */
  readonly width?: Width;
  /** The base of numbers; default hexadecimal. */
  readonly base?: Base;
  /** Columns of the screen, if it may have less than 80. */
  readonly columns?: number;
}

const LINE_SIZE = 16;
/** Bytes of a line where 16 do not fit. */
const NARROW_SIZE = 8;
/** Columns of a line of 16 bytes. */
const LINE_COLUMNS = 78;
/** Digits of an offset, unless it has more. */
const OFFSET_DIGITS = 8;
/** Decimal digits that the largest number has. */
const DECIMAL_DIGITS = { 1: 3, 2: 5, 4: 10, 8: 20 } as const;

/**
 * Lines of an offset and 16 bytes, or fewer if those do not fit 80 columns. In hexadecimal the
 * bytes follow as ASCII, in the order of memory.
 *
 * @example
 * ```ts
 * import { hexdumpLines } from "./hexdump.ts";
 *
 * const [line] = hexdumpLines(new TextEncoder().encode("vfu!"), { start: 0x10, width: 4 });
 * if (line !== "00000010  21756676                             |vfu!|") throw new Error(line);
 * ```
 */
export function hexdumpLines(
  bytes: Uint8Array,
  { start, width = 1, base = "hex", columns = LINE_COLUMNS }: HexdumpOptions,
): string[] {
  const lineSize = columns < LINE_COLUMNS ? NARROW_SIZE : LINE_SIZE;
  const perLine = base === "bin" ? Math.max(4, width) : lineSize;
  const first = BigInt(start);
  const end = first + BigInt(bytes.length);
  const offsetDigits = Math.max(OFFSET_DIGITS, end.toString(16).length);
  const numberWidth = base === "dec" ? DECIMAL_DIGITS[width] : formatDigits(0, width, base).length;
  const numbersWidth = (perLine / width) * (numberWidth + 1) - 1;
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += perLine) {
    const part = bytes.subarray(at, at + perLine);
    const numbers = valuesOf(part, width)
      .map((value) => formatDigits(value, width, base).padStart(numberWidth)).join(" ");
    const offset = hexDigits(first + BigInt(at), offsetDigits);
    const text = base === "hex" ? `${numbers.padEnd(numbersWidth)}  |${ascii(part)}|` : numbers;
    lines.push(`${offset}  ${text}`);
  }
  return lines;
}

/** The little-endian numbers that bytes hold. */
export function valuesOf(bytes: Uint8Array, width: Width): (number | bigint)[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / width }, (_, i) => {
    const at = i * width;
    switch (width) {
      case 1:
        return view.getUint8(at);
      case 2:
        return view.getUint16(at, true);
      case 4:
        return view.getUint32(at, true);
      case 8:
        return view.getBigUint64(at, true);
    }
  });
}

/** The bytes that a little-endian register of that value has. */
export function bytesOf(value: number | bigint, width: Width): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes.slice(0, width);
}

function ascii(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")
    .join("");
}
