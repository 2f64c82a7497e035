/**
 * `--spawn`: a command that is started as the peer.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { SOCKET_PLACE } from "../../lib/base/shell_command.ts";

/** Ends the command as wrong usage if the argument of `--spawn` names no socket. */
export function checkSpawn(self: CommandUnknownOpts, spawn: string | undefined): void {
  if (spawn === undefined || spawn.includes(SOCKET_PLACE)) return;
  self.error(
    `error: the command of --spawn has no ${SOCKET_PLACE}, the path of its socket; write ` +
      `${SOCKET_PLACE} where the path goes, as 'vfu serve demo --socket-path=${SOCKET_PLACE}'`,
  );
}
