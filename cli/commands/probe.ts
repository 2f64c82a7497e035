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
        "What the server refuses to tell is shown as refused. A file is decoded without a " +
        "device: the output of lspci -x or -xxxx, the bytes of a space, a saved --json, or an " +
        "expansion ROM.",
    )
    .argument(
      "<socket|file>",
      "path of the server's socket, or a file with a saved space, - for standard input",
    )
    .argument("[socket...]", "more of them, for --summary and --diff")
    .addOption(new Option("--json", "write one JSON object").conflicts("lspci"))
    .addOption(new Option("--summary", "show a line a device").conflicts(["lspci", "diff"]))
    .addOption(
      new Option("--diff", "show in what two devices or files differ; returns 1 if they do")
        .conflicts("lspci"),
    )
    .option("--lspci", "write the configuration space for lspci -F FILE -vv")
    .addOption(
      new Option("--io-fds", "ask for I/O file descriptors even of a server of version 0.0")
        .conflicts("lspci"),
    )
    .addOption(
      new Option("--vpd", "read Vital Product Data, by writes of its address register")
        .conflicts(["lspci", "summary", "diff", "ioFds"]),
    )
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu probe dev.sock",
        "vfu probe dev.sock --json",
        "vfu probe dev.sock --lspci > space; lspci -F space -vv",
        "vfu probe --summary dev.sock other.sock",
        "vfu probe --diff dev.sock saved.json",
        "vfu probe dev.sock --vpd",
      ),
    )
    .action(async (socket, others, options, self) => {
      const { summary, diff, ...rest } = options;
      if (summary) {
        const { summarize } = await import("../probe/several.ts");
        return await summarize(context, [socket, ...others], rest);
      }
      const [other, ...more] = others;
      if (diff) {
        if (other === undefined || more.length > 0) {
          return self.error("error: '--diff' takes two sockets or files");
        }
        const { showDifferences } = await import("../probe/several.ts");
        return await showDifferences(context, [socket, other], rest);
      }
      if (other !== undefined) {
        self.error("error: several devices are shown with '--summary' or '--diff' only");
      }
      await run(context, socket, rest);
    });
}
