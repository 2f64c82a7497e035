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
import { Polls, readPlace } from "./polls.ts";

/** Steps that are read ahead of the play at most. */
const MAX_AHEAD = 2048;
/** Bytes of messages that are read ahead at most. */
const MAX_BYTES_AHEAD = 16 << 20;
/** Clients whose open requests are kept, and other clients that are counted. */
const MAX_OPEN = 64;
const MAX_COUNTED = 65_536;
/** Clients that an error names. */
const MAX_NAMED = 8;

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

/** Requests of one client and its server that have no reply yet, by the numbers of their events. */
interface OpenRequests {
  readonly requests: Map<number, RequestStep>;
  readonly dma: Map<number, DmaStep>;
}

/** Options of {@linkcode Script}. */
export interface ScriptOptions {
  /** The only client whose events become steps: its number, or the first that asks something. */
  client?: number | "first" | undefined;
  /** Ends the reading; {@linkcode Script.next} then throws the signal's reason. */
  signal?: AbortSignal | undefined;
}

/**
 * Reads a whole recording for the registers that its client polls: up to damage, if there is any.
 *
 * @param client as {@linkcode ScriptOptions.client}
 * @throws the signal's reason
 */
export async function learnPolls(
  events: AsyncIterable<RecordedEvent>,
  options: ScriptOptions = {},
): Promise<Polls> {
  await using script = new Script(events, options);
  try {
    while (await script.next() !== undefined);
  } catch (error) {
    if (options.signal?.aborted) throw error;
  }
  return script.polls;
}

/**
 * Reads a recording as steps, a bounded number of them ahead. Events of clients without a part in
 * the play are dropped as they are read.
 */
export class Script implements AsyncDisposable {
  readonly #events: AsyncIterator<RecordedEvent>;
  readonly #conversation = new Conversation();
  /** Steps that were read and not taken. */
  readonly #ahead: ScriptStep[] = [];
  #bytesAhead = 0;
  #isAtEnd = false;
  #failure: unknown;
  #reading: Promise<void> | undefined;
  readonly #open = new Map<number, OpenRequests>();
  /** Requests of the server that it has not made yet, in order, by the numbers of their events. */
  readonly #expected = new Map<number, DmaStep>();
  readonly #signal: AbortSignal | undefined;
  #client: ScriptOptions["client"];
  /** The registers that are polled in all that was read so far. */
  readonly polls = new Polls();
  #startNs: bigint | undefined;
  readonly #dropped = new Set<number>();
  readonly #others = new Set<number>();
  #taken: ScriptStep | undefined;

  /** @param events the recording */
  constructor(events: AsyncIterable<RecordedEvent>, { client, signal }: ScriptOptions = {}) {
    this.#events = events[Symbol.asyncIterator]();
    this.#client = client;
    this.#signal = signal;
  }

  /** The only client whose events become steps; undefined for all, or if none asked anything. */
  get client(): number | undefined {
    return this.#client === "first" ? undefined : this.#client;
  }

  /** The time of the first event of the recording, from which times count; undefined before it. */
  get startNs(): bigint | undefined {
    return this.#startNs;
  }

  /** The clients beside {@linkcode client} that were met so far; 65,536 at most. */
  get otherClients(): ReadonlySet<number> {
    return this.#others;
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
    if (this.#taken?.kind === "dma") this.closeDma(this.#taken);
    this.#taken = step;
    return step;
  }

  /**
   * Closes the recording, which may have events left. A read of it that is under way is not
   * awaited: a pipe may keep that waiting.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.#events.return?.().catch(() => {});
    if (this.#reading === undefined) await closed;
  }

  /** Requests of the server that are expected: of the step taken last, and of those ahead. */
  get expectedDma(): IteratorObject<DmaStep> {
    return this.#expected.values();
  }

  /** Expects a request of the server no longer. */
  closeDma(step: DmaStep): void {
    step.isDone = true;
    this.#expected.delete(step.event.index);
  }

  /** Drops all that is left of a client: its steps ahead, and its events from now on. */
  drop(client: number): void {
    this.#dropped.add(client);
    this.#open.delete(client);
    const ahead = this.#ahead.splice(0);
    this.#bytesAhead = 0;
    for (const step of ahead) {
      if (step.event.connection === client) {
        if (step.kind === "dma") this.closeDma(step);
        continue;
      }
      this.#ahead.push(step);
      this.#bytesAhead += bytesOf(step.event);
    }
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
      while (true) {
        this.#signal?.throwIfAborted();
        const { done, value: event } = await this.#events.next();
        if (done) {
          this.#isAtEnd = true;
          return;
        }
        this.#startNs ??= event.timeNs;
        if (!this.#hasPart(event)) continue;
        const step = this.#step(event);
        this.#learn(step);
        this.#ahead.push(step);
        this.#bytesAhead += bytesOf(event);
        return;
      }
    } catch (error) {
      this.#failure = error;
    }
  }

  /** Learns which registers are polled. */
  #learn(step: ScriptStep): void {
    const { connection } = step.event;
    if (step.kind === "request") this.polls.request(connection, step.sent.name);
    if (step.kind === "kick") this.polls.request(connection, step.kind);
    if (step.kind !== "reply") return;
    const [place, { payload }] = [readPlace(step.to.sent.payload), step.reply];
    if (place !== undefined && payload?.name === "REGION_READ" && payload.side === "reply") {
      this.polls.reply(place, payload.value.data);
    }
  }

