/**
 * Sentences about what did not come, with the reason in a second line.
 *
 * @module
 */

import { Detailed } from "./failure.ts";

/** The two lines; one if no reason is known. */
export function unmetLines(sentence: string, why: string | undefined): string[] {
  return [sentence, ...whyLines(why).map((line) => `  ${line}`)];
}

/** The failure of a command whose wait was in vain. */
export function unmet(sentence: string, why: string | undefined): Error {
  return new Detailed(sentence, whyLines(why), []);
}

function whyLines(why: string | undefined): string[] {
  return why === undefined ? [] : [`why: ${why}`];
}
