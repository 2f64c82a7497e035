/**
 * The form of a session file, without its steps. Messages say what is expected.
 *
 * @module
 */

import * as v from "valibot";
import { IRQ_NAMES } from "./irq_selection.ts";
import { type Kind, KINDS } from "./arguments.ts";

/** Schemas of kinds, each with what JSON Schema is to say of it. */
export const JSON_SCHEMAS = new Map<unknown, Readonly<Record<string, unknown>>>();

function schemaOf({ is, expected, json }: Kind): v.GenericSchema {
  const schema = v.custom<unknown>(is, expected);
  JSON_SCHEMAS.set(schema, json);
  return schema;
}

const integer = (limit: bigint, expected: string) =>
  schemaOf({
    expected,
    is: (value) => typeof value === "bigint" && value >= 0n && value <= limit,
    json: { type: "integer", minimum: 0, maximum: Number(limit) },
  });

const id = integer(0xffffn, "a PCI id, as 0x1b36");
const classCode = schemaOf({
  expected: "a class code, as 0x010802, or digits from its first on, as 0108",
  is: (value) => typeof value === "string" || typeof value === "bigint",
  json: { type: ["integer", "string"] },
});
const text = schemaOf(KINDS.text);
const size = schemaOf({
  expected: "a size, as 16K",
  is: KINDS.number.is,
  json: { type: ["integer", "string"] },
});

const region = v.strictObject({
  size: v.optional(size),
  flags: v.optional(
    v.array(
      v.picklist(["read", "write", "mmap"], "a flag: read, write or mmap"),
      "a list of flags",
    ),
  ),
}, "a size, or a mapping with size and flags");
/** A region's size alone, or more of it. Which of the two is seen by its form. */
const sizeOrRegion = schemaOf({
  expected: "a size, or a mapping with size and flags",
  is: (value) => KINDS.number.is(value) || v.is(v.looseObject({}), value),
  json: {
    anyOf: [{ type: ["integer", "string"] }, {
      type: "object",
      properties: {
        size: { type: ["integer", "string"] },
        flags: { type: "array", items: { enum: ["read", "write", "mmap"] } },
      },
      additionalProperties: false,
    }],
  },
});

/** The schema of a region that is written as a mapping. */
export const regionSchema = region;

const requires = v.strictObject({
  "vendor": v.optional(id),
  "device": v.optional(id),
  "subsystem vendor": v.optional(id),
  "subsystem": v.optional(id),
  "class": v.optional(classCode),
  "regions": v.optional(v.record(v.string(), sizeOrRegion, "a mapping of regions to sizes")),
  "irqs": v.optional(
    v.record(
      v.string(),
      integer(0xffff_ffffn, "how many vectors"),
      `a mapping of ${IRQ_NAMES.join(", ")} to how many vectors`,
    ),
  ),
}, "a mapping with vendor, device, class, regions, irqs");

const oneOrSeveral = (of: Kind, expected: string) =>
  schemaOf({
    expected,
    is: (value) => Array.isArray(value) ? value.every(of.is) : of.is(value),
    json: { anyOf: [of.json, { type: "array", items: of.json }] },
  });

/** An inline map, or a list of them. They are looked at by themselves. */
const registers = schemaOf({
  expected: "a map of registers, or a list of them",
  is: (value) => typeof value === "object" && value !== null,
  json: {
    anyOf: [{ $ref: "#/definitions/map" }, { type: "array", items: { $ref: "#/definitions/map" } }],
  },
});

/** A buffer as it is declared. Its arguments are looked at as those of steps. */
const buffer = schemaOf({
  expected: "a mapping with iova and size",
  is: KINDS.arguments.is,
  json: { $ref: "#/definitions/buffer" },
});

const definitions = {
  include: v.optional(oneOrSeveral(KINDS.file, "a file, or a list of files")),
  registers: v.optional(registers),
  variables: v.optional(
    v.record(v.string(), schemaOf(KINDS.number), "a mapping of names to values"),
  ),
  buffers: v.optional(v.record(v.string(), buffer, "a mapping of names to buffers")),
};

/** The schema of a session file, without the forms of its steps. */
export const sessionSchema = v.strictObject({
  title: v.optional(text),
  requires: v.optional(requires),
  ...definitions,
  interrupts: v.optional(oneOrSeveral(KINDS.irq, "an interrupt, as msix, or a list")),
  steps: schemaOf(KINDS.steps),
}, "a session: a mapping with steps");

/** The schema of a file that is included for its definitions. */
export const definitionsSchema = v.strictObject(
  { title: v.optional(text), ...definitions },
  "definitions: a mapping with variables, registers, buffers or include",
);
