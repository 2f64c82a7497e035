/**
 * Requests that set something up, and ended here before the reply came: the server may have done
 * them.
 *
 * @module
 */

import { TimeoutError } from "../base/errors.ts";

/** Limit of taking back what such a request set up, in milliseconds. */
export const TAKE_BACK_TIMEOUT_MS = 1000;

/** Tells whether a request ended by its time limit or its caller's signal, and not by a reply. */
export function isUnanswered(error: unknown, signal: AbortSignal | undefined): boolean {
  return error instanceof TimeoutError || (signal?.aborted === true && error === signal.reason);
}
