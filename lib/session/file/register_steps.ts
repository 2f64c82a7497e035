/**
 * Steps that read and write registers, and memory as if it were some.
 *
 * @module
 */

import { constantIn, NAME, parseCheckedExpression } from "./definitions.ts";
import { dataLength } from "./buffer.ts";
import { hasValueCondition, parseCondition } from "./condition.ts";
import { binary, number } from "../expression.ts";
import { inline } from "./inline.ts";
import type {
  Assignment,
  Condition,
  ExpectStep,
  Expression,
  ModifyStep,
  Place,
  PollStep,
  ReadStep,
  StepCommon,
  Value,
  WriteStep,
} from "../model.ts";
import { checkExtent, parsePlace, withWidth } from "./place.ts";
import type { Parts } from "./reading.ts";
import { parseValue } from "./value.ts";
import { CONDITION } from "./arguments.ts";
import type { Extent, Words } from "./word.ts";

type RegisterStep = ReadStep | WriteStep | ModifyStep | PollStep | ExpectStep;

/** The words of such steps, in the order in which they are listed. */
export const REGISTER_WORDS: Words<RegisterStep> = {
  "read": {
    description: "Read a register, or bytes, and show it",
    subject: "place",
    arguments: {
      count: { kind: "number", description: "So many values; bytes, if the place has no width" },
      into: { kind: "variable", description: "The variable that gets the value" },
    },
    parse: parseRead,
    places: ({ place, count }) => [
      count === undefined
        ? { place }
        : { place, length: binary(count, "*", number(place.width ?? 1)) },
    ],
  },
  "write": {
    description: "Write a register, or several one after the other",
    subject: "placeOrValues",
    main: "value",
    arguments: {
      value: { kind: "value", description: "What to write" },
      verify: { kind: "flag", description: "Read back what was written" },
    },
    parse: parseWrite,
    places: ({ assignments }) => assignments.map(({ place }) => ({ place })),
  },
  "modify": {
    description: "Change some bits of a register",
    subject: "place",
    main: "value",
    arguments: {
      value: { kind: "value", description: "What the bits become", isRequired: true },
      mask: { kind: "number", description: "Which bits; not for fields" },
    },
    parse: parseModify,
    places: ({ place }) => [{ place }],
  },
  "poll": {
    description: "Read a register until a condition holds",
    subject: "placeOrValues",
    main: "equals",
    arguments: {
      ...CONDITION,
      every: { kind: "duration", description: "Between two reads; default 1ms" },
    },
    parse: parsePoll,
    places: ({ place }) => [{ place }],
  },
  "expect": {
    description: "Fail unless a condition holds of a register, memory or ${EXPRESSION}",
    subject: "placeOrValues",
    main: "equals",
    arguments: {
      ...CONDITION,
      "bytes": { kind: "bytes", description: "The bytes there are these, in hexadecimal digits" },
      "text": { kind: "text", description: "The bytes there are this text in UTF-8" },
      "same as": { kind: "place", description: "The bytes there are those at another place" },
      "length": { kind: "number", description: "How many bytes same as compares" },
    },
    parse: parseExpects,
    places: placesOfExpect,
  },
};

function placesOfExpect({ subject, condition: { sameAs, bytes } }: ExpectStep): Extent[] {
  if ("kind" in subject) return [];
  if (sameAs !== undefined) {
    const { place, length } = sameAs;
    return [{ place: subject, length }, { place, length }];
  }
  return [{ place: subject, ...(bytes && { length: number(bytes.length) }) }];
}

/** The place that is the subject of a step. */
function subject(word: string, parts: Parts): Place | undefined {
  return parts.optional(word, (raw) => parsePlace(raw as string, parts.definitions));
}

/** The same with a width. */
function register(word: string, parts: Parts): Place | undefined {
  const place = subject(word, parts);
  return place && parts.attempt([word], () => withWidth(place, parts.definitions));
}

