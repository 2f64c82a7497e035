/**
 * Arguments of steps: their kinds, and those that several words have.
 *
 * @module
 */

/** A kind of argument. */
export interface Kind {
  /** The expected form, as messages say it: "a whole number". */
  readonly expected: string;
  /** Tests a value for this form. The content of the value is checked later. */
  is(value: unknown): boolean;
  /** The form for editors. */
  readonly json: Readonly<Record<string, unknown>>;
  /** The variables that get values by such an argument; without it none do. */
  sets?(value: unknown): readonly string[];
}

const isText = (value: unknown): boolean => typeof value === "string";
const isMapping = (value: unknown): boolean =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isNumber = (value: unknown): boolean => typeof value === "bigint" || isText(value);
const isScalar = (value: unknown): boolean => value !== null && typeof value !== "object";
const isValue = (value: unknown): boolean => isNumber(value) || isMapping(value);
const isTextOrSome = (value: unknown): boolean =>
  isText(value) || (isMapping(value) && Object.keys(value as object).length > 0);
const isOneOf = (...words: unknown[]) => (value: unknown): boolean => words.includes(value);
const oneOrSeveral = (is: (value: unknown) => boolean) => (value: unknown): boolean =>
  Array.isArray(value) ? value.length > 0 && value.every(is) : is(value);

const NAME_JSON = { type: "string", pattern: "^[A-Za-z_][A-Za-z0-9_]{0,63}$" };

const TEXT = { type: "string" };
const NUMBER = { type: ["integer", "string"] };
const VALUE = { type: ["integer", "string", "object"] };
const MAPPING = { type: "object", minProperties: 1 };

function severalOf(json: Record<string, unknown>): Record<string, unknown> {
  return { anyOf: [json, { type: "array", items: json, minItems: 1 }] };
}

function kind(
  expected: string,
  is: (value: unknown) => boolean,
  json: Record<string, unknown>,
): Kind {
  return { expected, is, json };
}

/** The same kind, of arguments that name the variables which get values. */
function setting(of: Kind): Kind {
  return {
    ...of,
    sets: (value) =>
      typeof value === "string" ? [value] : isMapping(value) ? Object.keys(value as object) : [],
  };
}

/** All kinds of arguments. */
export const KINDS = {
  place: kind("a place, as nvme.CC, bar0+0x1c.l or a buffer", isText, TEXT),
  memory: kind("a buffer, or dma+IOVA", isText, TEXT),
  placeOrValues: kind(
    "a place, or a mapping of places to values",
    isTextOrSome,
    { type: ["string", "object"], minProperties: 1 },
  ),
  variableOrValues: setting(kind(
    "the name of a variable, or a mapping of names to values",
    isTextOrSome,
    { type: ["string", "object"], minProperties: 1 },
  )),
  variable: setting(kind("a name of letters, digits and _", isText, NAME_JSON)),
  buffer: kind("a name of letters, digits and _", isText, NAME_JSON),
  irq: kind("an interrupt, as msix, msix[0] or msix[0-3]", isText, TEXT),
  duration: kind("a time, as 500ms or 2s", isNumber, {
    type: "string",
    pattern: "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)$",
  }),
  value: kind("a value, as 0x10, ${EXPRESSION} or fields", isValue, VALUE),
  values: kind("a list of values", oneOrSeveral(isValue), severalOf(VALUE)),
  number: kind("a number, as 16, 4K or ${EXPRESSION}", isNumber, NUMBER),
  numbers: kind("a number or a list of numbers", oneOrSeveral(isNumber), severalOf(NUMBER)),
  // "1234" of bytes is a number to YAML, and taken as it was written.
  bytes: kind("bytes in hexadecimal digits, as de ad beef", isScalar, {
    type: ["string", "number"],
  }),
  text: kind("text", isScalar, { type: ["string", "number", "boolean"] }),
  file: kind("the name of a file", isText, TEXT),
  flag: kind("true or false", (value) => typeof value === "boolean", { type: "boolean" }),
  errors: kind(
    "an error, as EINVAL or timeout, or a list",
    oneOrSeveral(isNumber),
    severalOf(NUMBER),
  ),
  steps: kind("a list of steps", Array.isArray, {
    type: "array",
    items: { $ref: "#/definitions/step" },
  }),
  arguments: kind("a mapping of variables there to values", isMapping, MAPPING),
  results: setting(kind("a mapping of variables here to variables there", isMapping, MAPPING)),
  nothing: kind("nothing: it takes none", (value) => value === null, { type: "null" }),
  access: kind("an access: rw, ro or wo", isOneOf("rw", "ro", "wo"), {
    enum: ["rw", "ro", "wo"],
  }),
  share: kind("memfd or message", isOneOf("memfd", "message"), {
    enum: ["memfd", "message"],
  }),
  data: kind("data: a mapping with bytes, text, file, u8, u16, u32 or u64", isMapping, MAPPING),
} as const satisfies Readonly<Record<string, Kind>>;

