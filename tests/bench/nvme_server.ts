/**
 * examples/nvme.ts with a disk in memory, served until killed: a driver in nvme.c polls it. It says
 * "ready" as baseline.c does.
 *
 *   nvme_server.ts PATH
 *
 * @module
 */

import nvme from "../../examples/nvme.ts";
import { Server } from "../../lib/server/server.ts";

/** As in nvme.c. */
const DISK_SIZE = 16 << 20;

const server = Server.listen(Deno.args[0]!, nvme.create({ size: DISK_SIZE }));
Deno.stdout.writeSync(new TextEncoder().encode("ready\n"));
await server.closed;
