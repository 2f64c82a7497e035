/**
 * A device that is served in this process, for commands that need one and are given no socket.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import type { Context } from "../context.ts";
import { failureLines } from "../failure.ts";
import { printable } from "../printable.ts";

/**
 * Serves a device to one client: what `vfu serve` takes, with its options as they are by default.
 *
 * @returns the descriptor to connect to
 */
export async function serveHere(
  { err }: Context,
  self: CommandUnknownOpts,
  name: string,
): Promise<number> {
  const [{ embed }, { loadDevice }, { makeDevice }, { UsageError }] = await Promise.all([
    import("../../lib/server/embedded.ts"),
    import("../serve/load.ts"),
    import("../serve/make.ts"),
    import("../serve/usage.ts"),
  ]);
  const say = (text: string) => err.write(`${err.style.dim(printable(text))}\n`);
  try {
    const device = await makeDevice(await loadDevice(name), [], { log: say });
    return embed(device, {
      onError: (error, doing) =>
        err.write(
          `${err.style.red(`The device failed at ${doing}:`)} ${
            failureLines(error, true).join("\n")
          }\n`,
        ),
    }).fd;
  } catch (error) {
    if (error instanceof UsageError) {
      self.error(`error: option '--serve <device>': ${error.message}`);
    }
    throw error;
  }
}
