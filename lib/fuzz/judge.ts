/**
 * Judges replies: each has a request, and is what that one asked for.
 *
 * @module
 */

import { DecodeError } from "../base/errors.ts";
import { RegionAccessLayout } from "../wire/access.ts";
import { Command, commandName } from "../wire/command.ts";
import { HEADER_SIZE, HeaderLayout, MessageFlags } from "../wire/header.ts";
import { messageOf } from "../wire/messages.ts";
import type { Observation } from "./finding.ts";
import type { FuzzMessage } from "./message.ts";

/** Requests whose replies are awaited, at most; the oldest are forgotten. */
const MAX_PENDING = 8192;
const FLAGS_KNOWN = MessageFlags.TYPE_MASK | MessageFlags.NO_REPLY | MessageFlags.ERROR;
/** Bytes of region, offset and count ahead of the data of an access. */
const ACCESS_SIZE = RegionAccessLayout.size;
const COUNT_AT = RegionAccessLayout.offsets.count;
const { messageId: ID_AT, command: COMMAND_AT, flags: FLAGS_AT, error: ERROR_AT } =
  HeaderLayout.offsets;

/** The way in which a message was answered; an error has its number. */
export type Outcome = "success" | "none" | number;

/** A request that was sent. */
interface Pending {
  readonly id: number;
  readonly command: number;
  readonly message: FuzzMessage;
  isAnswered: boolean;
}

/** Notes how each message was answered. */
export type OnOutcome = (message: FuzzMessage, outcome: Outcome) => void;

/** The replies of one connection. */
export class Judge {
  readonly #pending: Pending[] = [];
  #first = 0;
  #open = 0;
  readonly #commands = new Set<string>(); // of answers, by id and command
  readonly #onOutcome: OnOutcome;

  constructor(onOutcome: OnOutcome) {
    this.#onOutcome = onOutcome;
  }

  /** Requests that must have a reply, and have none. */
  get open(): number {
    return this.#open;
  }

  /** Expects what a message asks for. */
  sent(message: FuzzMessage): void {
    const { bytes, reply } = message;
    if (bytes.length < HEADER_SIZE) return;
    const id = bytes[ID_AT]! | bytes[ID_AT + 1]! << 8;
    const command = bytes[COMMAND_AT]! | bytes[COMMAND_AT + 1]! << 8;
    if (reply === "one") this.#open++;
    this.#pending.push({ id, command, message, isAnswered: false });
    if (this.#pending.length - this.#first > MAX_PENDING) this.#forget();
    if (this.#first > 1024 && this.#first * 2 > this.#pending.length) {
      this.#pending.splice(0, this.#first);
      this.#first = 0;
    }
  }

  /** Allows a reply to an answer of ours that has the type of a command. */
  answered(bytes: Uint8Array): void {
    const { messageId, command, flags } = HeaderLayout.decode(bytes);
    const isCommand = (flags & MessageFlags.TYPE_MASK) === MessageFlags.COMMAND;
    if (isCommand) this.#commands.add(`${messageId} ${command}`);
  }

  /**
   * Takes a reply.
   *
   * @param bytes the whole message, whose type is a reply
   * @returns what is wrong with it
   */
  reply(bytes: Uint8Array, view: DataView): Observation | undefined {
    const id = view.getUint16(ID_AT, true);
    const command = view.getUint16(COMMAND_AT, true);
    const found = this.#find(id, command);
    if (found === undefined) {
      if (this.#commands.delete(`${id} ${command}`)) return undefined;
      const other = this.#pending.find((each, at) =>
        at >= this.#first && each.id === id && !each.isAnswered && each.message.reply === "one"
      );
      if (other === undefined) {
        const text = `a reply to ${commandName(command)} with an id that no request has`;
        return { kind: "wrong reply", text, isFinal: true };
      }
      this.#answer(other, "success");
      const text = `its reply names ${commandName(command)}`;
      return { kind: "wrong reply", text, label: other.message.label, isFinal: true };
    }
    const { message } = found;
    const isError = (view.getUint32(FLAGS_AT, true) & MessageFlags.ERROR) !== 0;
    this.#answer(found, isError ? view.getUint32(ERROR_AT, true) : "success");
    const problem = problemOf(found, bytes, view, isError);
    if (problem === undefined) return undefined;
    return { kind: "wrong reply", text: problem, label: message.label };
  }

  /** Requests that must have a reply, and will not have one. */
  unanswered(): readonly FuzzMessage[] {
    return this.#pending.slice(this.#first)
      .filter(({ isAnswered, message }) => !isAnswered && message.reply === "one")
      .map(({ message }) => message);
  }

  /**
   * Finds the message that the peer has likely closed the connection for. Candidates lie behind the
   * last answer, up to the first message that needs one. The first altered one is taken.
   */
  closer(): FuzzMessage | undefined {
    for (const { message, isAnswered } of this.#pending.slice(this.#first)) {
      if (isAnswered) continue;
      if (message.label.way !== "") return message;
      if (message.reply === "one") return undefined;
    }
    return undefined;
  }

  /** Notes that the rest stays without replies. */
  close(): void {
    for (const { isAnswered, message } of this.#pending.slice(this.#first)) {
      if (!isAnswered) this.#onOutcome(message, "none");
    }
    this.#pending.length = this.#first = this.#open = 0;
  }

  #find(id: number, command: number): Pending | undefined {
    let posted: Pending | undefined;
    for (let at = this.#first; at < this.#pending.length; at++) {
      const each = this.#pending[at]!;
      if (each.id !== id || each.command !== command || each.isAnswered) continue;
      if (each.message.reply !== "none") return each;
      posted ??= each;
    }
    return posted;
  }

