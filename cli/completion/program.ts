/**
 * The definitions of all subcommands, which are loaded for it.
 *
 * @module
 */

import { Argument, Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import type { Context } from "../shared/context.ts";
import { describeProgram, loadSubcommand, SUBCOMMANDS } from "../subcommands.ts";
import { type CommandWords, wordsOf } from "./words.ts";

/** Defines the program with all that it is made of. */
export async function wholeProgram(context: Context): Promise<CommandUnknownOpts> {
  const program = describeProgram(new Command("vfu"));
  for (const { name, summary } of SUBCOMMANDS) {
    const { command } = await loadSubcommand(name);
    program.addCommand(command(context).summary(summary));
  }
  return program;
}

/** The words of the program. `help` is one of its commands, and takes the name of another. */
export async function programWords(context: Context): Promise<CommandWords> {
  const program = await wholeProgram(context);
  program.addCommand(
    new Command("help").summary("show the help of a command").addArgument(
      new Argument("[command]", "its name").choices(SUBCOMMANDS.map(({ name }) => name)),
    ),
  );
  return wordsOf(program);
}
