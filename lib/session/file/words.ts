/**
 * The words of the session language.
 * Schema, checks, completion and help of the shell are made from this one table.
 *
 * @module
 */

import type { StepWord } from "../model.ts";
import { type KindName, KINDS } from "./arguments.ts";
import { DMA_WORDS } from "./dma_steps.ts";
import { IRQ_WORDS } from "./irq_steps.ts";
import { REGISTER_WORDS } from "./register_steps.ts";
import { SESSION_WORDS } from "./session_steps.ts";
import type { Word } from "./word.ts";

const { set, ...others } = SESSION_WORDS;

/** All words, in the order in which they are listed. */
export const WORDS: Readonly<Record<StepWord, Word>> = {
  ...REGISTER_WORDS,
  set,
  ...DMA_WORDS,
  ...IRQ_WORDS,
  ...others,
};

/** The words. */
export const STEP_WORDS = Object.keys(WORDS) as StepWord[];

/** Tests a key for membership in {@linkcode STEP_WORDS}. */
export function isStepWord(key: string): key is StepWord {
  return Object.hasOwn(WORDS, key);
}

/** Kinds of arguments that name variables, by the keys that arguments have in any word. */
const SETTERS: ReadonlyMap<string, ReadonlySet<KindName>> = settersOf(WORDS);

function settersOf(words: Readonly<Record<string, Word>>): Map<string, Set<KindName>> {
  const setters = new Map<string, Set<KindName>>();
  for (const [word, { subject, arguments: own }] of Object.entries(words)) {
    for (const [key, { kind }] of [[word, { kind: subject }] as const, ...Object.entries(own)]) {
      if (KINDS[kind].sets === undefined) continue;
      setters.set(key, (setters.get(key) ?? new Set()).add(kind));
    }
  }
  return setters;
}

/**
 * The variables to which a step gives a value, as far as its form says.
 * Variables of the steps inside the step are left out.
 */
export function variablesSetBy(step: unknown): string[] {
  if (typeof step !== "object" || step === null) return [];
  const names = Object.entries(step).flatMap(([key, value]) =>
    [...SETTERS.get(key) ?? []].flatMap((kind) => KINDS[kind].sets!(value))
  );
  return [...new Set(names)];
}
