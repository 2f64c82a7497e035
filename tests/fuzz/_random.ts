/**
 * Random choices that are the same again after the same seed.
 *
 * @module
 */

import { Random as Numbers } from "../../lib/base/random.ts";

/** Random numbers, and choices by them. */
export class Random extends Numbers {
  /** Returns true once in `count` times. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  /** One of them. */
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }
}
