/**
 * Linux's error numbers as a person writes and reads them.
 *
 * @module
 */

import { errnoCode, errnoName } from "../../ffi/errno.ts";

export { errnoName };

/** The end of the error numbers: MAX_ERRNO of the kernel. */
export const MAX_ERRNO = 4095;

/**
 * Reads an error number: its name or its number.
 *
 * @throws {SyntaxError} if it is none
 *
 * @example
 * ```ts
 * import { parseErrno } from "./errno.ts";
 *
 * if (parseErrno("EIO") !== 5 || parseErrno("22") !== 22) throw new Error();
 * ```
 */
export function parseErrno(text: string): number {
  const errno = /^\d+$/.test(text) ? Number(text) : errnoCode(text.toUpperCase());
  if (errno === undefined || errno < 1 || errno > MAX_ERRNO) {
    throw new SyntaxError(`"${text}" is no errno; write its name or number, as EIO or 5`);
  }
  return errno;
}

/** Writes an errno as {@linkcode parseErrno} reads it: its name, or its number if it has none. */
export function errnoText(errno: number): string {
  const name = errnoName(errno);
  return errnoCode(name) === errno ? name : String(errno);
}
