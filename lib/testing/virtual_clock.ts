/**
 * A clock that a test sets forward.
 *
 * @module
 */

import type { ClockCall, DeviceClock } from "../define/device_clock.ts";

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
   * @throws {RangeError} if it is less
   */
  async advance(ms: number): Promise<void> {
    if (!(ms >= 0)) throw new RangeError(`Cannot set the clock forward by ${ms} ms`);
    const end = this.#nowMs + ms;
    for (let next; (next = this.#earliest()) !== undefined && next.atMs <= end;) {
      this.#due.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
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
