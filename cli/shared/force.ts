/**
 * Files that a command replaces with `--force` alone: recordings, states, sessions, imported maps,
 * known deviations. They can't be made again, or a person goes on writing them.
 *
 * @module
 */

import { Option } from "@commander-js/extra-typings";

/** The option of each command that writes such a file. */
export function forceOption() {
  return new Option("--force", "replace a file that is there; without it, none with contents is");
}

/**
 * Refuses a regular file that has contents, unless that is forced. What is no file, as a pipe, is
 * written to.
 *
 * @param remedy how it is replaced, if not by the option
 * @throws {Error} if the path names such a file
 */
export function assertReplaceable(
  path: string,
  isForced: boolean | undefined,
  remedy = "--force",
): void {
  if (isForced) return;
  let size: number;
  try {
    const info = Deno.statSync(path);
    size = info.isFile ? info.size : 0;
  } catch {
    return; // nothing is there, or opening it says why it can't be written
  }
  if (size === 0) return;
  throw new Error(
    `Cannot write ${path}: it exists already; name another file, or replace it with ${remedy}`,
  );
}
