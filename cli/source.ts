/**
 * Files whose bytes go to a device.
 *
 * @module
 */

import { fileError } from "../lib/file_error.ts";

/**
 * Opens a file for reading.
 *
 * @throws {Error} if that can't be done; the message names the file
 */
export function openFile(path: string): Deno.FsFile {
  try {
    return Deno.openSync(path);
  } catch (cause) {
    throw fileError(`open ${path}`, cause);
  }
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