  #answer(pending: Pending, outcome: Outcome): void {
    pending.isAnswered = true;
    if (pending.message.reply === "one") this.#open--;
    this.#onOutcome(pending.message, outcome);
    // Servers answer in order: what need not be answered and lies before this was not.
    while (this.#first < this.#pending.length) {
      const first = this.#pending[this.#first]!;
      if (!first.isAnswered) {
        if (first.message.reply === "one") return;
        this.#onOutcome(first.message, "none");
      }
      this.#first++;
      if (first === pending) return;
    }
  }

  #forget(): void {
    const first = this.#pending[this.#first++]!;
    if (!first.isAnswered && first.message.reply === "one") this.#open--;
  }
}

/** Finds what is wrong with a reply, in words. */
function problemOf(
  { command, message }: Pending,
  bytes: Uint8Array,
  view: DataView,
  isError: boolean,
): string | undefined {
  if (message.reply === "none") return "a reply to a request that wants none";
  const flags = view.getUint32(FLAGS_AT, true);
  if ((flags & ~FLAGS_KNOWN) !== 0) return "its reply has a reserved flag";
  const error = view.getUint32(ERROR_AT, true);
  if (isError) {
    if (error === 0) return "its error reply has no errno";
    if (bytes.length > HEADER_SIZE) return "its error reply has a payload";
    return undefined;
  }
  if (error !== 0) return "its reply has an errno and no error flag";
  if (message.reply === "any") return undefined;
  const known = messageOf(command);
  if (known === undefined) return "success of an unknown command";
  const payload = bytes.subarray(HEADER_SIZE);
  const asked = message.bytes.subarray(HEADER_SIZE);
  if (command === Command.REGION_READ || command === Command.REGION_WRITE) {
    return accessProblem(command, payload, asked);
  }
  try {
    known.reply.decode(payload);
    return undefined;
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return "its reply is malformed";
  }
}

/** An access to a region is told again in its reply; a read has as many bytes as it asked for. */
function accessProblem(
  command: number,
  payload: Uint8Array,
  asked: Uint8Array,
): string | undefined {
  if (asked.length < ACCESS_SIZE) return "success of a truncated request";
  if (payload.length < ACCESS_SIZE) return "its reply is too short";
  for (let at = 0; at < ACCESS_SIZE; at++) {
    if (payload[at] !== asked[at]) return "its reply is about another access";
  }
  if (command !== Command.REGION_READ) return undefined;
  const { buffer, byteOffset } = payload;
  const count = new DataView(buffer, byteOffset).getUint32(COUNT_AT, true);
  return payload.length - ACCESS_SIZE === count ? undefined : "its reply has another size";
}
