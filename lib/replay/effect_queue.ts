/**
 * The order and the time of a mock's effects.
 *
 * @module
 */

import { callAfter } from "../base/timer.ts";
import type { Effect, PartRead } from "./part.ts";

/** An effect that waits for its time. */
interface Queued {
  readonly effect: Effect;
  /** Ends the wait. */
  readonly release: () => void;
}

/** Effects that happen one behind the other. */
export class EffectQueue {
  readonly #waiting: Queued[] = [];
  #last: Promise<void> = Promise.resolve(); // of all effects so far

  /** Has an effect happen behind those before it, when it is time. */
  add(effect: Effect, act: () => Promise<void>): Promise<void> {
    const { promise: released, resolve } = Promise.withResolvers<void>();
    if (effect.afterRead === undefined) resolve();
    const cancel = effect.afterRead && callAfter(Number(effect.delayNs / 1_000_000n) + 1, resolve);
    const queued: Queued = { effect, release: resolve };
    this.#waiting.push(queued);
    return this.#last = this.#last.then(async () => {
      await released;
      cancel?.();
      this.#waiting.splice(this.#waiting.indexOf(queued), 1);
      await act();
    });
  }

  /** Releases what waits for a read. */
  releaseAfter(read: PartRead): void {
    for (const { effect, release } of this.#waiting) if (effect.afterRead === read) release();
  }

  /** Releases all that waits. */
  release(): void {
    for (const { release } of this.#waiting) release();
  }
}
