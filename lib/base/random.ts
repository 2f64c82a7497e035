/**
 * Random numbers that are the same again after the same seed.
 *
 * @module
 */

/**
 * mulberry32: 32 bits of state. Good enough to choose what goes wrong and to shake bytes with, and
 * for nothing that has to be secret.
 *
 * @example
 * ```ts
 * import { Random } from "./random.ts";
 *
 * const [a, b] = [new Random(7), new Random(7)];
 * if (a.next() !== b.next() || a.below(10) !== b.below(10)) throw new Error();
 * ```
 */
export class Random {
  #state: number;

  /** @param seed its lower 32 bits count */
  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** From 0 to 1, which it never is. */
  next(): number {
    return this.#next32() / 2 ** 32;
  }

  /** A whole number from 0 to below `end`, which is 2^32 at most. */
  below(end: number): number {
    return this.#next32() % end;
  }

  /** Returns true once in `count` times. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  /** One of the values, of which there is one at least. */
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  /** Random bytes. */
  bytes(size: number): Uint8Array {
    return Uint8Array.from({ length: size }, () => this.below(256));
  }

  #next32(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ this.#state >>> 15, this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return (mixed ^ mixed >>> 14) >>> 0;
  }
}
