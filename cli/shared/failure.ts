/**
 * Errors as lines for the user.
 *
 * @module
 */

import { causesOf, thrownFrames, thrownName, thrownText } from "../../lib/base/thrown.ts";
import { printable } from "./printable.ts";

/**
 * Work that ended in the middle, and of which the user is to know how far it came, even after
 * Ctrl-C.
 */
export class Unfinished extends Error {
  override readonly name = "Unfinished";

  /**
   * @param cause what ended it, unless `signal` did
   * @param state how far it came, as "5 of 10 bytes were written"
   */
  constructor(cause: unknown, { aborted, reason }: AbortSignal, state: string) {
    const why = aborted ? reason : cause;
    super(`${thrownText(why)}; ${state}`, { cause });
  }
}

/** A failure of which the user knows already. */
export class Reported extends Error {
  override readonly name = "Reported";

  /** @param exitCode what the process ends with */
  constructor(readonly exitCode: number) {
    super(`Failed with code ${exitCode}, as was reported`);
  }
}

/** A failure that takes lines of its own to say, beside its message. */
export class Detailed extends Error {
  override readonly name = "Detailed";

  /**
   * @param details what is wrong in particular, a line each
   * @param frames where it happened, as lines of a stack, for `verbose`
   */
  constructor(
    message: string,
    readonly details: readonly string[],
    readonly frames: readonly string[],
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/**
 * A line that says what could not be done, and those of its details; with `verbose` also where it
 * happened and what caused it.
 */
export function failureLines(error: unknown, verbose: boolean): string[] {
  const lines = [printable(thrownText(error))];
  if (error instanceof Detailed) {
    lines.push(...error.details.map((line) => `  ${printable(line)}`));
    return verbose ? [...lines, ...error.frames.map(printable)] : lines;
  }
  if (!verbose) return lines;
  lines.push(...frames(error));
  for (const cause of causesOf(error)) {
    lines.push(printable(`  caused by ${thrownName(cause)}: ${thrownText(cause)}`));
    lines.push(...frames(cause));
  }
  return lines;
}

/** The place where it happened: the lines of the stack that follow the message. */
function frames(error: unknown): string[] {
  return thrownFrames(error).map(printable);
}
