/**
 * Waits for what a server does by itself.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";

/** The waits of one connection. */
export class Patience {
  readonly #timeoutMs: number;
  readonly #signal: AbortSignal | undefined;
  #onChange: (() => void) | undefined;
  /** Waits in a row in which nothing came. */
  #missed = 0;

  /**
   * @param timeoutMs the longest wait, in milliseconds
   * @param signal ends each wait
   */
  constructor(timeoutMs: number, signal: AbortSignal | undefined) {
    this.#timeoutMs = timeoutMs;
    this.#signal = signal;
  }

  /** Waits until something is so; false after the time for it, or if the connection ends. */
  async until(isSo: () => boolean, isConnected: () => boolean): Promise<boolean> {
    const deadline = monotonicMs() + this.limitMs;
    while (!isSo()) {
      this.#signal?.throwIfAborted();
      const left = deadline - monotonicMs();
      if (left <= 0 || !isConnected()) break;
      await this.change(left);
    }
    const has = isSo();
    this.#missed = has ? 0 : this.#missed + 1;
    return has;
  }

  /** The time for what the device does by itself: less once something did not come. */
  get limitMs(): number {
    return this.#missed === 0 ? this.#timeoutMs : Math.ceil(this.#timeoutMs / 10);
  }

  /** Waits until anything happens, for so long at most. */
  change(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const signal = this.#signal;
      const finish = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", finish);
        this.#onChange = undefined;
        resolve();
      };
      const timer = setTimeout(finish, ms);
      signal?.addEventListener("abort", finish);
      this.#onChange = finish;
    });
  }

  /** Something happened. */
  wake(): void {
    this.#onChange?.();
  }
}
