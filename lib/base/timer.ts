/**
 * Timers of any length.
 *
 * @module
 */

/** The most milliseconds of a timer of the runtime, which takes more of them for one. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Calls after so many milliseconds, however many there are.
 *
 * @param ms at once if it is 0 or less; never, if it is Infinity
 * @returns a function that cancels the call
 */
export function callAfter(ms: number, call: () => void): () => void {
  let timer: ReturnType<typeof setTimeout>;
  const wait = (left: number) => {
    const part = Math.min(Math.max(left, 0), MAX_TIMER_MS);
    timer = setTimeout(() => left > MAX_TIMER_MS ? wait(left - part) : call(), part);
  };
  wait(ms);
  return () => clearTimeout(timer);
}
