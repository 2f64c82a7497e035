/**
 * The process of a server: its end, and its sockets' files.
 *
 * @module
 */

import { OwnedFd, statPath } from "../../ffi/fd.ts";
import { setInherited } from "../../ffi/process.ts";
import type { SocketFile } from "../../ffi/listener.ts";

export {
  commandLine,
  endWithParent,
  exitNow,
  ignoreFileSizeSignal,
  setInherited,
} from "../../ffi/process.ts";
export { removeDeadSocketFile, removeSocketFile, type SocketFile } from "../../ffi/listener.ts";

/**
 * The file of the socket at a path, as it is now.
 *
 * @throws {SystemError} as statx(2) fails
 */
export function socketFileAt(path: string): SocketFile {
  return { path, inode: statPath(path).inode };
}

/**
 * Hands a descriptor to the processes that `start` starts, and closes it here.
 *
 * @throws {SystemError} EBADF if it is not open; and what `start` throws
 */
export function passDescriptor<T>(fd: number, start: () => T): T {
  setInherited(fd, true);
  using _owned = new OwnedFd(fd);
  return start();
}
