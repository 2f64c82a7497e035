/**
 * `vfu migrate`: saves and restores the state of a device.
 *
 * @module
 */

import { Argument, Command, Option } from "@commander-js/extra-typings";
import { MAX_DATA_XFER_SIZE } from "../../lib/base/limits.ts";
import { argument } from "../shared/argument.ts";
import { timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { forceOption } from "../shared/force.ts";
import { maxSizeOption } from "../shared/max_size.ts";
import { humanSize, parseSize } from "../shared/size.ts";

/** The states that can be asked for. */
const STATES = ["RUNNING", "STOP", "STOP_COPY", "RESUMING", "PRE_COPY"] as const;

/** The command's subcommands. */
export function command(context: Context) {
  return new Command("migrate")
    .description(
      "Saves the state of a device into a file, and restores it into another device of the same " +
        "kind, which goes on as if nothing had happened. Both have to be quiet, or to have no " +
        "other client: a device serves one client at a time.",
    )
    .addCommand(saveCommand(context))
    .addCommand(restoreCommand(context))
    .addCommand(showCommand(context))
    .addCommand(stateCommand(context));
}

function saveCommand(context: Context) {
  return new Command("save")
    .summary("save the state of a device into a file")
    .description(
      "Stops a device, saves its state into a file, and has it go on. Until all is there the " +
        "file is FILE.partial. After an error, and after Ctrl-C, the device does what it did " +
        "before.",
    )
    .argument("<socket>", "path of the server's socket")
    .requiredOption("-o, --output <file>", "where to; - is standard output")
    .addOption(forceOption())
    .option("--pre-copy", "begin while the device runs, and stop it for the rest only")
    .option("--keep-stopped", "leave the device stopped")
    .addOption(chunkSizeOption("ask for so many bytes at once (default: what was agreed on)"))
    .addOption(maxSizeOption())
    .option("--json", "write what was saved as a JSON object")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu migrate save dev.sock -o state.bin",
        "vfu migrate save dev.sock -o state.bin --pre-copy",
        "vfu migrate save dev.sock -o - | gzip > state.gz",
      ),
    )
    .action(async (socket, options) => {
      const { save } = await import("../migrate/save.ts");
      await save(context, socket, options);
    });
}

function restoreCommand(context: Context) {
  return new Command("restore")
    .summary("restore the state of a device from a file")
    .description(
      "Restores what vfu migrate save has saved, and has the device go on. A file that is cut " +
        "off, damaged or of another device is refused before the device is touched.",
    )
    .argument("<socket>", "path of the server's socket")
    .argument("<file>", "what vfu migrate save has written; - is standard input")
    .option("--keep-stopped", "leave the device stopped")
    .addOption(chunkSizeOption("write so many bytes at once (default: 32K)"))
    .option("--json", "write what was restored as a JSON object")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu migrate restore dev.sock state.bin",
        "vfu migrate restore dev.sock state.bin --keep-stopped",
        "vfu migrate restore dev.sock state.bin --chunk-size 64K",
      ),
    )
    .action(async (socket, file, options) => {
      const { restore } = await import("../migrate/restore.ts");
      await restore(context, socket, file, options);
    });
}

/**
 * `--chunk-size`, for servers that know how much fits, as libvfio-user's gpio, which takes 64 bytes
 * at most.
 */
function chunkSizeOption(description: string) {
  return new Option("--chunk-size <size>", description).argParser(argument(parseChunkSize));
}

function parseChunkSize(text: string): number {
  const size = parseSize(text);
  if (size >= 1n && size <= BigInt(MAX_DATA_XFER_SIZE)) return Number(size);
  const most = humanSize(BigInt(MAX_DATA_XFER_SIZE));
  throw new RangeError(`${text} bytes don't fit a message: from 1 to ${most} are possible`);
}

function showCommand(context: Context) {
  return new Command("show")
    .summary("show how a device can migrate, or what a file holds")
    .description(
      "Shows in which state a device is and how it can migrate; or of which device a saved state " +
        "is, and whether it is whole.",
    )
    .argument("<socket|file>", "path of the server's socket, or of a saved state")
    .option("--json", "write one JSON object")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu migrate show dev.sock",
        "vfu migrate show state.bin",
        "vfu migrate show state.bin --json",
      ),
    )
    .action(async (path, options) => {
      const { show } = await import("../migrate/show.ts");
      await show(context, path, options);
    });
}

function stateCommand(context: Context) {
  return new Command("state")
    .summary("show or set the state of a device")
    .description(
      "Shows the migration state of a device, or sets it. A device that is stopped refuses " +
        "nearly everything until it is RUNNING again.",
    )
    .argument("<socket>", "path of the server's socket")
    .addArgument(
      new Argument("[state]", "what to set it to").choices(STATES),
    )
    .option("--json", "write one JSON object")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu migrate state dev.sock",
        "vfu migrate state dev.sock STOP",
        "vfu migrate state dev.sock RUNNING --json",
      ),
    )
    .action(async (socket, state, options) => {
      const { setState } = await import("../migrate/show.ts");
      await setState(context, socket, state, options);
    });
}
