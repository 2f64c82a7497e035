/**
 * Files whose bytes go to a device.
 *
 * @module
 */

import { STANDARD_INPUT } from "../../lib/base/input.ts";
import { unnamedFile } from "../../lib/base/temporary.ts";
import { fileError } from "../../lib/text/file_error.ts";
import { untilAbort } from "./context.ts";
import { humanSize } from "./size.ts";

/** Bytes that are taken of standard input: it may have no end. */
const MAX_INPUT = 1 << 30;
const CHUNK = 1 << 20;

/**
 * Opens a regular file for reading, or standard input at "-". Any other is refused before it is
 * opened: to open a pipe waits for a writer, deaf to Ctrl-C.
 *
 * @param doing what the file is wanted for, as "load FILE"
 * @param signal ends the wait for standard input
 * @throws {Error} if that can't be done; the message names the file
 */
export async function openFile(
  path: string,
  doing: string,
  signal: AbortSignal,
): Promise<Deno.FsFile> {
  if (path === STANDARD_INPUT) return await keepInput(doing, signal);
  let isPipe: boolean;
  try {
    const { isFile, isFifo } = Deno.statSync(path);
    if (isFile) return Deno.openSync(path);
    isPipe = isFifo === true;
  } catch (cause) {
    throw fileError(`open ${path}`, cause);
  }
  const remedy = isPipe ? "; - reads standard input" : "";
  throw new TypeError(`Cannot ${doing}: it is not a file${remedy}`);
}

/** Copies standard input into a file without a name, which has a size and can be read twice. */
async function keepInput(doing: string, signal: AbortSignal): Promise<Deno.FsFile> {
  const file = unnamedFile("vfu-input-");
  try {
    const chunk = new Uint8Array(CHUNK);
    let size = 0;
    for (let count; (count = await untilAbort(signal, Deno.stdin.read(chunk))) !== null;) {
      size += count;
      if (size > MAX_INPUT) {
        const most = humanSize(BigInt(MAX_INPUT));
        throw new RangeError(`standard input has more than ${most}; name a file`);
      }
      for (let rest = chunk.subarray(0, count); rest.length > 0;) {
        rest = rest.subarray(file.writeSync(rest));
      }
    }
    file.seekSync(0, Deno.SeekMode.Start);
    return file;
  } catch (cause) {
    file.close();
    signal.throwIfAborted();
    throw fileError(doing, cause);
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
