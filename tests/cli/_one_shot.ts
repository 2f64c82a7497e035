/**
 * A server for one client, as QEMU's is: `_one_shot.ts PATH`. It takes its time to end. With `stay`
 * behind the path it does not end, and only listens no more.
 *
 * @module
 */

import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";

const server = Server.listen(Deno.args[0]!, new DemoDevice(), {
  onDisconnect() {
    server.stopListening();
    if (Deno.args[1] === "stay") setInterval(() => {}, 60_000);
    else setTimeout(() => Deno.exit(0), 100);
  },
});