/** The places and values of a subject that is a mapping. */
function entries(word: string, parts: Parts): [place: string, value: unknown][] | undefined {
  const raw = parts.raw[word];
  if (typeof raw !== "object" || raw === null) return undefined;
  return Object.entries(raw);
}

/** Reads the place and the value of an entry of such a mapping. */
function parseEntry(
  word: string,
  text: string,
  raw: unknown,
  parts: Parts,
): Assignment | undefined {
  const { definitions } = parts;
  const place = parts.attempt(
    [word, text],
    () => withWidth(parsePlace(text, definitions), definitions),
    true,
  );
  const value = place && parts.attempt(
    [word, text],
    () => parseValue(raw, place, definitions, parts.written(word, text)),
  );
  return place && value && { place, value };
}

function parseRead(parts: Parts, common: StepCommon): ReadStep | undefined {
  const count = parts.number("count");
  const bare = subject("read", parts);
  const place = bare && (count === undefined ? register("read", parts) : bare);
  const into = parseName("into", parts);
  if (into !== undefined) {
    parts.define(into, {
      register: place?.register,
      isOpaque: place === undefined,
    });
  }
  if (count !== undefined) {
    if (into !== undefined) {
      parts.fail(["into"], 'A variable holds one value, but "count" asks for several');
    }
    checkCount(bare, count, parts);
  }
  return place && {
    word: "read",
    ...common,
    place,
    ...(count && { count }),
    ...(into !== undefined && { into }),
  };
}

function checkCount(place: Place | undefined, count: Expression, parts: Parts): void {
  parts.attempt(["count"], () => {
    const value = constantIn(count, parts.definitions);
    if (value === undefined) return;
    if (value < 1n) throw new RangeError(`"count" is ${value}, not 1 at least`);
    if (place !== undefined) {
      checkExtent(place, Number(value) * (place.width ?? 1), parts.definitions);
    }
  });
}

/** Reads the name of a variable that gets a value. */
export function parseName(key: string, parts: Parts): string | undefined {
  return parts.optional(key, (raw) => checkVariable(String(raw), parts));
}

/**
 * Checks that a variable can have this name.
 *
 * @throws {SyntaxError} if it is no name
 * @throws {RangeError} if a buffer has it
 */
export function checkVariable(name: string, { definitions }: Parts): string {
  if (!NAME.test(name)) {
    throw new SyntaxError(`"${name}" is no name; write letters, digits and _, no digit first`);
  }
  if (definitions.buffers.has(name)) throw new RangeError(`"${name}" is the name of a buffer`);
  return name;
}

function parseWrite(parts: Parts, common: StepCommon): WriteStep | undefined {
  const several = entries("write", parts);
  if (several !== undefined && parts.has("value")) {
    return parts.fail(["value"], '"value" says nothing beside a mapping of places to values');
  }
  if (several === undefined && !parts.has("value")) {
    return parts.fail([], '"value" is missing here');
  }
  const assignments = several?.map(([text, raw]) => parseEntry("write", text, raw, parts)) ??
    [single(parts)];
  return {
    word: "write",
    ...common,
    assignments: assignments.filter((each) => each !== undefined).map(withoutMask),
    ...(parts.flag("verify") && { verify: true }),
  };
}

/** The place and value of a write of one register. */
function single(parts: Parts): Assignment | undefined {
  const place = register("write", parts);
  const value = place && parseValueArgument(place, parts);
  return place && value && { place, value };
}

/** Drops the mask for a write-only register, which can't be read and so not be changed in parts. */
function withoutMask({ place, value: { mask, ...value } }: Assignment): Assignment {
  const isWhole = mask === undefined || place.register?.access === "wo";
  return { place, value: isWhole ? value : { ...value, mask } };
}

function parseValueArgument(place: Place, parts: Parts): Value | undefined {
  return parts.optional(
    "value",
    (raw) => parseValue(raw, place, parts.definitions, parts.written("value")),
  );
}

