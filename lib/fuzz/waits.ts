/**
 * Waits for answers while a case is made shorter.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import type { Observation } from "./finding.ts";
import type { MinimiseLimits } from "./minimise.ts";

/**
 * The waits of plays that look for one observation again. They are short, because a peer that is
 * silent in one play is silent in many. A peer that is slow for a moment looks the same, and shows
 * nothing of what is looked for. So the first silence is played again, with the whole wait.
 */
export class Waits {
  readonly #wholeMs: number;
  #ms: number;
  /** True once a silence has lasted for the whole wait. */
  #isSilent = false;

  /**
   * @param shortMs a wait in vain that many plays can afford
   * @param wholeMs the wait that the user has said
   */
  constructor(shortMs: number, wholeMs: number) {
    this.#wholeMs = wholeMs;
    this.#ms = Math.min(shortMs, wholeMs);
  }

  /** Plays a case, once more if its silence may be slowness. */
  async play<Seen extends { readonly observations: readonly Observation[] }>(
    play: (waitMs: number) => Promise<Seen>,
  ): Promise<Seen> {
    const seen = await play(this.#ms);
    if (this.#isSilent || this.#ms === this.#wholeMs || !isSilent(seen)) return seen;
    const again = await play(this.#wholeMs);
    if (isSilent(again)) this.#isSilent = true;
    else this.#ms = this.#wholeMs;
    return again;
  }

  /**
   * Makes the case of an observation shorter. If that is a silence, a slow peer may have shown it:
   * the result has to show it with the whole wait. Else all is done again, with that.
   *
   * @param work makes the case shorter
   * @param shows plays the result
   */
  async shorten<Result extends { readonly isRepeatable: boolean }>(
    observation: Observation,
    limits: MinimiseLimits,
    work: (limits: MinimiseLimits) => Promise<Result>,
    shows: (result: Result) => Promise<boolean>,
  ): Promise<Result> {
    const deadline = monotonicMs() + limits.timeMs;
    const result = await work(limits);
    if (!observation.isSilence || this.#ms === this.#wholeMs) return result;
    this.#ms = this.#wholeMs;
    if (result.isRepeatable && await shows(result)) return result;
    return await work({ ...limits, timeMs: Math.max(0, deadline - monotonicMs()) });
  }
}

function isSilent({ observations }: { readonly observations: readonly Observation[] }): boolean {
  return observations.some(({ isSilence }) => isSilence);
}
