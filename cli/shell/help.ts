/**
 * The texts of `help` in the shell.
 *
 * @module
 */

import { COMMON_ARGUMENTS } from "../../lib/session/file/arguments.ts";
import { WORDS } from "../../lib/session/file/words.ts";
import { nearest } from "../../lib/text/nearest.ts";
import type { Output } from "../shared/context.ts";
import { tableLines } from "../shared/table.ts";

const SHORT_HELP: readonly (readonly [string, string])[] = [
  ["PLACE", "Reads it, as bar0+8 or COMMAND"],
  ["PLACE=VALUE", "Writes it, as bar0+8=5"],
];

const SHELL_HELP: readonly (readonly [string, string])[] = [
  ["help [WORD]", "This list, or the arguments of a word"],
  ["show", "Variables, buffers and interrupts"],
  ["save [--force] FILE", "Write what was done as a session file; --force replaces one"],
  ["forget", "What was done: save begins anew"],
  ["clear", "Clear the screen"],
  ["!!", "The line before, again; what follows is added to it"],
  ["quit, exit", "Leave; so does Ctrl-D"],
];

/** All words, or one with its arguments. */
export function helpText(word: string, output: Output): string {
  const lines = word === "" ? allWords(output) : oneWord(word, output);
  return lines.map((line) => `${line}\n`).join("");
}

function allWords({ columns, style }: Output): string[] {
  const rows = Object.entries(WORDS).map(([name, { description, subject }]) =>
    [subject === "nothing" ? name : `${name} ${subjectName(subject)}`, description] as const
  );
  return [
    style.bold("Steps"),
    ...tableLines(rows, { columns, indent: 2 }),
    style.bold("In short"),
    ...tableLines(SHORT_HELP, { columns, indent: 2 }),
    style.bold("The shell"),
    ...tableLines(SHELL_HELP, { columns, indent: 2 }),
  ];
}

function oneWord(name: string, { columns, style }: Output): string[] {
  const ofShell = SHELL_HELP.filter(([form]) => form.split(/[ ,]+/).includes(name));
  if (ofShell.length > 0) return tableLines(ofShell, { columns, indent: 0 });
  const word = Object.entries(WORDS).find(([each]) => each === name)?.[1];
  if (word === undefined) {
    const meant = nearest(name, Object.keys(WORDS));
    throw new RangeError(
      `There is no step "${name}"${
        meant === undefined ? "; help lists them" : `; did you mean "${meant}"?`
      }`,
    );
  }
  const rows = Object.entries({ ...word.arguments, ...COMMON_ARGUMENTS })
    .map(([key, { description }]) => [key, description] as const);
  const subject = word.subject === "nothing" ? "" : ` ${subjectName(word.subject)}`;
  const main = word.main === undefined ? "" : ` [${word.main.toUpperCase()}]`;
  return [
    `${style.bold(name)}${subject}${main}: ${word.description}`,
    ...tableLines(rows, { columns, indent: 2 }),
  ];
}

/** "placeOrValues" as "PLACE". */
function subjectName(kind: string): string {
  return kind.replace(/Or.*$/, "").toUpperCase();
}
