/**
 * A device that is served to a client in the same process, without a socket's path.
 *
 * @module
 */

import { OwnedFd } from "../../ffi/fd.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import type { ServedDevice } from "./served_device.ts";
import { Server, type ServerOptions } from "./server.ts";

/** A server, and the way to it. */
export interface Embedded {
  /** Closed when its client goes. */
  readonly server: Server;
  /** The client's end of the connection, for `connect`, which takes it over. */
  readonly fd: number;
}

/**
 * Serves a device to one client. Both run in the same thread: the client has to use the
 * asynchronous calls.
 *
 * @throws {RangeError} as {@linkcode Server.serve}
 *
 * @example
 * ```ts
 * import { connect } from "../client/connect.ts";
 * import { DemoDevice } from "../devices/demo_device.ts";
 * import { embed } from "./embedded.ts";
 *
 * using device = await connect(embed(new DemoDevice()).fd);
 * console.assert((await device.info()).numRegions === 9);
 * ```
 */
export function embed(device: ServedDevice, options: ServerOptions = {}): Embedded {
  const [ours, theirs] = UnixSocket.pair();
  const fd = ours.release();
  try {
    return { server: Server.serve(fd, device, options), fd: theirs.release() };
  } catch (error) {
    new OwnedFd(fd).close();
    theirs.close();
    throw error;
  }
}
