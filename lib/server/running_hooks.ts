/**
 * Hooks of a device that a client has called, and that have not ended.
 *
 * @module
 */

import { HOOK_PATIENCE_MS } from "../base/limits.ts";

/** A hold on the end of the hooks: they count as running until it is released. */
export interface Hold {
  /** Settled once it is released. */
  readonly released: Promise<void>;
  /** Ends it. */
  release(): void;
}

/** The hooks of one connection that take their time. */
export class RunningHooks {
  readonly #running = new Set<Promise<unknown>>();
  readonly #onLate: () => void;
  #late: ReturnType<typeof setTimeout> | undefined; // while the client is gone, and one runs
  #isClosing = false;

  /** @param onLate called if hooks still run `HOOK_PATIENCE_MS` after `after` */
  constructor(onLate: () => void) {
    this.#onLate = onLate;
  }

  /** True if none runs. */
  get isIdle(): boolean {
    return this.#running.size === 0;
  }

  /** Counts a hook until it ends. */
  track<T>(running: Promise<T>): Promise<T> {
    this.#running.add(running);
    return running.finally(() => this.#running.delete(running));
  }

  /** Counts as a hook that runs. */
  hold(): Hold {
    const { promise: released, resolve } = Promise.withResolvers<void>();
    this.#running.add(released);
    const release = () => {
      this.#running.delete(released);
      resolve();
    };
    return { released, release };
  }

  /** Settled when those that run now have ended, and rejected with the first error of one. */
  ended(): Promise<unknown> {
    return Promise.all(this.#running);
  }

  /** Calls `act` once those that run now have ended. */
  after(act: () => void): void {
    if (!this.#isClosing) this.#late = setTimeout(this.#onLate, HOOK_PATIENCE_MS);
    this.ended().then(() => {
      clearTimeout(this.#late);
      act();
    });
  }

  /** Calls `onLate` no more: the server closes, and sees itself how long hooks take. */
  close(): void {
    this.#isClosing = true;
    clearTimeout(this.#late);
  }
}
