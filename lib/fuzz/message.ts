/**
 * Messages of a fuzzer as they are sent, and the cases that they make.
 *
 * @module
 */

import type { AnswerName } from "./answers.ts";
import type { DescriptorName } from "./descriptors.ts";
import type { Label } from "./label.ts";

/** Replies that a message may have: exactly one, none, or as the peer likes. */
export type ReplyRule = "one" | "none" | "any";

/** A message, or bytes that are none. */
export interface FuzzMessage {
  /** The bytes as they are sent. */
  readonly bytes: Uint8Array;
  /** Descriptors that go with the first byte. */
  readonly fds: readonly DescriptorName[];
  /** Places at which the bytes are cut, ascending; each piece is sent by itself. */
  readonly cuts: readonly number[];
  /** Replies that it may have. */
  readonly reply: ReplyRule;
  /** True if the bytes behind it can't be told apart: the connection is left after it. */
  readonly isLast: boolean;
  /** The thing that is wrong with it. */
  readonly label: Label;
}

/** One connection: what is sent, and how requests of the peer are answered. */
export interface FuzzConnection {
  /** Messages in their order. */
  readonly messages: readonly FuzzMessage[];
  /** The answer to each request of the peer, in order; later ones have the right one. */
  readonly answers: readonly AnswerName[];
  /** Requests that may be without a reply when the next is sent. */
  readonly window: number;
}

/** Connections, one after the other, to one process of the peer. */
export type FuzzCase = readonly FuzzConnection[];

/** The number of messages of a case. */
export function sizeOf(connections: FuzzCase): number {
  return connections.reduce((sum, { messages }) => sum + messages.length, 0);
}
