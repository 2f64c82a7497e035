/**
 * Work that is done one piece after another, because a piece undoes what it began if it fails.
 *
 * @module
 */

import { TimeoutError } from "./errors.ts";
import { DEFAULT_TIMEOUT_MS } from "./limits.ts";
import type { WaitOptions } from "./wait.ts";

/** The longest time of a timer; a wait that may take longer has none. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Runs pieces of work one at a time, in the order of the calls.
 *
 * @example
 * ```ts
 * import { Queue } from "./queue.ts";
 *
 * const queue = new Queue();
 * const order: number[] = [];
 * const count = (value: number) => async () => {
 *   await Promise.resolve();
 *   order.push(value);
 * };
 * await Promise.all([queue.run("count", {}, count(1)), queue.run("count", {}, count(2))]);
 * console.assert(order.join() === "1,2");
 * ```
 */
export class Queue {
  readonly #waiting = new Set<() => void>(); // in their order
  #isBusy = false;

  /**
   * Runs a piece: at once if there is no other, else when those before have ended.
   *
   * @param doing the work, for the error: "enable vectors"
   * @param wait limits of the wait for the pieces before; default 5000 ms
   * @returns what the piece comes to
   * @throws {TimeoutError} if the pieces before do not end in time; the piece is then not begun
   * @throws the signal's reason if that is aborted before the piece begins
   * @throws what the piece throws
   */
  async run<T>(doing: string, wait: WaitOptions, piece: () => Promise<T>): Promise<T> {
    wait.signal?.throwIfAborted();
    if (this.#isBusy) await this.#turn(doing, wait);
    this.#isBusy = true;
    try {
      return await piece();
    } finally {
      this.#handOn();
    }
  }

  /** Waits for the pieces before. The queue is this piece's own then. */
  #turn(doing: string, { timeoutMs = DEFAULT_TIMEOUT_MS, signal }: WaitOptions): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Ahead of all else: the first setTimeout() can let promises go on, so that the piece before
    // ends within it.
    this.#waiting.add(resolve);
    const giveUp = (reason: unknown) => {
      if (this.#waiting.delete(resolve)) reject(reason);
    };
    const onAbort = () => giveUp(signal!.reason);
    const onTimeout = () => {
      const within = `${Math.round(timeoutMs)} ms`;
      giveUp(new TimeoutError(`Cannot ${doing}: an earlier call did not end within ${within}`));
    };
    const timer = timeoutMs <= MAX_TIMER_MS ? setTimeout(onTimeout, timeoutMs) : undefined;
    signal?.addEventListener("abort", onAbort, { once: true });
    return promise.finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    });
  }

  /** Lets the next piece begin. The queue stays busy until that has ended. */
  #handOn(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#isBusy = false;
    else {
      this.#waiting.delete(next);
      next();
    }
  }
}
