/**
 * The form of a step: its word, and whether its arguments are of the right kinds.
 *
 * @module
 */

import { meant } from "./definitions.ts";
import { inline } from "./inline.ts";
import type { StepWord } from "../model.ts";
import { Parts, type Reading } from "./reading.ts";
import type { Path } from "../../yaml/document.ts";
import { type Arguments, COMMON_ARGUMENTS, KINDS } from "./arguments.ts";
import { isStepWord, STEP_WORDS, WORDS } from "./words.ts";

/**
 * Finds the word of a step, and checks the kinds of its arguments. What is wrong is noted.
 *
 * @returns undefined if nothing can be said about the rest
 */
export function parseForm(
  raw: unknown,
  path: Path,
  reading: Reading,
): { word: StepWord; parts: Parts } | undefined {
  const step = typeof raw === "string" ? wordAlone(raw, path, reading) : raw;
  if (step === undefined) return undefined;
  if (step === null) {
    reading.report(path, "The step is empty", `there are ${STEP_WORDS.join(", ")}`);
    return undefined;
  }
  if (typeof step !== "object" || Array.isArray(step)) {
    reading.report(path, `It is ${inline(step)}, not a step`, "write a word, as read, and a colon");
    return undefined;
  }
  const arguments_ = step as Record<string, unknown>;
  const word = findWord(arguments_, path, reading);
  if (word === undefined) return undefined;
  const parts = new Parts(arguments_, path, reading);
  const { subject, arguments: own } = WORDS[word];
  checkArguments(parts, word, {
    [word]: { kind: subject, description: "" },
    ...own,
    ...COMMON_ARGUMENTS,
  });
  return { word, parts };
}

/** A step that is a word alone, as `- reset`. */
function wordAlone(
  text: string,
  path: Path,
  { report }: Reading,
): Record<string, unknown> | undefined {
  if (isStepWord(text) && WORDS[text].subject === "nothing") return { [text]: null };
  const [first = ""] = text.split(/[\s=:]/);
  const word = STEP_WORDS.find((each) => text === each || text.startsWith(`${each} `));
  if (word !== undefined) {
    const hint = WORDS[word].subject === "nothing"
      ? `write "${word}" alone`
      : `write "${word}:", and its arguments each with a colon on lines of their own`;
    report(path, `"${text}" is no step`, hint);
  } else {
    const hint = meant(
      text,
      STEP_WORDS,
      meant(first, STEP_WORDS, `there are ${STEP_WORDS.join(", ")}`),
    );
    report(path, `"${text}" is no step`, hint);
  }
  return undefined;
}

function findWord(
  step: Record<string, unknown>,
  path: Path,
  { report, reportKey }: Reading,
): StepWord | undefined {
  const keys = Object.keys(step);
  const [word, second] = keys.filter(isStepWord);
  if (second !== undefined) {
    reportKey(
      [...path, second],
      `"${second}" begins a step, but this is a step already: ${word}`,
      `write "- ${second}:" on a line of its own`,
    );
    return undefined;
  }
  if (word !== undefined) return word;
  const [first] = keys;
  if (first === undefined) {
    report(path, "The step is empty", `there are ${STEP_WORDS.join(", ")}`);
    return undefined;
  }
  for (const key of keys) {
    const hint = meant(key, STEP_WORDS, "");
    if (hint === "") continue;
    reportKey([...path, key], `"${key}" is no step`, hint);
    return undefined;
  }
  reportKey([...path, first], `"${first}" is no step`, `there are ${STEP_WORDS.join(", ")}`);
  return undefined;
}

/** Checks that a mapping has what it needs, each of its kind, and nothing else. */
export function checkArguments(parts: Parts, what: string, known: Arguments): void {
  const { path, raw, reading } = parts;
  for (const [key, value] of Object.entries(raw)) {
    if (!Object.hasOwn(known, key)) {
      const keys = Object.keys(known).filter((each) => each !== what);
      parts.isGood = false;
      const hint = meant(key, keys, `there are ${keys.join(", ")}`);
      reading.reportKey([...path, key], `"${key}" is no key of ${what}`, hint);
      continue;
    }
    const { is, expected } = KINDS[known[key]!.kind];
    if (is(value)) continue;
    parts.fail([key], `"${key}" is ${shown(value)}, not ${expected}`);
  }
  for (const [key, { isRequired }] of Object.entries(known)) {
    if (isRequired && !parts.has(key)) parts.fail([], `"${key}" is missing here`);
  }
}

function shown(value: unknown): string {
  if (value === null) return "empty";
  return typeof value === "string" ? JSON.stringify(inline(value)) : inline(value);
}
