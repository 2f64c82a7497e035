/**
 * Whether the end of the terminal is the end of this process.
 *
 * @module
 */

import { ignoresSignal } from "../ffi/process.ts";

const SIGHUP = 1;

/**
 * Whether the process was started to ignore SIGHUP, as by nohup. To be asked before anything listens
 * for a signal: Deno then handles SIGHUP, too. The answer takes `--allow-ffi`, and asks for nothing.
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
