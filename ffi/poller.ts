/**
 * The one poll of this thread: everything that waits for a file descriptor without blocking is in its set.
 *
 * A nonblocking call occupies a thread of Deno's pool and keeps the process alive, so there is exactly one, and only
 * while something is watched. Watching and unwatching while it is under way wake it through an eventfd.
 *
 * @module
 */

import { EventFd, POLLIN, PollSet } from "./event.ts";

/** A descriptor that is being watched. */
export class Watch implements Disposable {
  /** @ignore made by {@linkcode watch} only */
  constructor(
    readonly fd: number,
    readonly events: number,
    readonly onReady: (revents: number) => void,
  ) {}

  /** Stops watching. Its callback is not called any more; the descriptor may be closed right after. */
  close(): void {
    if (watches.delete(this)) wake();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

const watches = new Set<Watch>();
let wakeEvent: EventFd | undefined;
let running: Promise<void> | undefined; // settled when `run` ends
let polling = false; // whether it is inside poll, with a set that is then fixed

/**
 * Calls `onReady` on the event loop whenever `fd` is ready, until the Watch is closed. Keeps the process alive.
 *
 * Contract: the descriptor stays open while it is watched. The callback does what makes the descriptor unready, or
 * closes the Watch; it does not throw.
 *
 * @param events POLLIN, POLLOUT or both
 */
export function watch(fd: number, events: number, onReady: (revents: number) => void): Watch {
  const entry = new Watch(fd, events, onReady);
  watches.add(entry);
  if (running === undefined) running = run();
  else wake();
  return entry;
}

/** Settled when nothing is watched and the poll has ended: what a test waits for before it counts descriptors. */
export async function idle(): Promise<void> {
  await running;
}

function wake(): void {
  if (polling) wakeEvent!.signal();
}

async function run(): Promise<void> {
  wakeEvent ??= new EventFd();
  const set = new PollSet();
  const polled: Watch[] = [];
  try {
    // A turn of the event loop passes first: what is watched and unwatched within it costs no system call.
    await Promise.resolve();
    while (watches.size > 0) {
      set.clear();
      set.add(wakeEvent.fd, POLLIN);
      polled.length = 0;
      for (const entry of watches) {
        set.add(entry.fd, entry.events);
        polled.push(entry);
      }
      polling = true;
      const ready = await set.waitAsync();
      polling = false;
      if (ready < 0) continue; // EINTR, or ENOMEM: its errno is out of reach, and poll has no other failure
      if (set.revents(0) !== 0) wakeEvent.take();
      for (const [i, entry] of polled.entries()) {
        const revents = set.revents(i + 1);
        if (revents !== 0 && watches.has(entry)) entry.onReady(revents);
      }
      await settle();
    }
  } finally {
    polling = false;
    running = undefined;
    // Nothing is watched: no descriptor of ours stays open either.
    wakeEvent?.close();
    wakeEvent = undefined;
  }
}

/** Lets the continuations of what was just completed run: most of them watch the same descriptor again. */
async function settle(): Promise<void> {
  for (let i = 0; i < 8; i++) await Promise.resolve();
}
