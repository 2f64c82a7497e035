/**
 * What is wrong with a file that a person wrote, and where.
 *
 * @module
 */

/** A place in a file, as an editor counts: from 1. */
export interface Position {
  /** Line. */
  readonly line: number;
  /** Column, in UTF-16 code units. */
  readonly column: number;
}

/** One mistake. */
export interface Problem extends Position {
  /** The file, as it was called. */
  readonly file: string;
  /** What was found, and what is wrong with it. */
  readonly message: string;
  /** What to write, if that can be guessed. */
  readonly hint?: string;
}

/** A file that can't be used; all that is wrong with it, from its first line to its last. */
export class FileProblems extends Error {
  /** The name of the class. */
  override readonly name = "FileProblems";
  /** The mistakes, one at least. */
  readonly problems: readonly Problem[];

  /**
   * What is wrong with `file`.
   *
   * @param file as it was called
   * @param problems the mistakes
   */
  constructor(file: string, problems: readonly Problem[]) {
    const count = problems.length === 1 ? "a mistake" : `${problems.length} mistakes`;
    super(`Cannot use ${file}: it has ${count}`);
    this.problems = problems;
  }
}

/**
 * The mistake as a line: `FILE:LINE:COLUMN: MESSAGE; HINT`.
 *
 * @example
 * ```ts
 * import { problemText } from "./problem.ts";
 *
 * const problem = { file: "a.yaml", line: 3, column: 5, message: '"widht" is no key here', hint: 'did you mean "width"?' };
 * if (problemText(problem) !== 'a.yaml:3:5: "widht" is no key here; did you mean "width"?') throw new Error();
 * ```
 */
export function problemText({ file, line, column, message, hint }: Problem): string {
  return `${file}:${line}:${column}: ${message}${hint === undefined ? "" : `; ${hint}`}`;
}
