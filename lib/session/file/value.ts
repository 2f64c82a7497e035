/**
 * Reads values as a session writes them.
 * Examples: `0x10`, `4K`, `-1`, `${tail + 1}`, `normal-shutdown`, `{ EN: 1, IOSQES: 6 }`.
 *
 * @module
 */

import { parseFieldValue } from "../../registers/lookup.ts";
import { fieldMask, type Register, type RegisterField } from "../../registers/map.ts";
import { readSignedSize } from "../../text/size.ts";
import { hex } from "../../text/hex.ts";
import { constantIn, type Definitions, meant, parseCheckedExpression } from "./definitions.ts";
import { binary, number } from "../expression.ts";
import { inline } from "./inline.ts";
import type { Expression, Place, Value } from "../model.ts";
import { plural } from "../../text/plural.ts";

const HOW = "write it as 26, 0x1a, 0b11010, 4K or ${EXPRESSION}";

/** The place for which a value is meant. */
export type Target = Partial<Pick<Place, "register" | "field" | "width">>;

/**
 * Reads a value.
 *
 * @param raw an integer or text; of a register also a mapping of fields to values
 * @param target place of the value: its fields have names, its width says what -1 is and what is
 *   too large
 * @param text as it was written
 * @throws {SyntaxError} if it is none
 * @throws {RangeError} if it does not fit, or names what is not there
 * @throws {EvaluationError} if it can't have a value
 */
export function parseValue(
  raw: unknown,
  target: Target,
  definitions: Definitions,
  text: string = inline(raw),
): Value {
  const { register, field } = target;
  if (typeof raw === "object" && raw !== null && !Array.isArray(raw)) {
    if (register === undefined || field !== undefined) {
      throw new SyntaxError(
        `${text} gives fields, but ${field?.name ?? "the place"} has none; ${HOW}`,
      );
    }
    return fieldsValue(raw as Record<string, unknown>, register, definitions, text);
  }
  if (field !== undefined) {
    const expression = fieldExpression(raw, field, register, definitions);
    return { text, expression: shifted(expression, field), mask: fieldMask(field) };
  }
  const bits = target.width === undefined ? undefined : target.width * 8;
  return { text, expression: fit(parseNumber(raw, definitions), bits, definitions) };
}

/**
 * Reads a number, or an expression in `${}`.
 *
 * @throws as {@linkcode parseValue}
 */
export function parseNumber(raw: unknown, definitions: Definitions): Expression {
  if (typeof raw === "bigint") return number(raw);
  if (typeof raw === "string") {
    const inner = /^\$\{([^{}]*)\}$/.exec(raw.trim());
    if (inner !== null) return parseCheckedExpression(inner[1]!, definitions);
    const value = readSignedSize(raw.trim());
    if (value !== undefined) return number(value);
    const isName = definitions.variables.has(raw) || /[-+*/&|<>()]/.test(raw);
    throw new SyntaxError(
      `"${raw}" is no value; ${isName ? `did you mean "\${${raw}}"?` : HOW}`,
    );
  }
  throw new SyntaxError(`${inline(raw)} is no value; ${HOW}`);
}

/** A number that is known has to fit so many bits; one below 0 becomes its two's complement. */
function fit(
  expression: Expression,
  bits: number | undefined,
  definitions: Definitions,
): Expression {
  const value = constantIn(expression, definitions);
  if (value === undefined || bits === undefined) return expression;
  const limit = 1n << BigInt(bits);
  if (value >= limit || value < -(limit >> 1n)) {
    throw new RangeError(`${hex(value)} does not fit ${bits} bits`);
  }
  return value < 0n ? number(value + limit) : expression;
}

/** The value of one field, counted from its lowest bit. */
function fieldExpression(
  raw: unknown,
  field: RegisterField,
  register: Register | undefined,
  definitions: Definitions,
): Expression {
  const size = field.high - field.low + 1;
  const isText = typeof raw === "string" && !/\$\{|^-?\d/.test(raw);
  if (isText) return number(parseFieldValue(field, raw));
  const limit = 1n << BigInt(size);
  const parsed = parseNumber(raw, definitions);
  const value = constantIn(parsed, definitions);
  const what = register === undefined ? field.name : `${register.name}.${field.name}`;
  if (value === undefined) return { kind: "below", operand: parsed, limit, what };
  if (value >= limit || value < -(limit >> 1n)) {
    const count = plural(size, "bit");
    throw new RangeError(`${hex(value)} does not fit ${what}, which has ${count}`);
  }
  return value < 0n ? number(value + limit) : parsed;
}

/** In the bits of the register. */
function shifted(expression: Expression, { low }: RegisterField): Expression {
  return low === 0 ? expression : binary(expression, "<<", number(low));
}

/** The sum of some fields of a register. */
function fieldsValue(
  fields: Readonly<Record<string, unknown>>,
  register: Register,
  definitions: Definitions,
  text: string,
): Value {
  let expression = number(0);
  let mask = 0n;
  for (const [name, raw] of Object.entries(fields)) {
    const field = register.fields.find((each) => each.name.toLowerCase() === name.toLowerCase());
    if (field === undefined) throw unknownField(name, register);
    if ((mask & fieldMask(field)) !== 0n) throw new RangeError(`${field.name} is there twice`);
    mask |= fieldMask(field);
    const part = shifted(fieldExpression(raw, field, register, definitions), field);
    expression = mask === fieldMask(field) ? part : binary(expression, "|", part);
  }
  if (mask === 0n) throw new SyntaxError(`{} names no field of ${register.name}`);
  return { text, expression, mask };
}

function unknownField(name: string, register: Register): RangeError {
  const names = register.fields.map((each) => each.name);
  return new RangeError(
    `"${name}" is no field of ${register.name}; ${
      meant(name, names, names.length === 0 ? "it has none" : `there are ${names.join(", ")}`)
    }`,
  );
}
