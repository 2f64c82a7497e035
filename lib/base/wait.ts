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

/** Settled as a promise, or rejected after so many milliseconds with what `late` makes. */
export async function within<T>(promise: Promise<T>, ms: number, late: () => Error): Promise<T> {
  const { promise: over, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late()), ms);
  try {
    return await Promise.race([promise, over]);
  } finally {
    clearTimeout(timer);
  }
}
