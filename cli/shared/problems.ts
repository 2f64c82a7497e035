/**
 * Mistakes of files, told line by line.
 *
 * @module
 */

import { FileProblems, problemText } from "../../lib/yaml/problem.ts";
import type { Context } from "./context.ts";
import { printable } from "./printable.ts";

/** Does work on a file. Its mistakes are told on standard error before they end the command. */
export async function tellProblems<T>(
  { err }: Pick<Context, "err">,
  work: () => T | Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof FileProblems) {
      for (const problem of error.problems) err.write(`${printable(problemText(problem))}\n`);
    }
    throw error;
  }
}
