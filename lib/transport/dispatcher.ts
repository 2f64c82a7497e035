/**
 * `Dispatcher`: takes what arrives on a connection where it belongs, and ends the connection.
 *
 * A reply completes its request, a command of the peer goes to the inbox. The dispatcher never
 * waits: drivers call it when the socket is ready, or have it receive.
 *
 * States: CONNECTED, then ERROR or CLOSING, then CLOSED. `cause` is the failure, if there was one.
 * Commands that came ahead of a failure are still served, for two seconds at most. In ERROR a peer
 * that broke the protocol still gets answers; a peer that left does not. CLOSING begins with
 * `close`.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { monotonicMs } from "../../ffi/clock.ts";
import { ConnectionError, endedDuring, ProtocolError } from "../base/errors.ts";
import { MAX_ABANDONED, MAX_DRAIN_MS, MAX_INCOMING, MAX_INCOMING_BLOCKED } from "../base/limits.ts";
import { thrownText } from "../base/thrown.ts";
import { MessageFlags, type MessageKey } from "../wire/header.ts";
import { Inbox, type InboxHost } from "./inbox.ts";
import type { RequestHandler } from "./incoming.ts";
import type { Message } from "./message.ts";
import { describeInFlight, type Pending, type RequestOptions, timeoutError } from "./pending.ts";
import type { Role } from "./peer.ts";
import type { Receiver } from "./receiver.ts";
import { Requests } from "./requests.ts";
import type { Sender } from "./sender.ts";
import type { MessageStream } from "./stream.ts";

/** Receives that take more than a socket's buffer holds, and end if it is filled all the time. */
const LAST_RECEIVES = 16;

/** The state of a proxy. */
export type ProxyState = "CONNECTED" | "ERROR" | "CLOSING" | "CLOSED";

/** The work that is left after a connection has ended by itself. */
interface Drain {
  /** When there is no time left for the work. */
  readonly until: number;
  /** The command that broke the protocol, as long as that is not answered. */
  rejected: MessageKey | undefined;
}

/** Does the work of a connection while no caller blocks. */
export interface Driver {
  /** Sends what is queued at the end of this turn of the event loop. */
  scheduleFlush(): void;
  /** Watches what has to be watched now. */
  update(): void;
  /** Reports the end of the connection to its attendants. */
  ended(cause: Error | undefined): void;
  /** Stops watching, because the socket is about to be closed. */
  stop(): void;
}

/** Takes messages of one connection where they belong. */
export class Dispatcher implements InboxHost {
  readonly stream: MessageStream;
  readonly sender: Sender;
  readonly receiver: Receiver;
  readonly peer: Role;
  readonly requests: Requests;
  readonly inbox: Inbox;
  readonly #onClose: ((cause: Error | undefined) => void) | undefined;
  #state: ProxyState = "CONNECTED";
  #cause: Error | undefined;
  #drain: Drain | undefined;

  /** Set by the driver itself, ahead of the first message. */
  driver!: Driver;
  /** The connection that is served while a caller blocks for this one. */
  twin: Dispatcher | undefined;

  /**
   * @param peer the other end
   * @param onClose called once when the connection has ended
   */
  constructor(
    stream: MessageStream,
    peer: Role,
    handler: RequestHandler | undefined,
    onClose: ((cause: Error | undefined) => void) | undefined,
  ) {
    this.stream = stream;
    this.sender = stream.sender;
    this.receiver = stream.receiver;
    this.peer = peer;
    this.requests = new Requests(stream, peer);
    this.inbox = new Inbox(stream, peer, this, handler);
    this.#onClose = onClose;
  }

  get state(): ProxyState {
    return this.#state;
  }

  get cause(): Error | undefined {
    return this.#cause;
  }

  get isConnected(): boolean {
    return this.#state === "CONNECTED";
  }

  /** When the work that is left after the end has to be done; undefined if there is none. */
  get drainsUntil(): number | undefined {
    return this.#drain?.until;
  }

  /** True if the peer still gets answers. */
  get mayAnswer(): boolean {
    return this.#state === "CONNECTED" || (this.#state === "ERROR" && this.#drain !== undefined);
  }

