/**
 * The words of the session language.
 * Schema, checks, completion and help of the shell are made from this one table.
 *
 * @module
 */

import type { StepWord } from "../model.ts";
import type { Word } from "./arguments.ts";
import { DMA_WORDS } from "./dma_steps.ts";
import { IRQ_WORDS } from "./irq_steps.ts";
import { REGISTER_WORDS } from "./register_steps.ts";
import { SESSION_WORDS } from "./session_steps.ts";

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
