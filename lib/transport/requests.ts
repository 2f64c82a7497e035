/**
 * `Requests`: what one end of a connection asks of the other. It knows message ids, the window of
 * requests in flight, those that wait for their turn, and replies that come late.
 *
 * Every request ends exactly once: by its reply, by an error, or with the connection.
 *
 * @module
 */

import { ProtocolError } from "../base/errors.ts";
import {
  DEFAULT_MAX_MSG_FDS,
  MAX_ABANDONED,
  MAX_PENDING,
  MAX_QUEUED_BYTES,
} from "../base/limits.ts";
import { plural } from "../text/plural.ts";
import { commandName } from "../wire/command.ts";
import { MessageFlags } from "../wire/header.ts";
import type { Message } from "./message.ts";
import {
  detachedError,
  endedError,
  hasLostBuffer,
  ownData,
  type Pending,
  remoteError,
  type RequestOptions,
} from "./pending.ts";
import type { Role } from "./peer.ts";
import type { Receiver } from "./receiver.ts";
import type { Sender } from "./sender.ts";
import type { MessageStream } from "./stream.ts";

/**
 * Ids from here on are for messages that want no reply. A peer that replies all the same is then
 * understood.
 */
const POSTED_IDS = 0x8000;

const POSTED_FLAGS = MessageFlags.COMMAND | MessageFlags.NO_REPLY;

/** A request that waits until fewer are in flight. */
export interface Waiting {
  readonly pending: Pending;
  readonly payload: Uint8Array | undefined;
  readonly options: RequestOptions;
}

/** The requests of one end that have not ended. */
export class Requests {
  readonly #sender: Sender;
  readonly #receiver: Receiver;
  readonly #peer: Role;
  readonly #pending = new Map<number, Pending>();
  readonly #waiting = new Map<Pending, Waiting>(); // in their order
  /** Message id -> command, of requests that ended without a reply. */
  readonly #abandoned = new Map<number, number>();
  #asyncCount = 0;
  #nextId = 1;
  #nextPostedId = POSTED_IDS;
  #hasPosted = false;

  /** The number of requests that may be in flight at once. */
  window: number = MAX_PENDING;
  /** The number of descriptors that the peer takes in one message. */
  peerMaxFds: number = DEFAULT_MAX_MSG_FDS;

  /** @param stream puts bulk data of replies where the requests want them */
  constructor(stream: MessageStream, peer: Role) {
    this.#sender = stream.sender;
    this.#receiver = stream.receiver;
    this.#peer = peer;
    stream.receiver.destination = (messageId) => {
      const pending = this.#pending.get(messageId);
      return pending === undefined || hasLostBuffer(pending) ? undefined : pending.into;
    };
  }

  /** Requests that have not ended. */
  get count(): number {
    return this.#pending.size + this.#waiting.size;
  }

  /** Requests that were sent and have not ended. */
  get inFlight(): number {
    return this.#pending.size;
  }

  /** Asynchronous requests that have not ended. */
  get asyncCount(): number {
    return this.#asyncCount;
  }

