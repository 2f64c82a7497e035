/**
 * A manual page of a command, as man(7) reads it, made of the command's definition.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { wordsOf } from "../completion/words.ts";

/** Columns of the text that commands add to their help: it stays as it is in a page. */
const HELP_COLUMNS = 78;

/** A page. */
export interface Page {
  /** The words that call the command, `vfu` first. */
  readonly words: readonly string[];
  /** The program's version. */
  readonly version: string;
  /** Pages of the commands below it, or of the command above it. */
  readonly seeAlso: readonly string[];
}

/** Writes the page of a command. */
export function manualPage(command: CommandUnknownOpts, page: Page): string {
  const { words, version, seeAlso } = page;
  const name = words.join("-");
  const { options, commands, summary } = wordsOf(command);
  const usage = command.createHelp().commandUsage(command).replace(/^\S+ ?/, "");
  const lines = [
    `.TH ${name.toUpperCase()} 1 "" "vfu ${version}" "vfu"`,
    ".SH NAME",
    text(`${name} \u2014 ${summary}`).replace(" \u2014 ", " \\- "),
    ".SH SYNOPSIS",
    `.B ${text(words.join(" "))}`,
    text(usage.replace(new RegExp(`^${words.slice(1).join(" ")} ?`), "")),
    ".SH DESCRIPTION",
    ...paragraphs(command.description()),
  ];
  if (commands.length > 0) {
    lines.push(".SH COMMANDS");
    for (const { path, summary } of commands) lines.push(".TP", `.B ${path.at(-1)}`, text(summary));
  }
  lines.push(".SH OPTIONS");
  for (const { flags, description, value } of options) {
    const spelled = flags.map((flag) => `\\fB${text(flag)}\\fR`).join(", ");
    const taken = value === undefined ? "" : ` \\fI${text(value.name)}\\fR`;
    const choices = value?.choices === undefined ? "" : ` (${value.choices.join(", ")})`;
    lines.push(".TP", spelled + taken, text(description + choices));
  }
  lines.push(...sections(textBehind(command)));
  lines.push(
    ".SH EXIT STATUS",
    "0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated, 129 hung up.",
  );
  if (seeAlso.length > 0) {
    lines.push(".SH SEE ALSO", seeAlso.map((each) => `.BR ${text(each)} (1)`).join(" ,\n"));
  }
  return lines.join("\n") + "\n";
}

/** The text that a command adds behind its help. */
function textBehind(command: CommandUnknownOpts): string {
  let written = "";
  command.configureOutput({
    writeOut: (text) => written += text,
    getOutHelpWidth: () => HELP_COLUMNS,
    getOutHasColors: () => false,
  });
  command.outputHelp();
  return written.slice(command.helpInformation().length);
}

/** A title at the start of a line, with a colon, begins a section; the rest keeps its form. */
function sections(added: string): string[] {
  const lines: string[] = [];
  let isOpen = false;
  for (const line of added.split("\n")) {
    const title = /^([A-Z][\w ]*):$/.exec(line)?.[1];
    if (title === undefined) {
      if (!isOpen && line === "") continue;
      if (!isOpen) lines.push(".SH NOTES", ".nf");
      isOpen = true;
      lines.push(text(line.replace(/^ {2}/, "")));
      continue;
    }
    if (isOpen) lines.push(".fi");
    lines.push(`.SH ${text(title.toUpperCase())}`, ".nf");
    isOpen = true;
  }
  if (isOpen) lines.push(".fi");
  return lines;
}

function paragraphs(description: string): string[] {
  return description.split("\n\n").flatMap((paragraph, i) => [
    ...(i === 0 ? [] : [".PP"]),
    ...(paragraph.includes("\n")
      ? [".nf", ...paragraph.split("\n").map(text), ".fi"]
      : [text(paragraph)]),
  ]);
}

/** Escapes what man(7) would read as a command, or print as another sign. */
function text(plain: string): string {
  const escaped = plain.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("'", "\\(aq")
    .replaceAll("^", "\\(ha").replaceAll("~", "\\(ti").replaceAll("`", "\\(ga");
  return escaped.replace(/^\./, "\\&.");
}
