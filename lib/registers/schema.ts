/**
 * The form of a file that holds a map of registers. Messages say what is expected;
 * {@linkcode validate} makes sentences of them.
 *
 * @module
 */

import * as v from "valibot";
import { INTEGER, readInteger } from "../text/integer.ts";
import { readBits, REGISTER_ACCESS } from "./map.ts";

const WIDTHS = [1n, 2n, 4n, 8n];

const text = v.string("text");
const identifier = v.pipe(
  v.string("a name of letters, digits and _"),
  v.regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, "a name of letters, digits and _"),
);
// "66MHZ" is one of PCI.
const fieldName = v.pipe(
  v.string("a name of letters, digits and _"),
  v.regex(/^(?!\d+$)[A-Za-z0-9_]{1,64}$/, "a name of letters, digits and _"),
);
const integer = v.custom<bigint | string>(
  (value) => readInteger(value) !== undefined,
  "a whole number, as 28, 0x1c or 0b11100",
);
const width = v.custom<bigint | string>(
  (value) => WIDTHS.includes(readInteger(value) ?? 0n),
  "a width of 1, 2, 4 or 8 bytes",
);
const bits = v.custom<bigint | string>(
  (value) => readBits(value) !== undefined,
  "the bits of a field, as 7:4 from the highest to the lowest, or 3",
);
const access = v.picklist(REGISTER_ACCESS, `an access: ${REGISTER_ACCESS.join(", ")}`);

const field = v.strictObject({
  name: fieldName,
  bits,
  description: v.optional(text),
  access: v.optional(access),
  enum: v.optional(v.record(v.string(), text, "a mapping of values to names")),
}, "a mapping with name and bits");

const register = v.strictObject({
  name: identifier,
  offset: integer,
  width,
  description: v.optional(text),
  region: v.optional(text),
  access: v.optional(access),
  read_changes: v.optional(v.boolean("true or false")),
  reset: v.optional(integer),
  count: v.optional(integer),
  stride: v.optional(integer),
  overlaps: v.optional(text),
  fields: v.optional(v.array(field, "a list of fields")),
}, "a mapping with name, offset and width");

/** The schema of a file. */
export const registerMapSchema = v.strictObject({
  name: identifier,
  title: v.optional(text),
  region: v.optional(text),
  registers: v.array(register, "a list of registers"),
}, "a map of registers: a mapping with name and registers");

/** The JSON Schemas of those parts that are functions here. */
export const JSON_SCHEMAS: ReadonlyMap<unknown, Record<string, unknown>> = new Map<
  unknown,
  Record<string, unknown>
>([
  [integer, {
    anyOf: [{ type: "integer", minimum: 0 }, { type: "string", pattern: INTEGER.source }],
  }],
  [width, { enum: [1, 2, 4, 8] }],
  [bits, {
    anyOf: [
      { type: "integer", minimum: 0, maximum: 63 },
      { type: "string", pattern: "^[0-9]{1,2}(:[0-9]{1,2})?$" },
    ],
  }],
]);
