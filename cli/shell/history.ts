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
/** The user alone may read what was typed. */
const MODE = 0o600;

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
    using file = Deno.openSync(path);
    const { isFile, size } = file.statSync();
    if (!isFile) return []; // a device or a pipe has no other times
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
 * @throws {Error} if the file can't be written
 */
export function addHistory(file: HistoryFile, typed: readonly string[]): void {
  if (typed.length === 0) return;
  const { path, isNamed } = file;
  const all = [...readHistory(file), ...typed].reverse();
  const kept = [...new Set(all)].slice(0, MAX_LINES).reverse();
  try {
    if (!isNamed) {
      Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true, mode: 0o700 });
    }
    Deno.writeTextFileSync(path, kept.map((line) => `${line}\n`).join(""), { mode: MODE });
  } catch (error) {
    throw fileError(`write the history ${path}`, error, true);
  }
}
