/**
 * Base address registers as words for a person.
 *
 * @module
 */

import { hexDigits } from "../text/hex.ts";
import type { Bar } from "./bar.ts";

/** The kind of a BAR, as "memory, 64-bit, prefetchable". */
export function kindText(bar: Bar): string {
  if (bar.space === "io") return "I/O ports";
  return `memory, ${bar.type}, ${bar.prefetchable ? "prefetchable" : "non-prefetchable"}`;
}

/** The place of a BAR or of the ROM, with its size if that is known. */
export function placeText({ address, size }: { address: bigint; size?: bigint }): string {
  const place = address === 0n ? "unassigned" : `at ${hexDigits(address, 8)}`;
  return size === undefined ? place : `${place} [${sizeText(size)}]`;
}

/** A size in the largest unit that divides it. */
export function sizeText(bytes: bigint): string {
  const units = ["", "K", "M", "G", "T", "P", "E"];
  let unit = 0;
  while (bytes !== 0n && bytes % 1024n === 0n && unit + 1 < units.length) {
    bytes /= 1024n;
    unit++;
  }
  return `size=${bytes}${units[unit]}`;
}
