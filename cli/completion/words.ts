/**
 * The words of the command line, as the definitions of its commands have them.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";

/** An option. */
export interface OptionWords {
  /** Its spellings, as `-o` and `--output`. */
  readonly flags: readonly string[];
  /** A line for a person. */
  readonly description: string;
  /** Its value; undefined if it takes none. */
  readonly value: ValueWords | undefined;
}

/** A value of an option, or an argument. */
export interface ValueWords {
  /** Its name in the help, as `socket` or `name|file`. */
  readonly name: string;
  /** Words that it is one of; undefined if it is free. */
  readonly choices: readonly string[] | undefined;
  /** True of an argument that may be repeated. */
  readonly isVariadic: boolean;
}

/** A command, and those that it is made of. */
export interface CommandWords {
  /** The words that call it, behind `vfu`: none for the program itself. */
  readonly path: readonly string[];
  /** A line for a person. */
  readonly summary: string;
  /** Options that the help shows. */
  readonly options: readonly OptionWords[];
  /** Arguments, in order. */
  readonly values: readonly ValueWords[];
  /** Commands below it. */
  readonly commands: readonly CommandWords[];
}

/** Reads the words of a command off its definition. */
export function wordsOf(command: CommandUnknownOpts, path: readonly string[] = []): CommandWords {
  return {
    path,
    summary: command.summary() || firstSentence(command.description()),
    options: [
      ...command.options.filter(({ hidden }) => !hidden).map((option) => ({
        flags: [option.short, option.long].filter((flag) => flag !== undefined),
        description: option.description,
        value: option.required || option.optional
          ? {
            name: /[<[](.+)[>\]]/.exec(option.flags)?.[1] ?? option.name(),
            choices: option.argChoices,
            isVariadic: false,
          }
          : undefined,
      })),
      { flags: ["-h", "--help"], description: "show this help", value: undefined },
    ],
    values: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      choices: argument.argChoices,
      isVariadic: argument.variadic,
    })),
    commands: command.commands.map((each) => wordsOf(each, [...path, each.name()])),
  };
}

/** Lists a command and all below it, those above first. */
export function allCommands(command: CommandWords): CommandWords[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

function firstSentence(text: string): string {
  const [sentence = ""] = /^[^.]*/.exec(text) ?? [];
  return sentence.replaceAll(/\s+/g, " ").trim();
}
