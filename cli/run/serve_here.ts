/**
 * A device that is served in this process, for commands that need one and are given no socket.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { Doing } from "../../lib/server/activity.ts";
import { embed } from "../../lib/server/embedded.ts";
import type { ChosenOption } from "../serve/chosen_option.ts";
import { guardOf, settingUp } from "../serve/guard.ts";
import { isModule, loadDevice } from "../serve/load.ts";
import { makeDevice } from "../serve/make.ts";
import { reportTo, tellText } from "../serve/report.ts";
import { UsageError } from "../serve/usage.ts";
import type { Context } from "../shared/context.ts";

/** After a signal a device that holds the thread has so long to let go of it. */
const GRACE_MS = 1500;

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
  const report = reportTo(tellText(context, false, false));
  // The device's code runs in the thread that would hear Ctrl-C.
  const guard = guardOf(context, { json: false, graceMs: GRACE_MS, onlyIfHeld: true });
  guard.name([name]);
  if (isModule(name)) await guard.start();
  try {
    const load = () => loadDevice(name, { err: context.err });
    const loaded = await settingUp(guard, 0, Doing.LOAD, load);
    const log = (line: string) => report.log(loaded.name, line);
    const making = () => makeDevice(loaded, chosen, { log });
    const device = await settingUp(guard, 0, Doing.CREATE, making);
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
