/**
 * `VfioProxy`: one end of a vfio-user connection, the client's or the server's.
 * The name is that of QEMU's patches of 2021, in which it stood in for a device elsewhere.
 *
 * Everything that arrives goes through one dispatcher: a reply completes its pending request, a
 * command of the peer goes to the handler. Two drivers work over it. `requestSync` sends, then
 * blocks the thread until its reply is there. `request` returns a promise; what one turn of the
 * event loop asks for leaves in one send, and one poll waits for the replies. Both may be used on
 * one proxy, mixed at will.
 *
 * Threading and blocking:
 * - A proxy belongs to the thread (isolate) that made it. It has no locks, and needs none.
 * - `requestSync` blocks its thread for up to its timeout. Meanwhile commands of the peer are
 *   served, and replies to asynchronous requests are taken in. Promises, timers and AbortSignals of
 *   the thread wait.
 * - The handler is called after all messages of a receive were dispatched, one command at a time,
 *   in order of arrival. If it returns a promise, the next command waits for that promise. The
 *   handler may itself call `requestSync`.
 * - `request` and `close` never block; `post` does only when the peer leaves very much unread.
 * - Every request ends exactly once: with its reply, an error reply, a timeout, an abort, or the
 *   end of the connection. A reply that comes after that is taken off the stream and dropped.
 * - The process is kept alive while an asynchronous request is pending, while a caller attends, and
 *   while `serving` is on. `glancing` keeps the process alive only for a fifth of a second after
 *   each message.
 * - A peer may leave, or break the protocol, without waiting for answers. Commands that it sent
 *   before are still served, for two seconds at most. A peer that broke the protocol is answered
 *   meanwhile. `onClose` is called then.
 *
 * States: CONNECTED, then ERROR or CLOSING, then CLOSED. ERROR is a failure, kept in `cause`;
 * commands that came before it are served in that state. CLOSING begins with `close`. On the way
 * every pending request fails with the cause, at once.
 *
 * @module
 */

import type { UnixSocket } from "../../ffi/socket.ts";
import { RemoteError } from "../base/errors.ts";
import { DEFAULT_TIMEOUT_MS, HEADER_SIZE, MAX_MSG_FDS, MAX_VERSION_SIZE } from "../base/limits.ts";
import { AsyncDriver } from "./async_driver.ts";
import { Dispatcher, type ProxyState } from "./dispatcher.ts";
import type { RequestHandler } from "./incoming.ts";
import type { Message, Trace } from "./message.ts";
import { type AsyncRequestOptions, ownData, type RequestOptions } from "./pending.ts";
import type { Role } from "./peer.ts";
import type { StreamLimits } from "./receiver.ts";
import { MessageStream } from "./stream.ts";
import { SyncDriver } from "./sync_driver.ts";

/** The options of a proxy. */
export interface ProxyOptions {
  /** The end that this is. */
  role: Role;
  /** Serves the peer's commands. Without a handler each is answered with EINVAL. */
  handler?: RequestHandler;
  /** For requests that say nothing else, in milliseconds. Default 5000. */
  timeoutMs?: number;
  /** Sees every message. */
  trace?: Trace;
  /**
   * Called once when the connection has ended, with the reason unless `close` was called without
   * a reason.
   */
  onClose?: (cause: Error | undefined) => void;
}

/** Bytes that may wait to be sent before `post` waits for the peer. */
const POST_HIGH_WATER = 1 << 20;

/** One end of a vfio-user connection. */
export class VfioProxy implements Disposable {
  readonly #stream: MessageStream;
  readonly #dispatcher: Dispatcher;
  readonly #sync: SyncDriver;
  readonly #async: AsyncDriver;
  readonly #timeoutMs: number;
  #twin: VfioProxy | undefined;

