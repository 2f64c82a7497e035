/**
 * A server for one client, as QEMU's is: `_one_shot.ts PATH`. It takes its time to end.
 *
 * @module
 */

import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";

const server = Server.listen(Deno.args[0]!, new DemoDevice(), {
  onDisconnect() {
    server.stopListening();
    setTimeout(() => Deno.exit(0), 100);
  },
});
