/**
 * `AsyncDriver`: drives a connection from the event loop.
 *
 * The one poll of the thread watches the socket while something is awaited, and never longer,
 * because a watched socket keeps the process alive. What one turn of the event loop asks for leaves
 * in one send.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { POLLIN, POLLOUT } from "../../ffi/event.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import { ProtocolError } from "../base/errors.ts";
import type { Dispatcher, Driver } from "./dispatcher.ts";
import type { Message } from "./message.ts";
import { type AsyncRequestOptions, makePending, type Pending } from "./pending.ts";
import { Ticker } from "./ticker.ts";

/** Receives in a row: other connections of the thread have their turn, too. */
const MAX_RECEIVES = 16;

/** Looks that are spared after a look at a drained socket that found nothing. */
const LOOKS_TO_SKIP = 64;

/**
 * The time in milliseconds that an attentive driver watches the socket after a message: another
 * often follows.
 */
const ATTENTION_MS = 200;

/** The interval in milliseconds at which a glancing driver looks at the socket. */
const GLANCE_MS = 50;

/**
 * The interval in milliseconds at which a server looks for sockets in messages that it does not
 * receive.
 */
const SEARCH_MS = 1000;

/**
 * The way in which commands are noticed while nothing is awaited. "glancing" looks now and then. A
 * message makes that "attentive" for a while, in which the socket is watched.
 */
type Glance = "off" | "glancing" | "attentive";

/** Drives one connection from the event loop. */
export class AsyncDriver implements Driver {
  readonly #dispatcher: Dispatcher;
  #watch: Watch | undefined;
  #deadline = Infinity; // the earliest of asynchronous requests and attention, or earlier
  #isFlushScheduled = false;
  #looksToSkip = 0; // for more than the last receive brought

  // Why the socket is watched, besides asynchronous requests:
  #serving = false;
  #isFollowing = false; // something is awaited from the twin
  #glance: Glance = "off";
  #attentiveUntil = 0;
  readonly #attendants = new Set<(cause: Error | undefined) => void>();

  readonly #glances = new Ticker(GLANCE_MS, () => this.#onGuess(), false);
  readonly #searches = new Ticker(SEARCH_MS, () => this.#searchSockets(), true);

  /** The driver that listens as well while something is awaited here. */
  twin: AsyncDriver | undefined;

  constructor(dispatcher: Dispatcher) {
    this.#dispatcher = dispatcher;
    dispatcher.driver = this;
  }

  /** True if the socket is watched for commands all the time. */
  get serving(): boolean {
    return this.#serving;
  }
  set serving(on: boolean) {
    this.#serving = on;
    this.update();
  }

  /** True if commands are noticed without keeping the process alive. */
  get glancing(): boolean {
    return this.#glance !== "off";
  }
  set glancing(on: boolean) {
    if (on === this.glancing) return;
    if (on) this.#payAttention();
    else this.#glance = "off";
    this.update();
  }

  // ---- Requests

