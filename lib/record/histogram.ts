/**
 * Times counted in buckets, so that percentiles of any number of them take little memory.
 *
 * @module
 */

/** Buckets of a doubling: times in one bucket differ by 1/16 at most. */
const STEPS = 16;

/** A histogram of times in nanoseconds. Percentiles are at most 1/16 too high. */
export class TimeHistogram {
  readonly #buckets = new Map<number, number>();
  #count = 0;
  #max = 0;

  /** Adds a time; one below 0 counts as 0. */
  add(ns: number): void {
    const time = Math.max(0, ns);
    const at = bucketOf(time);
    this.#buckets.set(at, (this.#buckets.get(at) ?? 0) + 1);
    this.#count++;
    if (time > this.#max) this.#max = time;
  }

  /** Times that were added. */
  get count(): number {
    return this.#count;
  }

  /** The longest time, exactly. */
  get maxNs(): number {
    return this.#max;
  }

  /**
   * The time that a share of all times do not exceed; 0 if there are none.
   *
   * @param share from 0 to 1: 0.5 is the median
   *
   * @example
   * ```ts
   * import { TimeHistogram } from "./histogram.ts";
   *
   * const times = new TimeHistogram();
   * for (let ns = 1; ns <= 1000; ns++) times.add(ns);
   * const median = times.percentileNs(0.5);
   * console.assert(median >= 500 && median <= 532 && times.maxNs === 1000);
   * ```
   */
  percentileNs(share: number): number {
    let left = Math.ceil(share * this.#count);
    for (const [at, count] of this.#sorted()) {
      left -= count;
      if (left <= 0) return Math.min(endOf(at), this.#max);
    }
    return this.#max;
  }

  /** Counts by powers of 2: each with the time that it ends before. Empty ones within are there. */
  doublings(): { readonly belowNs: number; readonly count: number }[] {
    const counts = new Map<number, number>();
    for (const [at, count] of this.#buckets) {
      const power = Math.floor(at / STEPS);
      counts.set(power, (counts.get(power) ?? 0) + count);
    }
    if (counts.size === 0) return [];
    const powers = [...counts.keys()];
    const first = Math.min(...powers);
    return Array.from({ length: Math.max(...powers) - first + 1 }, (_, i) => ({
      belowNs: 2 ** (first + i),
      count: counts.get(first + i) ?? 0,
    }));
  }

  #sorted(): [number, number][] {
    return [...this.#buckets].sort(([a], [b]) => a - b);
  }
}

/**
 * Bucket `STEPS * p + s` has the times from 2^(p-1) * (1 + s / STEPS) on; bucket 0 those below 1.
 */
function bucketOf(ns: number): number {
  if (ns < 1) return 0;
  const power = Math.floor(Math.log2(ns));
  return STEPS * (power + 1) + Math.min(STEPS - 1, Math.floor((ns / 2 ** power - 1) * STEPS));
}

function endOf(bucket: number): number {
  const power = Math.floor(bucket / STEPS);
  return 2 ** (power - 1) * (1 + (bucket % STEPS + 1) / STEPS);
}
