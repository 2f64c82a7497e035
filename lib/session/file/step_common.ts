/**
 * Reads the arguments that every step may have.
 *
 * @module
 */

import { errnoCode, errnoName } from "../../../ffi/errno.ts";
import { meant } from "./definitions.ts";
import { inline } from "./inline.ts";
import type { StepCommon, StepWord } from "../model.ts";
import type { Parts } from "./reading.ts";
import { variablesSetBy, WORDS } from "./words.ts";
import { readIndex } from "../../text/integer.ts";

/** The greatest error number of Linux. */
const MAX_ERRNO = 4095;
/** Beyond it no number has a name. */
const LAST_NAMED_ERRNO = 133;

/** Reads what every step may have. What is wrong is noted in `parts`. */
export function parseCommon(word: StepWord, parts: Parts): StepCommon {
  const name = parts.has("name") ? parts.exact("name") : undefined;
  const timeoutMs = parts.duration("timeout");
  const when = parts.number("when");
  const sets = variablesSetBy(parts.raw);
  const errors = (key: "expect error" | "allow error") =>
    parts.optional(
      key,
      (raw) => checkErrors(word, key, (Array.isArray(raw) ? raw : [raw]).map(parseErrorName)),
    );
  const [expectError, allowError] = [errors("expect error"), errors("allow error")];
  return {
    source: parts.reading.source(parts.path),
    text: stepText(word, parts),
    ...(name !== undefined && { name }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(expectError && { expectError }),
    ...(allowError && { allowError }),
    ...(parts.flag("continue on failure") && { continueOnFailure: true }),
    ...(when && { when }),
    ...(sets.length > 0 && { sets }),
  };
}

/** The step on one line, as it was written: "write nvme.CC 0x460001". */
function stepText(word: StepWord, parts: Parts): string {
  const { subject, main, arguments: own } = WORDS[word];
  const words: string[] = [word];
  if (subject !== "nothing") words.push(subjectText(parts.raw[word], () => parts.written(word)));
  if (main !== undefined && parts.has(main)) words.push(parts.written(main));
  for (const [key, { kind }] of Object.entries(own)) {
    if (key === main || kind === "steps" || !parts.has(key)) continue;
    if (kind !== "flag") words.push(key, parts.written(key));
    else if (parts.flag(key)) words.push(key);
  }
  return words.join(" ");
}

/** A mapping of places to values reads as those one after the other. */
export function subjectText(raw: unknown, written: () => string): string {
  if (typeof raw !== "object" || raw === null) return written();
  return Object.entries(raw).map(([key, value]) => `${key} ${inline(value)}`).join(", ");
}

/** A refusal is a single step's: of steps together only their time can be wrong. */
function checkErrors(
  word: StepWord,
  key: "expect error" | "allow error",
  errors: readonly string[],
): readonly string[] {
  const isCompound = word === "repeat" || word === "call";
  const refusal = errors.find((each) => each !== "timeout");
  if (!isCompound || refusal === undefined) return errors;
  throw new RangeError(
    `"${key}: ${refusal}" says nothing of a ${word}; write it at the step in it that is refused`,
  );
}

/** Reads the name of an error: "EINVAL", 22, "timeout". */
function parseErrorName(raw: unknown): string {
  const text = String(raw);
  if (text.toLowerCase() === "timeout") return "timeout";
  const errno = readIndex(text);
  if (errno !== undefined) {
    if (errno >= 1 && errno <= MAX_ERRNO) return errnoName(errno);
    throw new RangeError(`${text} is no error number: they are 1 to ${MAX_ERRNO}`);
  }
  const upper = text.toUpperCase();
  if (errnoCode(upper) !== undefined) return upper;
  const names = Array.from({ length: LAST_NAMED_ERRNO }, (_, i) => errnoName(i + 1));
  throw new RangeError(
    `"${text}" is no error; ${
      meant(upper, ["timeout", ...names], "write its name, as EINVAL, or timeout")
    }`,
  );
}
