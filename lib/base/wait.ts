/**
 * Limits of a wait.
 *
 * @module
 */

/** How long to wait, and a way to call it off. */
export interface WaitOptions {
  /** In milliseconds; default that of the connection. Infinity waits as long as the connection lasts. */
  timeoutMs?: number;
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}
