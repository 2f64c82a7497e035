/**
 * `vfu shell`: steps typed by hand.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { connectTo } from "../shared/connect.ts";
import { pciEnableOption, timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { Grace } from "../shared/cleanup_grace.ts";
import { loadMaps, mapOption } from "../shared/map.ts";
import { assertServes, deviceOption } from "../run/serve_option.ts";
import type { ChosenOption } from "../serve/chosen_option.ts";

/** Options of {@linkcode run}. */
export interface ShellOptions {
  /** Show every message on standard error. */
  verbose?: true | undefined;
  /** The time that the server may take for each answer, in milliseconds. */
  timeout: number;
  /** Do first what firmware does. */
  pciEnable?: true | undefined;
  /** Maps of registers, by name or file. */
  map?: string[] | undefined;
  /** Serve this device, in this process, in place of a socket's. */
  serve?: string | undefined;
  /** Options of that device. */
  option?: ChosenOption[] | undefined;
  /** The file that has the lines of other times, and gets those of this one; false: none. */
  history?: string | false | undefined;
  /** Write JSON: a line a step, as `vfu run --json` does. */
  json?: true | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("shell")
    .description(
      "Does steps as they are typed, with the words of session files: read, write, poll, expect, " +
        "dma map, irq wait and so on; help lists them. Tab completes words, regions, registers " +
        "and names; the prompt shows interrupts as they come; Ctrl-C ends a step, Ctrl-D the " +
        "shell. save FILE writes what was done as a session file. Lines that come through a pipe " +
        "are a script: the first that fails ends it.",
    )
    .argument("[socket]", "path of the server's socket")
    .option("--serve <device>", "on demo, or on a device of a module, in place of a socket's")
    .addOption(deviceOption())
    .addOption(mapOption("give registers their names"))
    .option(
      "--history <file>",
      "keep what was typed in this file; default: vfu/history in $XDG_STATE_HOME or ~/.local/state",
    )
    .option("--no-history", "keep nothing of what is typed")
    .option("--json", "write a line of JSON a step")
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu shell dev.sock",
        "vfu shell --serve demo --map demo",
        "vfu shell dev.sock < steps.txt",
      ),
    )
    .action(async (socket, options, self) => {
      if ((socket === undefined) === (options.serve === undefined)) {
        self.error("error: one of the path of a socket and '--serve <device>' is needed");
      }
      assertServes(self, options);
      const maps = await loadMaps(context, self, options.map ?? []);
      let target: string | number | undefined = socket;
      if (target === undefined) {
        const { serveHere } = await import("../run/serve_here.ts");
        target = await serveHere(context, self, options.serve!, options.option);
      }
      using grace = new Grace(context.signal);
      using connection = await connectTo({ ...context, signal: grace.signal }, target, options);
      grace.begin();
      const { runShell } = await import("../shell/shell.ts");
      await runShell(context, connection.device, { ...options, maps });
    });
}
