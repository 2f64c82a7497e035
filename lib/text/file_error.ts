/**
 * Failures of files, in words that name the file and the reason.
 *
 * @module
 */

import { errnoCode, errnoText } from "../../ffi/errno.ts";

/**
 * An error that names the file, the reason and, where there is one, the remedy.
 *
 * @param doing what was tried, with the file's name: "open state.bin"
 * @param cause what Deno threw
 * @param creates whether the file would have been made: then a missing one means a missing folder
 * @returns the error to throw; `cause` is kept in it
 *
 * @example
 * ```ts
 * import { fileError } from "./file_error.ts";
 *
 * const { message } = fileError("open a.bin", Object.assign(new Error(), { code: "EISDIR" }));
 * if (message !== "Cannot open a.bin: Is a directory; name a file") throw new Error(message);
 * ```
 */
export function fileError(doing: string, cause: unknown, creates = false): Error {
  return new Error(`Cannot ${doing}: ${fileReason(cause, creates)}`, { cause });
}

/** The reason of a failure of a file in words, with a remedy where there is one. */
export function fileReason(cause: unknown, creates = false): string {
  if (!(cause instanceof Error)) return String(cause);
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : "";
  const text = errnoText(errnoCode(code) ?? 0);
  // What Deno throws for a missing permission has no code, and says what to do.
  if (text === undefined) return cause.message.replace(ALL_ACCESS, OTHER_FILE);
  const remedy = creates ? CREATING[code] ?? REMEDIES[code] : REMEDIES[code];
  return remedy === undefined ? text : `${text}; ${remedy}`;
}

/** Deno's remedy for files such as /dev/stdout. An installed `vfu` has no such flag. */
const ALL_ACCESS = /, run again with the --allow-all flag$/;
const OTHER_FILE =
  "; Deno keeps it from programs: name another file, or a pipe, as >(cat) or <(cat) of a shell";

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: "check the path",
  ENOTDIR: "check the path",
  EISDIR: "name a file",
  ENOSPC: "free some, or choose another place",
};

/** The same where a file would have been made. */
const CREATING: Readonly<Record<string, string>> = {
  ENOENT: "make its folder, or check the path",
};
