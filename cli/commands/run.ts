/**
 * `vfu run`: sessions from files.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { argument, argumentList } from "../shared/argument.ts";
import { timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { assertNotInput } from "../shared/destination.ts";
import { loadAll, parseSetting, select } from "../run/sessions.ts";
import { assertServes, deviceOption } from "../run/serve_option.ts";
import { parseCount } from "../shared/value.ts";

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("run")
    .description(
      "Runs sessions, which are files of steps: reads and writes of registers, memory for the " +
        "device, interrupts, and what is expected of them. A line a step says what came of it; " +
        "the first step that fails ends its session, with what was expected, what was found, the " +
        "last messages and how the device stands. In the end memory is unmapped and interrupts " +
        "are disabled, after Ctrl-C too.\n\nExit code 0: all passed; 1: a step failed; 2: a file " +
        "is wrong, and nothing was done.",
    )
    .usage("[options] <file...> <socket>")
    .argument(
      "<file...>",
      "session files, - for standard input, then the path of the server's socket",
    )
    .option("--serve <device>", "run on demo, or on a device of a module, in place of a socket's")
    .addOption(deviceOption())
    .addOption(
      new Option("--check", "look for mistakes in the files, and do nothing").conflicts("serve"),
    )
    .option("--dry-run", "connect, see whether the steps fit the device, and list them")
    .addOption(
      new Option("--set <name=value>", "give a variable another value; repeatable")
        .argParser(argumentList(parseSetting)),
    )
    .option("--from <step>", "begin with this step, by its number or name")
    .option("--until <step>", "end with this step")
    .addOption(
      new Option("--repeat <number>", "run all of it so often, unless it fails")
        .argParser(argument(parseCount)),
    )
    .option("--json", "write a line of JSON a step")
    .addOption(new Option("--tap", "write TAP").conflicts("json"))
    .option("--junit <file>", "also write a JUnit report")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu run bring-up.yaml dev.sock",
        "vfu run bring-up.yaml --serve ./nvme.ts --option size=64M",
        "vfu run --check bring-up.yaml",
        "vfu run bring-up.yaml dev.sock --set size=4K --junit report.xml",
      ),
    )
    .action(async (args, options, self) => {
      assertServes(self, options);
      const needsSocket = options.check === undefined && options.serve === undefined;
      if (needsSocket && args.length < 2) {
        self.error(
          "error: the path of a socket has to follow the files; --serve demo does without one",
        );
      }
      const socket = needsSocket ? await findSocket(args) : undefined;
      const files = socket === undefined ? args : args.filter((each) => each !== socket);
      assertNotInput(self, { junit: options.junit }, files);
      const sessions = await loadAll(context, self, files, options);
      if (options.check) return;
      const selections = sessions.map((session) => select(self, session, options));
      const { runOnDevice } = await import("../run/on_device.ts");
      await runOnDevice(context, self, selections, socket, options);
    });
}

/**
 * The argument that is a socket: the last, unless another one is in fact, as in the lines of other
 * commands.
 */
async function findSocket(args: readonly string[]): Promise<string> {
  for (const each of args.slice(0, -1)) {
    const { isSocket } = await Deno.lstat(each).catch(() => ({ isSocket: false }));
    if (isSocket) return each;
  }
  return args.at(-1)!;
}
