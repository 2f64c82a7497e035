/**
 * Mistakes in a file that a person wrote, and their places.
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
  /** The text that was found, and the mistake in it. */
  readonly message: string;
  /** The text to write instead, if that can be guessed. */
  readonly hint?: string;
}

/** A file that can't be used; all that is wrong with it, from its first line to its last. */
export class FileProblems extends Error {
  /** The name of the class. */
  override readonly name = "FileProblems";
  /** The mistakes, one at least. */
  readonly problems: readonly Problem[];

  /**
   * Collects the mistakes of `file`.
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
 * const at = { file: "a.yaml", line: 3, column: 5 };
 * const problem = { ...at, message: '"widht" is no key here', hint: 'did you mean "width"?' };
 * const text = 'a.yaml:3:5: "widht" is no key here; did you mean "width"?';
 * if (problemText(problem) !== text) throw new Error();
 * ```
 */
export function problemText({ file, line, column, message, hint }: Problem): string {
  return `${file}:${line}:${column}: ${message}${hint === undefined ? "" : `; ${hint}`}`;
}
