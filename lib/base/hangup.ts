/**
 * The end of the terminal, which may be the end of this process.
 *
 * @module
 */

import { ignoresSignal } from "../../ffi/process.ts";

const SIGHUP = 1;

/**
 * Tells whether the process was started to ignore SIGHUP, as by nohup. To be called before anything
 * listens for a signal: from then on Deno handles SIGHUP, too. Needs `--allow-ffi`, and asks for no
 * permission.
 *
 * @returns undefined if it can't be told
 *
 * @example
 * ```ts
 * import { ignoresHangup } from "./hangup.ts";
 * console.assert(ignoresHangup() !== true);
 * ```
 */
export function ignoresHangup(): boolean | undefined {
  try {
    if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return undefined;
    return ignoresSignal(SIGHUP);
  } catch {
    return undefined; // another system, or another libc
  }
}
