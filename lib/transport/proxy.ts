/**
 * `VfioProxy`: one end of a vfio-user connection, the client's or the server's.
 *
 * Everything that arrives goes through one dispatcher: a reply completes its pending request, a command of the peer
 * goes to the handler. Two ways drive it. `requestSync` sends, then blocks the thread until its reply is there.
 * `request` returns a promise; what one turn of the event loop asks for leaves in one send, and one poll waits for the
 * replies. Both may be used on one proxy, mixed at will.
 *
 * Threading and blocking:
 * - A proxy belongs to the thread (isolate) that made it. Nothing in it is locked, nothing needs to be.
 * - `requestSync` blocks its thread for up to its timeout. Meanwhile commands of the peer are served and replies to asynchronous
 *   requests are taken in, but promises, timers and AbortSignals of the thread wait.
 * - The handler is called outside the receive path, one command at a time, in order of arrival; if it returns a promise, the
 *   next one waits for that. It may itself call `requestSync`.
 * - `request` and `close` never block; `post` does only when the peer leaves very much unread.
 * - Every request ends exactly once: with its reply, an error reply, a timeout, an abort, or the end of the
 *   connection. A reply that comes after that is taken off the stream and dropped.
 * - The process is kept alive while an asynchronous request is pending, while somebody attends, and
 *   while `serving` is on. While `glancing` is on, which does not keep the process alive, it is for
 *   a fifth of a second after each message.
 *
 * - Commands that a peer sent before it left, or before it broke the protocol, are still served,
 *   for two seconds at most: it may have posted them and not waited. A peer that broke the protocol
 *   is answered meanwhile. `onClose` is called then.
 *
 * States: CONNECTED, then ERROR or CLOSING, then CLOSED. ERROR is a failure, kept in `cause`;
 * commands that came before it are served in that state. CLOSING begins with `close`. On the way
 * every pending request fails with the cause, at once.
 *
 * @module
 */

import { EINVAL, EIO } from "../../ffi/errno.ts";
import { monotonicMs } from "../../ffi/clock.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { POLLIN, POLLOUT, PollSet } from "../../ffi/event.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import {
  ConnectionError,
  endedDuring,
  ProtocolError,
  RemoteError,
  type RequestInFlight,
  TimeoutError,
} from "../base/errors.ts";
import {
  DEFAULT_MAX_MSG_FDS,
  DEFAULT_TIMEOUT_MS,
  HEADER_SIZE,
  MAX_ABANDONED,
  MAX_DRAIN_MS,
  MAX_INCOMING,
  MAX_INCOMING_BLOCKED,
  MAX_INCOMING_BYTES,
  MAX_MSG_FDS,
  MAX_PENDING,
  MAX_QUEUED_BYTES,
  MAX_VERSION_SIZE,
  SERVE_HIGH_WATER,
} from "../base/limits.ts";
import { MessageStream, type StreamLimits, type Trace } from "./stream.ts";
import type { Message } from "./message.ts";
import { thrownText } from "../base/thrown.ts";
import { commandName } from "../wire/command.ts";
import { encodeMessage, MessageFlags, type MessageKey } from "../wire/header.ts";

/** Which end of the connection a proxy is. */
export type Role = "client" | "server";

/** Where a proxy is in its life. */
export type ProxyState = "CONNECTED" | "ERROR" | "CLOSING" | "CLOSED";

/** How long to wait for the reply, and what may come with it. */
export interface RequestOptions {
  /** Bulk data that follows the payload. Sent from where it is if large, and free again when the call returns. */
  data?: Uint8Array;
  /**
   * Where the data at the end of the reply go, if there are so many. They are there if the reply says `isPlaced`; else they are in its
   * payload. Not to be touched until the request has ended: a buffer that is detached or resized
   * meanwhile fails the request.
   */
  into?: Uint8Array;
  /** Descriptors to pass. They stay the caller's, and open until the request has ended. */
  fds?: readonly OwnedFd[];
  /** How many descriptors the reply may carry. One where none belong closes the connection. Default 0. */
  maxReplyFds?: number;
  /** In milliseconds; default that of the proxy. Infinity waits as long as the connection lasts. */
  timeoutMs?: number;
  /** What is being done, for errors: "read 4 bytes of bar0"; a function is called only if there is one. Default the name of the command. */
  doing?: string | (() => string);
}

/** The same for an asynchronous request, which can be called off. */
export interface AsyncRequestOptions extends RequestOptions {
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

/** A command of the peer, to be answered exactly once. */
export interface IncomingRequest {
  /** The command's number. */
  readonly command: number;
  /** Whether the peer wants no reply; `reply` and `fail` then send nothing. */
  readonly noReply: boolean;
  /** What follows the header: a view that holds until the handler, or the promise it returns, is done. */
  readonly payload: Uint8Array;
  /** How many descriptors came with it. */
  readonly fdCount: number;
  /** Whether it has been answered. */
  readonly isAnswered: boolean;
  /** Takes over the descriptors that came with it; those that are not taken are closed after the answer. */
  takeFds(): OwnedFd[];
  /** Answers with a payload, bulk data behind it, and descriptors, which stay the caller's. */
  reply(payload?: Uint8Array, data?: Uint8Array, fds?: readonly OwnedFd[]): void;
  /** Answers that it failed. */
  fail(errno: number): void;
  /**
   * Counts as answered, but only the first `size` bytes of the reply are sent, its header included: none for 0, all if there are
   * fewer. For servers that misbehave on purpose; unless `size` is 0, nothing that follows can be understood.
   */
  replyInPart(size: number, payload?: Uint8Array): void;
}

/** Serves the commands of the peer. It does not throw. */
export type RequestHandler = (request: IncomingRequest) => void | Promise<void>;

/** How a proxy is set up. */
export interface ProxyOptions {
  /** Which end this is. */
  role: Role;
  /** Serves the peer's commands. Without it each is answered with EINVAL. */
  handler?: RequestHandler;
  /** For requests that say nothing else, in milliseconds. Default 5000. */
  timeoutMs?: number;
  /** Sees every message. */
  trace?: Trace;
  /** Called once when the connection has ended, with the reason unless `close` was called without one. */
  onClose?: (cause: Error | undefined) => void;
}

/** A request that is waiting for its turn or its reply. */
interface Pending {
  /** Set once it is sent. */
  id: number | undefined;
  readonly command: number;
  readonly doing: string | (() => string) | undefined;
  readonly maxReplyFds: number;
  readonly into: Uint8Array | undefined;
  /** Bytes of `into` when the request was made. */
  readonly intoSize: number;
  readonly timeoutMs: number;
  readonly deadline: number;
  /** Set for an asynchronous request. */
  settle: ((reply: Message | undefined, error: Error | undefined) => void) | undefined;
  reply: Message | undefined;
  error: Error | undefined;
  isDone: boolean;
}

/** The work that is left after a connection has ended by itself. */
interface Drain {
  /** When there is no time left for it. */
  readonly until: number;
  /** True if the peer still gets answers: it has broken the protocol, and not left. */
  answers: boolean;
  /** The command that broke the protocol, as long as that is not answered. */
  rejected: MessageKey | undefined;
}

/** A request that waits until fewer are in flight. */
interface Waiting {
  readonly payload: Uint8Array | undefined;
  readonly options: RequestOptions;
}

/** Bytes that may wait to be sent before `post` waits for the peer. */
const POST_HIGH_WATER = 1 << 20;

/** The longest that one receive blocks: what a timeval's milliseconds are safe for. A longer wait is several. */
const MAX_BLOCK_MS = 1_000_000;

/** After a look at a drained socket that found nothing: how many of those that would follow are spared. */
const LOOKS_TO_SKIP = 64;

/**
 * How long a proxy that glances is watched after a message, because the next one is likely to
 * follow; and how often it looks later.
 */
const ATTENTION_MS = 200;
const GLANCE_MS = 50;

/** How often a server looks for sockets in what it does not receive. */
const SEARCH_MS = 1000;

/** Ids from here on are for messages that want no reply, so that a peer that replies all the same is understood. */
const POSTED_IDS = 0x8000;

const POSTED_FLAGS = MessageFlags.COMMAND | MessageFlags.NO_REPLY;

/** One end of a vfio-user connection. */
export class VfioProxy implements Disposable {
  readonly #stream: MessageStream;
  readonly #peer: Role;
  readonly #pollSet = new PollSet();
  readonly #handler: RequestHandler | undefined;
  readonly #timeoutMs: number;
  readonly #onClose: ((cause: Error | undefined) => void) | undefined;