  /** Takes over a connected socket. Until the limits are set, only a VERSION message fits. */
  constructor(socket: UnixSocket, options: ProxyOptions) {
    const peer = options.role === "client" ? "server" : "client";
    this.#stream = new MessageStream(socket, peer, {
      maxMessageSize: HEADER_SIZE + MAX_VERSION_SIZE,
      maxFds: MAX_MSG_FDS,
    });
    this.#stream.trace = options.trace;
    this.#dispatcher = new Dispatcher(this.#stream, peer, options.handler, options.onClose);
    this.#sync = new SyncDriver(this.#dispatcher);
    this.#async = new AsyncDriver(this.#dispatcher);
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  /** The state of the proxy. */
  get state(): ProxyState {
    return this.#dispatcher.state;
  }

  /** Why the connection ended, if it was not just closed. */
  get cause(): Error | undefined {
    return this.#dispatcher.cause;
  }

  /** Bytes that came and were not understood: of an incomplete message, or of an impossible one. */
  get untaken(): Uint8Array {
    return this.#stream.receiver.untaken;
  }

  /** Requests that have not ended. */
  get pendingCount(): number {
    return this.#dispatcher.requests.count;
  }

  /** The limits of messages that are accepted from the peer, as negotiated. */
  get limits(): StreamLimits {
    return this.#stream.receiver.limits;
  }
  set limits(limits: StreamLimits) {
    this.#stream.receiver.limits = limits;
  }

  /**
   * The number of requests that may be in flight at once; more wait for their turn. 1 for a peer
   * that can't take a second request.
   */
  get window(): number {
    return this.#dispatcher.requests.window;
  }
  set window(window: number) {
    this.#dispatcher.requests.window = window;
  }

  /** The number of descriptors that the peer takes in one message. */
  get peerMaxFds(): number {
    return this.#dispatcher.requests.peerMaxFds;
  }
  set peerMaxFds(count: number) {
    this.#dispatcher.requests.peerMaxFds = count;
  }

  /**
   * The proxy of the twin socket, if there is one, on which the peer's commands come in place of
   * this one. It is served while this proxy blocks.
   */
  get twin(): VfioProxy | undefined {
    return this.#twin;
  }
  set twin(twin: VfioProxy | undefined) {
    this.#twin = twin;
    this.#dispatcher.twin = twin && twin.#dispatcher;
    this.#async.twin = twin && twin.#async;
  }

  /**
   * True if commands of the peer are served while nothing is asked of it. Keeps the process alive
   * while on. While off, commands are served during requests only.
   */
  get serving(): boolean {
    return this.#async.serving;
  }
  set serving(on: boolean) {
    this.#async.serving = on;
  }

  /**
   * True if commands of the peer are served while nothing is asked of it, without keeping the
   * process alive. The proxy looks at the socket each 50 ms, and at once as long as commands come.
   * They wait where the thread has no event loop that turns.
   */
  get glancing(): boolean {
    return this.#async.glancing;
  }
  set glancing(on: boolean) {
    this.#async.glancing = on;
  }

  /**
   * Sends a command and blocks until its reply is there.
   *
   * @param payload the bytes after the header
   * @returns the reply; its payload is a view that holds until the proxy is used again. Its
   *   descriptors are the caller's to take
   * @throws {RemoteError} if the peer answers with an error
   * @throws {TimeoutError} if no reply came in time; the connection goes on, and drops a late reply
   * @throws {TypeError} if `into` was detached or resized meanwhile; the connection goes on
   * @throws {ProtocolError} if the peer breaks the protocol; the connection is then closed
   * @throws {ConnectionError} if there is no connection, or it ends
   */
  requestSync(command: number, payload?: Uint8Array, options: RequestOptions = {}): Message {
    const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
    const pending = this.#sync.request(command, payload, options, timeoutMs);
    if (pending.error !== undefined) throw pending.error;
    return pending.reply!;
  }

  /**
   * As `requestSync` if the reply comes soon: at once, with a view of the receive buffer. Else as
   * `request`: what takes longer does not keep the thread from signals and timers.
   *
   * @param blockMs what is soon; twice that if something else comes before the reply
   * @returns the reply, or a promise of it
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
    const { requests } = this.#dispatcher;
    if (requests.isFull || requests.hasWaiting) return this.request(command, payload, options);
    const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
    const pending = this.#sync.request(command, payload, options, timeoutMs, blockMs);
    if (pending.error !== undefined) throw pending.error;
    return pending.reply ?? this.#async.settlement(pending, signal);
  }

  /**
   * Sends a command; the promise is settled when its reply is there. Any number may be pending: up
   * to `window` are in flight, the others wait for their turn. They leave in the order of the
   * calls.
   *
   * @param payload the bytes after the header; payload and data may be reused when the call returns
   * @returns the reply, with bytes of its own. Its descriptors are the caller's to take
   * @throws as `requestSync`, and the signal's reason if that is aborted
   */
  request(
    command: number,
    payload?: Uint8Array,
    options: AsyncRequestOptions = {},
  ): Promise<Message> {
    const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
    return this.#async.request(command, payload, options, timeoutMs);
  }

  /**
   * Sends a command that wants no reply. It leaves with the next flush: at the end of this turn of
   * the event loop, or ahead of the next synchronous request. Blocks while the peer leaves more
   * than 1 MiB unread.
   *
   * @throws {ConnectionError} if there is no connection
   * @throws {TimeoutError} if the call had to wait and the peer did not read
   */
  post(
    command: number,
    payload?: Uint8Array,
    options: Pick<RequestOptions, "data" | "fds"> = {},
  ): void {
    const dispatcher = this.#dispatcher;
    dispatcher.assertSendable(command, options);
    if (dispatcher.requests.hasWaiting) return this.#postLater(command, payload, options);
    if (this.window === 1) return this.#postAlone(command, payload, options);
    if (this.#stream.sender.queuedBytes > POST_HIGH_WATER) {
      payload = payload?.slice();
      options = ownData(options);
      this.flushSync();
    }
    dispatcher.post(command, payload, options);
  }

  /** Posts to a peer that can't take a second request: waits for the reply, and ignores it. */
  #postAlone(command: number, payload: Uint8Array | undefined, options: RequestOptions): void {
    try {
      this.requestSync(command, payload, options);
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
    }
  }

  /** Posts behind requests that wait for their turn: by then a reply may come as well. */
  #postLater(command: number, payload: Uint8Array | undefined, options: RequestOptions): void {
    this.request(command, payload, options).catch(() => {});
  }

  /**
   * Sends what was posted now.
   *
   * @param timeoutMs blocks for so long at most, while the peer's buffer is full
   * @throws {TimeoutError} if the peer did not read in time
   * @throws {ConnectionError} if there is no connection, or it ends
   */
  flushSync(timeoutMs: number = this.#timeoutMs): void {
    this.#sync.flush(timeoutMs);
  }

  /**
   * Watches the connection until disposed of, for a caller that waits for something which does not
   * come over the connection. Commands of the peer are served, the process is kept alive.
   *
   * @param onEnd called once if the connection ends meanwhile, with the cause unless it was just
   *   closed
   * @returns what ends the watch when it is disposed of
   * @throws {ConnectionError} if there is no connection
   */
  attend(onEnd: (cause: Error | undefined) => void): Disposable {
    this.#dispatcher.assertConnected();
    return this.#async.attend(onEnd);
  }

  /**
   * Blocks until one of these descriptors is readable, serving the peer's commands and taking in
   * replies meanwhile.
   *
   * @param fds descriptors to wait for besides the connection
   * @param timeoutMs Infinity waits as long as the connection lasts
   * @returns the index of the first that is readable; -1 after the timeout
   * @throws {ProtocolError} if the peer breaks the protocol; the connection is then closed
   * @throws {ConnectionError} if there is no connection, or it ends
   */
  waitSync(fds: readonly number[], timeoutMs: number): number {
    return this.#sync.wait(fds, timeoutMs);
  }

  /**
   * Blocks for `timeoutMs`, serving the peer's commands and taking in replies meanwhile.
   *
   * @throws {ProtocolError} if the peer breaks the protocol; the connection is then closed
   * @throws {ConnectionError} if there is no connection, or it ends
   */
  serveSync(timeoutMs: number): void {
    this.#sync.serve(timeoutMs);
  }

  /**
   * Ends the connection. Every pending request fails at once; descriptors that no handler took are
   * closed.
   *
   * @param cause the error of the pending requests; without a cause they learn that the connection
   *   was closed
   */
  close(cause?: Error): void {
    this.#dispatcher.close(cause);
  }

  /**
   * Ends the connection because its twin's peer has left or broken the protocol. Messages that came
   * before are taken first.
   *
   * @param cause the error of the pending requests
   */
  closeAfterPeer(cause: Error): void {
    this.#dispatcher.closeAfterPeer(cause);
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