function parseModify(parts: Parts, common: StepCommon): ModifyStep | undefined {
  const place = register("modify", parts);
  const value = place && parseValueArgument(place, parts);
  const mask = parts.optional("mask", (raw) => {
    if (value?.mask !== undefined) throw new SyntaxError('"mask" says nothing beside fields');
    const width = place?.width;
    return parseValue(raw, width === undefined ? {} : { width }, parts.definitions).expression;
  });
  if (place === undefined || value === undefined) return undefined;
  if (value.mask === undefined && !parts.has("mask")) {
    return parts.fail(
      [],
      '"mask" is missing here',
      "say which bits, or give fields by their names",
    );
  }
  return { word: "modify", ...common, place, value, ...(mask && { mask }) };
}

function parsePoll(parts: Parts, common: StepCommon): PollStep | undefined {
  const everyMs = parts.duration("every");
  const several = entries("poll", parts);
  if (several !== undefined && several.length > 1) {
    return parts.fail(["poll"], '"poll" waits for one place', "write a poll for each");
  }
  const [entry] = several ?? [];
  const equals = entry && parseEntry("poll", entry[0], entry[1], parts);
  const place = entry === undefined ? register("poll", parts) : equals?.place;
  if (place === undefined) return undefined;
  const condition = parseCondition(parts, place, equals?.value);
  return { word: "poll", ...common, place, condition, ...(everyMs && { everyMs }) };
}

/** A subject of `expect`, and what it has to be by the mapping. */
interface Expected {
  readonly subject: Place | Expression;
  readonly subjectText: string;
  readonly equals?: Value;
}

function parseExpects(parts: Parts, common: StepCommon): ExpectStep[] {
  const several = entries("expect", parts)?.map(([text, raw]) => {
    const found = attemptSubject(text, ["expect", text], parts, true, true);
    const equals = found && parts.attempt(
      ["expect", text],
      () => parseValue(raw, targetOf(found), parts.definitions, parts.written("expect", text)),
    );
    return found && equals && { subject: found, subjectText: text, equals };
  });
  const all = several ?? [singleSubject(parts)];
  return all.filter((each) => each !== undefined).map((each) => {
    const { subject, subjectText, equals } = each as Expected;
    const condition = parseCondition(parts, targetOf(subject), equals);
    checkBytes(subject, condition, parts);
    const text = several === undefined || several.length === 1
      ? common.text
      : `expect ${subjectText} ${inline(equals?.text)}`;
    return { word: "expect", ...common, text, subject, subjectText, condition };
  });
}

function singleSubject(parts: Parts): Expected | undefined {
  const text = parts.raw["expect"] as string;
  const subject = attemptSubject(text, ["expect"], parts, hasValueCondition(parts), false);
  return subject && { subject, subjectText: text };
}

/** Reads a place, or an expression in `${}`. */
function attemptSubject(
  text: string,
  keys: readonly string[],
  parts: Parts,
  needsWidth: boolean,
  isKey: boolean,
): Place | Expression | undefined {
  const { definitions } = parts;
  return parts.attempt<Place | Expression>(keys, () => {
    const expression = /^\$\{([^{}]*)\}$/.exec(text);
    if (expression !== null) return parseCheckedExpression(expression[1]!, definitions);
    const place = parsePlace(text, definitions);
    return needsWidth ? withWidth(place, definitions) : place;
  }, isKey);
}

function targetOf(subject: Place | Expression): Partial<Place> {
  return "base" in subject ? subject : {};
}

/** Bytes are at places, and have to be inside. */
function checkBytes(subject: Place | Expression, condition: Condition, parts: Parts): void {
  const key = ["bytes", "text", "same as"].find((each) => parts.has(each));
  if (key === undefined) return;
  if (!("base" in subject)) {
    parts.fail([key], `"${key}" is about bytes at a place, not about a number`);
  } else if (condition.bytes !== undefined) {
    const length = dataLength({ kind: "bytes", bytes: condition.bytes })!;
    parts.attempt(["bytes"], () => checkExtent(subject, length, parts.definitions));
  }
}
