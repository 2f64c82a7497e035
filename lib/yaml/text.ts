/**
 * The text of a file that a person wrote.
 *
 * @module
 */

import { readInput } from "../base/input.ts";
import { FileProblems, type Problem } from "./problem.ts";

/** Bytes of a file. The map of registers of a large device has a tenth of that. */
export const MAX_FILE_SIZE = 4 << 20;

const listeners = new Set<(path: string) => void>();

/**
 * Hears of each file before it is read, in the stack of who reads it: so files can be watched that
 * a module reads.
 *
 * @returns what ends it
 */
export function onRead(listener: (path: string) => void): Disposable {
  listeners.add(listener);
  return { [Symbol.dispose]: () => void listeners.delete(listener) };
}

/**
 * All of a file, unless it is too large: endless ones, as /dev/zero, have no size to go by.
 *
 * @param name as problems are to call it
 * @throws {FileProblems} if it is larger than {@linkcode MAX_FILE_SIZE}, or not UTF-8
 */
export async function readText(path: string | URL, name: string): Promise<string> {
  // A URL is that of a file of vfu.
  if (typeof path === "string") { for (const listener of listeners) listener(path); }
  const bytes = await readInput(path, MAX_FILE_SIZE);
  if (bytes === undefined) throw new FileProblems(name, [tooLarge(name)]);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const message = "The file is not text in UTF-8";
    throw new FileProblems(name, [{ file: name, line: 1, column: 1, message }]);
  }
}

function tooLarge(file: string): Problem {
  const message = `The file is larger than ${MAX_FILE_SIZE >> 20} MiB`;
  return { file, line: 1, column: 1, message };
}
