/**
 * An end for a system call that waits against our intention.
 *
 * @module
 */

import { IoBuffer } from "./buffer.ts";
import { check, libc } from "./libc.ts";
import { itimerspec, sigaction, sigevent } from "./structs.ts";
import { systemCalls } from "./system_calls.ts";

const CLOCK_MONOTONIC = 1;
const SIGEV_THREAD_ID = 4;
/**
 * Signals without a meaning of their own. libc keeps those below, an emulator some of those above.
 */
const LAST_SIGNAL = 50;
const FIRST_SIGNAL = 35;

/** The time that a call may wait. The timer repeats: its first signal may come before the call. */
const PATIENCE_NS = 10_000_000n;

/**
 * Interrupts calls of one thread (EINTR) that wait for more than some milliseconds.
 *
 * A timer of the kernel sends a signal to this thread alone; the handler does nothing.
 *
 * Contract: only the thread that made the alarm uses it, and keeps it. An alarm takes a timer, and
 * a signal number from 50 down for which nothing else of the process has a handler.
 */
export class Alarm {
  readonly #timer: number;
  readonly #on = new IoBuffer(itimerspec.SIZE);
  readonly #off = new IoBuffer(itimerspec.SIZE);

  /**
   * Makes a timer that is not running.
   *
   * @throws {SystemError} as timer_create(2) fails
   * @throws {Error} if all signals are taken
   */
  constructor() {
    const c = libc();
    const calls = systemCalls();
    const event = new IoBuffer(sigevent.SIZE);
    event.view.setInt32(sigevent.signo, takeSignal(), true);
    event.view.setInt32(sigevent.notify, SIGEV_THREAD_ID, true);
    event.view.setInt32(sigevent.thread_id, c.gettid(calls.gettid), true);
    const timer = new IoBuffer(4);
    check(
      "Cannot make a timer",
      "timer_create",
      c.timer_create(calls.timer_create, CLOCK_MONOTONIC, event.pointer, timer.pointer),
    );
    this.#timer = timer.view.getInt32(0, true);
    this.#on.view.setBigInt64(itimerspec.interval_nsec, PATIENCE_NS, true);
    this.#on.view.setBigInt64(itimerspec.value_nsec, PATIENCE_NS, true);
  }

  /**
   * Makes a call, which fails with EINTR if it waits too long.
   *
   * @returns the call's result
   */
  during(call: () => number): number {
    this.#set(this.#on);
    try {
      return call();
    } finally {
      this.#set(this.#off);
    }
  }

  #set({ pointer }: IoBuffer): void {
    const c = libc();
    const doing = "Cannot set a timer";
    const { timer_settime } = systemCalls();
    check(doing, "timer_settime", c.timer_settime(timer_settime, this.#timer, 0, pointer, null));
  }
}

/**
 * Gives an unused signal a handler that does nothing. Without SA_RESTART a signal ends the call.
 *
 * @returns the number of the signal
 */
function takeSignal(): number {
  const c = libc();
  const handler = Deno.UnsafePointer.value(c.doNothing);
  const action = new IoBuffer(sigaction.SIZE);
  const before = new IoBuffer(sigaction.SIZE);
  action.view.setBigUint64(sigaction.handler, handler, true);
  for (let signal = LAST_SIGNAL; signal >= FIRST_SIGNAL; signal--) {
    if (c.sigaction(signal, null, before.bytes) < 0) continue;
    const known = before.view.getBigUint64(sigaction.handler, true);
    const isFree = known === 0n || known === handler;
    if (isFree && c.sigaction(signal, action.pointer, null) === 0) return signal;
  }
  throw new Error("Cannot make a timer: no signal from 35 to 50 is free");
}
