/**
 * Examples at the end of a command's help.
 *
 * @module
 */

/** The section of the help: command lines that work as they are, given such a socket or file. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}\n`).join("")}`.trimEnd();
}
