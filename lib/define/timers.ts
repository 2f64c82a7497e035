/**
 * Timers of a device: they stand still while the device does, and end with it.
 *
 * @module
 */

import { TIMER_LATENESS_MS } from "../base/limits.ts";
import type { DeviceClock } from "./device_clock.ts";
import { assertFunction } from "./mistakes.ts";
import { sealClass } from "./sealed.ts";
import type { DeviceTasks } from "./tasks.ts";

/** The most that a timer of the runtime takes: 2^31 - 1 milliseconds, 24 days. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** A timer that runs. */
export interface DeviceTimer {
  /** Ends it. A second time does nothing. */
  cancel(): void;
  /** True if the timer will call once more. */
  readonly isActive: boolean;
  /** Until it calls next, in milliseconds; 0 when it is not active. For the device's `state`. */
  readonly leftMs: number;
}

/**
 * Timers of a device. While the device stands still for its migration, its timers stand still, and
 * go on with the time that they had left. The function of a timer may be asynchronous: a repeated
 * timer awaits it before it counts on. Errors of the function are reported.
 */
export interface DeviceTimers {
  /**
   * Calls once.
   *
   * @param ms in milliseconds, at least 0
   * @throws {RangeError} if it is no number of milliseconds up to 2^31 - 1
   * @throws {TypeError} if `call` is no function
   */
  after(ms: number, call: () => void | Promise<void>): DeviceTimer;
  /**
   * Calls again and again, each `ms` milliseconds on average. A timer of the runtime is up to 2 ms
   * late, so calls may come in pairs. Calls that were missed by more than 10 ms are dropped, as
   * while an asynchronous one takes longer than `ms`.
   *
   * @param ms as for `after`, at least 1
   * @throws {RangeError} as `after`
   */
  every(ms: number, call: () => void | Promise<void>): DeviceTimer;
  /** Ends all of them. */
  clear(): void;
}

/** The timers of one device. */
export class Timers implements DeviceTimers {
  readonly #tasks: DeviceTasks;
  readonly #clock: DeviceClock;
  readonly #all = new Set<Timer>();
  #isStopped = false;
  #isClosed = false;

  constructor(tasks: DeviceTasks, clock: DeviceClock) {
    this.#tasks = tasks;
    this.#clock = clock;
  }

  /** As {@linkcode DeviceTimers.after}. */
  after(ms: number, call: () => void | Promise<void>): DeviceTimer {
    return this.#start(ms, 0, undefined, call);
  }

  /** As {@linkcode DeviceTimers.every}. */
  every(ms: number, call: () => void | Promise<void>): DeviceTimer {
    return this.#start(ms, 1, ms, call);
  }

  /** As {@linkcode DeviceTimers.clear}. */
  clear(): void {
    for (const each of this.#all) each.cancel();
  }

  /** They stand still. */
  stop(): void {
    this.#isStopped = true;
    for (const each of this.#all) each.pause();
  }

  /** They go on. */
  start(): void {
    this.#isStopped = false;
    for (const each of this.#all) each.resume();
  }

  /** Ends all; new ones do nothing. */
  close(): void {
    this.#isClosed = true;
    this.clear();
  }

  #start(
    ms: number,
    least: number,
    period: number | undefined,
    call: () => void | Promise<void>,
  ): DeviceTimer {
    assertFunction("Cannot set a timer", call);
    if (!(ms >= least && ms <= MAX_DELAY_MS)) {
      throw new RangeError(
        `Cannot set a timer of ${ms} ms: from ${least} to ${MAX_DELAY_MS} are possible`,
      );
    }
    const timer = new Timer(ms, period, this.#clock, {
      run: () => this.#tasks.run("timer", call),
      ended: () => this.#all.delete(timer),
    });
    if (this.#isClosed) return timer;
    this.#all.add(timer);
    if (!this.#isStopped) timer.resume();
    return timer;
  }
}

interface TimerHooks {
  readonly run: () => Promise<void> | undefined;
  readonly ended: () => void;
}

class Timer implements DeviceTimer {
  readonly #period: number | undefined;
  readonly #clock: DeviceClock;
  readonly #hooks: TimerHooks;
  #left: number; // while it stands still
  #due = 0;
  #wait: (() => void) | undefined; // ends what it waits with
  #isPaused = true;
  #isRunning = false;
  #isEnded = false;

  static {
    sealClass<Timer>(this.prototype, { path: "timer" });
  }

  constructor(ms: number, period: number | undefined, clock: DeviceClock, hooks: TimerHooks) {
    this.#left = ms;
    this.#clock = clock;
    this.#period = period;
    this.#hooks = hooks;
  }

  get isActive(): boolean {
    return !this.#isEnded;
  }

  get leftMs(): number {
    if (this.#isEnded) return 0;
    return this.#wait === undefined ? this.#left : Math.max(0, this.#due - this.#clock.now());
  }

  cancel(): void {
    this.#stopWaiting();
    this.#isEnded = true;
    this.#hooks.ended();
  }

  pause(): void {
    this.#left = this.leftMs;
    this.#stopWaiting();
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    if (this.#isEnded || this.#isRunning || this.#wait !== undefined) return;
    this.#due = this.#clock.now() + this.#left;
    this.#await(this.#left);
  }

  /**
   * A repeated timer that is late calls in the next turn: another timer of the runtime would be 2
   * ms late again.
   */
  #await(ms: number): void {
    if (ms > 0 || this.#period === undefined) {
      this.#wait = this.#clock.after(ms, () => this.#fire());
    } else {
      this.#wait = this.#clock.soon(() => this.#fire());
    }
  }

  #stopWaiting(): void {
    this.#wait?.();
    this.#wait = undefined;
  }

  #fire(): Promise<void> | void {
    this.#wait = undefined;
    if (this.#period === undefined) this.cancel();
    this.#isRunning = true;
    const running = this.#hooks.run();
    if (running !== undefined) return running.then(() => this.#done());
    this.#done();
  }

  #done(): void {
    this.#isRunning = false;
    if (this.#isEnded || this.#period === undefined) return;
    const now = this.#clock.now();
    this.#due = Math.max(this.#due + this.#period, now - TIMER_LATENESS_MS);
    this.#left = Math.max(0, this.#due - now);
    if (!this.#isPaused) this.#await(this.#left);
  }
}
