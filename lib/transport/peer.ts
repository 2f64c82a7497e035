/**
 * The other end of a connection: which one it is, and what to say when it is lost.
 *
 * @module
 */

import { SystemError } from "../../ffi/errno.ts";
import { ConnectionError } from "../base/errors.ts";

/** An end of a connection. */
export type Role = "client" | "server";

/** The failure of a system call on the socket. */
export function lostError(peer: Role, syscall: string, errno: number): ConnectionError {
  const cause = new SystemError(syscall, errno);
  return new ConnectionError(`Lost the connection to the ${peer}: ${cause.message}`, {
    kind: "lost",
    cause,
  });
}
