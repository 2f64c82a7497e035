/**
 * `vfu reset`: resets a device.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import { timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { jsonText } from "../shared/json.ts";
import { Progress, spinner } from "../shared/progress.ts";

/** Options of {@linkcode run}. */
export interface ResetOptions extends ConnectionOptions {
  /** Write JSON. */
  json?: true | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("reset")
    .description(
      "Resets a device, as a function level reset does: registers go back to what they were at " +
        "first. It waits until the server says that this is done, --timeout at most.",
    )
    .argument("<socket>", "path of the server's socket")
    .option("--json", "write one JSON object")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu reset dev.sock",
        "vfu reset dev.sock --timeout 10s",
        "vfu reset dev.sock --json",
      ),
    )
    .action((socket, options) => run(context, socket, options));
}

/** Resets the device behind `socket`. */
export async function run(
  context: Context,
  socket: string,
  options: ResetOptions,
): Promise<void> {
  const { err, signal } = context;
  const { timeout: timeoutMs, verbose, json } = options;
  using connection = await connectTo(context, socket, options);
  using progress = verbose ? undefined : new Progress(
    err,
    (elapsedMs) =>
      `${spinner(elapsedMs)} the device is resetting (${Math.floor(elapsedMs / 1000)} s)`,
  );
  const from = performance.now();
  await connection.device.reset({ signal, timeoutMs });
  progress?.[Symbol.dispose]();
  const elapsed_ms = Math.round(performance.now() - from);
  if (json) context.out.write(`${jsonText({ reset: true, elapsed_ms })}\n`);
  else if (err.isTerminal) err.write(err.style.dim("The device was reset") + "\n");
}
