/**
 * Folders and files that are there while a command runs.
 *
 * @module
 */

import { MAX_SOCKET_PATH } from "../../ffi/unix.ts";
import { fileReason } from "../text/file_error.ts";

/** Bytes of the longest name that a socket has in such a folder, with the slash before it. */
const SOCKET_NAME = 16;

/**
 * Makes a folder for sockets.
 *
 * @param prefix the start of its name
 * @returns its path, to which a socket's name of 15 bytes can be added
 * @throws {Error} if it can't be made, or its path is too long for sockets; the message says where
 * another may be
 */
export function socketFolder(prefix: string): string {
  const folder = make("folder", () => Deno.makeTempDirSync({ prefix }));
  const { length } = new TextEncoder().encode(folder);
  if (length + SOCKET_NAME <= MAX_SOCKET_PATH) return folder;
  Deno.removeSync(folder);
  throw new Error(
    `Cannot make a socket in ${folder}: the path is too long; set TMPDIR to a shorter one`,
  );
}

/**
 * Makes a file without a name, which is gone when it is closed.
 *
 * @throws {Error} if it can't be made; the message says where another may be
 */
export function unnamedFile(prefix: string): Deno.FsFile {
  return make("file", () => {
    const path = Deno.makeTempFileSync({ prefix });
    try {
      return Deno.openSync(path, { read: true, write: true });
    } finally {
      Deno.removeSync(path);
    }
  });
}

function make<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    const reason = fileReason(cause).replace(/;.*/, ""); // the remedy is another here
    throw new Error(
      `Cannot make a temporary ${what}: ${reason}; set TMPDIR to a folder that you may write to`,
      { cause },
    );
  }
}
