/**
 * A context whose output goes to the caller, for texts that are made of the commands' own.
 *
 * @module
 */

import type { Context } from "./context.ts";
import { PLAIN } from "./style.ts";

/** Columns of the screen that is captured. */
const COLUMNS = 80;

/** Makes a context of memory, with a screen of 80 columns. */
export function captured(write: (text: string) => void): Context {
  const output = { isTerminal: false, columns: COLUMNS, style: PLAIN, write, writeBytes() {} };
  return { out: output, err: output, signal: new AbortController().signal };
}
