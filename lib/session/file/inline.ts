/**
 * Values of a file on one line.
 *
 * @module
 */

import { hex } from "../../text/hex.ts";

/** Characters of a value that are shown. */
const MAX_LENGTH = 120;
/** The largest number that is shown in decimal. */
const MAX_DECIMAL = 9n;

/**
 * A value as it may have been written, on one line.
 * Text is shown as it is, lists and mappings in brackets and braces.
 */
export function inline(value: unknown): string {
  const text = full(value).replaceAll(/\s*\n\s*/g, " ");
  return text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text;
}

function full(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (typeof value === "bigint") {
    return value <= MAX_DECIMAL ? String(value) : hex(value);
  }
  if (Array.isArray(value)) return `[${value.slice(0, MAX_LENGTH).map(full).join(", ")}]`;
  if (typeof value !== "object") return String(value);
  const pairs = Object.entries(value).slice(0, MAX_LENGTH);
  return pairs.length === 0
    ? "{}"
    : `{ ${pairs.map(([key, each]) => `${key}: ${full(each)}`).join(", ")} }`;
}
