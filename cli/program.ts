/**
 * The program of a command line: commander's, with our table of subcommands and our errors.
 *
 * Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated, 129 hung up.
 *
 * @module
 */

import type { CommanderError, CommandUnknownOpts } from "@commander-js/extra-typings";
import { nearest } from "../lib/text/nearest.ts";
import { type Context, Interrupted, type Output } from "./shared/context.ts";
import { failureLines, Reported, Unfinished } from "./shared/failure.ts";
import { plainProbe } from "./probe/fast_path.ts";
import { printable } from "./shared/printable.ts";
import { COLOURED, PLAIN } from "./shared/style.ts";
import { describeProgram, type Parts, SUBCOMMANDS } from "./subcommands.ts";
import { programVersion, versionLine } from "./version.ts";

/**
 * Runs one command line.
 *
 * @param args what follows the program's name
 * @param context where it runs
 * @param parts the ways to the parts that it may need
 * @returns the exit code
 */
export async function runLine(
  args: readonly string[],
  context: Context,
  parts: Parts,
): Promise<number> {
  let called: CommandUnknownOpts | undefined;
  try {
    const plain = plainProbe(args);
    if (plain !== undefined) {
      const { run } = await parts.probe();
      await run(context, plain.socket, plain.options);
      return 0;
    }
    const program = await buildProgram(args, context, parts);
    program.hook("preAction", (_, command) => {
      called = command;
    });
    await program.parseAsync(args, { from: "user" });
    return 0;
  } catch (error) {
    if (isCommanderError(error)) return error.exitCode === 0 ? 0 : 2;
    // What fails after the signal fails because of it.
    const { aborted, reason } = context.signal;
    if (aborted && error instanceof Unfinished) complain(context.err, failureLines(error, false));
    const verbose = called?.getOptionValue("verbose") === true;
    const why = aborted && !(error instanceof Reported) ? reason : error;
    return exitCode(why, context, verbose);
  }
}

/**
 * The program with its subcommands. Only the one that is called, or whose help is asked for, is
 * whole.
 */
async function buildProgram(
  args: readonly string[],
  context: Context,
  parts: Parts,
): Promise<CommandUnknownOpts> {
  const { Command, CommanderError } = await import("@commander-js/extra-typings");
  const program = describeProgram(new Command("vfu"))
    .helpOption("-h, --help", "show this help")
    .helpCommand("help [command]", "show the help of a command")
    .exitOverride()
    .showSuggestionAfterError()
    .configureHelp({ styleTitle: COLOURED.bold })
    .configureOutput({
      writeOut: (text) => context.out.write(text),
      writeErr: (text) => context.err.write(text),
      outputError: (text) => complain(context.err, [printable(usageLine(text, program, args))]),
      getOutHelpWidth: () => context.out.columns,
      getErrHelpWidth: () => context.err.columns,
      getOutHasColors: () => context.out.style !== PLAIN,
      getErrHasColors: () => context.err.style !== PLAIN,
    });
  program.on("option:version", () => {
    const version = programVersion();
    const text = args.includes("--json") ? JSON.stringify(version) : versionLine(version);
    context.out.write(`${text}\n`);
    throw new CommanderError(0, "commander.version", "");
  });
  const [first, second] = args.filter((arg) => !arg.startsWith("-"));
  const called = first === "help" ? second : first;
  const isKnown = SUBCOMMANDS.some(({ name }) => name === called) || called === "help";
  for (const { name, summary } of SUBCOMMANDS) {
    const subcommand: CommandUnknownOpts = name === called
      ? (await parts.subcommand(name)).command(context)
      : new Command(name);
    program.addCommand(subcommand.summary(summary));
    inherit(subcommand, program);
  }
  if (first === "help" && called === "help") program.help(); // it would be an error
  // Commander's own `help` shows the whole list for a name that it does not know.
  if (first === "help" && called !== undefined && !isKnown) {
    const meant = nearest(called, SUBCOMMANDS.map(({ name }) => name));
    const hint = meant === undefined ? "; vfu help lists them" : ` (Did you mean ${meant}?)`;
    program.error(`error: unknown command '${called}'${hint}`);
  }
  return program;
}

/** Has a command, and those that it is made of, behave as the program does. */
function inherit(command: CommandUnknownOpts, parent: CommandUnknownOpts): void {
  command.helpOption("-h, --help", "show this help").copyInheritedSettings(parent);
  if (command.commands.length > 0) {
    command.helpCommand("help [command]", "show the help of a command");
  }
  for (const each of command.commands) inherit(each, command);
}

/** Says what went wrong, unless that was done already or is plain. */
function exitCode(error: unknown, context: Context, verbose: boolean): number {
  if (error instanceof Interrupted || error instanceof Reported) return error.exitCode;
  if (error instanceof Deno.errors.BrokenPipe) return 0;
  complain(context.err, failureLines(error, verbose));
  return 1;
}

/** By its code, because commander's class may not have been loaded. */
function isCommanderError(error: unknown): error is CommanderError {
  return error instanceof Error && "code" in error && String(error.code).startsWith("commander.");
}

function complain({ style, write }: Output, lines: readonly string[]): void {
  write(`${style.red("vfu:")} ${lines.join("\n")}\n`);
}

/** Commander's sentences about values, each with the form that ours have. */
const VALUE_SENTENCES: readonly (readonly [RegExp, string])[] = [
  [
    /^command-argument value '(.*)' is invalid for argument '([^']*)'\. /s,
    "cannot use '$1' as $2: ",
  ],
  [/^option '(?:-\w, )?([^\s,]+)[^']*' argument '(.*)' is invalid\. /s, "cannot use '$2' for $1: "],
];

/** Commander's sentences about what is missing or unknown: the help has what there is. */
const NEEDS_HELP = /^(missing required argument|required option|unknown option)[^(]*$/;

/**
 * Turns commander's "error: unknown command 'prob'\n(Did you mean probe?)\n" into a line of ours.
 */
function usageLine(text: string, program: CommandUnknownOpts, args: readonly string[]): string {
  let line = text.replace(/^error: /, "").trim().replaceAll("\n", " ");
  for (const [theirs, ours] of VALUE_SENTENCES) line = line.replace(theirs, ours);
  if (NEEDS_HELP.test(line)) line += `; see ${commandName(program, args)} --help`;
  return line.charAt(0).toUpperCase() + line.slice(1);
}

/** The command that is called, as "vfu migrate save". */
function commandName(program: CommandUnknownOpts, args: readonly string[]): string {
  let command = program;
  const names = [program.name()];
  for (const arg of args) {
    const next = command.commands.find((each) => each.name() === arg);
    if (next === undefined) break;
    names.push(arg);
    command = next;
  }
  return names.join(" ");
}
