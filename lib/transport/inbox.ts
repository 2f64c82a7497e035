/**
 * `Inbox`: commands of the peer. They queue up here, run through the handler one at a time in the
 * order of their arrival, and are answered.
 *
 * @module
 */

import { EINVAL, EIO } from "../../ffi/errno.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { MAX_INCOMING_BYTES, SERVE_HIGH_WATER } from "../base/limits.ts";
import { encodeMessage, MessageFlags } from "../wire/header.ts";
import { type Answerer, Incoming, type RequestHandler } from "./incoming.ts";
import type { Message } from "./message.ts";
import type { Role } from "./peer.ts";
import type { Receiver } from "./receiver.ts";
import type { Sender } from "./sender.ts";
import type { MessageStream } from "./stream.ts";

/** The connection that an inbox belongs to. */
export interface InboxHost {
  /** True if commands are still handed to the handler. */
  readonly isServing: boolean;
  /** True if the peer still gets answers. */
  readonly mayAnswer: boolean;
  /** Sends what is queued. */
  flush(): void;
  /** Has what is queued sent at the end of this turn of the event loop. */
  scheduleFlush(): void;
  /** Ends the connection if this error of the stream does; throws any other error. */
  failOrThrow(error: unknown): void;
  /** Goes on after the promise of a handler is settled. */
  resume(): void;
  /** Ends the connection because of an error that reaches no caller. */
  breakOff(error: unknown): void;
}

/**
 * The handler at this moment. While it is "viewing", its command's payload lies in the receive
 * buffer; while it is "keeping", that buffer is the command's own.
 */
type HandlerState = "idle" | "viewing" | "keeping";

/** Commands of the peer that are not answered yet. */
export class Inbox implements Answerer {
  readonly #sender: Sender;
  readonly #receiver: Receiver;
  readonly #peer: Role;
  readonly #host: InboxHost;
  readonly #handler: RequestHandler | undefined;
  #queue: Message[] = [];
  #bytes = 0; // of the payloads in the queue
  #state: HandlerState = "idle";
  #isCalling = false; // the handler, whose answers leave when it returns

  /** @param handler serves the commands; without a handler each is answered with EINVAL */
  constructor(
    stream: MessageStream,
    peer: Role,
    host: InboxHost,
    handler: RequestHandler | undefined,
  ) {
    this.#sender = stream.sender;
    this.#receiver = stream.receiver;
    this.#peer = peer;
    this.#host = host;
    this.#handler = handler;
  }

  /** Commands that wait for the handler. */
  get length(): number {
    return this.#queue.length;
  }

  /** True while the handler is at work, which its promise counts for. */
  get isBusy(): boolean {
    return this.#state !== "idle";
  }

  /** True if a client has left so many answers unread that its next requests have to wait. */
  get isCongested(): boolean {
    return this.#peer === "client" && this.#sender.queuedBytes > SERVE_HIGH_WATER;
  }

  /** True if another command may wait: `limit` bounds their number, and their bytes are bounded. */
  hasRoom(limit: number): boolean {
    return this.#queue.length < limit && this.#bytes < MAX_INCOMING_BYTES;
  }

  /** Adds a command that came. */
  push(message: Message): void {
    this.#queue.push(message);
    this.#bytes += message.payloadSize;
  }

  /**
   * Hands commands to the handler as long as it takes them.
   *
   * @returns false if commands wait for the handler, or for a client that reads no answers
   */
  serve(): boolean {
    const host = this.#host;
    while (this.#queue.length > 0 && host.isServing) {
      if (this.isCongested) host.flush();
      if (this.isBusy || this.isCongested) {
        this.#ownQueue();
        return false;
      }
      const message = this.#queue.shift()!;
      this.#bytes -= message.payloadSize;
      const request = new Incoming(message, this);
      this.#state = "viewing";
      const result = this.#callHandler(request);
      if (result instanceof Promise) {
        this.keepViews();
        this.#ownQueue();
        host.scheduleFlush();
        result.finally(() => {
          this.#finish(request);
          host.resume();
        }).catch((error) => host.breakOff(error));
        return false;
      }
      this.#finish(request);
    }
    return true;
  }

  /** Keeps the handler's payload as it is, because the stream is about to receive again. */
  keepViews(): void {
    if (this.#state !== "viewing") return;
    this.#receiver.keepViews();
    this.#state = "keeping";
  }

  /** Keeps commands that wait beyond the next receive. */
  #ownQueue(): void {
    for (const message of this.#queue) message.own();
  }

  #callHandler(request: Incoming): void | Promise<void> {
    if (this.#handler === undefined) return request.fail(EINVAL);
    this.#isCalling = true;
    try {
      const result = this.#handler(request);
      if (result instanceof Promise) return result.catch((error) => blame(request, error));
    } catch (error) {
      blame(request, error);
    } finally {
      this.#isCalling = false;
    }
  }

  #finish(request: Incoming): void {
    this.#state = "idle";
    if (!request.isAnswered) request.fail(EINVAL);
    if (request.fdCount > 0) closeAll(request.takeFds());
  }

  answer(
    message: Message,
    errno: number | undefined,
    payload?: Uint8Array,
    data?: Uint8Array,
    fds?: readonly OwnedFd[],
  ): void {
    if (!this.#owes(message)) return;
    const { messageId, command } = message;
    const flags = errno === undefined
      ? MessageFlags.REPLY
      : MessageFlags.REPLY | MessageFlags.ERROR;
    try {
      const numbers = fds?.map((fd) => fd.fd);
      this.#sender.write(messageId, command, flags, errno ?? 0, payload, data, numbers);
    } catch (error) {
      this.#host.failOrThrow(error);
    }
    if (!this.#isCalling) this.#host.scheduleFlush();
  }

  answerInPart(message: Message, size: number, payload?: Uint8Array): void {
    if (!this.#owes(message)) return;
    const { messageId, command } = message;
    const whole = encodeMessage({ messageId, command, flags: MessageFlags.REPLY }, payload);
    try {
      this.#sender.writeBytes(whole.subarray(0, size));
    } catch (error) {
      this.#host.failOrThrow(error);
    }
    this.#host.scheduleFlush();
  }

  /** True if the peer gets an answer to a command. */
  #owes(message: Message): boolean {
    return this.#host.mayAnswer && (message.flags & MessageFlags.NO_REPLY) === 0;
  }

  /** Drops the commands that wait, and closes their descriptors. */
  clear(): void {
    for (const message of this.#queue) message.discardFds();
    this.#queue = [];
    this.#bytes = 0;
  }
}

/** Answers EIO for a handler that throws, which it should not, and reports the error. */
function blame(request: Incoming, error: unknown): void {
  if (!request.isAnswered) request.fail(EIO);
  reportError(error);
}