  /** Decides by an event's client, before anything of the event is kept. */
  #hasPart(event: RecordedEvent): boolean {
    const { connection } = event;
    if (this.#client === "first") {
      if (!isRequest(event)) return false;
      this.#client = connection;
    }
    if (this.#client !== undefined && connection !== this.#client) {
      if (this.#others.size < MAX_COUNTED) this.#others.add(connection);
      return false;
    }
    return !this.#dropped.has(connection);
  }

  /** The open requests of a client; those of the client met first make room for a new client. */
  #openOf(client: number): OpenRequests {
    const known = this.#open.get(client);
    if (known !== undefined) return known;
    if (this.#open.size >= MAX_OPEN) this.#open.delete(this.#open.keys().next().value!);
    const open: OpenRequests = { requests: new Map(), dma: new Map() };
    this.#open.set(client, open);
    return open;
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
        if (event.socket === "main") this.#open.delete(event.connection);
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
    const { requests, dma: accesses } = this.#openOf(event.connection);
    if (heard?.replaces !== undefined) {
      requests.delete(heard.replaces.index);
      accesses.delete(heard.replaces.index);
    }
    const isReply = decoded.type !== "request";
    const asked = heard?.request?.index;
    if (direction === "to-server" && !isReply) {
      const bytes = receivedBytes(event);
      const sent = bytes === null ? undefined : decodeMessage(bytes);
      if (bytes === null || sent === undefined) return nothing;
      const step: RequestStep = { kind: "request", event, heard, sent, bytes, isSkipped: false };
      if (!sent.noReply) requests.set(event.index, step);
      return step;
    }
    if (direction === "to-client" && isReply) {
      if (origin === "recorder" || asked === undefined) return nothing;
      const to = requests.get(asked);
      requests.delete(asked);
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
      if (!decoded.noReply) accesses.set(event.index, step);
      this.#expected.set(event.index, step);
      return step;
    }
    if (asked === undefined) return nothing;
    const dma = accesses.get(asked);
    accesses.delete(asked);
    const got = receivedBytes(event);
    if (dma !== undefined && got !== null) dma.answer = answerOf(got);
    return nothing;
  }
}

/**
 * The reason why a script has no request, with a remedy.
 *
 * @param client the number that its caller named
 */
export function noRequest({ otherClients }: Script, client: number | undefined): string {
  const remedy = "record a client that uses the device";
  if (client === undefined) return `no client of the recording asks anything; ${remedy}`;
  const none = `the recording has no client ${client}`;
  if (otherClients.size === 0) return `${none}; it has none at all: ${remedy}`;
  const named = [...otherClients].slice(0, MAX_NAMED).join(", ");
  const more = otherClients.size > MAX_NAMED ? ` and ${otherClients.size - MAX_NAMED} more` : "";
  return `${none}; name another one: it has ${named}${more}`;
}

/** Tells whether a client asks something here, by the bytes that the server got. */
function isRequest(event: RecordedEvent): boolean {
  if (event.kind !== "message" || event.direction !== "to-server") return false;
  const bytes = receivedBytes(event);
  return bytes !== null && decodeMessage(event.bytes)?.type === "request" &&
    decodeMessage(bytes) !== undefined;
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
