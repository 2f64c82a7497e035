/**
 * Waiting for time to pass.
 *
 * @module
 */

import { callAfter } from "./timer.ts";

/**
 * Settled after so many milliseconds.
 *
 * @throws the signal's reason as soon as it is aborted
 */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      cancel();
      reject(signal!.reason);
    };
    const cancel = callAfter(ms, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