  #state: ProxyState = "CONNECTED";
  #cause: Error | undefined;

  #nextId = 1;
  #nextPostedId = POSTED_IDS;
  #hasPosted = false;
  readonly #pending = new Map<number, Pending>();
  readonly #abandoned = new Map<number, number>(); // message id -> command, of requests that ended without a reply
  readonly #waiting = new Map<Pending, Waiting>(); // in their order
  #asyncPending = 0; // asynchronous ones among #pending and #waiting

  #incoming: Message[] = [];
  #incomingBytes = 0;
  #handling = false;
  #drain: Drain | undefined; // while commands are served that came ahead of the end
  #looksToSkip = 0; // for more than the last receive brought
  #viewsInUse = false; // whether the handler holds a view of the receive buffer
  #serving = false;
  #glancing = false;
  #search: ReturnType<typeof setInterval> | undefined; // the timer of the search for sockets
  // The timer of the looks, while the socket is not watched.
  #glance: ReturnType<typeof setInterval> | undefined;
  #attentiveUntil = 0; // while it is glanced at: until when the socket is watched; 0 if it is not
  #isFollowing = false; // as a twin: whether something is awaited from the other proxy
  readonly #attendants = new Set<(cause: Error | undefined) => void>();

  #watch: Watch | undefined;
  #flushScheduled = false;
  #deadline = Infinity; // the earliest of the asynchronous requests, or earlier

  /** How many requests may be in flight at once; more wait for their turn. 1 for a peer that can't take a second. */
  window: number = MAX_PENDING;
  /** The proxy that the peer's commands come on in place of this one, if there is a twin socket: it is served while this one blocks. */
  twin: VfioProxy | undefined;
  /** How many descriptors the peer takes in one message. */
  peerMaxFds: number = DEFAULT_MAX_MSG_FDS;

