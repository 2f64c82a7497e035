/**
 * The demo device, served until killed: what a cold `vfu probe` talks to. It says "ready" as
 * baseline.c does.
 *
 *   demo_server.ts PATH
 *
 * @module
 */

import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";

const server = Server.listen(Deno.args[0]!, new DemoDevice());
Deno.stdout.writeSync(new TextEncoder().encode("ready\n"));
await server.closed;
