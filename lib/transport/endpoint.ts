/**
 * Sockets for clients: at a path, or connected already. Errors say what to do.
 *
 * @module
 */

import { describeErrno, SystemError } from "../../ffi/errno.ts";
import { UnixListener } from "../../ffi/listener.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { ConnectionError } from "../base/errors.ts";

const HINTS: Readonly<Record<string, string>> = {
  EADDRINUSE:
    "another server listens there, or the file is not a socket; stop it, or choose another path",
  EBUSY: "a server that has ended left its socket there, and the folder can't be locked to " +
    "replace it; remove the socket",
  ENOENT: "its folder does not exist",
  ENOTDIR: "its folder is not a folder",
  EACCES: "permission denied; it takes write and search permission on its folder",
};

/**
 * Listens at a path. A socket file that a dead server left is replaced.
 *
 * @param listen makes the listener, and throws as `UnixListener.listen` does
 * @throws {ConnectionError} if another server listens there, the file is no socket, or the path
 *   can't be used; the message says why
 */
export function listenAt(path: string): UnixListener;
export function listenAt<T>(path: string, listen: (path: string) => T): T;
export function listenAt(path: string, listen = UnixListener.listen): unknown {
  try {
    return listen(path);
  } catch (cause) {
    const hint = hintOf(cause);
    if (hint === undefined) throw cause;
    throw new ConnectionError(`Cannot listen on ${path}: ${hint}`, { kind: "refused", cause });
  }
}

/** The reason in words; undefined if the error has nothing to do with the path. */
function hintOf(cause: unknown): string | undefined {
  if (cause instanceof RangeError) return cause.message;
  if (cause instanceof SystemError) return HINTS[cause.code] ?? describeErrno(cause.errno);
  if (cause instanceof Deno.errors.PermissionDenied) return HINTS["EACCES"];
  if (cause instanceof Deno.errors.NotADirectory) return HINTS["ENOTDIR"];
  return undefined;
}

/**
 * Takes over a connected socket.
 *
 * @param fd taken over, unless it can't be used
 * @throws {ConnectionError} if it is no UNIX stream socket
 */
export function adoptSocket(fd: number): UnixSocket {
  try {
    return UnixSocket.adopt(fd);
  } catch (cause) {
    if (!(cause instanceof TypeError || cause instanceof SystemError)) throw cause;
    throw new ConnectionError(cause.message, { kind: "refused", cause });
  }
}
