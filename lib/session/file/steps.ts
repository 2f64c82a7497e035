/**
 * Steps as they are written become steps that can be run.
 *
 * @module
 */

import type { Path } from "../../yaml/document.ts";
import { defineVariable } from "./definitions.ts";
import type { Step, StepCommon, StepWord } from "../model.ts";
import type { Parts, Reading } from "./reading.ts";
import { parseCommon } from "./step_common.ts";
import { parseForm } from "./step_form.ts";
import { variablesSetBy, WORDS } from "./words.ts";

/** Reads a list of steps. What is wrong is noted; the steps in which nothing is are given back. */
export function parseSteps(raws: readonly unknown[], path: Path, reading: Reading): Step[] {
  const steps: Step[] = [];
  for (const [i, raw] of raws.entries()) {
    const at = [...path, i];
    if (!reading.countStep(at)) break;
    for (const step of parseStepAt(raw, at, reading)) steps.push(step);
  }
  return steps;
}

/** Reads a step; an `expect` of several places is several. */
export function parseStepAt(raw: unknown, path: Path, reading: Reading): readonly Step[] {
  const form = parseForm(raw, path, reading);
  if (form === undefined) return [];
  const { word, parts } = form;
  // What is of another kind than it should be can't be read.
  const steps = parts.isGood ? parseWord(word, parts, parseCommon(word, parts), reading) : [];
  if (parts.isGood) return steps;
  // Steps after one with a mistake do not complain of its variables.
  for (const name of variablesSetBy(raw)) defineOpaque(name, reading);
  return [];
}

/**
 * Reads what is of a word alone.
 *
 * @throws {Error} if the table of words is wrong: a step vanished, or a variable that it sets is in
 *   no argument that says so
 */
function parseWord(
  word: StepWord,
  parts: Parts,
  common: StepCommon,
  reading: Reading,
): readonly Step[] {
  const parsed = WORDS[word].parse(parts, common, (raws, at) => parseInner(raws, at, reading));
  const steps: readonly Step[] = parsed === undefined ? [] : "word" in parsed ? [parsed] : parsed;
  if (!parts.isGood) return [];
  if (steps.length === 0) throw new Error(`A step of "${word}" was read as no step`);
  const unsaid = parts.defined.find((name) => !common.sets?.includes(name));
  if (unsaid === undefined) return steps;
  throw new Error(`"${word}" sets "${unsaid}", which is in no argument of a kind that sets`);
}

/** Reads repeated steps. A variable that a round sets can be used earlier in the next round. */
function parseInner(raws: readonly unknown[], path: Path, reading: Reading): Step[] {
  for (const name of raws.flatMap(variablesSetBy)) {
    if (!reading.definitions.variables.has(name)) defineOpaque(name, reading);
  }
  return parseSteps(raws, path, reading);
}

function defineOpaque(name: string, { definitions }: Reading): void {
  defineVariable(definitions, name, { isOpaque: true });
}
