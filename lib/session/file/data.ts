/**
 * Reads the data that a session puts into memory.
 *
 * @module
 */

import type { Width } from "../../client/info.ts";
import { checkTemplate, type Definitions } from "./definitions.ts";
import type { Data } from "../model.ts";
import { resolvePath } from "./path.ts";
import { parseTemplate } from "../template.ts";
import { parseValue } from "./value.ts";

/** Bytes that a session has in hexadecimal digits, each time. */
const MAX_BYTES = 16 << 10;

const WIDTHS: Readonly<Record<string, Width>> = { u8: 1, u16: 2, u32: 4, u64: 8 };

/**
 * Reads bytes: hexadecimal digits, two each, with spaces where one likes.
 *
 * @throws {SyntaxError} if there is something else, or half a byte
 * @throws {RangeError} if there are too many
 */
export function parseBytes(text: string): Uint8Array<ArrayBuffer> {
  const digits = text.replaceAll(/[\s_]+/g, "");
  if (!/^([\da-fA-F]{2})+$/.test(digits)) {
    const why = /^[\da-fA-F]+$/.test(digits)
      ? `have ${digits.length} digits; each byte takes two`
      : "are not hexadecimal digits; write them as de ad beef";
    throw new SyntaxError(
      `The bytes "${text.length > 40 ? `${text.slice(0, 40)}…` : text}" ${why}`,
    );
  }
  const count = digits.length / 2;
  if (count > MAX_BYTES) {
    throw new RangeError(`${count} bytes are more than ${MAX_BYTES}; put them into a file`);
  }
  return Uint8Array.fromHex(digits);
}

/**
 * Reads one kind of data.
 *
 * @param key "bytes", "text", "file", "u8", "u16", "u32" or "u64"
 * @param written the text, or the number as it was written: YAML takes some digits for one
 * @throws {SyntaxError} if it is none
 * @throws {RangeError} if a number does not fit, or a name is not there
 * @throws {EvaluationError} if an expression can't have a value
 */
export function parseData(
  key: string,
  raw: unknown,
  written: string,
  definitions: Definitions,
): Data {
  if (key === "bytes") return { kind: "bytes", bytes: parseBytes(written) };
  if (key === "text") {
    const template = parseTemplate(written);
    return { kind: "text", text: checkTemplate(template, definitions) };
  }
  if (key === "file") {
    return { kind: "file", path: resolvePath(definitions.directory, String(raw)) };
  }
  const width = WIDTHS[key]!;
  const all = Array.isArray(raw) ? raw : [raw];
  const numbers = all.map((each) => parseValue(each, { width }, definitions).expression);
  return { kind: "numbers", width, numbers };
}
