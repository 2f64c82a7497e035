/**
 * JSON as the command line writes it.
 *
 * @module
 */

import { escaped } from "./printable.ts";
import { jsonInteger } from "../lib/text/hex.ts";

/** All that {@linkcode printable} escapes but the line breaks of indented JSON. */
const UNPRINTABLE = /[^\P{Cc}\n]|[\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/**
 * Writes a value as JSON, safe to show in a terminal: what a terminal would act upon is escaped in
 * its strings, which still mean the same. An integer above 2^53 - 1 becomes a string of the form
 * "0x8000000000000000".
 *
 * @param indent how many spaces indent a level; without it all is on one line
 */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, writeBigint, indent).replace(UNPRINTABLE, escaped);
}

function writeBigint(_key: string, value: unknown): unknown {
  if (typeof value !== "bigint") return value;
  return jsonInteger(value);
}
