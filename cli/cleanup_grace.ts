/**
 * Time to take back what was set up on a device, after Ctrl-C.
 *
 * @module
 */

import { onAbort } from "./context.ts";

/** A server that takes longer is left alone: it sees the connection end. */
const GRACE_MS = 1000;

/** A signal that follows another one: at once, or, from `begin` on, a second later. */
export class Grace implements Disposable {
  readonly #controller = new AbortController();
  readonly #listener: Disposable;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #delayMs = 0;

  /** @param signal what to follow */
  constructor(signal: AbortSignal) {
    const abort = () => this.#controller.abort(signal.reason);
    this.#listener = onAbort(signal, () => {
      if (this.#delayMs === 0) abort();
      else this.#timer = setTimeout(abort, this.#delayMs);
    });
    if (signal.aborted) abort();
  }

  /** The signal that follows. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** From here on there is something to take back. */
  begin(): void {
    this.#delayMs = GRACE_MS;
  }

  /** Follows no more. */
  [Symbol.dispose](): void {
    this.#listener[Symbol.dispose]();
    clearTimeout(this.#timer);
  }
}
