/**
 * A recording as the script of a play: what the client did, and what the server did in turn.
 *
 * @module
 */

import { EIO } from "../../ffi/errno.ts";
import { Conversation, type HeardMessage } from "../record/conversation.ts";
import { type DecodedMessage, decodeMessage } from "../record/decode.ts";
import {
  receivedBytes,
  type RecordedEnd,
  type RecordedEvent,
  type RecordedInterrupt,
  type RecordedIoeventfd,
  type RecordedMessage,
} from "../record/event.ts";
import { HEADER_SIZE } from "../wire/header.ts";

/** Steps that are read ahead of the play at most. */
const MAX_AHEAD = 2048;
/** Bytes of messages that are read ahead at most. */
const MAX_BYTES_AHEAD = 16 << 20;

/** The fields of all steps. */
interface StepBase<E extends RecordedEvent = RecordedEvent> {
  /** The event of the recording. */
  readonly event: E;
  /** The message in its conversation, if the event is one. */
  readonly heard: HeardMessage | undefined;
}

/** A request of the client. */
export interface RequestStep extends StepBase<RecordedMessage> {
  readonly kind: "request";
  /** The request as the server got it. */
  readonly sent: DecodedMessage;
  /** The same in bytes. */
  readonly bytes: Uint8Array;
  /** True if the play is to leave it out. */
  isSkipped: boolean;
}

/** A reply of the server. */
export interface ReplyStep extends StepBase<RecordedMessage> {
  readonly kind: "reply";
  /** The reply as values. */
  readonly reply: DecodedMessage;
  /** The request that it answers. */
  readonly to: RequestStep;
}

/** A request of the server: it reads or writes the client's memory. */
export interface DmaStep extends StepBase<RecordedMessage> {
  readonly kind: "dma";
  /** The request as values. */
  readonly asked: DecodedMessage;
  /** The client's answer, once it was read: an errno that is not 0, or a payload. */
  answer: { readonly errno: number; readonly payload: Uint8Array } | undefined;
  /** True once the server has made it, or the play waits for it no longer. */
  isDone: boolean;
}

/** Any other event that the play deals with. */
export type OtherStep =
  | (StepBase<RecordedInterrupt> & { readonly kind: "interrupt" })
  | (StepBase<RecordedIoeventfd> & { readonly kind: "kick" })
  | (StepBase<RecordedEnd> & { readonly kind: "end" })
  | (StepBase & { readonly kind: "nothing"; readonly reason?: string });

/** A step of the play. */
export type ScriptStep = RequestStep | ReplyStep | DmaStep | OtherStep;

/** Reads a recording as steps, a bounded number of them ahead. */
export class Script {
  readonly #events: AsyncIterator<RecordedEvent>;
  readonly #conversation = new Conversation();
  /** Steps that were read and not taken. */
  readonly #ahead: ScriptStep[] = [];
  #bytesAhead = 0;
  #isAtEnd = false;
  #failure: unknown;
  #reading: Promise<void> | undefined;
  /** Requests without a reply by the numbers of their events: of the client, of the server. */
  readonly #requests = new Map<number, RequestStep>();
  readonly #dma = new Map<number, DmaStep>();
  /** Requests of the server that it has not made yet, in order; those that were taken, too. */
  #expected: DmaStep[] = [];

  /** @param events the recording */
  constructor(events: AsyncIterable<RecordedEvent>) {
    this.#events = events[Symbol.asyncIterator]();
  }

  /** Steps that were read and not taken, in order. */
  get ahead(): readonly ScriptStep[] {
    return this.#ahead;
  }

  /**
   * Takes the next step.
   *
   * @returns undefined at the end of the recording
   * @throws as the recording does when it is damaged, after the steps ahead of the damage
   */
  async next(): Promise<ScriptStep | undefined> {
    while (this.#ahead.length === 0) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isAtEnd) return undefined;
      await this.#read();
    }
    const step = this.#ahead.shift()!;
    this.#bytesAhead -= bytesOf(step.event);
    return step;
  }

  /** Requests of the server that are expected: of steps that were taken, and of those ahead. */
  get expectedDma(): readonly DmaStep[] {
    return this.#expected;
  }

