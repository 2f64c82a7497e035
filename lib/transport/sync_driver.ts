/**
 * `SyncDriver`: drives a connection for a caller that blocks its thread.
 *
 * Nearly always that is one send, and one receive whose timeout is the socket's own. If that brings
 * something else, or a part of the reply, a poll with the time that is left takes over.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { POLLIN, POLLOUT, PollSet } from "../../ffi/event.ts";
import { TimeoutError } from "../base/errors.ts";
import type { Dispatcher } from "./dispatcher.ts";
import {
  makePending,
  ownData,
  type Pending,
  type RequestOptions,
  timeoutError,
} from "./pending.ts";

/**
 * The longest that one receive blocks: a timeval's milliseconds are safe up to here. A longer wait
 * is several.
 */
const MAX_BLOCK_MS = 1_000_000;

/** The part of its time that a wait has left while it may receive without a poll. */
const SOON = 0.98;

const NO_FDS: readonly number[] = Object.freeze([]);

/** Blocks the thread on one connection. */
export class SyncDriver {
  readonly #dispatcher: Dispatcher;
  readonly #set = new PollSet();

  constructor(dispatcher: Dispatcher) {
    this.#dispatcher = dispatcher;
  }

  /**
   * Sends a request, and blocks until the request has ended.
   *
   * @param blockMs blocks for so long at most; twice that if something else comes before the reply
   * @returns the request, which is done unless `blockMs` was not enough
   */
  request(
    command: number,
    payload: Uint8Array | undefined,
    options: RequestOptions,
    timeoutMs: number,
    blockMs = Infinity,
  ): Pending {
    const dispatcher = this.#dispatcher;
    dispatcher.assertSendable(command, options);
    const pending = makePending(command, options, timeoutMs);
    const waits = dispatcher.requests.isFull;
    if (waits) {
      payload = payload?.slice(); // handlers run meanwhile, and may use the caller's buffers
      options = ownData(options);
      this.#waitForRoom(pending);
    }
    dispatcher.send(pending, payload, options);
    dispatcher.flush();
    // Nearly always this one receive brings the reply, unless the request is not sent yet.
    const mayReceive = !waits && !dispatcher.sender.isBlocked &&
      dispatcher.twin === undefined;
    if (mayReceive && !pending.isDone) {
      dispatcher.receive(Math.min(timeoutMs, blockMs, MAX_BLOCK_MS));
    }
    // A command came before the reply, or a part of that.
    if (!pending.isDone) this.#waitFor(pending, monotonicMs() + blockMs);
    return pending;
  }

  /** Blocks until a request has ended, or until `end`. */
  #waitFor(pending: Pending, end: number): void {
    const dispatcher = this.#dispatcher;
    const { deadline, timeoutMs } = pending;
    while (!pending.isDone) {
      const now = monotonicMs();
      if (now >= deadline) return dispatcher.expire(pending);
      if (now >= end) return;
      const remaining = Math.min(deadline, end) - now;
      // The rest of a large message, or what follows a command that the peer has just sent, needs
      // no poll before it, as long as the wait gets only a little longer by that.
      const isSoon = remaining >= timeoutMs * SOON && dispatcher.twin === undefined;
      if (isSoon && !dispatcher.sender.isBlocked) {
        dispatcher.receive(Math.min(timeoutMs, MAX_BLOCK_MS));
      } else this.#waitReady(remaining);
    }
  }

  /** Blocks until one more request may be in flight. */
  #waitForRoom(pending: Pending): void {
    const dispatcher = this.#dispatcher;
    while (dispatcher.requests.isFull) {
      const remaining = pending.deadline - monotonicMs();
      if (remaining <= 0) throw timeoutError(pending, dispatcher.peer);
      dispatcher.flush();
      this.#waitReady(remaining);
      dispatcher.assertConnected();
    }
  }

  /** Sends what is queued, and blocks while the peer's buffer is full. */
  flush(timeoutMs: number): void {
    const dispatcher = this.#dispatcher;
    dispatcher.assertConnected();
    dispatcher.flush();
    if (!dispatcher.sender.isBlocked) return dispatcher.assertConnected();
    const deadline = monotonicMs() + timeoutMs;
    while (dispatcher.isConnected && dispatcher.sender.isBlocked) {
      const remaining = deadline - monotonicMs();
      if (remaining <= 0) {
        const within = `${timeoutMs} ms`;
        throw new TimeoutError(`Cannot send: the ${dispatcher.peer} did not read for ${within}`);
      }
      this.#waitReady(remaining);
    }
    dispatcher.assertConnected();
  }

  /** Blocks until one of the descriptors is readable. */
  wait(fds: readonly number[], timeoutMs: number): number {
    const dispatcher = this.#dispatcher;
    const deadline = monotonicMs() + timeoutMs;
    for (let remaining = timeoutMs;; remaining = deadline - monotonicMs()) {
      dispatcher.assertConnected();
      dispatcher.flush(); // what was posted may be what causes that which is waited for
      const ready = this.#waitReady(Math.max(0, remaining), fds);
      if (ready >= 0) return ready;
      if (remaining <= 0) return -1;
    }
  }

  /** Blocks for a while, serving commands. */
  serve(timeoutMs: number): void {
    const dispatcher = this.#dispatcher;
    const deadline = monotonicMs() + timeoutMs;
    for (let remaining = timeoutMs; remaining > 0; remaining = deadline - monotonicMs()) {
      dispatcher.assertConnected();
      dispatcher.flush();
      this.#waitReady(remaining);
    }
    dispatcher.assertConnected();
  }

  /**
   * Blocks until the socket, the twin's or one of `fds` is ready, then does what can be done.
   *
   * @param timeoutMs blocks for so long at most
   * @returns the index of the first of `fds` that is ready; -1 if none is
   */
  #waitReady(timeoutMs: number, fds: readonly number[] = NO_FDS): number {
    const set = this.#set;
    const dispatcher = this.#dispatcher;
    const twin = dispatcher.twin?.isConnected === true ? dispatcher.twin : undefined;
    set.clear();
    for (const fd of fds) set.add(fd, POLLIN);
    addSocket(set, dispatcher);
    if (twin !== undefined) addSocket(set, twin);
    if (set.wait(timeoutMs) === 0) return -1;
    // All is read before any is served: the handler may wait itself, in the same set.
    const ready = fds.findIndex((_, i) => set.revents(i) !== 0);
    const revents = set.revents(fds.length);
    const twinRevents = twin !== undefined ? set.revents(fds.length + 1) : 0;
    if (twinRevents !== 0) twin!.advance(twinRevents !== POLLOUT);
    if (revents !== 0) dispatcher.advance(revents !== POLLOUT);
    return ready;
  }
}

function addSocket(set: PollSet, { stream, sender }: Dispatcher): void {
  set.add(stream.fd, sender.isBlocked ? POLLIN | POLLOUT : POLLIN);
}
