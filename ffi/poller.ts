/**
 * The one poll of this thread: everything that waits for a file descriptor without blocking is in
 * its set.
 *
 * A nonblocking call occupies a thread of Deno's pool and keeps the process alive, so there is
 * exactly one, and only while something is watched. Watching and unwatching while it is under way
 * wake it through an eventfd.
 *
 * @module
 */

import { lastingBytes } from "./buffer.ts";
import { monotonicMs } from "./clock.ts";
import { BRIEF_NS, EventFd, POLLIN, PollSet } from "./event.ts";
import { closedElsewhere } from "./fd.ts";
import { Guesses } from "./speculative_receive.ts";

/** A descriptor that is being watched. */
export class Watch implements Disposable {
  #deadline = Infinity;
  /**
   * True if the last `onReady` goes on in promises, as an asynchronous hook does, until they have
   * sent something. They have their turn before the thread lingers, which would delay that.
   */
  setsOffPromises = false;
  /**
   * Does what `onReady` does, for one that lingers, without having been told that the descriptor is
   * ready. Gives whether it was. Spares the poll where the peer shares the CPU: it runs when this
   * thread yields, and is back by then.
   */
  guess: (() => boolean) | undefined;

  /** @ignore made by {@linkcode watch} only */
  constructor(
    readonly fd: number,
    readonly events: number,
    readonly onReady: (revents: number) => void,
    readonly lingers: boolean,
  ) {}

  /**
   * When `onReady(0)` is called if the descriptor was not ready before, in the milliseconds of
   * `monotonicMs`; once, then it is Infinity again. The poll does this by itself: a first
   * setTimeout takes 5 ms, because Deno loads a module of node's for it.
   */
  get deadline(): number {
    return this.#deadline;
  }
  set deadline(deadline: number) {
    const isEarlier = deadline < this.#deadline;
    this.#deadline = deadline;
    if (isEarlier && watches.has(this)) change();
  }