  /** True if requests wait for their turn. */
  get hasWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** True if the next request has to wait: the window is full, or the peer leaves much unread. */
  get isFull(): boolean {
    return this.#pending.size >= this.window ||
      (this.#pending.size > 0 && this.#sender.queuedBytes > MAX_QUEUED_BYTES / 2);
  }

  /** True if the peer left more requests unanswered than are remembered. */
  get hasTooManyAbandoned(): boolean {
    return this.#abandoned.size > MAX_ABANDONED;
  }

  /** The requests that have not ended, in their order: a copy. */
  get unfinished(): Pending[] {
    return [...this.#pending.values(), ...this.#waiting.keys()];
  }

  /** @throws {RangeError} if the peer does not take so many descriptors in one message */
  checkFds({ fds }: RequestOptions): void {
    const count = fds?.length ?? 0;
    if (count <= this.peerMaxFds) return;
    throw new RangeError(
      `Cannot pass ${count} file descriptors in one message: ` +
        `the ${this.#peer} takes ${this.peerMaxFds}`,
    );
  }

  /**
   * Writes a request to the stream and waits for its reply from then on.
   *
   * @throws {ConnectionError} as `Sender.write`; the request then ends with the connection
   */
  send(pending: Pending, payload: Uint8Array | undefined, options: RequestOptions): void {
    // Throws for a closed descriptor, before the request has an id.
    const fds = options.fds?.map((fd) => fd.fd);
    const id = this.#allocateId();
    pending.id = id;
    this.#pending.set(id, pending);
    this.#sender.write(
      id,
      pending.command,
      MessageFlags.COMMAND,
      0,
      payload,
      options.data,
      fds,
    );
  }

  /** Takes back a request that `send` could not write, as for want of descriptors. */
  withdraw(pending: Pending): void {
    if (pending.id !== undefined) this.#pending.delete(pending.id);
  }

  /** Writes a message that wants no reply. */
  post(command: number, payload: Uint8Array | undefined, options: RequestOptions): void {
    const id = this.#nextPostedId;
    this.#nextPostedId = id === 0xffff ? POSTED_IDS : id + 1;
    this.#hasPosted = true;
    const fds = options.fds?.map((fd) => fd.fd);
    this.#sender.write(id, command, POSTED_FLAGS, 0, payload, options.data, fds);
  }

  /** Has a request wait for its turn, with copies of its bytes. */
  wait(pending: Pending, payload: Uint8Array | undefined, options: RequestOptions): void {
    this.#waiting.set(pending, { pending, payload: payload?.slice(), options: ownData(options) });
  }

  /** Takes the next request whose turn has come; undefined if none may be sent now. */
  takeWaiting(): Waiting | undefined {
    if (this.isFull) return undefined;
    for (const waiting of this.#waiting.values()) {
      this.#waiting.delete(waiting.pending);
      return waiting;
    }
  }

  /** Makes a request an asynchronous one: `settle` is called when the request ends. */
  settleBy(pending: Pending, settle: NonNullable<Pending["settle"]>): void {
    pending.settle = settle;
    this.#asyncCount++;
  }

  /** True if a request in flight has this message's id and command. */
  expects(message: Message): boolean {
    return this.#pending.get(message.messageId)?.command === message.command;
  }

  /**
   * Ends the request that a reply belongs to. A late reply is dropped.
   *
   * @param mayView true if a blocked caller reads the reply before the next receive
   * @throws {ProtocolError} if no request explains the reply, or its descriptors
   */
  takeReply(message: Message, mayView: boolean): void {
    const pending = this.#requestOf(message);
    if (pending === undefined) return;
    const maxFds = message.isError ? 0 : pending.maxReplyFds;
    if (message.fdCount > 0 && maxFds === 0) {
      const fds = plural(message.fdCount, "file descriptor");
      throw this.#rejected(message, `passed ${fds} with`, "reply, where none belong");
    }
    if (message.isError) {
      return this.complete(pending, undefined, remoteError(pending, this.#peer, message.error));
    }
    if (hasLostBuffer(pending)) {
      message.discardFds();
      return this.complete(pending, undefined, detachedError(pending));
    }
    message.keepFds(maxFds);
    if (!mayView || pending.settle !== undefined) {
      if (pending.into === undefined) message.own();
      else message.place(pending.into);
    }
    this.complete(pending, message, undefined);
  }

  /** The request that a reply belongs to; undefined if the reply came late. */
  #requestOf(message: Message): Pending | undefined {
    const { messageId, command } = message;
    const pending = this.#pending.get(messageId);
    if (pending?.command === command) return pending;
    if (pending !== undefined) {
      const other = `reply to request ${messageId}, which is ${commandName(pending.command)}`;
      throw this.#rejected(message, "sent", other);
    }
    if (!this.#isLate(messageId, command)) {
      const stray = `reply with message id ${messageId}, which no request has`;
      throw this.#rejected(message, "sent", stray);
    }
    message.discardFds();
  }

  #rejected(message: Message, did: string, what: string): ProtocolError {
    message.discardFds();
    const name = commandName(message.command);
    return new ProtocolError(`The ${this.#peer} ${did} a ${name} ${what}`);
  }

  /** True if a reply without a request is explained: the request timed out, or wanted no reply. */
  #isLate(messageId: number, command: number): boolean {
    if (this.#abandoned.get(messageId) === command) {
      this.#abandoned.delete(messageId);
      return true;
    }
    return this.#hasPosted && messageId >= POSTED_IDS;
  }

  /** Ends a request. */
  complete(pending: Pending, reply: Message | undefined, error: Error | undefined): void {
    // Not before: until here, whatever is thrown leaves the request to the end of the connection.
    if (pending.id !== undefined) this.#pending.delete(pending.id);
    pending.isDone = true;
    pending.reply = reply;
    pending.error = error;
    if (pending.settle === undefined) return;
    this.#asyncCount--;
    pending.settle(reply, error);
  }

  /** Ends a request without its reply, which is dropped if it comes later. */
  abandon(pending: Pending, error: Error): void {
    const { id } = pending;
    if (id === undefined) this.#waiting.delete(pending);
    else {
      this.#abandoned.set(id, pending.command);
      if (pending.into !== undefined) this.#receiver.forget(id);
    }
    this.complete(pending, undefined, error);
  }

  /** Ends all requests with the connection: each learns which was the oldest in flight. */
  endAll(error: Error): void {
    const { unfinished } = this;
    const [oldest] = unfinished;
    this.#pending.clear();
    this.#waiting.clear();
    this.#abandoned.clear();
    for (const pending of unfinished) {
      this.complete(pending, undefined, endedError(error, pending, oldest!));
    }
  }

  /** An id that no pending or abandoned request has. There always is one: both are bounded. */
  #allocateId(): number {
    let id = this.#nextId;
    if (this.#pending.size > 0 || this.#abandoned.size > 0) {
      while (this.#pending.has(id) || this.#abandoned.has(id)) id = followingId(id);
    }
    this.#nextId = followingId(id);
    return id;
  }
}

function followingId(id: number): number {
  return id + 1 === POSTED_IDS ? 0 : id + 1;
}