  /** Takes over a connected socket. Until the limits are set, only a VERSION message fits. */
  constructor(socket: UnixSocket, options: ProxyOptions) {
    this.#peer = options.role === "client" ? "server" : "client";
    this.#handler = options.handler;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#onClose = options.onClose;
    this.#stream = new MessageStream(socket, this.#peer, {
      maxMessageSize: HEADER_SIZE + MAX_VERSION_SIZE,
      maxFds: MAX_MSG_FDS,
    });
    this.#stream.trace = options.trace;
    this.#stream.destination = (messageId) => {
      const pending = this.#pending.get(messageId);
      return pending?.into?.length === pending?.intoSize ? pending?.into : undefined;
    };
  }

  /** Where it is in its life. */
  get state(): ProxyState {
    return this.#state;
  }

  /** Why the connection ended, if it was not just closed. */
  get cause(): Error | undefined {
    return this.#cause;
  }

  /** Bytes that came and were not understood: of an incomplete message, or of an impossible one. */
  get untaken(): Uint8Array {
    return this.#stream.untaken;
  }

  /** Requests that have not ended. */
  get pendingCount(): number {
    return this.#pending.size + this.#waiting.size;
  }

  /** What is accepted from the peer, as negotiated. */
  get limits(): StreamLimits {
    return this.#stream.limits;
  }
  set limits(limits: StreamLimits) {
    this.#stream.limits = limits;
  }

  /**
   * Whether commands of the peer are served while nothing is asked of it. Keeps the process alive while on. Off,
   * they are served during requests only.
   */
  get serving(): boolean {
    return this.#serving;
  }
  set serving(on: boolean) {
    this.#serving = on;
    this.#updateWatch();
  }

  /**
   * True if commands of the peer are served while nothing is asked of it, without keeping the
   * process alive: by a look at the socket each 50 ms, and at once as long as they come. They wait
   * where the thread has no event loop that turns.
   */
  get glancing(): boolean {
    return this.#glancing;
  }
  set glancing(on: boolean) {
    if (on === this.#glancing) return;
    this.#glancing = on;
    if (on) this.#payAttention();
    else this.#attentiveUntil = 0;
    this.#updateWatch();
  }

  /**
   * Sends a command and blocks until its reply is there.
   *
   * @param payload what follows the header
   * @returns the reply; its payload is a view that holds until the proxy is used again. Its descriptors are the caller's
   *   to take
   * @throws {RemoteError} if the peer answers with an error
   * @throws {TimeoutError} if no reply came in time; the connection goes on, a late reply is dropped
   * @throws {TypeError} if `into` was detached or resized meanwhile; the connection goes on
   * @throws {ProtocolError} if the peer breaks the protocol; the connection is then closed
   * @throws {ConnectionError} if there is no connection, or it ends
   */
  requestSync(command: number, payload?: Uint8Array, options: RequestOptions = {}): Message {
    const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
    this.#assertSendable(command, options);
    const pending = makePending(command, options, timeoutMs);
    const waits = this.#isFull;
    if (waits) {
      payload = payload?.slice(); // handlers run meanwhile, and may use the caller's buffers
      options = ownData(options);
      this.#waitForRoom(pending);
    }
    this.#send(pending, payload, options);
    this.#flush();
    // Nearly always this one receive brings the reply. What was not sent yet can't be answered, though.
    if (!pending.isDone && !waits && !this.#stream.isBlocked && this.twin === undefined) {
      this.#receive(Math.min(timeoutMs, MAX_BLOCK_MS));
    }
    if (!pending.isDone) this.#waitFor(pending);
    if (pending.error !== undefined) throw pending.error;
    return pending.reply!;
  }

  /**
   * As `requestSync` if the reply comes soon: at once, with a view of the receive buffer. Else as `request`: what takes longer does not keep
   * the thread from signals and timers.
   *
   * @param blockMs what is soon; twice that if something else comes before the reply
   * @throws as `requestSync`; the promise is rejected as that of `request`
   */
  requestPatiently(
    command: number,
    payload: Uint8Array,
    options: AsyncRequestOptions,
    blockMs: number,
  ): Message | Promise<Message> {
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#isFull || this.#waiting.size > 0) return this.request(command, payload, options);
    this.#assertSendable(command, options);
    const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
    const pending = makePending(command, options, timeoutMs);
    this.#send(pending, payload, options);
    this.#flush();
    if (!pending.isDone && !this.#stream.isBlocked && this.twin === undefined) {
      this.#receive(Math.min(timeoutMs, blockMs));
    }
    // A command came before the reply, or a part of that.
    if (!pending.isDone) this.#waitFor(pending, monotonicMs() + blockMs);
    if (pending.error !== undefined) throw pending.error;
    return pending.reply ?? this.#settlement(pending, signal);
  }

  /** What a request comes to that is under way already. */
  #settlement(pending: Pending, signal: AbortSignal | undefined): Promise<Message> {
    return new Promise((resolve, reject) => {
      this.#settleBy(pending, signal, resolve, reject);
      this.#watchDeadline(pending.deadline);
      this.#scheduleFlush();
    });
  }

  /** Has a request settle a promise when it ends: by its reply, its error, or the signal. */
  #settleBy(
    pending: Pending,
    signal: AbortSignal | undefined,
    resolve: (reply: Message) => void,
    reject: (error: unknown) => void,
  ): void {
    const onAbort = () => this.#abandon(pending, signal!.reason);
    pending.settle = (reply, error) => {
      this.#asyncPending--;
      signal?.removeEventListener("abort", onAbort);
      if (reply !== undefined) resolve(reply);
      else reject(error);
    };
    this.#asyncPending++;
    signal?.addEventListener("abort", onAbort, { once: true });
  }

  /** Blocks, until a time at most, until a request has ended whose reply did not come with the first receive. */
  #waitFor(pending: Pending, end = Infinity): void {
    const { deadline, timeoutMs } = pending;
    while (!pending.isDone) {
      const now = monotonicMs();
      if (now >= deadline) {
        return this.#abandon(pending, timeoutError(pending, this.#peer));
      }
      if (now >= end) return;
      const remaining = Math.min(deadline, end) - now;
      // The rest of a large message, or what follows the command that a peer has just sent: receiving goes on, without a poll
      // before it, as long as the wait gets only a little longer by that.
      const isSoon = remaining >= timeoutMs * 0.98 && this.twin === undefined;
      if (isSoon && !this.#stream.isBlocked) {
        this.#receive(Math.min(timeoutMs, MAX_BLOCK_MS));
      } else this.#waitReady(remaining);
    }
  }

  /**
   * Sends a command; the promise is settled when its reply is there. Any number may be pending: up to `window` are in
   * flight, the others wait for their turn. They leave in the order of the calls.
   *
   * @param payload what follows the header; it and the data may be reused when the call returns
   * @returns the reply, with bytes of its own. Its descriptors are the caller's to take
   * @throws as `requestSync`, and the signal's reason if that is aborted
   */
  request(
    command: number,
    payload?: Uint8Array,
    options: AsyncRequestOptions = {},
  ): Promise<Message> {
    const { signal } = options;
    const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      this.#assertSendable(command, options);
      const pending = makePending(command, options, timeoutMs);
      this.#settleBy(pending, signal, resolve, reject);
      if (this.#isFull || this.#waiting.size > 0) {
        this.#waiting.set(pending, {
          payload: payload?.slice(),
          options: ownData(options),
        });
      } else {
        this.#trySend(pending, payload, options);
      }
      this.#watchDeadline(pending.deadline);
      this.#scheduleFlush();
    });
  }

  /**
   * Sends a command that wants no reply. It leaves with the next flush: at the end of this turn of the event loop, or ahead of
   * the next synchronous request. Blocks while the peer leaves more than 1 MiB unread.
   *
   * @throws {ConnectionError} if there is no connection
   * @throws {TimeoutError} if it had to wait and the peer did not read
   */
  post(
    command: number,
    payload?: Uint8Array,
    options: Pick<RequestOptions, "data" | "fds"> = {},
  ): void {
    this.#assertSendable(command, options);
    if (this.#waiting.size > 0) return this.#postLater(command, payload, options);
    if (this.window === 1) return this.#postAlone(command, payload, options);
    if (this.#stream.queuedBytes > POST_HIGH_WATER) {
      payload = payload?.slice();
      options = ownData(options);
      this.flushSync();
    }
    const id = this.#nextPostedId;
    this.#nextPostedId = id === 0xffff ? POSTED_IDS : id + 1;
    this.#hasPosted = true;
    const fds = options.fds?.map((fd) => fd.fd);
    try {
      this.#stream.write(id, command, POSTED_FLAGS, 0, payload, options.data, fds);
    } catch (error) {
      this.#failed(error);
    }
    this.#scheduleFlush();
  }

  /** Sends what was posted now, blocking while the peer's buffer is full, for `timeoutMs` at most. */
  flushSync(timeoutMs: number = this.#timeoutMs): void {
    this.#assertConnected();
    this.#flush();
    if (!this.#stream.isBlocked) return this.#assertConnected();
    const deadline = monotonicMs() + timeoutMs;
    while (this.#state === "CONNECTED" && this.#stream.isBlocked) {
      const remaining = deadline - monotonicMs();
      if (remaining <= 0) {
        throw new TimeoutError(`Cannot send: the ${this.#peer} did not read for ${timeoutMs} ms`);
      }
      this.#waitReady(remaining);
    }
    this.#assertConnected();
  }

  /**
   * Watches the connection until disposed of, as for one who waits for something that does not come over it: commands of the peer are
   * served, the process is kept alive.
   *
   * @param onEnd called once if the connection ends meanwhile, with the cause unless it was just closed
   * @throws {ConnectionError} if there is no connection
   */
  attend(onEnd: (cause: Error | undefined) => void): Disposable {
    this.#assertConnected();
    this.#attendants.add(onEnd);
    this.#updateWatch();
    return {
      [Symbol.dispose]: () => {
        if (this.#attendants.delete(onEnd)) this.#updateWatch();
      },
    };
  }

  /**
   * Blocks until one of these descriptors is readable, serving the peer's commands and taking in replies meanwhile.
   *
   * @param fds what to wait for besides the connection
   * @param timeoutMs Infinity waits as long as the connection lasts
   * @returns the index of the first that is readable; -1 after the timeout
   * @throws {ProtocolError} if the peer breaks the protocol; the connection is then closed
   * @throws {ConnectionError} if there is no connection, or it ends
   */
  waitSync(fds: readonly number[], timeoutMs: number): number {
    const deadline = monotonicMs() + timeoutMs;
    for (let remaining = timeoutMs;; remaining = deadline - monotonicMs()) {
      this.#assertConnected();
      this.#flush(); // what was posted may be what causes that which is waited for
      const ready = this.#waitReady(Math.max(0, remaining), fds);
      if (ready >= 0) return ready;
      if (remaining <= 0) return -1;
    }
  }

  /**
   * Blocks for `timeoutMs`, serving the peer's commands and taking in replies meanwhile.
   *
   * @throws {ProtocolError} if the peer breaks the protocol; the connection is then closed
   * @throws {ConnectionError} if there is no connection, or it ends
   */
  serveSync(timeoutMs: number): void {
    const deadline = monotonicMs() + timeoutMs;
    for (let remaining = timeoutMs; remaining > 0; remaining = deadline - monotonicMs()) {
      this.#assertConnected();
      this.#flush();
      this.#waitReady(remaining);
    }
    this.#assertConnected();
  }

  /**
   * Ends the connection. Every pending request fails at once; descriptors that nobody took are closed.
   *
   * @param cause what the pending requests fail with; without one they are told that the connection was closed
   */
  close(cause?: Error): void {
    if (this.#drain !== undefined) return this.#endDrain(true);
    if (this.#state !== "CONNECTED") return;
    this.#state = "CLOSING";
    try {
      this.#stream.flush(); // what was posted or answered still goes out, as far as the peer takes it
    } catch { /* it is closed all the same */ }
    this.#end(cause, false);
  }

  /**
   * Ends the connection because its twin's peer has left or broken the protocol. Messages that came
   * before are taken first.
   *
   * @param cause what the pending requests fail with
   */
  closeAfterPeer(cause: Error): void {
    if (this.#state !== "CONNECTED") return;
    this.#takeMessages(MAX_INCOMING_BLOCKED); // of those that came, not all were read
    // More than a socket's buffer holds, and an end to that if it is filled again all the time.
    for (let i = 0; i < 16 && this.#state === "CONNECTED"; i++) this.#receive(0);
    this.#fail(cause);
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  // ---- Requests of ours

  get #isFull(): boolean {
    return this.#pending.size >= this.window ||
      (this.#pending.size > 0 && this.#stream.queuedBytes > MAX_QUEUED_BYTES / 2);
  }

  #assertConnected(): void {
    if (this.#state === "CONNECTED") return;
    throw this.#cause ?? new ConnectionError(`The connection to the ${this.#peer} is closed`);
  }

  /** The failure of a request that comes after the end of the connection. */
  #closedError(command: number, { doing }: RequestOptions): Error {
    const cause = this.#cause;
    const isClosed = cause === undefined;
    if (!isClosed && !(cause instanceof ConnectionError)) return cause;
    const own = { command, doing: describeDoing({ command, doing }) };
    const reason = new ConnectionError(`The connection to the ${this.#peer} is closed`);
    return endedDuring(cause ?? reason, own);
  }

  #assertSendable(command: number, options: RequestOptions): void {
    if (this.#state !== "CONNECTED") throw this.#closedError(command, options);
    const count = options.fds?.length ?? 0;
    if (count > this.peerMaxFds) {
      throw new RangeError(
        `Cannot pass ${count} file descriptors in one message: the ${this.#peer} takes ${this.peerMaxFds}`,
      );
    }
  }

  /** A peer that can't take a second request gets one that it answers. What it answers is not heard of either. */
  #postAlone(command: number, payload: Uint8Array | undefined, options: RequestOptions): void {
    try {
      this.requestSync(command, payload, options);
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
    }
  }

  /** Behind requests that wait for their turn, it waits, too; by then it may as well be answered. */
  #postLater(command: number, payload: Uint8Array | undefined, options: RequestOptions): void {
    this.request(command, payload, options).catch(() => {});
  }

  /** Writes the message and makes the request pending. */
  #send(pending: Pending, payload: Uint8Array | undefined, options: RequestOptions): void {
    const fds = options.fds?.map((fd) => fd.fd); // throws for a closed one, before anything is under way
    const id = this.#allocateId();
    pending.id = id;
    this.#pending.set(id, pending);
    try {
      this.#stream.write(id, pending.command, MessageFlags.COMMAND, 0, payload, options.data, fds);
    } catch (error) {
      if (!isFailure(error)) this.#pending.delete(id); // not sent, as for want of descriptors
      this.#failed(error);
    }
  }

  /** As `#send`; what is thrown (a closed descriptor among `fds`) ends the request. */
  #trySend(pending: Pending, payload: Uint8Array | undefined, options: RequestOptions): void {
    try {
      this.#send(pending, payload, options);
    } catch (error) {
      this.#complete(pending, undefined, error as Error);
    }
  }

  /** An id that no pending or abandoned request has. There are always some: both are bounded. */
  #allocateId(): number {
    let id = this.#nextId;
    if (this.#pending.size > 0 || this.#abandoned.size > 0) {
      while (this.#pending.has(id) || this.#abandoned.has(id)) {
        id = id + 1 === POSTED_IDS ? 0 : id + 1;
      }
    }
    this.#nextId = id + 1 === POSTED_IDS ? 0 : id + 1;
    return id;
  }

  #complete(pending: Pending, reply: Message | undefined, error: Error | undefined): void {
    // Not before: until here, whatever is thrown leaves the request to the end of the connection.
    if (pending.id !== undefined) this.#pending.delete(pending.id);
    pending.isDone = true;
    pending.reply = reply;
    pending.error = error;
    pending.settle?.(reply, error);
  }

  /** Ends a request without its reply, which is dropped if it comes later. */
  #abandon(pending: Pending, error: Error): void {
    if (pending.isDone) return;
    const { id } = pending;
    if (id === undefined) this.#waiting.delete(pending);
    else {
      this.#pending.delete(id);
      this.#abandoned.set(id, pending.command);
      if (pending.into !== undefined) this.#stream.forget(id);
    }
    this.#complete(pending, undefined, error);
    if (this.#abandoned.size > MAX_ABANDONED) {
      this.#fail(
        new ConnectionError(`The ${this.#peer} left ${MAX_ABANDONED} requests unanswered`, {
          kind: "stuck",
        }),
      );
    }
    this.#sendWaiting();
    this.#updateWatch();
  }

  /** Requests that waited for their turn leave, as far as there is room. */
  #sendWaiting(): void {
    for (const [pending, { payload, options }] of this.#waiting) {
      if (this.#isFull || this.#state !== "CONNECTED") return;
      this.#waiting.delete(pending);
      this.#trySend(pending, payload, options);
      this.#scheduleFlush();
    }
  }

  #waitForRoom(pending: Pending): void {
    while (this.#isFull) {
      const remaining = pending.deadline - monotonicMs();
      if (remaining <= 0) throw timeoutError(pending, this.#peer);
      this.#flush();
      this.#waitReady(remaining);
      this.#assertConnected();
    }
  }

  // ---- What drives it

  /**
   * Blocks until the socket, the twin's or one of `fds` is ready, for `timeoutMs` at most, then does what can be done.
   *
   * @returns which of `fds` is ready; -1 if none is
   */
  #waitReady(timeoutMs: number, fds: readonly number[] = []): number {
    const set = this.#pollSet;
    const { twin } = this;
    set.clear();
    for (const fd of fds) set.add(fd, POLLIN);
    set.add(this.#stream.fd, this.#stream.isBlocked ? POLLIN | POLLOUT : POLLIN);
    const hasTwin = twin !== undefined && twin.state === "CONNECTED";
    if (hasTwin) set.add(twin.#stream.fd, twin.#stream.isBlocked ? POLLIN | POLLOUT : POLLIN);
    if (set.wait(timeoutMs) === 0) return -1;
    // All is read before any is served: the handler may wait itself, in the same set.
    const ready = fds.findIndex((_, i) => set.revents(i) !== 0);
    const revents = set.revents(fds.length);
    const twinRevents = hasTwin ? set.revents(fds.length + 1) : 0;
    if (twinRevents !== 0) {
      twin!.#advance(twinRevents);
    }
    if (revents !== 0) this.#advance(revents);
    return ready;
  }

  /** Does what can be done now on behalf of a blocked caller. */
  #advance(revents: number): void {
    this.#flush();
    if (revents === POLLOUT) return;
    this.#receive(0);
    if (this.#state === "CONNECTED") this.#flush();
  }

  #flush(): void {
    try {
      this.#stream.flush();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** What one turn of the event loop asks for leaves together. */
  #scheduleFlush(): void {
    if (this.#flushScheduled || !this.#mayAnswer) return;
    this.#flushScheduled = true;
    queueMicrotask(() => {
      this.#flushScheduled = false;
      this.#onFlush();
    });
  }

  /**
   * Receives once on behalf of a blocked caller, and dispatches everything that has come whole. `timeoutMs` above 0 blocks.
   * Commands of the peer may queue up meanwhile, if the handler is the one that is blocked.
   */
  #receive(timeoutMs: number): void {
    if (this.#state !== "CONNECTED") return;
    if (this.#viewsInUse) this.#keepViews();
    try {
      this.#stream.receive(timeoutMs);
    } catch (error) {
      this.#failed(error);
    }
    this.#takeMessages(MAX_INCOMING_BLOCKED);
    if (!this.#hasRoom(MAX_INCOMING_BLOCKED)) {
      this.#fail(
        new ProtocolError(
          `The ${this.#peer} sent ${this.#incoming.length} requests without waiting for an answer`,
        ),
      );
    }
  }

  /** Dispatches the messages that are there, and serves commands; stops where `maxIncoming` of them wait. */
  #takeMessages(maxIncoming: number): void {
    let wasFull: boolean;
    do {
      try {
        while (this.#hasRoom(maxIncoming)) {
          const message = this.#stream.next();
          if (message === undefined) break;
          this.#dispatch(message);
        }
        if (this.#waiting.size > 0) this.#sendWaiting();
      } catch (error) {
        this.#failed(error);
      }
      wasFull = !this.#hasRoom(maxIncoming);
      this.#serve();
    } while (wasFull && this.#hasRoom(maxIncoming) && this.#state === "CONNECTED");
  }

  /**
   * What the stream threw ends the connection; our own caller's mistakes pass through. (Every use of the stream is in a try of
   * its own rather than in a function that is passed along: that costs a tenth of a round trip.)
   */
  #failed(error: unknown): void {
    if (!isFailure(error)) throw error;
    this.#takeLastWords(error);
    this.#fail(error);
  }

  /** A peer that refuses us may answer, then close: a failed send is not yet the whole story. */
  #takeLastWords(error: Error): void {
    if (!(error instanceof ConnectionError) || this.#pending.size === 0) return;
    try {
      while (this.#stream.receive()) {
        for (
          let message = this.#stream.next();
          message !== undefined;
          message = this.#stream.next()
        ) {
          this.#dispatch(message);
        }
      }
    } catch { /* the first failure is the one to report */ }
  }

  /** The poll says that the socket is ready, or it is a guess. Gives whether anything came. */
  #onReady(): boolean {
    if (this.#drain !== undefined) this.#continueDrain();
    if (this.#state !== "CONNECTED") return false;
    let hasCome = false;
    this.#flush();
    if (this.#incoming.length > 0) this.#takeMessages(this.#maxIncoming);
    const isAwaiting = this.#asyncPending > 0;
    // A bounded number of receives: other connections of this thread have their turn, too.
    for (let i = 0, came = true; came && i < 16 && this.#mayReceive; i++) {
      const wasDrained = i > 0 && this.#stream.isDrained;
      // A peer that waits for each answer has sent nothing else. One that does not is worth a look for free.
      if (wasDrained && this.#looksToSkip > 0) {
        this.#looksToSkip--;
        break;
      }
      try {
        came = this.#stream.receive();
      } catch (error) {
        this.#failed(error);
      }
      hasCome ||= came;
      if (wasDrained && !came) this.#looksToSkip = LOOKS_TO_SKIP;
      this.#takeMessages(this.#maxIncoming);
    }
    if (this.#state === "CONNECTED") this.#flush();
    if (hasCome && this.#glancing) this.#payAttention();
    this.#updateWatch();
    if (this.#watch !== undefined) this.#watch.setsOffPromises = isAwaiting || this.#handling;
    return hasCome;
  }

  /** True if the poll is to watch the socket for what comes. */
  get #isListening(): boolean {
    const isAwaited = this.#serving || this.#isFollowing || this.#asyncPending > 0 ||
      this.#attendants.size > 0 || this.#attentiveUntil > 0;
    return isAwaited && this.#hasCapacity;
  }

  /** True if what has come is taken, now that somebody looks. */
  get #mayReceive(): boolean {
    return this.#isListening || (this.#glancing && this.#hasCapacity);
  }

  /** True if more can be taken from the socket. */
  get #hasCapacity(): boolean {
    return this.#state === "CONNECTED" && this.#hasRoom(this.#maxIncoming) && !this.#isCongested;
  }

  /** Whether one more command may wait: `maxIncoming` are bounded, and what they hold together. */
  #hasRoom(maxIncoming: number): boolean {
    return this.#incoming.length < maxIncoming && this.#incomingBytes < MAX_INCOMING_BYTES;
  }

  /** How many commands may wait. While a reply is awaited as well, perhaps by the handler, it may be behind many of them. */
  get #maxIncoming(): number {
    return this.#asyncPending > 0 ? MAX_INCOMING_BLOCKED : MAX_INCOMING;
  }

  /** Whether a client has left so many answers unread that its next requests have to wait. */
  get #isCongested(): boolean {
    return this.#peer === "client" && this.#stream.queuedBytes > SERVE_HIGH_WATER;
  }

  /** Has the poll watch what is awaited, and nothing else. */
  #updateWatch(): void {
    let events = 0;
    if (this.#state === "CONNECTED") {
      if (this.#isListening) events |= POLLIN;
    }
    if (this.#mayAnswer && this.#stream.isBlocked) events |= POLLOUT;
    const isNeeded = this.#drain !== undefined
      ? this.#drain.answers
      : this.#state === "CONNECTED" && (events !== 0 || this.#asyncPending > 0);
    if (events !== this.#watch?.events || !isNeeded) {
      this.#watch?.close();
      this.#watch = isNeeded
        ? watch(
          this.#stream.fd,
          events,
          (revents) => this.#onWatch(revents),
          this.#peer === "client" && this.#state === "CONNECTED",
        )
        : undefined;
      if (this.#watch?.lingers) this.#watch.guess = () => this.#onGuess();
    }
    if (this.#watch !== undefined) this.#watch.deadline = this.#drain?.until ?? this.#deadline;
    this.#updateGlance();
    this.#updateSearch();
    if (this.twin !== undefined) this.twin.#follow(this.#isListening);
  }

  /** Has a timer look at a socket that the poll does not watch, if it is to be glanced at. */
  #updateGlance(): void {
    const isNeeded = this.#glancing && this.#state === "CONNECTED" && this.#watch === undefined;
    if (isNeeded === (this.#glance !== undefined)) return;
    if (isNeeded) {
      const glance = this.#glance = setInterval(() => this.#onGuess(), GLANCE_MS);
      Deno.unrefTimer(glance);
    } else this.#stopGlance();
  }

  /**
   * Has a timer look for sockets in what a client has sent, while its requests wait because it
   * reads no answers. One of them may be the client's own end of this connection: then nothing
   * tells that the client is gone.
   */
  #updateSearch(): void {
    const isNeeded = this.#state === "CONNECTED" && this.#isCongested;
    if (isNeeded === (this.#search !== undefined)) return;
    if (isNeeded) this.#search = setInterval(() => this.#searchSockets(), SEARCH_MS);
    else this.#stopSearch();
  }

  #stopSearch(): void {
    clearInterval(this.#search);
    this.#search = undefined;
  }

  #searchSockets(): void {
    try {
      if (!this.#isCongested) return this.#stopSearch();
      if (!this.#stream.holdsSocket()) return;
      this.#fail(
        new ProtocolError(`The ${this.#peer} passed a socket, and does not read its answers`),
      );
    } catch (error) {
      this.#breakOff(error);
    }
  }

  #stopGlance(): void {
    clearInterval(this.#glance);
    this.#glance = undefined;
  }

  /** Has the poll watch a socket that is glanced at for a while. */
  #payAttention(): void {
    this.#attentiveUntil = monotonicMs() + ATTENTION_MS;
    this.#watchDeadline(this.#attentiveUntil);
  }

  /** A twin is listened to as well while something is awaited from the other one. */
  #follow(on: boolean): void {
    if (on === this.#isFollowing) return;
    this.#isFollowing = on;
    if (this.#glancing) this.#payAttention();
    this.#updateWatch();
  }

  // What a trace throws, or any other code that no caller waits for, ends this connection alone.

  #onWatch(revents: number): void {
    try {
      if (revents === 0) this.#onDeadline();
      else this.#onReady();
    } catch (error) {
      this.#breakOff(error);
    }
  }

  #onGuess(): boolean {
    try {
      return this.#onReady();
    } catch (error) {
      this.#breakOff(error);
      return true;
    }
  }

  #onFlush(): void {
    try {
      if (this.#drain !== undefined) return this.#continueDrain();
      if (this.#state !== "CONNECTED") return;
      this.#flush();
      // The client may have read again.
      if (this.#incoming.length > 0) this.#takeMessages(this.#maxIncoming);
      this.#updateWatch();
    } catch (error) {
      this.#breakOff(error);
    }
  }

  #breakOff(error: unknown): void {
    const message = `The connection to the ${this.#peer} can't go on: ${thrownText(error)}`;
    this.#fail(new ConnectionError(message, { cause: error }));
  }

  /** The poll watches all deadlines; it is told the earliest. */
  #watchDeadline(deadline: number): void {
    if (deadline >= this.#deadline) return;
    this.#deadline = deadline;
    if (this.#watch !== undefined) this.#watch.deadline = deadline;
  }

  #onDeadline(): void {
    if (this.#drain !== undefined) return this.#endDrain(true);
    this.#deadline = Infinity;
    const now = monotonicMs();
    if (this.#attentiveUntil <= now) this.#attentiveUntil = 0;
    let next = this.#attentiveUntil || Infinity;
    // All of them beforehand: where one ends, another one that waited is sent.
    for (const pending of [...this.#pending.values(), ...this.#waiting.keys()]) {
      if (pending.isDone || pending.settle === undefined) continue; // a blocked caller looks at the clock itself
      if (pending.deadline <= now) this.#abandon(pending, timeoutError(pending, this.#peer));
      else next = Math.min(next, pending.deadline);
    }
    if (this.#state !== "CONNECTED") return;
    this.#watchDeadline(next);
    this.#updateWatch();
  }

  // ---- The dispatcher

  #dispatch(message: Message): void {
    if (message.isReply) return this.#dispatchReply(message);
    // Cloud Hypervisor's crate typed its error replies as commands until 2026.
    if (message.isError && this.#pending.get(message.messageId)?.command === message.command) {
      return this.#dispatchReply(message);
    }
    if (this.#state !== "CONNECTED") return message.discardFds();
    this.#incoming.push(message);
    this.#incomingBytes += message.payloadSize;
  }

  #dispatchReply(message: Message): void {
    const { messageId, command } = message;
    const pending = this.#pending.get(messageId);
    if (pending === undefined) {
      message.discardFds();
      if (this.#isLate(messageId, command)) return;
      throw new ProtocolError(
        `The ${this.#peer} sent a ${
          commandName(command)
        } reply with message id ${messageId}, which no request has`,
      );
    }
    if (command !== pending.command) {
      message.discardFds();
      throw new ProtocolError(
        `The ${this.#peer} sent a ${commandName(command)} reply to request ${messageId}, which is ${
          commandName(pending.command)
        }`,
      );
    }
    const maxFds = message.isError ? 0 : pending.maxReplyFds;
    if (message.fdCount > 0 && maxFds === 0) {
      const count = message.fdCount;
      message.discardFds();
      throw new ProtocolError(
        `The ${this.#peer} passed ${count} file descriptor${count === 1 ? "" : "s"} with a ${
          commandName(command)
        } reply, where none belong`,
      );
    }
    if (message.isError) {
      const error = remoteError(pending, this.#peer, message.error);
      return this.#complete(pending, undefined, error);
    }
    if (pending.into !== undefined && pending.into.length !== pending.intoSize) {
      message.discardFds();
      return this.#complete(pending, undefined, detachedError(pending));
    }
    message.keepFds(maxFds);
    // A view will do for a blocked caller, unless a handler is under way: then there may be another one, who receives before this one reads.
    const { twin } = this;
    const isNested = this.#handling || (twin !== undefined && twin.#handling);
    const isView = pending.settle === undefined && !isNested;
    if (!isView) pending.into === undefined ? message.own() : message.place(pending.into);
    this.#complete(pending, message, undefined);
  }

  /** Whether a reply that nobody waits for is explained: its request timed out, or did not want one. */
  #isLate(messageId: number, command: number): boolean {
    if (this.#abandoned.get(messageId) === command) {
      this.#abandoned.delete(messageId);
      return true;
    }
    return this.#hasPosted && messageId >= POSTED_IDS;
  }

  // ---- Requests of the peer

  /** Hands the commands that came to the handler, one at a time. */
  #serve(): void {
    if (this.#incoming.length === 0 && this.#drain === undefined) return;
    while (this.#incoming.length > 0 && this.#isServing) {
      if (this.#isCongested) this.#flush();
      if (this.#handling || this.#isCongested) {
        for (const message of this.#incoming) message.own(); // they wait: the receive buffer is used again meanwhile
        return;
      }
      const message = this.#incoming.shift()!;
      this.#incomingBytes -= message.payloadSize;
      this.#handling = true;
      const request = new Incoming(message, (reply) => this.#answer(message, reply));
      this.#viewsInUse = true;
      const result = this.#callHandler(request);
      if (result instanceof Promise) {
        if (this.#viewsInUse) this.#keepViews();
        for (const waiting of this.#incoming) waiting.own();
        result.finally(() => {
          this.#finish(request);
          if (this.#drain !== undefined) return this.#serve();
          if (this.#state !== "CONNECTED") return;
          this.#takeMessages(this.#maxIncoming);
          if (this.#state === "CONNECTED") this.#flush();
          this.#updateWatch();
        }).catch((error) => this.#breakOff(error));
        return;
      }
      this.#finish(request);
    }
    if (this.#state === "CONNECTED") this.#flush();
    else if (this.#drain !== undefined && !this.#handling) this.#endDrain();
  }

  /** True if commands are handed on: those that came ahead of the end for a while, too. */
  get #isServing(): boolean {
    return this.#state === "CONNECTED" ||
      (this.#drain !== undefined && monotonicMs() < this.#drain.until);
  }

  /** True if the peer is still answered. */
  get #mayAnswer(): boolean {
    return this.#state === "CONNECTED" || this.#drain?.answers === true;
  }

  /** A handler that throws, which it should not, answers EIO; the error is nobody's but the process's. */
  #callHandler(request: Incoming): void | Promise<void> {
    if (this.#handler === undefined) return request.fail(EINVAL);
    const onError = (error: unknown) => {
      if (!request.isAnswered) request.fail(EIO);
      reportError(error);
    };
    try {
      const result = this.#handler(request);
      return result instanceof Promise ? result.catch(onError) : undefined;
    } catch (error) {
      onError(error);
    }
  }

  /** What the handler was given stays as it is while the proxy receives, because the handler has not returned or awaits. */
  #keepViews(): void {
    this.#stream.keepViews();
    this.#viewsInUse = false;
  }

  #finish(request: Incoming): void {
    this.#handling = this.#viewsInUse = false;
    if (!request.isAnswered) request.fail(EINVAL);
    closeAll(request.takeFds());
  }

  #answer(message: Message, reply: Answer): void {
    if (!this.#mayAnswer || (message.flags & MessageFlags.NO_REPLY) !== 0) return;
    const { messageId, command } = message;
    const flags = reply.errno === undefined
      ? MessageFlags.REPLY
      : MessageFlags.REPLY | MessageFlags.ERROR;
    const { sizeLimit } = reply;
    try {
      if (sizeLimit === undefined) {
        this.#stream.write(
          messageId,
          command,
          flags,
          reply.errno ?? 0,
          reply.payload,
          reply.data,
          reply.fds?.map((fd) => fd.fd),
        );
      } else {
        const whole = encodeMessage({ messageId, command, flags }, reply.payload);
        this.#stream.writeBytes(whole.subarray(0, sizeLimit));
      }
    } catch (error) {
      this.#failed(error);
    }
    this.#scheduleFlush();
  }

  // ---- The end

  /**
   * Ends the connection by a failure. Commands that came ahead of it are still served. A peer that
   * broke the protocol gets their answers, then EINVAL for the command that broke it.
   */
  #fail(cause: Error): void {
    if (this.#drain !== undefined) return this.#closeStream(); // nothing more can be sent either
    if (this.#state !== "CONNECTED") return;
    this.#state = "ERROR";
    this.#end(cause, true);
  }

  #end(cause: Error | undefined, isFailure: boolean): void {
    this.#cause = cause;
    const answers = isFailure && cause instanceof ProtocolError;
    if (isFailure && (answers || this.#incoming.length > 0)) {
      const rejected = this.#peer === "client" ? this.#stream.rejected : undefined;
      this.#drain = { until: monotonicMs() + MAX_DRAIN_MS, answers, rejected };
    } else this.#discardIncoming();
    if (!answers) this.#closeStream();
    const error = cause ?? new ConnectionError(`The connection to the ${this.#peer} was closed`);
    const unfinished = [...this.#pending.values(), ...this.#waiting.keys()];
    this.#pending.clear();
    this.#waiting.clear();
    this.#abandoned.clear();
    const attendants = [...this.#attendants];
    this.#attendants.clear();
    const [oldest] = unfinished;
    const isDraining = this.#drain !== undefined;
    for (const pending of unfinished) {
      this.#complete(pending, undefined, endedError(error, pending, oldest!));
    }
    for (const onEnd of attendants) onEnd(cause);
    if (!isDraining) return this.#onClose?.(cause);
    this.#continueDrain();
  }

  /** Does what can be done now of what came ahead of the end. */
  #continueDrain(): void {
    if (this.#drain?.answers) this.#flush();
    if (this.#drain !== undefined && !this.#handling) this.#serve();
    this.#updateWatch();
  }

  /**
   * All that the peer asked is done, or there is no time left for it.
   *
   * @param isOver the peer is not waited for, though it has not read all of its answers
   */
  #endDrain(isOver = false): void {
    const drain = this.#drain!;
    if (drain.answers && this.#incoming.length === 0) this.#sendRejection(drain);
    const isRead = !drain.answers || !this.#stream.isBlocked;
    if (!isRead && !isOver && monotonicMs() < drain.until) return this.#updateWatch();
    this.#drain = undefined;
    this.#closeStream();
    this.#discardIncoming();
    this.#onClose?.(this.#cause);
  }

  /** Answers the command that broke the protocol, behind all others. */
  #sendRejection(drain: Drain): void {
    const { rejected } = drain;
    drain.rejected = undefined;
    try {
      if (rejected !== undefined) {
        const { messageId, command } = rejected;
        this.#stream.write(messageId, command, MessageFlags.REPLY | MessageFlags.ERROR, EINVAL);
      }
      this.#stream.flush();
    } catch { // the connection ends anyway
      this.#closeStream();
    }
  }

  #closeStream(): void {
    if (this.#drain !== undefined) this.#drain.answers = false;
    this.#watch?.close();
    this.#watch = undefined;
    this.#stopGlance();
    this.#stopSearch();
    this.#stream.close();
    this.#state = "CLOSED";
  }

  #discardIncoming(): void {
    for (const message of this.#incoming) message.discardFds();
    this.#incoming = [];
    this.#incomingBytes = 0;
  }
}

/** What an answer consists of: a payload, or an errno. */
interface Answer {
  errno?: number;
  payload?: Uint8Array | undefined;
  data?: Uint8Array | undefined;
  fds?: readonly OwnedFd[] | undefined;
  /** How many bytes of it are sent, if not all. */
  sizeLimit?: number;
}

class Incoming implements IncomingRequest {
  readonly #message: Message;
  readonly #answer: (answer: Answer) => void;
  isAnswered = false;

  constructor(message: Message, answer: (answer: Answer) => void) {
    this.#message = message;
    this.#answer = answer;
  }

  get command(): number {
    return this.#message.command;
  }

  get noReply(): boolean {
    return (this.#message.flags & MessageFlags.NO_REPLY) !== 0;
  }

  get payload(): Uint8Array {
    return this.#message.payload;
  }

  get fdCount(): number {
    return this.#message.fdCount;
  }

  takeFds(): OwnedFd[] {
    return this.#message.takeFds();
  }

  reply(payload?: Uint8Array, data?: Uint8Array, fds?: readonly OwnedFd[]): void {
    this.#finish({ payload, data, fds });
  }

  fail(errno: number): void {
    this.#finish({ errno });
  }

  replyInPart(sizeLimit: number, payload?: Uint8Array): void {
    this.#finish({ payload, sizeLimit });
  }

  #finish(answer: Answer): void {
    if (this.isAnswered) throw new Error(`${commandName(this.command)} was answered already`);
    this.#answer(answer);
    this.isAnswered = true; // not if that threw: the peer is still owed an answer
  }
}

/** Whether an error ends the connection. */
function isFailure(error: unknown): error is Error {
  return error instanceof ProtocolError || error instanceof ConnectionError;
}

/** Options whose data are nobody else's. */
function ownData<T extends RequestOptions>(options: T): T {
  return options.data ? { ...options, data: options.data.slice() } : options;
}

function makePending(
  command: number,
  options: RequestOptions,
  timeoutMs: number,
): Pending {
  if (Number.isNaN(timeoutMs)) {
    throw new RangeError("A timeout is a number of milliseconds, not NaN");
  }
  if ((options.into?.buffer as ArrayBuffer | undefined)?.detached) {
    throw new TypeError(`Cannot ask for ${commandName(command)}: the buffer for it is detached`);
  }
  return {
    id: undefined,
    command,
    doing: options.doing,
    maxReplyFds: options.maxReplyFds ?? 0,
    into: options.into,
    intoSize: options.into?.length ?? 0,
    timeoutMs,
    deadline: monotonicMs() + timeoutMs,
    settle: undefined,
    reply: undefined,
    error: undefined,
    isDone: false,
  };
}

function detachedError(pending: Pending): TypeError {
  return new TypeError(
    `Cannot ${describeDoing(pending)}: the buffer for the answer was detached or resized meanwhile`,
  );
}

function describeDoing({ command, doing }: Pick<Pending, "command" | "doing">): string {
  if (typeof doing === "function") return doing();
  return doing ?? `complete ${commandName(command)}`;
}

/** The failure of a request that the end of the connection leaves without a reply. */
function endedError(error: Error, pending: Pending, oldest: Pending): Error {
  if (!(error instanceof ConnectionError)) return error;
  const own = inFlight(pending);
  return endedDuring(error, own, pending === oldest ? own : inFlight(oldest));
}

function inFlight(pending: Pending): RequestInFlight {
  return { command: pending.command, doing: describeDoing(pending) };
}

function timeoutError(pending: Pending, peer: Role): TimeoutError {
  const within = `${Math.round(pending.timeoutMs)} ms`;
  return new TimeoutError(
    `Cannot ${describeDoing(pending)}: the ${peer} did not answer within ${within}`,
  );
}

function remoteError(pending: Pending, peer: Role, errno: number): RemoteError {
  return new RemoteError(`Cannot ${describeDoing(pending)}`, errno, peer);
}
