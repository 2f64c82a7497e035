/**
 * Steps as they are written become steps that can be run.
 *
 * @module
 */

import type { Path } from "../../yaml/document.ts";
import { defineVariable, namesDefinedBy } from "./definitions.ts";
import { DMA_WORDS, readDmaStep } from "./dma_steps.ts";
import { IRQ_WORDS, readIrqStep } from "./irq_steps.ts";
import type { Step, StepCommon, StepWord } from "../model.ts";
import type { Parts, Reading } from "./reading.ts";
import { readRegisterSteps, REGISTER_WORDS } from "./register_steps.ts";
import { readSessionStep } from "./session_steps.ts";
import { readCommon } from "./step_common.ts";
import { readForm } from "./step_form.ts";

/** Reads a list of steps. What is wrong is noted; the steps in which nothing is are given back. */
export function readSteps(raws: readonly unknown[], path: Path, reading: Reading): Step[] {
  const steps: Step[] = [];
  for (const [i, raw] of raws.entries()) {
    const at = [...path, i];
    if (!reading.countStep(at)) break;
    for (const step of readStep(raw, at, reading)) steps.push(step);
  }
  return steps;
}

/** Reads a step; an `expect` of several places is several. */
export function readStep(raw: unknown, path: Path, reading: Reading): readonly Step[] {
  const form = readForm(raw, path, reading);
  if (form === undefined) return [];
  const { word, parts } = form;
  // What is of another kind than it should be can't be read.
  const steps = parts.isGood ? readWord(word, parts, readCommon(word, parts), reading) : [];
  if (!parts.isGood) defineAll(parts);
  return parts.isGood ? steps : [];
}

function readWord(
  word: StepWord,
  parts: Parts,
  common: StepCommon,
  reading: Reading,
): readonly Step[] {
  if (isOneOf(REGISTER_WORDS, word)) return readRegisterSteps(word, parts, common);
  if (isOneOf(DMA_WORDS, word)) return some(readDmaStep(word, parts, common));
  if (isOneOf(IRQ_WORDS, word)) return some(readIrqStep(word, parts, common));
  return some(readSessionStep(word, parts, common, (raws, at) => readSteps(raws, at, reading)));
}

function isOneOf<W extends StepWord>(
  words: Readonly<Record<W, unknown>>,
  word: StepWord,
): word is W {
  return Object.hasOwn(words, word);
}

function some<T>(step: T | undefined): readonly T[] {
  return step === undefined ? [] : [step];
}

/**
 * Defines the variables of a step with a mistake, so that steps after it do not complain of them.
 */
function defineAll({ raw, definitions }: Parts): void {
  for (const name of namesDefinedBy(raw)) defineVariable(definitions, name, { isOpaque: true });
}