  /** True if commands are still handed to the handler. */
  get isServing(): boolean {
    return this.#state === "CONNECTED" ||
      (this.#drain !== undefined && monotonicMs() < this.#drain.until);
  }

  /**
   * The number of commands that may wait. While a reply is awaited as well, perhaps by the handler,
   * that may be behind many commands.
   */
  get maxIncoming(): number {
    return this.requests.asyncCount > 0 ? MAX_INCOMING_BLOCKED : MAX_INCOMING;
  }

  /** True if more can be taken from the socket. */
  get hasCapacity(): boolean {
    return this.#state === "CONNECTED" && this.inbox.hasRoom(this.maxIncoming) &&
      !this.inbox.isCongested;
  }

  /** @throws {ConnectionError} if there is no connection */
  assertConnected(): void {
    if (this.#state === "CONNECTED") return;
    throw this.#cause ?? new ConnectionError(`The connection to the ${this.peer} is closed`);
  }

  /**
   * @throws {ConnectionError} if there is no connection
   * @throws {RangeError} if the request passes more descriptors than the peer takes
   */
  assertSendable(command: number, options: RequestOptions): void {
    if (this.#state !== "CONNECTED") throw this.#closedError(command, options);
    this.requests.checkFds(options);
  }

  /** The failure of a request that comes after the end of the connection. */
  #closedError(command: number, { doing }: RequestOptions): Error {
    const cause = this.#cause;
    if (cause !== undefined && !(cause instanceof ConnectionError)) return cause;
    const reason = new ConnectionError(`The connection to the ${this.peer} is closed`);
    return endedDuring(cause ?? reason, describeInFlight({ command, doing }));
  }

  // ---- Requests of ours

  /** Sends a request. What the stream throws ends the request, and the connection. */
  send(pending: Pending, payload: Uint8Array | undefined, options: RequestOptions): void {
    try {
      this.requests.send(pending, payload, options);
    } catch (error) {
      if (!isFailure(error)) this.requests.withdraw(pending);
      this.failOrThrow(error);
    }
  }

  /** As `send`; a caller's mistake (a closed descriptor) ends the request, too. */
  trySend(pending: Pending, payload: Uint8Array | undefined, options: RequestOptions): void {
    try {
      this.send(pending, payload, options);
    } catch (error) {
      this.requests.complete(pending, undefined, error as Error);
    }
  }

  /** Sends requests that waited for their turn, as far as there is room. */
  #sendWaiting(): void {
    const { requests } = this;
    let next = requests.takeWaiting();
    for (; next !== undefined; next = requests.takeWaiting()) {
      this.trySend(next.pending, next.payload, next.options);
      this.scheduleFlush();
    }
  }

  /** Sends a command that wants no reply. */
  post(command: number, payload: Uint8Array | undefined, options: RequestOptions): void {
    try {
      this.requests.post(command, payload, options);
    } catch (error) {
      this.failOrThrow(error);
    }
    this.scheduleFlush();
  }

  /** Ends a request without its reply, which is dropped if it comes later. */
  abandon(pending: Pending, error: Error): void {
    if (pending.isDone) return;
    this.requests.abandon(pending, error);
    if (this.requests.hasTooManyAbandoned) {
      const message = `The ${this.peer} left ${MAX_ABANDONED} requests unanswered`;
      this.fail(new ConnectionError(message, { kind: "stuck" }));
    }
    this.#sendWaiting();
    this.driver.update();
  }

  /** Ends a request because its time is over. */
  expire(pending: Pending): void {
    this.abandon(pending, timeoutError(pending, this.peer));
  }

  // ---- What arrives

  flush(): void {
    try {
      this.sender.flush();
    } catch (error) {
      this.failOrThrow(error);
    }
  }

  scheduleFlush(): void {
    this.driver.scheduleFlush();
  }

  /**
   * Receives once for a blocked caller, and dispatches every message that is whole. Commands of the
   * peer may queue up meanwhile, if the handler is what blocks.
   *
   * @param timeoutMs blocks for so long; 0 does not block
   */
  receive(timeoutMs: number): void {
    if (this.#state !== "CONNECTED") return;
    this.inbox.keepViews();
    try {
      this.receiver.receive(timeoutMs);
    } catch (error) {
      this.failOrThrow(error);
    }
    this.takeMessages(MAX_INCOMING_BLOCKED);
    if (this.inbox.hasRoom(MAX_INCOMING_BLOCKED)) return;
    const { length } = this.inbox;
    this.fail(
      new ProtocolError(`The ${this.peer} sent ${length} requests without waiting for an answer`),
    );
  }

  /**
   * Receives once while no caller blocks.
   *
   * @returns true if anything came
   */
  receiveNow(): boolean {
    let came = true; // the end of the connection, if it is that
    try {
      came = this.receiver.receive();
    } catch (error) {
      this.failOrThrow(error);
    }
    this.takeMessages(this.maxIncoming);
    return came;
  }

  /** Does what can be done now on behalf of a blocked caller. */
  advance(isReadable: boolean): void {
    this.flush();
    if (!isReadable) return;
    this.receive(0);
    if (this.#state === "CONNECTED") this.flush();
  }

  /**
   * Dispatches the messages that are there, and serves commands.
   *
   * @param maxIncoming stops while so many commands wait
   */
  takeMessages(maxIncoming: number): void {
    const { inbox, receiver } = this;
    let wasFull: boolean;
    do {
      try {
        while (inbox.hasRoom(maxIncoming)) {
          const message = receiver.next();
          if (message === undefined) break;
          this.#dispatch(message);
        }
        if (this.requests.hasWaiting) this.#sendWaiting();
      } catch (error) {
        this.failOrThrow(error);
      }
      wasFull = !inbox.hasRoom(maxIncoming);
      this.#serve();
    } while (wasFull && inbox.hasRoom(maxIncoming) && this.#state === "CONNECTED");
  }

  /** Goes on with commands that waited: the client may have read answers. */
  serveWaiting(): void {
    if (this.inbox.length > 0) this.takeMessages(this.maxIncoming);
  }

  #dispatch(message: Message): void {
    // Cloud Hypervisor's crate typed its error replies as commands until 2026.
    if (message.isReply || (message.isError && this.requests.expects(message))) {
      // During a handler another caller may receive before this one reads: a view would not hold.
      const mayView = !this.inbox.isBusy && this.twin?.inbox.isBusy !== true;
      return this.requests.takeReply(message, mayView);
    }
    if (this.#state !== "CONNECTED") return message.discardFds();
    this.inbox.push(message);
  }

  /** Serves the commands that came. */
  #serve(): void {
    if (this.inbox.length === 0 && this.#drain === undefined) return;
    if (!this.inbox.serve()) return;
    if (this.#state === "CONNECTED") {
      this.flush();
      if (this.sender.isBlocked) this.scheduleFlush(); // has the driver watch for room
    } else if (this.#drain !== undefined && !this.inbox.isBusy) this.#endDrain();
  }

  resume(): void {
    if (this.#drain !== undefined) return this.#serve();
    if (this.#state !== "CONNECTED") return;
    this.takeMessages(this.maxIncoming);
    if (this.#state === "CONNECTED") this.flush();
    this.driver.update();
  }

  // ---- The end

  /**
   * Ends the connection because of what the stream threw; a mistake of our own caller passes
   * through. Every use of the stream is in a try of its own. A function that is passed to a common
   * one costs a tenth of a round trip.
   */
  failOrThrow(error: unknown): void {
    if (!isFailure(error)) throw error;
    this.#takeLastWords(error);
    this.fail(error);
  }

  /**
   * Takes the replies of a peer that answers, then closes, although a send to it failed. A peer may
   * also send commands without an end: what the socket held is enough.
   */
  #takeLastWords(error: Error): void {
    if (!(error instanceof ConnectionError)) return;
    const { inbox, receiver, requests } = this;
    const isWorthIt = () => requests.inFlight > 0 && inbox.hasRoom(MAX_INCOMING_BLOCKED);
    try {
      for (let i = 0; i < LAST_RECEIVES && isWorthIt() && receiver.receive(); i++) {
        while (isWorthIt()) {
          const message = receiver.next();
          if (message === undefined) break;
          this.#dispatch(message);
        }
      }
    } catch { /* the first failure is the one to report */ }
  }

  breakOff(error: unknown): void {
    const message = `The connection to the ${this.peer} can't go on: ${thrownText(error)}`;
    this.fail(new ConnectionError(message, { cause: error }));
  }

  /**
   * Ends the connection by a failure. Commands that came ahead of the failure are still served. A
   * peer that broke the protocol gets their answers, then EINVAL for the command that broke it.
   */
  fail(cause: Error): void {
    if (this.#drain !== undefined) return this.#closeStream(); // nothing more can be sent either
    if (this.#state !== "CONNECTED") return;
    this.#state = "ERROR";
    const answers = cause instanceof ProtocolError;
    if (answers || this.inbox.length > 0) {
      const rejected = this.peer === "client" ? this.receiver.rejected : undefined;
      this.#drain = { until: monotonicMs() + MAX_DRAIN_MS, rejected };
    }
    this.#end(cause, answers);
  }

  /**
   * Ends the connection at our wish.
   *
   * @param cause ends the pending requests; without a cause they learn that it was closed
   */
  close(cause?: Error): void {
    if (this.#drain !== undefined) return this.#endDrain(true);
    if (this.#state !== "CONNECTED") return;
    this.#state = "CLOSING";
    try {
      // What was posted or answered still leaves, as far as the peer takes it.
      this.sender.flush();
    } catch { /* it is closed all the same */ }
    this.#end(cause, false);
  }

  /** Ends the connection because its twin's peer is gone. Takes what came before. */
  closeAfterPeer(cause: Error): void {
    if (this.#state !== "CONNECTED") return;
    this.takeMessages(MAX_INCOMING_BLOCKED); // of those that came, not all were read
    for (let i = 0; i < LAST_RECEIVES && this.#state === "CONNECTED"; i++) this.receive(0);
    this.fail(cause);
  }

  #end(cause: Error | undefined, answers: boolean): void {
    this.#cause = cause;
    const isDraining = this.#drain !== undefined;
    if (!isDraining) this.inbox.clear();
    if (!answers) this.#closeStream();
    this.requests.endAll(
      cause ?? new ConnectionError(`The connection to the ${this.peer} was closed`),
    );
    this.driver.ended(cause);
    if (!isDraining) return this.#onClose?.(cause);
    this.continueDrain();
  }

  /** Does what can be done now of what came ahead of the end. */
  continueDrain(): void {
    if (this.mayAnswer) this.flush();
    if (this.#drain !== undefined && !this.inbox.isBusy) this.#serve();
    this.driver.update();
  }

  /** Ends the work that was left, because there is no time left for it. */
  abortDrain(): void {
    this.#endDrain(true);
  }

  /**
   * Ends a connection whose commands are served, or out of time.
   *
   * @param isOver true if a peer that has not read all answers is not waited for
   */
  #endDrain(isOver = false): void {
    const drain = this.#drain!;
    if (this.mayAnswer && this.inbox.length === 0) this.#sendRejection(drain);
    const isRead = !this.mayAnswer || !this.sender.isBlocked;
    if (!isRead && !isOver && monotonicMs() < drain.until) return this.driver.update();
    this.#drain = undefined;
    this.#closeStream();
    this.inbox.clear();
    this.#onClose?.(this.#cause);
  }

  /** Answers the command that broke the protocol, behind all others. */
  #sendRejection(drain: Drain): void {
    const { rejected } = drain;
    drain.rejected = undefined;
    try {
      if (rejected !== undefined) {
        const { messageId, command } = rejected;
        this.sender.write(
          messageId,
          command,
          MessageFlags.REPLY | MessageFlags.ERROR,
          EINVAL,
        );
      }
      this.sender.flush();
    } catch { // the connection ends anyway
      this.#closeStream();
    }
  }

  #closeStream(): void {
    this.driver.stop();
    this.stream.close();
    this.#state = "CLOSED";
  }
}

/** True if an error ends the connection. */
function isFailure(error: unknown): error is Error {
  return error instanceof ProtocolError || error instanceof ConnectionError;
}
