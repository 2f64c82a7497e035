/**
 * The process of a server: its end, and its sockets' files.
 *
 * @module
 */

export { endWithParent, exitNow } from "../ffi/process.ts";
export { removeDeadSocketFile, removeSocketFile, type SocketFile } from "../ffi/socket.ts";
