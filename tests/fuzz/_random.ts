/**
 * Random numbers that are the same again after the same seed.
 *
 * @module
 */

/** mulberry32: 32 bits of state, good enough to shake bytes with. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 to below `end`. */
  below(end: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % end;
  }

  /** Whether it is so, once in `count` times. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  /** One of them. */
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }
}
