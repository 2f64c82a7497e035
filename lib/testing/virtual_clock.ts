/**
 * A clock that a test sets forward.
 *
 * @module
 */

import type { ClockCall, DeviceClock } from "../define/device_clock.ts";

/** Calls at one moment, after which time is not going on. */
const MAX_AT_ONCE = 100_000;

/** A call that is to come. */
interface Due {
  readonly atMs: number;
  readonly call: ClockCall;
}

/**
 * A clock that stands still until a test sets it forward.
 *
 * @example
 * ```ts
 * import { VirtualClock } from "./virtual_clock.ts";
 *
 * const clock = new VirtualClock();
 * let calls = 0;
 * clock.after(1000, () => void calls++);
 * await clock.advance(999);
 * console.assert(calls === 0);
 * await clock.advance(1);
 * console.assert(calls === 1 && clock.now() === 1000);
 * ```
 */
export class VirtualClock implements DeviceClock {
  readonly #due = new Set<Due>(); // those of the same time in the order in which they were set
  #nowMs = 0;

  /** Milliseconds that the clock was set forward in all. */
  now(): number {
    return this.#nowMs;
  }

  /** As {@linkcode DeviceClock.after}. */
  after(ms: number, call: ClockCall): () => void {
    const due = { atMs: this.#nowMs + ms, call };
    this.#due.add(due);
    return () => this.#due.delete(due);
  }

  /** As {@linkcode DeviceClock.soon}: at the next `advance`. */
  soon(call: ClockCall): () => void {
    return this.after(0, call);
  }

  /**
   * Sets the clock forward, and makes the calls that are due, in their order, each at its time. A
   * call that is asynchronous is awaited before the next one is made.
   *
   * @param ms in milliseconds, 0 or more
   * @throws {RangeError} if it is less, or without end
   * @throws {Error} if calls of one moment go on to set others for that moment
   */
  async advance(ms: number): Promise<void> {
    if (!(ms >= 0 && ms < Infinity)) {
      throw new RangeError(`Cannot set the clock forward by ${ms} ms`);
    }
    const end = this.#nowMs + ms;
    let count = 0; // of calls at this moment
    for (let next; (next = this.#earliest()) !== undefined && next.atMs <= end;) {
      this.#due.delete(next);
      count = next.atMs > this.#nowMs ? 1 : count + 1;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      if (count > MAX_AT_ONCE) {
        throw new Error(
          `${MAX_AT_ONCE} timers were due at ${this.#nowMs} ms, and each set another: ` +
            "have one wait for more than 0 ms",
        );
      }
      await next.call();
    }
    this.#nowMs = end;
  }

  #earliest(): Due | undefined {
    let earliest: Due | undefined;
    for (const each of this.#due) {
      if (earliest === undefined || each.atMs < earliest.atMs) earliest = each;
    }
    return earliest;
  }
}
