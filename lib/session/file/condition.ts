/**
 * Reads conditions on values and bytes.
 *
 * @module
 */

import { hex } from "../../text/hex.ts";
import { checkTemplate, constantIn } from "./definitions.ts";
import { parseBytes } from "./data.ts";
import type { Condition, Expression, Value } from "../model.ts";
import { checkExtent, parsePlace } from "./place.ts";
import type { Parts } from "./reading.ts";
import { parseTemplate } from "../template.ts";
import { parseNumber, parseValue, type Target } from "./value.ts";

/** The arguments that are about a value. */
const VALUE_KEYS = ["equals", "not", "at least", "at most", "one of"] as const;
/** The arguments that are about the bytes at a place. */
const BYTE_KEYS = ["bytes", "text", "same as"] as const;

/** Tests for a condition on the value, and not only on bytes. */
export function hasValueCondition(parts: Parts): boolean {
  return VALUE_KEYS.some((key) => parts.has(key));
}

/**
 * Reads the condition among the arguments of a step.
 *
 * @param equals expected value by the mapping of the subject, and how it was written
 */
export function parseCondition(
  parts: Parts,
  target: Target,
  equals?: Value,
): Condition {
  const { definitions } = parts;
  const value = (key: string, of: Target = target) =>
    parts.optional(key, (raw) => parseValue(raw, of, definitions, parts.written(key)));
  const condition = {
    equals: equals ?? value("equals"),
    not: value("not"),
    mask: parts.optional("mask", (raw) => {
      if (target.field !== undefined) {
        throw new SyntaxError(`"mask" says nothing of ${target.field.name}, which is a field`);
      }
      return parseValue(raw, { ...(target.width && { width: target.width }) }, definitions)
        .expression;
    }),
    atLeast: value("at least"),
    atMost: value("at most"),
    oneOf: parts.optional(
      "one of",
      (raw) =>
        (Array.isArray(raw) ? raw : [raw]).map((each) => parseValue(each, target, definitions)),
    ),
    bytes: parts.optional("bytes", () => parseBytes(parts.exact("bytes"))),
    textAt: parts.optional(
      "text",
      () => checkTemplate(parseTemplate(parts.exact("text")), definitions),
    ),
    sameAs: parseSameAs(parts),
  };
  checkPresence(parts, equals !== undefined);
  parts.attempt(["mask"], () => checkMask(condition.equals, condition.mask, parts));
  const known = Object.entries(condition).filter(([, each]) => each !== undefined);
  return { text: conditionText(parts, equals), ...Object.fromEntries(known) };
}

function parseSameAs(parts: Parts): Condition["sameAs"] {
  const { definitions } = parts;
  const place = parts.optional("same as", (raw) => parsePlace(String(raw), definitions));
  const length = parts.optional("length", (raw) => {
    if (!parts.has("same as")) throw new SyntaxError('"length" says nothing without "same as"');
    const expression = parseNumber(raw, definitions);
    const bytes = constantIn(expression, definitions);
    if (place !== undefined && bytes !== undefined) checkExtent(place, Number(bytes), definitions);
    return expression;
  });
  if (parts.has("same as") && !parts.has("length")) {
    return parts.fail(["same as"], '"same as" takes "length", in bytes');
  }
  return place && length && { place, length };
}

function checkPresence(parts: Parts, hasEquals: boolean): void {
  if (hasEquals && parts.has("equals")) {
    parts.fail(["equals"], '"equals" is there already, in the mapping', "leave one of them out");
  }
  if (hasEquals || [...VALUE_KEYS, ...BYTE_KEYS].some((key) => parts.has(key))) return;
  const bytes = parts.raw["expect"] === undefined ? "" : ", bytes, text or same as";
  parts.fail(
    [],
    "Nothing is said of what the value has to be",
    `write equals, not, at least, at most or one of${bytes}`,
  );
}

/** A value with bits that its mask has not can never be there. */
function checkMask(
  equals: Value | undefined,
  mask: Expression | undefined,
  { definitions }: Parts,
): void {
  if (mask === undefined || equals === undefined) return;
  const [value, bits] = [equals.expression, mask].map((each) => constantIn(each, definitions));
  if (value === undefined || bits === undefined || (value & ~bits) === 0n) return;
  throw new RangeError(`${hex(value)} has bits outside its mask ${hex(bits)}`);
}

/** The condition on one line: "equals 1, mask 0xf". */
function conditionText(parts: Parts, equals: Value | undefined): string {
  const words = equals === undefined ? [] : [`equals ${equals.text}`];
  for (const key of [...VALUE_KEYS, "mask", ...BYTE_KEYS, "length"]) {
    if (parts.has(key)) words.push(`${key} ${parts.written(key)}`);
  }
  return words.join(", ");
}