  /**
   * Stops watching. Its callback is not called any more; the descriptor may be closed right after.
   */
  close(): void {
    if (watches.delete(this)) change();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** The time that timers, promises and signals may wait while peers keep coming back at once. */
const LINGER_MS = 2;

/** Turns of promises that may pass before those that a Watch has set off send something. */
const MAX_TURNS = 32;

const watches = new Set<Watch>();
let wakeEvent: EventFd | undefined;
let set: PollSet | undefined; // one for the thread: its memory is never freed
let running: Promise<void> | undefined; // settled when `run` ends
let changed = true; // whether the set is not what is watched
let polling = false; // whether it is inside poll, with a set that is then fixed
let glances: Glances | undefined; // at the same, while it is

/**
 * Calls `onReady` on the event loop whenever `fd` is ready, until the Watch is closed. Keeps the
 * process alive.
 *
 * Contract: the descriptor stays open while it is watched. The callback does what makes the
 * descriptor unready, or closes the Watch. It does not throw. If it does all the same, the Watch is
 * closed and the error is reported as an uncaught one; everything else is watched as before.
 *
 * @param events POLLIN, POLLOUT or both; 0 to wait for the deadline alone
 * @param lingers the peer is likely to be back in microseconds, as the client of a server is. After
 * it was ready, the thread waits for it briefly. Going back to the event loop costs ten times as
 * much
 * @throws {SystemError} if there is no descriptor left for the eventfd that wakes the poll
 */
export function watch(
  fd: number,
  events: number,
  onReady: (revents: number) => void,
  lingers = false,
): Watch {
  wakeEvent ??= new EventFd();
  const entry = new Watch(fd, events, onReady, lingers);
  watches.add(entry);
  change();
  running ??= run(wakeEvent);
  return entry;
}

/**
 * Settled when nothing is watched, the poll has ended, and other threads have closed what they were
 * given. A test waits for that before it counts descriptors.
 */
export async function idle(): Promise<void> {
  do {
    await running;
    await closedElsewhere(); // meanwhile something may be watched again
  } while (running !== undefined);
}

/**
 * Calls back whatever is ready now, without waiting. A thread that is always busy has to. In an
 * event loop that is never idle, the runtime hears of its pool once in up to 61 turns.
 */
export function glance(): void {
  if (!polling) return; // the poll itself looks next
  glances ??= new Glances();
  glances.look();
}

/** Marks the sets as outdated: something else is watched now. */
function change(): void {
  changed = true;
  if (glances !== undefined) glances.isFilled = false;
  if (polling) wakeEvent!.signal();
}

/** Looks of the thread itself, while the pool has the set. */
class Glances {
  readonly #set = new PollSet();
  readonly #polled: Watch[] = [];
  /** True if its set has all that is watched now. */
  isFilled = false;
  /** True if something was ready, or late, since the poll began: what that finds is out of date. */
  hasActed = false;

  look(): void {
    if (!this.isFilled) this.#fill();
    const ready = this.#set.waitBriefly(0n);
    const now = monotonicMs();
    for (const [i, entry] of this.#polled.entries()) {
      const revents = ready === 0 ? 0 : this.#set.revents(i);
      if (!watches.has(entry) || (revents === 0 && entry.deadline > now)) continue;
      this.hasActed = true;
      if (revents !== 0) call(entry, revents);
      if (entry.deadline <= now) expire(entry);
    }
  }

  #fill(): void {
    this.isFilled = true;
    this.#set.clear();
    this.#polled.length = 0;
    fillWith(this.#set, this.#polled);
  }
}

async function run(event: EventFd): Promise<void> {
  set ??= new PollSet(lastingBytes);
  const polled: Watch[] = [];
  let turnStart = monotonicMs(); // when the event loop last had its turn
  let lingers = false; // whether one was ready that is likely to be back
  const guesses = new Guesses<Watch>();
  try {
    // A turn of the event loop passes first: what is watched and unwatched within it costs no
    // system call.
    await Promise.resolve();
    while (watches.size > 0) {
      if (changed) {
        fill(set, polled, event);
        guesses.about = undefined; // it may have been closed
      }
      let ready = 0;
      const now = monotonicMs();
      // What is ready by now is spared the trip through Deno's pool.
      if (turnStart + LINGER_MS > now) {
        const guess = guesses.next(now);
        if (guess !== undefined && isRight(guesses, guess)) {
          await undefined;
          if (guess.setsOffPromises) await settlePromises(guess);
          continue;
        }
        ready = set.waitBriefly(lingers ? BRIEF_NS : 0n);
      }
      if (ready === 0) {
        polling = true;
        ready = await set.waitAsync(earliestDeadline() - monotonicMs());
        polling = false;
        turnStart = monotonicMs();
        if (glances?.hasActed) {
          glances.hasActed = false;
          continue;
        }
      }
      // EINTR, or ENOMEM: its errno is out of reach, and poll has no other failure
      if (ready < 0) continue;
      if (set.revents(0) !== 0) event.take();
      lingers = false;
      guesses.about = undefined;
      let promising: Watch | undefined;
      for (let i = 0; i < polled.length; i++) {
        const revents = set.revents(i + 1);
        const entry = polled[i]!;
        if (!watches.has(entry)) continue;
        if (revents !== 0) {
          call(entry, revents);
          lingers ||= entry.lingers;
          if (ready === 1 && revents === POLLIN && entry.guess !== undefined) guesses.about = entry;
          if (entry.setsOffPromises) promising = entry;
        }
        // Also of those that were ready: one that is ready again and again has its deadline all the
        // same.
        if (entry.deadline !== Infinity && entry.deadline <= monotonicMs()) expire(entry);
      }
      if (!lingers) await settle(8);
      else if (promising !== undefined) await settlePromises(promising);
      else await undefined; // what was completed continues
    }
  } finally {
    polling = false;
    running = undefined;
    // Nothing is watched: no descriptor of ours stays open either.
    event.close();
    wakeEvent = undefined;
  }
}

/** Puts what is watched into the set, behind the event that wakes it. */
function fill(set: PollSet, polled: Watch[], event: EventFd): void {
  changed = false;
  set.clear();
  set.add(event.fd, POLLIN);
  polled.length = 0;
  fillWith(set, polled);
}

function fillWith(set: PollSet, polled: Watch[]): void {
  for (const entry of watches) {
    // Poll reports a hangup even where no event was asked for.
    set.add(entry.events === 0 ? -1 : entry.fd, entry.events);
    polled.push(entry);
  }
}

function earliestDeadline(): number {
  let earliest = Infinity;
  for (const { deadline } of watches) earliest = Math.min(earliest, deadline);
  return earliest;
}

function expire(entry: Watch): void {
  if (!watches.has(entry)) return;
  entry.deadline = Infinity;
  call(entry, 0);
}

function call(entry: Watch, revents: number): void {
  try {
    entry.onReady(revents);
  } catch (error) {
    entry.close();
    reportError(error);
  }
}

/** Makes a guess. One that throws counts as right, and is the last about its Watch. */
function isRight(guesses: Guesses<Watch>, guess: Watch): boolean {
  try {
    return guesses.isRight(guess);
  } catch (error) {
    guesses.about = undefined;
    guess.close();
    reportError(error);
    return true;
  }
}

/** Lets promises run that a Watch has set off, until they have sent something. */
async function settlePromises(entry: Watch): Promise<void> {
  for (let i = 0; i < MAX_TURNS && entry.setsOffPromises; i++) await undefined;
}

/**
 * Lets the continuations of what was just completed run: most of them watch the same descriptor
 * again.
 */
async function settle(turns: number): Promise<void> {
  for (let i = 0; i < turns; i++) await undefined;
}
