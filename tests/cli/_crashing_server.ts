/**
 * A server that is killed by its first reset, or by another command:
 * `deno run -A _crashing_server.ts SOCKET [COMMAND]`.
 *
 * @module
 */

import { Command } from "../../lib/wire/command.ts";
import { serveOddly } from "./_server.ts";

const deadly = Number(Deno.args[1] ?? Command.DEVICE_RESET);

serveOddly(Deno.args[0]!, ({ command }) => {
  if (command !== deadly) return "default";
  Deno.stderr.writeSync(new TextEncoder().encode("out of luck\n"));
  Deno.kill(Deno.pid, "SIGKILL");
  return "silence";
});
