/**
 * Waits of the tests. Each ends by what it waits for. Its limit is far beyond what a busy machine
 * takes, and only keeps a test that fails from waiting for ever.
 *
 * @module
 */

/** The limit of a wait, in milliseconds. */
export const PATIENCE_MS = 60_000;

/** The options of a wait or a request that has to be answered. */
export const PATIENT = { timeoutMs: PATIENCE_MS };

/**
 * Lets the event loop turn until a condition holds.
 *
 * @param what what is waited for, for the error
 */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what = "the condition",
): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!await condition()) {
    if (performance.now() > deadline) {
      throw new Error(`It did not come in ${PATIENCE_MS / 1000} s: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
