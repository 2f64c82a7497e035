/**
 * Turns of the event loop, for loops whose length a peer decides.
 *
 * A promise that is settled already continues before the event loop goes on. A loop that awaits
 * only such promises therefore keeps all other work of the thread waiting. `setTimeout` gives way
 * for 1 to 2 ms; `setImmediate` gives way for as long as others need.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { glance } from "../../ffi/poller.ts";
import { REST_MS, TURN_MS } from "./limits.ts";

let begun: number | undefined; // when the first loop of this turn of the event loop asked
let next: Promise<void> | undefined; // settled in the next turn, once a loop waits for it
let heardMs = -Infinity; // when `soon` last looked at descriptors
// By performance.now(), which needs no permission, as commands without a socket have none:
let turnedMs = -Infinity; // when `turnUnless` last waited
let restedMs: number | undefined; // when a turn was last a rest

function begin(): void {
  begun = undefined;
}

/**
 * Returns whether the event loop is to go on, to be awaited in a loop whose length a peer decides.
 * All loops of the thread share one millisecond: however many there are, other work waits no
 * longer.
 *
 * @param now the time, for a caller that has just asked for it: `monotonicMs`
 * @returns undefined while the time lasts; then a promise that is settled in the next turn of the
 *   event loop
 *
 * @example
 * ```ts
 * import { turn } from "./turn.ts";
 *
 * let sum = 0;
 * for (let i = 0; i < 1e5; i++) {
 *   sum += i;
 *   if (i % 1000 === 0) await turn();
 * }
 * console.assert(sum === 4999950000);
 * ```
 */
export function turn(now: number = monotonicMs()): Promise<void> | undefined {
  if (begun === undefined) {
    begun = now;
    setImmediate(begin);
    return undefined;
  }
  return now - begun < TURN_MS ? undefined : nextTurn();
}

/**
 * Waits for the next turn once in a millisecond, in work that a signal ends.
 *
 * @throws the signal's reason, if it was aborted
 */
export async function turnUnless(signal: AbortSignal | undefined): Promise<void> {
  if (performance.now() - turnedMs >= TURN_MS) {
    await nextTurn();
    turnedMs = performance.now();
  }
  signal?.throwIfAborted();
}

/**
 * Returns a promise that is settled in the next turn of the event loop, after all that is ready
 * now, descriptors that are watched included. Signals of the process are not: the runtime hears of
 * them while it waits, or once in up to 61 turns. So one turn in a while is a rest of 1 to 2 ms.
 */
export function nextTurn(): Promise<void> {
  return next ??= new Promise((resolve) => {
    const now = performance.now();
    restedMs ??= now;
    const isRest = now - restedMs >= REST_MS;
    const goOn = () => {
      begun = next = undefined;
      if (isRest) restedMs = performance.now();
      glance();
      resolve();
    };
    if (isRest) setTimeout(goOn, 0);
    else setImmediate(goOn);
  });
}

/**
 * Calls in the next turn of the event loop. Descriptors that are watched come first, once in a
 * millisecond. If the event loop is never idle, the runtime alone hears of them once in up to 61
 * turns.
 *
 * @returns cancels the call
 */
export function soon(call: () => void): () => void {
  let isCancelled = false;
  const id = setImmediate(() => {
    const now = monotonicMs();
    if (now - heardMs >= TURN_MS) {
      heardMs = now;
      glance();
    }
    if (!isCancelled) call(); // by what was heard
  });
  return () => {
    isCancelled = true;
    clearImmediate(id);
  };
}