  /** Sends a request, or has it wait for its turn; the promise is settled when it ends. */
  request(
    command: number,
    payload: Uint8Array | undefined,
    options: AsyncRequestOptions,
    timeoutMs: number,
  ): Promise<Message> {
    const { signal } = options;
    const dispatcher = this.#dispatcher;
    const { requests } = dispatcher;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      dispatcher.assertSendable(command, options);
      const pending = makePending(command, options, timeoutMs);
      this.#settleBy(pending, signal, resolve, reject);
      if (requests.isFull || requests.hasWaiting) requests.wait(pending, payload, options);
      else dispatcher.trySend(pending, payload, options);
      this.#watchDeadline(pending.deadline);
      this.scheduleFlush();
    });
  }

  /** A promise for the reply to a request that is in flight already. */
  settlement(pending: Pending, signal: AbortSignal | undefined): Promise<Message> {
    return new Promise((resolve, reject) => {
      this.#settleBy(pending, signal, resolve, reject);
      this.#watchDeadline(pending.deadline);
      this.scheduleFlush();
    });
  }

  /** Has a request settle a promise when it ends: by its reply, its error, or the signal. */
  #settleBy(
    pending: Pending,
    signal: AbortSignal | undefined,
    resolve: (reply: Message) => void,
    reject: (error: unknown) => void,
  ): void {
    const onAbort = () => this.#dispatcher.abandon(pending, signal!.reason);
    this.#dispatcher.requests.settleBy(pending, (reply, error) => {
      signal?.removeEventListener("abort", onAbort);
      if (reply !== undefined) resolve(reply);
      else reject(error);
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  }

  // ---- What is watched

  /** Watches the connection until disposed of; `onEnd` is called if it ends meanwhile. */
  attend(onEnd: (cause: Error | undefined) => void): Disposable {
    this.#attendants.add(onEnd);
    this.update();
    return {
      [Symbol.dispose]: () => {
        if (this.#attendants.delete(onEnd)) this.update();
      },
    };
  }

  /** True if the poll is to watch the socket for what comes. */
  get #isListening(): boolean {
    const isAwaited = this.#serving || this.#isFollowing ||
      this.#dispatcher.requests.asyncCount > 0 || this.#attendants.size > 0 ||
      this.#glance === "attentive";
    return isAwaited && this.#dispatcher.hasCapacity;
  }

  /** True if what has come is to be taken. */
  get #mayReceive(): boolean {
    return this.#isListening || (this.#glance !== "off" && this.#dispatcher.hasCapacity);
  }

  /** Has the poll watch what is awaited, and nothing else. */
  update(): void {
    const dispatcher = this.#dispatcher;
    const { sender, drainsUntil, isConnected, mayAnswer } = dispatcher;
    const isListening = this.#isListening;
    const events = (isListening ? POLLIN : 0) |
      (mayAnswer && sender.isBlocked ? POLLOUT : 0);
    const isNeeded = drainsUntil !== undefined
      ? mayAnswer
      : isConnected && (events !== 0 || dispatcher.requests.asyncCount > 0);
    if (events !== this.#watch?.events || !isNeeded) {
      this.#watch?.close();
      this.#watch = isNeeded ? this.#makeWatch(events) : undefined;
    }
    if (this.#watch !== undefined) this.#watch.deadline = drainsUntil ?? this.#deadline;
    this.#glances.isOn = this.#glance !== "off" && isConnected && this.#watch === undefined;
    // A client that reads no answers may have sent its own end of this connection. The server then
    // has no other sign that the client is gone.
    this.#searches.isOn = isConnected && dispatcher.inbox.isCongested;
    this.twin?.follow(isListening);
  }

  #makeWatch(events: number): Watch {
    const { stream, peer, isConnected } = this.#dispatcher;
    const lingers = peer === "client" && isConnected;
    const made = watch(stream.fd, events, (revents) => this.#onWatch(revents), lingers);
    if (lingers) made.guess = () => this.#onGuess();
    return made;
  }

  /** Has the poll watch the socket for a while. */
  #payAttention(): void {
    this.#glance = "attentive";
    this.#attentiveUntil = monotonicMs() + ATTENTION_MS;
    this.#watchDeadline(this.#attentiveUntil);
  }

  /** Listens as well while something is awaited from the twin. */
  follow(on: boolean): void {
    if (on === this.#isFollowing) return;
    this.#isFollowing = on;
    if (this.glancing) this.#payAttention();
    this.update();
  }

  /** Reports a deadline to the poll, which needs the earliest of all. */
  #watchDeadline(deadline: number): void {
    if (deadline >= this.#deadline) return;
    this.#deadline = deadline;
    if (this.#watch !== undefined) this.#watch.deadline = deadline;
  }

  ended(cause: Error | undefined): void {
    const attendants = [...this.#attendants];
    this.#attendants.clear();
    for (const onEnd of attendants) onEnd(cause);
  }

  stop(): void {
    this.#watch?.close();
    this.#watch = undefined;
    this.#glances.isOn = false;
    this.#searches.isOn = false;
  }

  // ---- What happens: whatever a trace throws here reaches no caller, and ends this connection

  readonly #onFlush = (): void => {
    this.#isFlushScheduled = false;
    const dispatcher = this.#dispatcher;
    try {
      if (dispatcher.drainsUntil !== undefined) return dispatcher.continueDrain();
      if (!dispatcher.isConnected) return;
      dispatcher.flush();
      if (this.#watch !== undefined) this.#watch.setsOffPromises = false;
      dispatcher.serveWaiting();
      this.update();
    } catch (error) {
      dispatcher.breakOff(error);
    }
  };

  scheduleFlush(): void {
    if (this.#isFlushScheduled || !this.#dispatcher.mayAnswer) return;
    this.#isFlushScheduled = true;
    queueMicrotask(this.#onFlush);
  }

  #onWatch(revents: number): void {
    try {
      if (revents === 0) this.#onDeadline();
      else this.#onReady();
    } catch (error) {
      this.#dispatcher.breakOff(error);
    }
  }

  #onGuess(): boolean {
    try {
      return this.#onReady();
    } catch (error) {
      this.#dispatcher.breakOff(error);
      return true;
    }
  }

  /**
   * Does what can be done: the socket is ready, or that is a guess.
   *
   * @returns true if anything came
   */
  #onReady(): boolean {
    const dispatcher = this.#dispatcher;
    if (dispatcher.drainsUntil !== undefined) dispatcher.continueDrain();
    if (!dispatcher.isConnected) return false;
    dispatcher.flush();
    dispatcher.serveWaiting();
    const isAwaiting = dispatcher.requests.asyncCount > 0;
    const hasCome = this.#receiveAll();
    if (dispatcher.isConnected) dispatcher.flush();
    if (hasCome && this.glancing) this.#payAttention();
    this.update();
    if (this.#watch !== undefined) {
      this.#watch.setsOffPromises = isAwaiting || dispatcher.inbox.isBusy;
    }
    return hasCome;
  }

  /**
   * Receives until the socket is drained.
   *
   * @returns true if anything came
   */
  #receiveAll(): boolean {
    const dispatcher = this.#dispatcher;
    let hasCome = false;
    for (let i = 0; i < MAX_RECEIVES && this.#mayReceive; i++) {
      const wasDrained = i > 0 && dispatcher.receiver.isDrained;
      // A peer that waits for each answer has sent nothing else. Others are worth a look for free.
      if (wasDrained && this.#looksToSkip > 0) {
        this.#looksToSkip--;
        break;
      }
      const came = dispatcher.receiveNow();
      if (came) hasCome = true;
      else {
        if (wasDrained) this.#looksToSkip = LOOKS_TO_SKIP;
        break;
      }
    }
    return hasCome;
  }

  #onDeadline(): void {
    const dispatcher = this.#dispatcher;
    if (dispatcher.drainsUntil !== undefined) return dispatcher.abortDrain();
    this.#deadline = Infinity;
    const now = monotonicMs();
    let next = Infinity;
    if (this.#glance === "attentive") {
      if (this.#attentiveUntil <= now) this.#glance = "glancing";
      else next = this.#attentiveUntil;
    }
    // All of them beforehand: where one ends, another one that waited is sent.
    for (const pending of dispatcher.requests.unfinished) {
      if (pending.isDone || pending.settle === undefined) continue; // a blocked caller has a clock
      if (pending.deadline <= now) dispatcher.expire(pending);
      else next = Math.min(next, pending.deadline);
    }
    if (!dispatcher.isConnected) return;
    this.#watchDeadline(next);
    this.update();
  }

  /** Ends a connection whose unread bytes carry a socket of the peer. */
  #searchSockets(): void {
    const { stream, peer, inbox } = this.#dispatcher;
    try {
      if (!inbox.isCongested) this.#searches.isOn = false;
      else if (stream.holdsSocket()) {
        const message = `The ${peer} passed a socket, and does not read its answers`;
        this.#dispatcher.fail(new ProtocolError(message));
      }
    } catch (error) {
      this.#dispatcher.breakOff(error);
    }
  }
}
