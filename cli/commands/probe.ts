/**
 * `vfu probe`: what is at the other end of a socket. It changes nothing there.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { run } from "../probe/run.ts";

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("probe")
    .description(
      "Shows what a device is: the agreed version and capabilities, its regions, its interrupts " +
        "and its PCI configuration space. It only asks and reads; the device stays as it is. " +
        "What the server refuses to tell is shown as refused.",
    )
    .argument("<socket>", "path of the server's socket")
    .addOption(new Option("--json", "write one JSON object").conflicts("lspci"))
    .option("--lspci", "write the configuration space for lspci -F FILE -vv")
    .addOption(
      new Option("--io-fds", "ask for I/O file descriptors even of a server of version 0.0")
        .conflicts("lspci"),
    )
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu probe dev.sock",
        "vfu probe dev.sock --json",
        "vfu probe dev.sock --lspci > space; lspci -F space -vv",
      ),
    )
    .action((socket, options) => run(context, socket, options));
}
