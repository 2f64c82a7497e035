/**
 * The subcommands of `vfu`.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import type { Context } from "./shared/context.ts";

/** A subcommand, as far as it is known before it is loaded: its module is commands/NAME.ts. */
export interface Subcommand {
  /** The word behind `vfu`. */
  readonly name: string;
  /** A line for the list of all. */
  readonly summary: string;
}

/** The exports of such a module. */
export interface SubcommandModule {
  /** The arguments and options of the subcommand, and its action. */
  command(context: Context): CommandUnknownOpts;
}

/** In the order in which `vfu --help` lists them. */
export const SUBCOMMANDS: readonly Subcommand[] = [
  { name: "probe", summary: "show what a device is: version, regions, interrupts, PCI view" },
  { name: "doctor", summary: "look for the causes why a device does nothing" },
  { name: "read", summary: "read registers and memory" },
  { name: "regs", summary: "show the registers of a map, with their fields" },
  { name: "write", summary: "write registers" },
  { name: "poll", summary: "wait for a register to have a value" },
  { name: "dump", summary: "read a whole region into a file" },
  { name: "load", summary: "write a file into a region" },
  { name: "dma", summary: "give a device memory, and show what it does with it" },
  { name: "irq", summary: "enable interrupts, and show them as they come" },
  { name: "migrate", summary: "save and restore the state of a device" },
  { name: "dirty", summary: "show which pages of memory a device writes" },
  { name: "reset", summary: "reset a device" },
  { name: "run", summary: "run sessions: bring a device up from a file" },
  { name: "shell", summary: "do the steps of sessions as they are typed" },
  { name: "check", summary: "try whether a server keeps the specification" },
  { name: "check-client", summary: "try whether a client keeps the specification" },
  { name: "fuzz", summary: "send a server what breaks it, in as few messages as possible" },
  { name: "record", summary: "record what a client and a server say to each other" },
  { name: "show", summary: "show a recording of what a client and a server said" },
  { name: "replay", summary: "do again what a recorded client did, and compare" },
  { name: "bench", summary: "measure how fast a register is read" },
  { name: "serve", summary: "serve a device to a VMM or to vfu itself" },
  { name: "new", summary: "begin a project with a device of your own" },
  { name: "map", summary: "import, check and document register maps" },
  { name: "completion", summary: "write a script that completes vfu in a shell" },
  { name: "man", summary: "write a manual page" },
];

/** Adds the parts of the program that its help, its completions and its manual pages show. */
export function describeProgram(program: CommandUnknownOpts): CommandUnknownOpts {
  return program
    .description("A toolkit for vfio-user: emulated PCI devices behind UNIX sockets.")
    .option("-V, --version", "show version, commit and Deno; takes --json")
    .enablePositionalOptions();
}

/** The parts of the program that are loaded when they are needed, and not before. */
export interface Parts {
  /** Loads the module of a subcommand. */
  subcommand(name: string): Promise<SubcommandModule>;
  /** Loads the work of `vfu probe`. */
  probe(): Promise<typeof import("./probe/run.ts")>;
}

/**
 * Loads the module of a subcommand. Its name is put together here. Deno reads what a literal names
 * at every start, with all that it imports, even if it is never imported.
 */
export function loadSubcommand(name: string): Promise<SubcommandModule> {
  const module = `./commands/${name}.ts`;
  return import(module);
}
