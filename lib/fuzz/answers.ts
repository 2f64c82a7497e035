/**
 * Answers to the peer's own requests: right ones, and others.
 *
 * @module
 */

import { join } from "../conformance/pack.ts";
import { Command } from "../wire/command.ts";
import { encodeMessage, type Header, MessageFlags } from "../wire/header.ts";

/** Bytes that a DMA_READ is answered with at most. */
const MAX_ANSWER = 1 << 20;
const HEAD = 16;
const EINVAL = 22;
const REPLY = MessageFlags.REPLY;

/** A request of the peer. */
export interface PeerRequest extends Pick<Header, "messageId" | "command"> {
  readonly payload: Uint8Array;
}

/** Messages that answer a request, in order; "late": after all else that is sent. */
type Answer = (request: PeerRequest) => readonly Uint8Array[];

/** The ways to answer. */
const ANSWERS = {
  "right": (request) => [reply(request)],
  "error": (request) => [reply(request, { flags: REPLY | MessageFlags.ERROR, error: EINVAL })],
  "error without errno": (request) => [reply(request, { flags: REPLY | MessageFlags.ERROR })],
  "error with data": (request) => [
    reply(request, { flags: REPLY | MessageFlags.ERROR, error: EINVAL }, payloadOf(request)),
  ],
  "errno without error": (request) => [reply(request, { error: EINVAL })],
  "wrong id": (request) => [reply(request, { messageId: request.messageId ^ 0x8000 })],
  "wrong command": (request) => [reply(request, { command: request.command ^ 7 })],
  "as a command": (request) => [reply(request, { flags: MessageFlags.COMMAND })],
  "without payload": (request) => [reply(request, {}, new Uint8Array())],
  "cut": (request) => [reply(request, {}, payloadOf(request).subarray(0, 13))],
  "too short": (request) => {
    const payload = payloadOf(request);
    return [reply(request, {}, payload.subarray(0, Math.max(0, payload.length - 1)))];
  },
  "too long": (request) => [reply(request, {}, join(payloadOf(request), new Uint8Array(9)))],
  "another address": (request) => [
    reply(request, {}, payloadOf(request).map((byte, at) => at === 0 ? byte ^ 1 : byte)),
  ],
  "another count": (request) => [
    reply(request, {}, payloadOf(request).map((byte, at) => at === 8 ? byte ^ 1 : byte)),
  ],
  "huge count": (request) => [
    reply(request, {}, payloadOf(request).map((byte, at) => at >= 8 && at < HEAD ? 0xff : byte)),
  ],
  "twice": (request) => [reply(request), reply(request)],
  "late": (request) => [reply(request)],
  "never": () => [],
} as const satisfies Record<string, Answer>;

/** The name of a way to answer. */
export type AnswerName = keyof typeof ANSWERS;

/** All ways to answer. */
export const ANSWER_NAMES = Object.keys(ANSWERS) as readonly AnswerName[];

/** Finds the way of a name that a file has; undefined if there is none. */
export function answerName(text: string): AnswerName | undefined {
  return ANSWER_NAMES.find((name) => name === text);
}

/** Makes the messages that answer a request. */
export function answersTo(name: AnswerName, request: PeerRequest): readonly Uint8Array[] {
  return ANSWERS[name](request);
}

function reply(
  request: PeerRequest,
  fields: Partial<Header> = {},
  payload?: Uint8Array,
): Uint8Array {
  const isError = ((fields.flags ?? REPLY) & MessageFlags.ERROR) !== 0;
  const { messageId, command } = request;
  return encodeMessage(
    { messageId, command, flags: REPLY, ...fields },
    payload ?? (isError ? new Uint8Array() : payloadOf(request)),
  );
}

/** The payload of a right reply; memory holds zeros. */
function payloadOf({ command, payload }: PeerRequest): Uint8Array {
  const head = new Uint8Array(HEAD);
  head.set(payload.subarray(0, HEAD));
  if (command !== Command.DMA_READ) return head;
  const count = new DataView(head.buffer).getBigUint64(8, true);
  const size = count > BigInt(MAX_ANSWER) ? MAX_ANSWER : Number(count);
  return join(head, new Uint8Array(size));
}