/** The name of a {@linkcode Kind}. */
export type KindName = keyof typeof KINDS;

/** An argument of a step, by its key. */
export interface Argument {
  /** The kind of value that may be written. */
  readonly kind: KindName;
  /** The description in a line. */
  readonly description: string;
  /** The step can't do without. */
  readonly isRequired?: boolean;
}

/** Arguments by their keys. */
export type Arguments = Readonly<Record<string, Argument>>;

/** A mapping of arguments, as the JSON Schema of files has it. */
export function argumentsJson(all: Arguments): Record<string, unknown> {
  const entries = Object.entries(all);
  return {
    type: "object",
    properties: Object.fromEntries(
      entries.map(([key, { kind, description }]) => [key, { ...KINDS[kind].json, description }]),
    ),
    required: entries.flatMap(([key, { isRequired }]) => isRequired ? [key] : []),
    additionalProperties: false,
  };
}

/** The arguments of a condition on a value. */
export const CONDITION: Arguments = {
  "equals": { kind: "value", description: "It is this" },
  "not": { kind: "value", description: "It is anything but this" },
  "mask": { kind: "number", description: "The bits that equals and not are about" },
  "at least": { kind: "value", description: "It is this or more" },
  "at most": { kind: "value", description: "It is this or less" },
  "one of": { kind: "values", description: "It is one of these" },
};

/** The arguments for data that is put into memory. */
export const DATA: Arguments = {
  bytes: { kind: "bytes", description: "Bytes in hexadecimal digits" },
  text: { kind: "text", description: "Text in UTF-8, which may have ${EXPRESSION}" },
  file: { kind: "file", description: "All of a file" },
  u8: { kind: "numbers", description: "Numbers of 1 byte" },
  u16: { kind: "numbers", description: "Numbers of 2 bytes, little-endian" },
  u32: { kind: "numbers", description: "Numbers of 4 bytes, little-endian" },
  u64: { kind: "numbers", description: "Numbers of 8 bytes, little-endian" },
};

/** The keys of data. */
export const DATA_KEYS: readonly string[] = Object.keys(DATA);

/** The arguments of a buffer. */
export const BUFFER_ARGUMENTS: Arguments = {
  iova: {
    kind: "number",
    description: "The address at which the device sees it",
    isRequired: true,
  },
  size: { kind: "number", description: "Its bytes", isRequired: true },
  access: { kind: "access", description: "What the device may do with it; default rw" },
  share: {
    kind: "share",
    description: "Shared with the device (memfd, the default), or asked for by message",
  },
  fill: { kind: "data", description: "Repeated from its start to its end" },
  put: { kind: "data", description: "Put at its start" },
};

/** Arguments of every step. */
export const COMMON_ARGUMENTS: Arguments = {
  "name": { kind: "text", description: "What the step is called" },
  "timeout": { kind: "duration", description: "How long it may take" },
  "expect error": {
    kind: "errors",
    description: "It has to fail with this: a name as EINVAL, or timeout; or with one of a list",
  },
  "allow error": {
    kind: "errors",
    description: "It may fail with this, or with one of a list, and has passed all the same",
  },
  "continue on failure": { kind: "flag", description: "Go on if it fails" },
  "when": { kind: "number", description: "Leave it out if this is 0" },
};
