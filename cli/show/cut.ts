/**
 * The sentence about a recording that is cut.
 *
 * @module
 */

import type { Context } from "../shared/context.ts";

/** Says that the recording is not whole. */
export function warnOfCut({ style, write }: Context["err"]): void {
  write(`${style.yellow("vfu:")} The recording ends in the middle of an event\n`);
}
