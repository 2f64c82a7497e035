/**
 * Limits of a wait.
 *
 * @module
 */

/** The time to wait, and a signal that cancels the wait. */
export interface WaitOptions {
  /**
   * In milliseconds; default that of the connection. Infinity waits as long as the connection
   * lasts.
   */
  timeoutMs?: number;
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}
