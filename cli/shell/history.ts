/**
 * Lines of other times, in the user's file.
 *
 * @module
 */

import { fileError } from "../../lib/text/file_error.ts";

/** Lines of other times that are kept. */
const MAX_LINES = 1000;
/** Bytes at the end of the file that are read. */
const MAX_BYTES = 1 << 20;
/** A file with lines of other times. */
export interface HistoryFile {
  /** Its path. */
  readonly path: string;
  /** True if the user has named it: failures are the command's then. */
  readonly isNamed: boolean;
}

/**
 * The file that keeps what was typed. If the user names none, it is `vfu/history` in the folder for
 * the state of programs: XDG_STATE_HOME, or ~/.local/state. Without the permissions to look for
 * that folder and to write there, there is none; the user is not asked.
 *
 * @param named the file that `--history` names; false if the user wants none
 */
export function historyFile(named: string | false | undefined): HistoryFile | undefined {
  if (named === false) return undefined;
  if (named !== undefined) return { path: named, isNamed: true };
  const [state, home] = [permittedFolder("XDG_STATE_HOME"), permittedFolder("HOME")];
  const folder = state ?? (home === undefined ? undefined : `${home}/.local/state`);
  if (folder === undefined) return undefined;
  const path = `${folder}/vfu/history`;
  const mayUse = (["read", "write"] as const)
    .every((name) => Deno.permissions.querySync({ name, path: folder }).state === "granted");
  return mayUse ? { path, isNamed: false } : undefined;
}

/** The folder in a variable that may be read without asking the user. */
function permittedFolder(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  const folder = state === "granted" ? Deno.env.get(variable) : undefined;
  return folder?.startsWith("/") ? folder : undefined;
}

/**
 * Reads the lines of other times, the first one first.
 *
 * @throws {Error} if the file is there and can't be read
 */
export function readHistory({ path }: HistoryFile): string[] {
  try {
    const { isFile, size } = Deno.statSync(path);
    if (!isFile) return []; // a device or a pipe has no other times, and to open a pipe may wait
    using file = Deno.openSync(path);
    const from = file.seekSync(Math.max(0, size - MAX_BYTES), Deno.SeekMode.Start);
    const bytes = new Uint8Array(Math.min(size, MAX_BYTES));
    let length = 0;
    while (length < bytes.length) {
      const count = file.readSync(bytes.subarray(length));
      if (count === null) break;
      length += count;
    }
    const lines = new TextDecoder().decode(bytes.subarray(0, length)).split("\n");
    if (from > 0) lines.shift(); // the middle of a line
    return lines.filter((line) => line !== "");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw fileError(`read the history ${path}`, error);
  }
}

/**
 * Adds the lines of this time. What another shell has added meanwhile stays. Of lines that are the
 * same the last one is kept, and of all the last thousand.
 *
 * @throws {Error} if the file can't be written; it is then as it was
 */
export function addHistory(file: HistoryFile, typed: readonly string[]): void {
  if (typed.length === 0) return;
  const { path, isNamed } = file;
  const all = [...readHistory(file), ...typed].reverse();
  const kept = [...new Set(all)].slice(0, MAX_LINES).reverse();
  try {
    if (!isNamed) Deno.mkdirSync(folderOf(path), { recursive: true, mode: 0o700 });
    replaceFile(path, kept.map((line) => `${line}\n`).join(""));
  } catch (error) {
    throw fileError(`write the history ${path}`, error, true);
  }
}

/**
 * Puts a whole new file in the place of a file. So a full disk, or another shell that ends at the
 * same time, never leaves a part of it. A temporary file is one that the user alone may read.
 */
function replaceFile(path: string, text: string): void {
  const target = targetOf(path);
  if (target === undefined) return;
  const temporary = Deno.makeTempFileSync({ dir: folderOf(target), prefix: ".history-" });
  try {
    Deno.writeTextFileSync(temporary, text);
    Deno.renameSync(temporary, target);
  } catch (error) {
    Deno.removeSync(temporary);
    throw error;
  }
}

/**
 * The file that a path names, through links; or the path itself if there is nothing yet. Undefined
 * for a device, as /dev/null, which keeps nothing.
 */
function targetOf(path: string): string | undefined {
  try {
    Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return path;
    throw error;
  }
  const target = Deno.realPathSync(path); // throws for a link to nothing
  const { isFile, isCharDevice } = Deno.statSync(target);
  if (isCharDevice) return undefined;
  if (!isFile) throw new TypeError("It is no file; name one");
  return target;
}

function folderOf(path: string): string {
  const end = path.lastIndexOf("/");
  return end < 0 ? "." : path.slice(0, end + 1);
}
