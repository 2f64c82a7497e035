/**
 * Compares values and bytes that were found with those that a step expects.
 *
 * @module
 */

import { bitsText, fieldMask } from "../../registers/map.ts";
import { fieldText, fieldWords } from "../../registers/decode.ts";
import type { Width } from "../../client/info.ts";
import { hex } from "../../text/hex.ts";
import { evaluate, type Scope } from "../expression.ts";
import { fitting } from "./buffers.ts";
import type { Condition, Value } from "../model.ts";
import { type SeenValue, StepFailure } from "./step_result.ts";
import { plural } from "../../text/plural.ts";

/** A value that does not hold: what was expected of it, and what it is. */
export interface Mismatch {
  readonly expected: string;
  readonly found: string;
}

/** The value that is compared, with the bits that count. */
interface Comparison {
  readonly seen: SeenValue;
  readonly scope: Scope;
  readonly mask: bigint | undefined;
}

/** Tests for a condition on a value, and not only on bytes. */
export function isAboutValue(condition: Condition): boolean {
  const { equals, not, atLeast, atMost, oneOf } = condition;
  return [equals, not, atLeast, atMost, oneOf].some((each) => each !== undefined);
}

/** The first part of a condition that a value does not meet; undefined if it meets all. */
export function mismatch(
  { equals, not, atLeast, atMost, oneOf, mask }: Condition,
  seen: SeenValue,
  scope: Scope,
): Mismatch | undefined {
  const about: Comparison = {
    seen,
    scope,
    mask: mask === undefined ? undefined : evaluate(mask, scope),
  };
  const wrong = (operator: string, ...values: Value[]) => complaint(about, operator, values);
  const compare = (value: Value) => comparison(about, value);
  if (equals && compare(equals) !== 0) return wrong("==", equals);
  if (not && compare(not) === 0) return wrong("!=", not);
  if (atLeast && compare(atLeast) < 0) return wrong(">=", atLeast);
  if (atMost && compare(atMost) > 0) return wrong("<=", atMost);
  if (oneOf && !oneOf.some((value) => compare(value) === 0)) return wrong("one of", ...oneOf);
  return undefined;
}

/**
 * Compares a value with `wanted`, in the bits that count.
 * Returns a number below 0, 0 or above 0 as the value is less than, equal to or more than `wanted`.
 */
function comparison({ seen, scope, mask }: Comparison, wanted: Value): number {
  const bits = maskOf(wanted, mask);
  const value = bits === undefined ? seen.value : seen.value & bits;
  const other = wantedBits(wanted, seen, scope);
  return value < other ? -1 : value > other ? 1 : 0;
}

function wantedBits({ expression }: Value, seen: SeenValue, scope: Scope): bigint {
  const wanted = evaluate(expression, scope);
  return seen.isComputed ? wanted : fitting(wanted, seen.width);
}

function maskOf({ mask }: Value, other: bigint | undefined): bigint | undefined {
  return mask === undefined ? other : other === undefined ? mask : mask & other;
}

function complaint(about: Comparison, operator: string, values: readonly Value[]): Mismatch {
  const { seen, scope, mask } = about;
  const { field } = seen;
  const wanted = values.map((value) => {
    const bits = wantedBits(value, seen, scope);
    const shown = field === undefined ? valueText(bits, seen.width) : fieldText(field, bits);
    return isNumber(value.text) || value.text === shown ? shown : `${shown} (${value.text})`;
  });
  const bits = field === undefined ? maskOf(values[0]!, mask) : mask;
  const under = bits === undefined ? "" : ` under the mask ${valueText(bits, seen.width)}`;
  return { expected: `${operator} ${wanted.join(", ")}${under}`, found: seenText(seen) };
}

function isNumber(text: string): boolean {
  return /^-?[0-9]/.test(text);
}

/** The value for a person: of a field alone, or of the register with its fields. */
function seenText(seen: SeenValue): string {
  const { field, register, value, width } = seen;
  if (field !== undefined) {
    const bits = `${field.low === field.high ? "bit" : "bits"} ${bitsText(field)}`;
    return `${fieldText(field, value)} (${bits} of ${valueText(value, width)})`;
  }
  const fields = register === undefined ? [] : fieldWords(register, value);
  return [valueText(value, width), ...fields].join(" ");
}

/** The value of the register, or of the one field that is meant. */
export function meantValue({ field, value }: SeenValue): bigint {
  return field === undefined ? value : (value & fieldMask(field)) >> BigInt(field.low);
}

/** A number with all digits of its width. */
export function valueText(value: bigint, width: Width): string {
  return hex(value, value < 0n ? 0 : width * 2);
}

/** Bytes for a person: all of few, or the beginning of many, and as text if they are that. */
export function bytesText(bytes: Uint8Array): string {
  const shown = bytes.subarray(0, MAX_BYTES_SHOWN);
  const rest = bytes.length > shown.length ? ` … (${plural(bytes.length, "byte")})` : "";
  const text = new TextDecoder().decode(shown);
  const words = shown.length > 0 && /^[\x20-\x7e]+$/.test(text) ? ` "${text}"` : "";
  return (shown.toHex().match(/../g) ?? []).join(" ") + rest + words;
}

const MAX_BYTES_SHOWN = 32;

/** Fails unless bytes are as they have to be. `what` is where they are. */
export function checkBytes(what: string, expected: Uint8Array, found: Uint8Array): void {
  const at = expected.findIndex((byte, i) => byte !== found[i]);
  if (at < 0) return;
  // What differs is to be seen.
  const start = at < MAX_BYTES_SHOWN ? 0 : at;
  const where = start === 0 ? what : `${what}, from byte ${start} on,`;
  throw new StepFailure(
    `${where} to be ${bytesText(expected.subarray(start))}`,
    bytesText(found.subarray(start)),
    { outcome: { dump: { bytes: found, width: 1, start: 0n } } },
  );
}
