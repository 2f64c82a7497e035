/**
 * A device that is served in this process, for commands that need one and are given no socket.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import type { Context } from "../context.ts";

/**
 * Serves a device to one client: what `vfu serve` takes, with its options as they are by default.
 *
 * @returns the descriptor to connect to
 */
export async function serveHere(
  context: Context,
  self: CommandUnknownOpts,
  name: string,
): Promise<number> {
  const [{ embed }, { loadDevice }, { makeDevice }, { textReport }, { UsageError }] = await Promise
    .all([
      import("../../lib/server/embedded.ts"),
      import("../serve/load.ts"),
      import("../serve/make.ts"),
      import("../serve/report.ts"),
      import("../serve/usage.ts"),
    ]);
  const report = textReport(context, false, false);
  try {
    const loaded = await loadDevice(name);
    const device = await makeDevice(loaded, [], { log: (line) => report.log(loaded.name, line) });
    return embed(device, {
      onError: (error, doing) => report.error(loaded.name, doing, error),
    }).fd;
  } catch (error) {
    if (error instanceof UsageError) {
      self.error(`error: option '--serve <device>': ${error.message}`);
    }
    throw error;
  }
}
