/**
 * A device that is served in this process, for commands that need one and are given no socket.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { Option } from "@commander-js/extra-typings";
import { argumentList } from "../shared/argument.ts";
import type { Context } from "../shared/context.ts";
import { type ChosenOption, parseOption } from "../serve/make.ts";

/** `--option`, for commands that serve a device themselves. */
export function deviceOption() {
  return new Option("--option <name=value>", "choose an option of the --serve device; repeatable")
    .argParser(argumentList(parseOption));
}

/** After a signal a device that holds the thread has so long to let go of it. */
const GRACE_MS = 1500;

/** Ends the command with wrong usage if options are chosen of a device that it does not serve. */
export function assertServes(
  self: CommandUnknownOpts,
  { serve, option }: {
    readonly serve?: string | undefined;
    readonly option?: readonly ChosenOption[] | undefined;
  },
): void {
  if (option === undefined || serve !== undefined) return;
  self.error("error: '--option' is an option of a device, which '--serve <device>' names");
}

/**
 * Serves a device to one client: what `vfu serve` takes.
 *
 * @param chosen its options; what is not named is as it is by default
 * @returns the descriptor to connect to
 */
export async function serveHere(
  context: Context,
  self: CommandUnknownOpts,
  name: string,
  chosen: readonly ChosenOption[] = [],
): Promise<number> {
  const [
    { embed },
    { guardOf },
    { isModule, loadDevice },
    { makeDevice },
    { reportTo, tellText },
    { UsageError },
  ] = await Promise
    .all([
      import("../../lib/server/embedded.ts"),
      import("../serve/guard.ts"),
      import("../serve/load.ts"),
      import("../serve/make.ts"),
      import("../serve/report.ts"),
      import("../serve/usage.ts"),
    ]);
  const report = reportTo(tellText(context, false, false));
  // The device's code runs in the thread that would hear Ctrl-C.
  const guard = guardOf(context, { json: false, graceMs: GRACE_MS, onlyIfHeld: true });
  guard.name([name]);
  if (isModule(name)) await guard.start();
  try {
    const loaded = await loadDevice(name);
    const device = await makeDevice(loaded, chosen, {
      log: (line) => report.log(loaded.name, line),
    });
    const activity = guard.activity(0);
    return embed(device, {
      ...(activity && { activity }),
      onError: (error, doing) => report.error(loaded.name, doing, error),
    }).fd;
  } catch (error) {
    if (error instanceof UsageError) {
      self.error(`error: option '--serve <device>': ${error.message}`);
    }
    throw error;
  }
}
