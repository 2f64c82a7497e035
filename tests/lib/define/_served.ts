/**
 * A defined device, served to a client of ours in this process.
 *
 * @module
 */

import { connect, type Device } from "../../../mod.ts";
import type { ServedDevice } from "../../../lib/server/served_device.ts";
import { Server } from "../../../lib/server/server.ts";

/** A server and its client. */
export interface Pair extends AsyncDisposable {
  readonly device: Device;
  readonly server: Server;
  readonly path: string;
  /** The errors that the server reported. */
  readonly errors: [error: unknown, doing: string][];
}

/** Serves a device, and connects to it. */
export async function serveDefined(served: ServedDevice): Promise<Pair> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const path = `${folder}/device.sock`;
  const errors: [unknown, string][] = [];
  const server = Server.listen(path, served, {
    onError: (error, doing) => errors.push([error, doing]),
  });
  const device = await connect(path);
  const { numRegions } = await device.info();
  for (let index = 0; index < numRegions; index++) await device.regionInfo(index);
  return {
    device,
    server,
    path,
    errors,
    async [Symbol.asyncDispose]() {
      device.close();
      server.close();
      await server.closed;
      Deno.removeSync(folder, { recursive: true });
    },
  };
}
