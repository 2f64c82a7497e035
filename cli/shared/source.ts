/**
 * Files whose bytes go to a device.
 *
 * @module
 */

import { fileError } from "../../lib/text/file_error.ts";

/**
 * Opens a regular file for reading. Any other is refused before it is opened: to open a pipe waits
 * for a writer, deaf to Ctrl-C.
 *
 * @param doing what the file is wanted for, as "load FILE"
 * @throws {Error} if that can't be done; the message names the file
 */
export function openFile(path: string, doing: string): Deno.FsFile {
  let isFile: boolean;
  try {
    ({ isFile } = Deno.statSync(path));
    if (isFile) return Deno.openSync(path);
  } catch (cause) {
    throw fileError(`open ${path}`, cause);
  }
  throw new TypeError(`Cannot ${doing}: it is not a file`);
}

/**
 * The next bytes of the file.
 *
 * @throws {Error} if there are fewer
 */
export function readExactly(
  file: Deno.FsFile,
  path: string,
  count: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count;) {
    let got: number | null;
    try {
      got = file.readSync(bytes.subarray(at));
    } catch (cause) {
      throw fileError(`read ${path}`, cause);
    }
    if (got === null) throw new Error(`Cannot read ${path}: it has become shorter`);
    at += got;
  }
  return bytes;
}
