/**
 * `IncomingRequest`: a command of the peer, and the reply that it is owed.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { commandName } from "../wire/command.ts";
import { MessageFlags } from "../wire/header.ts";
import type { Message } from "./message.ts";

/** A command of the peer, to be answered exactly once. */
export interface IncomingRequest {
  /** The command's number. */
  readonly command: number;
  /** True if the peer wants no reply; `reply` and `fail` then send nothing. */
  readonly noReply: boolean;
  /** The bytes after the header: a view that holds until the handler, or its promise, is done. */
  readonly payload: Uint8Array;
  /** The number of bytes after the header. */
  readonly payloadSize: number;
  /** The number of descriptors that came with the command. */
  readonly fdCount: number;
  /** True once the command has been answered. */
  readonly isAnswered: boolean;
  /** The payload from a byte on: a view like `payload`. */
  payloadFrom(offset: number): Uint8Array;
  /**
   * The 32 bits at a byte of the payload: cheaper than a view. The caller has checked that the
   * payload is so long.
   */
  uint32(offset: number): number;
  /**
   * Takes over the descriptors that came with the command. Those that are not taken are closed
   * after the answer.
   */
  takeFds(): OwnedFd[];
  /** Answers with a payload, bulk data behind it, and descriptors, which stay the caller's. */
  reply(payload?: Uint8Array, data?: Uint8Array, fds?: readonly OwnedFd[]): void;
  /** Answers that the command failed. */
  fail(errno: number): void;
  /**
   * Counts as answered, but sends only the first `size` bytes of the reply, header included. 0
   * sends nothing, and a size beyond the reply's sends all of it. For servers that misbehave on
   * purpose: the client can't understand what follows a part of a reply.
   */
  replyInPart(size: number, payload?: Uint8Array): void;
}

/** Serves the commands of the peer. It does not throw. */
export type RequestHandler = (request: IncomingRequest) => void | Promise<void>;

/** Sends answers to commands, unless those want none. */
export interface Answerer {
  /** Sends an answer: bytes and descriptors, or the errno of a failure. */
  answer(
    message: Message,
    errno: number | undefined,
    payload?: Uint8Array,
    data?: Uint8Array,
    fds?: readonly OwnedFd[],
  ): void;
  /** Sends the first `size` bytes of an answer. */
  answerInPart(message: Message, size: number, payload?: Uint8Array): void;
}

/** A command on its way through a handler. */
export class Incoming implements IncomingRequest {
  readonly #message: Message;
  readonly #answerer: Answerer;
  isAnswered = false;

  constructor(message: Message, answerer: Answerer) {
    this.#message = message;
    this.#answerer = answerer;
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

  get payloadSize(): number {
    return this.#message.payloadSize;
  }

  payloadFrom(offset: number): Uint8Array {
    return this.#message.payloadFrom(offset);
  }

  uint32(offset: number): number {
    return this.#message.uint32(offset);
  }

  get fdCount(): number {
    return this.#message.fdCount;
  }

  takeFds(): OwnedFd[] {
    return this.#message.takeFds();
  }

  reply(payload?: Uint8Array, data?: Uint8Array, fds?: readonly OwnedFd[]): void {
    this.#assertOwed();
    this.#answerer.answer(this.#message, undefined, payload, data, fds);
    this.isAnswered = true; // not if that threw: the peer is still owed an answer
  }

  fail(errno: number): void {
    this.#assertOwed();
    this.#answerer.answer(this.#message, errno);
    this.isAnswered = true;
  }

  replyInPart(size: number, payload?: Uint8Array): void {
    this.#assertOwed();
    this.#answerer.answerInPart(this.#message, size, payload);
    this.isAnswered = true;
  }

  #assertOwed(): void {
    if (this.isAnswered) throw new Error(`${commandName(this.command)} was answered already`);
  }
}
