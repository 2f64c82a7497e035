/** A server that is killed by its first reset: `deno run -A _crashing_server.ts SOCKET`. */

import { Command } from "../../lib/wire/command.ts";
import { serveOddly } from "./_server.ts";

serveOddly(Deno.args[0]!, ({ command }) => {
  if (command !== Command.DEVICE_RESET) return "default";
  Deno.stderr.writeSync(new TextEncoder().encode("out of luck\n"));
  Deno.kill(Deno.pid, "SIGKILL");
  return "silence";
});
