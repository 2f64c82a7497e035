/**
 * JSON as the command line writes it.
 *
 * @module
 */

import { escaped } from "./printable.ts";
import { jsonInteger } from "../../lib/text/hex.ts";

/** All that {@linkcode printable} escapes but the line breaks of indented JSON. */
const UNPRINTABLE = /[^\P{Cc}\n]|[\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** Bytes above which an object's JSON comes in pieces, and bytes of one piece. */
const PIECE = 32 << 10;

/**
 * Writes a value as JSON, safe to show in a terminal. Controls of a terminal are escaped in its
 * strings, which still mean the same. An integer above 2^53 - 1 becomes a string of the form
 * "0x8000000000000000", and bytes one of hexadecimal digits.
 *
 * @param indent how many spaces indent a level; without it all is on one line
 */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, writeOthers, indent).replace(UNPRINTABLE, escaped);
}

/**
 * The same on one line, in pieces: a large message is never there as one text.
 *
 * @param value a plain object, without a `toJSON`
 */
export function* jsonPieces(value: unknown): Generator<string> {
  if (!isLarge(value)) {
    yield jsonText(value);
  } else if (value instanceof Uint8Array) {
    yield '"';
    for (let at = 0; at < value.length; at += PIECE) yield value.subarray(at, at + PIECE).toHex();
    yield '"';
  } else if (Array.isArray(value)) {
    let before = "[";
    for (const each of value) {
      yield before;
      yield* jsonPieces(each ?? null);
      before = ",";
    }
    yield "]";
  } else {
    let before = "{";
    for (const [key, each] of Object.entries(value as object)) {
      if (each === undefined) continue;
      yield `${before}${jsonText(key)}:`;
      yield* jsonPieces(each);
      before = ",";
    }
    yield "}";
  }
}

/** Sees whether bytes anywhere in a value are more than a piece. */
function isLarge(value: unknown): boolean {
  if (value instanceof Uint8Array) return value.length > PIECE;
  if (typeof value !== "object" || value === null) return false;
  return Object.values(value).some(isLarge);
}

function writeOthers(_key: string, value: unknown): unknown {
  if (value instanceof Uint8Array) return value.toHex();
  return typeof value === "bigint" ? jsonInteger(value) : value;
}