  /** Expects a request of the server no longer. */
  closeDma(step: DmaStep): void {
    step.isDone = true;
    this.#expected = this.#expected.filter((each) => each !== step);
  }

  /** Reads on until a step is as meant, as far as is allowed. No step is taken meanwhile. */
  async readUntil(isMeant: (step: ScriptStep) => boolean): Promise<void> {
    for (let i = 0;; i++) {
      if (i >= this.#ahead.length && !await this.readMore()) return;
      if (isMeant(this.#ahead[i]!)) return;
    }
  }

  /** Reads a step more, unless there is none or enough are ahead. */
  async readMore(): Promise<boolean> {
    if (this.#ahead.length >= MAX_AHEAD || this.#bytesAhead >= MAX_BYTES_AHEAD) return false;
    if (this.#isAtEnd || this.#failure !== undefined) return false;
    await this.#read();
    return !this.#isAtEnd && this.#failure === undefined;
  }

  /** Reads one event; who asks meanwhile waits for the same one. */
  #read(): Promise<void> {
    return this.#reading ??= this.#readOne().finally(() => this.#reading = undefined);
  }

  async #readOne(): Promise<void> {
    try {
      const { done, value: event } = await this.#events.next();
      if (done) {
        this.#isAtEnd = true;
        return;
      }
      this.#ahead.push(this.#step(event));
      this.#bytesAhead += bytesOf(event);
    } catch (error) {
      this.#failure = error;
    }
  }

  #step(event: RecordedEvent): ScriptStep {
    const heard = this.#conversation.take(event);
    switch (event.kind) {
      case "message":
        return this.#message(event, heard);
      case "garbage":
        if (event.direction === "to-client") return { kind: "nothing", event, heard };
        return { kind: "nothing", event, heard, reason: "the client sent what is no message" };
      case "interrupt":
        return { kind: "interrupt", event, heard };
      case "ioeventfd":
        return { kind: "kick", event, heard };
      case "end":
        return { kind: "end", event, heard };
      default:
        return { kind: "nothing", event, heard };
    }
  }

  #message(event: RecordedMessage, heard: HeardMessage | undefined): ScriptStep {
    const nothing = { kind: "nothing", event, heard } as const;
    const decoded = heard?.decoded;
    if (decoded === undefined || decoded.type === "other") return nothing;
    const { direction, origin } = event;
    const isReply = decoded.type !== "request";
    const asked = heard?.request?.index;
    if (direction === "to-server" && !isReply) {
      const bytes = receivedBytes(event);
      const sent = bytes === null ? undefined : decodeMessage(bytes);
      if (bytes === null || sent === undefined) return nothing;
      const step: RequestStep = { kind: "request", event, heard, sent, bytes, isSkipped: false };
      if (!sent.noReply) this.#requests.set(event.index, step);
      if (heard?.replaces !== undefined) this.#requests.delete(heard.replaces.index);
      return step;
    }
    if (direction === "to-client" && isReply) {
      if (origin === "recorder" || asked === undefined) return nothing;
      const to = this.#requests.get(asked);
      this.#requests.delete(asked);
      return to === undefined ? nothing : { kind: "reply", event, heard, reply: decoded, to };
    }
    if (direction === "to-client") {
      if (origin === "recorder") return nothing;
      const step: DmaStep = {
        kind: "dma",
        event,
        heard,
        asked: decoded,
        answer: undefined,
        isDone: false,
      };
      if (!decoded.noReply) this.#dma.set(event.index, step);
      this.#expected.push(step);
      return step;
    }
    if (asked === undefined) return nothing;
    const dma = this.#dma.get(asked);
    this.#dma.delete(asked);
    const got = receivedBytes(event);
    if (dma !== undefined && got !== null) dma.answer = answerOf(got);
    return nothing;
  }
}

function answerOf(bytes: Uint8Array): DmaStep["answer"] {
  const decoded = decodeMessage(bytes);
  if (decoded === undefined) return undefined;
  const { type, header } = decoded;
  return {
    errno: type === "error" ? header.error || EIO : 0,
    payload: bytes.subarray(HEADER_SIZE),
  };
}

function bytesOf(event: RecordedEvent): number {
  return event.kind === "message" || event.kind === "garbage" ? event.bytes.length : 0;
}
