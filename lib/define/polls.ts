/**
 * Polls of a device: work that a client announces without a message, in memory which it has mapped.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { POLL_GLANCE_MS, POLL_IDLE_MS, POLL_SPIN_MS } from "../base/limits.ts";
import { soon, turn } from "../base/turn.ts";
import { sealClass } from "./sealed.ts";
import type { DeviceTasks } from "./tasks.ts";

/** The shortest pause of a poll that finds nothing. Each further one is twice as long. */
const FIRST_PAUSE_MS = 1;

/**
 * Does one piece of work, if there is one: a piece is short, or awaits `turn`.
 *
 * @returns true if there was a piece, at once or later; at once is cheaper
 * @throws what is reported; the poll is stopped by that
 */
export type PollLook = () => boolean | Promise<boolean>;

/** The poll budget: how much of a CPU a device may spend to hear of work early. */
export interface DevicePollOptions {
  /**
   * The time in milliseconds that the poll spins after it last found work; default 1. It looks
   * again and again for the first 0.1 ms, then once in each turn of the event loop. A client that
   * answers faster is heard within microseconds. The poll takes all of a CPU meanwhile.
   */
  readonly spinMs?: number;
  /**
   * The longest pause between two looks. Pauses begin at 1 ms and double, so that work waits no
   * longer than the device was idle. An idle device takes less than 0.2 % of a CPU. Infinity: only
   * `wake` has it look. In milliseconds; default 150.
   */
  readonly idleMs?: number;
}

/**
 * A poll. It looks while the device works and a client is connected: not while the device stands
 * still for its migration. A reset, and standing still, wait for the piece that is under way.
 */
export interface DevicePoll {
  /** Begins to look. A second time does nothing. */
  start(): void;
  /** Looks no more. A second time does nothing. */
  stop(): void;
  /** Looks at once: there may be work. Does nothing if the poll is not started. */
  wake(): void;
  /** True if it is started. */
  readonly isActive: boolean;
}

/** The polls of one device. */
export class Polls {
  readonly #tasks: DeviceTasks;
  readonly #started = new Set<Poll>();
  #isStopped = false;
  #isConnected = false;
  #isClosed = false;

  constructor(tasks: DeviceTasks) {
    this.#tasks = tasks;
  }

  /**
   * Makes a poll, which is not started.
   *
   * @throws {RangeError} for a number of milliseconds that is none, or negative
   */
  make(look: PollLook, options: DevicePollOptions = {}): DevicePoll {
    const { spinMs = POLL_SPIN_MS, idleMs = POLL_IDLE_MS } = options;
    for (const [name, ms] of Object.entries({ spinMs, idleMs })) {
      if (!(ms >= 0)) throw new RangeError(`Cannot make a poll: ${name} is ${ms}, not 0 or more`);
    }
    const poll: Poll = new Poll(look, { spinMs, idleMs }, {
      run: (work) => this.#tasks.run("poll", work),
      mayLook: () => this.#isConnected && !this.#isStopped && !this.#isClosed,
      started: () => this.#started.add(poll),
      stopped: () => this.#started.delete(poll), // a device may make one for each piece of work
    });
    return poll;
  }

  /** True if a client is connected. */
  set isConnected(isConnected: boolean) {
    this.#isConnected = isConnected;
    this.#refresh();
  }

  /** They stand still. */
  stop(): void {
    this.#isStopped = true;
    this.#refresh();
  }

  /** They go on. */
  start(): void {
    this.#isStopped = false;
    this.#refresh();
  }

  /** Stops all of them. */
  clear(): void {
    for (const each of this.#started) each.stop();
  }

  /** Stops all of them for good. */
  close(): void {
    this.#isClosed = true;
    this.clear();
  }

  #refresh(): void {
    for (const each of this.#started) each.refresh();
  }
}

interface PollHooks {
  readonly run: (work: () => void | Promise<void>) => Promise<void> | undefined;
  readonly mayLook: () => boolean;
  readonly started: () => void;
  readonly stopped: () => void;
}

class Poll implements DevicePoll {
  readonly #look: PollLook;
  readonly #options: Required<DevicePollOptions>;
  readonly #hooks: PollHooks;
  #isActive = false;
  #isLooking = false;
  #hasFound = false; // in the looks that are under way
  #isWoken = false; // meanwhile
  #foundMs = -Infinity; // when it last found something
  readonly #glanceMs: number; // how long it looks without a turn after that
  #pauseMs = FIRST_PAUSE_MS;
  #wait: (() => void) | undefined; // ends what it waits with

  static {
    sealClass<Poll>(this.prototype, { path: "poll" });
  }

  constructor(look: PollLook, options: Required<DevicePollOptions>, hooks: PollHooks) {
    this.#look = look;
    this.#options = options;
    this.#glanceMs = Math.min(options.spinMs, POLL_GLANCE_MS);
    this.#hooks = hooks;
  }

  get isActive(): boolean {
    return this.#isActive;
  }

  start(): void {
    if (this.#isActive) return;
    this.#isActive = true;
    this.#hooks.started();
    this.refresh();
  }

  stop(): void {
    this.#isActive = false;
    this.#hooks.stopped();
    this.#stopWaiting();
  }

  wake(): void {
    if (this.#isLooking) this.#isWoken = true;
    else if (this.#mayLook()) this.#begin();
  }

  /** Looks, if it may now and has not; stands still, if it may not. */
  refresh(): void {
    if (!this.#mayLook()) return this.#stopWaiting();
    if (!this.#isLooking && this.#wait === undefined) this.#lookSoon();
  }

  #mayLook(): boolean {
    return this.#isActive && this.#hooks.mayLook();
  }

  #begin(): void {
    this.#stopWaiting();
    this.#isLooking = true;
    this.#hasFound = this.#isWoken = false;
    const running = this.#hooks.run(() => this.#work());
    if (running === undefined) this.#done();
    else running.then(() => this.#done());
  }

  /** Does pieces until there are no more, or others are to have their turn. */
  #work(): void | Promise<void> {
    try {
      for (;;) {
        const found = this.#look();
        if (typeof found !== "boolean") return this.#goOn(found);
        if (!this.#looksOn(found)) return;
      }
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  async #goOn(first: Promise<boolean>): Promise<void> {
    try {
      let found = await first;
      while (this.#looksOn(found)) {
        const next = this.#look();
        found = typeof next === "boolean" ? next : await next;
      }
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  /** Tells whether to look again in this turn of the event loop. */
  #looksOn(found: boolean): boolean {
    const now = monotonicMs();
    if (found) {
      this.#hasFound = true;
      this.#foundMs = now;
    } else if (now - this.#foundMs >= this.#glanceMs) return false;
    return this.#mayLook() && turn(now) === undefined;
  }

  #done(): void {
    this.#isLooking = false;
    if (!this.#mayLook()) return;
    if (this.#hasFound) this.#pauseMs = FIRST_PAUSE_MS;
    const { spinMs, idleMs } = this.#options;
    const isBusy = this.#hasFound || this.#isWoken || monotonicMs() - this.#foundMs < spinMs;
    if (isBusy) this.#lookSoon();
    else if (idleMs !== Infinity) {
      const id = setTimeout(() => this.#begin(), Math.min(this.#pauseMs, idleMs));
      this.#wait = () => clearTimeout(id);
      this.#pauseMs = Math.min(2 * this.#pauseMs, idleMs);
    }
  }

  #lookSoon(): void {
    this.#wait = soon(() => this.#begin());
  }

  #stopWaiting(): void {
    this.#wait?.();
    this.#wait = undefined;
  }
}
