/**
 * Plays a connection: sends its messages, answers the peer's requests, and judges what comes.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { monotonicMs } from "../../ffi/clock.ts";
import { EAGAIN, EINTR, ETOOMANYREFS } from "../../ffi/errno.ts";
import { POLLIN, POLLOUT } from "../../ffi/event.ts";
import { closeAll } from "../../ffi/fd.ts";
import { watch } from "../../ffi/poller.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { sleep } from "../base/sleep.ts";
import { DmaAccessLayout } from "../wire/access.ts";
import { Command, commandName } from "../wire/command.ts";
import { DeviceInfoRequest } from "../wire/device.ts";
import { encodeMessage, HEADER_SIZE, HeaderLayout, MessageFlags } from "../wire/header.ts";
import { type AnswerName, answersTo, type PeerRequest } from "./answers.ts";
import type { Descriptors } from "./descriptors.ts";
import { type Observation, signatureOf } from "./finding.ts";
import { Judge, type OnOutcome } from "./judge.ts";
import { labelOf } from "./label.ts";
import type { FuzzConnection, FuzzMessage } from "./message.ts";

/** Bytes that leave together. No message is split between two sends. */
const BATCH = 16 << 10;
/** Bytes of a message of the peer. */
const MAX_MESSAGE = 16 << 20;
/** Bytes that a peer may send on one connection. */
const MAX_RECEIVED = 512 << 20;
/** Requests of the peer that are answered on one connection. */
const MAX_REQUESTS = 4096;
/** The pause between pieces of a message, in milliseconds. */
const PAUSE_MS = 1;

/** Bytes of address and count. */
const ACCESS_SIZE = DmaAccessLayout.size;
const { messageId: ID_AT, command: COMMAND_AT, size: SIZE_AT, flags: FLAGS_AT } =
  HeaderLayout.offsets;
const PROBE_ID = 0xf1f0;
/** A request that every server answers, if with an error. */
const PROBE: FuzzMessage = {
  bytes: encodeMessage(
    { messageId: PROBE_ID, command: Command.DEVICE_GET_INFO },
    DeviceInfoRequest.encode({ argsz: 16 }),
  ),
  fds: [],
  cuts: [],
  reply: "one",
  isLast: false,
  label: labelOf(Command.DEVICE_GET_INFO),
};

/** Settings of a play. */
export interface PlayOptions {
  /** The longest wait for the peer to read or to answer, in milliseconds. */
  readonly timeoutMs: () => number;
  readonly signal: AbortSignal;
  readonly descriptors: Descriptors;
  readonly onOutcome?: OnOutcome;
  /** Hears of each message that is sent, whole, and each that comes. */
  readonly onMessage?: (from: "us" | "peer", bytes: Uint8Array, message?: FuzzMessage) => void;
}

/** The end of a play. */
export interface Played {
  /** The observations, each kind once. */
  readonly observations: readonly Observation[];
  /**
   * `left`: by us, with all answered; `closed`: by the peer; `lost`: by us, with the peer's state
   * unknown.
   */
  readonly end: "left" | "closed" | "lost";
  /** Messages that were sent. */
  readonly sent: number;
  /** Messages that came. */
  readonly received: number;
  /** The message that the peer has likely closed the connection for. */
  readonly closer: FuzzMessage | undefined;
}

/** Plays connections, one after the other, with buffers that are made once. */
export class Player {
  readonly #options: PlayOptions;
  readonly #out = new IoBuffer(BATCH);
  #in = new IoBuffer(256 << 10);

  constructor(options: PlayOptions) {
    this.#options = options;
  }

  /** Plays a connection on a socket, which is closed afterwards. */
  async play(socket: UnixSocket, connection: FuzzConnection): Promise<Played> {
    using _socket = socket;
    const play = new Play(socket, connection, this.#options, this.#out, this.#in);
    try {
      return await play.run();
    } finally {
      this.#in = play.buffer;
      // A peer that was sent this very socket would keep it open, and would never see its end.
      socket.shutdown();
    }
  }
}

/** An answer that the peer waits for. */
interface Owed {
  readonly name: AnswerName;
  readonly request: PeerRequest;
}

/** The peer has closed, or is left: the play ends. */
class End extends Error {}

class Play {
  buffer: IoBuffer;
  readonly #socket: UnixSocket;
  readonly #connection: FuzzConnection;
  readonly #options: PlayOptions;
  readonly #out: IoBuffer;
  readonly #judge: Judge;
  readonly #observations = new Map<string, Observation>();
  /** Answers that are sent last. */
  readonly #late: Owed[] = [];
  /** Answers that are due. */
  readonly #owed: Owed[] = [];
  /** Bytes that came and are not taken. */
  #start = 0;
  #end = 0;
  #outLength = 0;
  #requests = 0;
  #receivedBytes = 0;
  #sent = 0;
  #received = 0;
  #hasProbe = false;
  /** False once bytes were sent that can't be told apart: what comes then may be anything. */
  #isJudged = true;
  /** True if the peer waits for an answer that does not come. */
  #isOwing = false;
  #state: Played["end"] = "left";

  constructor(
    socket: UnixSocket,
    connection: FuzzConnection,
    options: PlayOptions,
    out: IoBuffer,
    buffer: IoBuffer,
  ) {
    this.#socket = socket;
    this.#connection = connection;
    this.#options = options;
    this.#out = out;
    this.buffer = buffer;
    this.#judge = new Judge(options.onOutcome ?? (() => {}));
  }

  async run(): Promise<Played> {
    try {
      await this.#sendAll();
    } catch (error) {
      if (!(error instanceof End)) throw error;
    }
    const closer = this.#state === "closed" ? this.#judge.closer() : undefined;
    this.#judge.close();
    return {
      closer,
      observations: [...this.#observations.values()],
      end: this.#state,
      sent: this.#sent,
      received: this.#received,
    };
  }

  async #sendAll(): Promise<void> {
    const { messages, window } = this.#connection;
    for (const message of messages) {
      const { bytes, fds, cuts } = message;
      if (message.isLast) {
        await this.#flush();
        // Half of these come right behind requests that are under way.
        if ((bytes[0]! & 1) === 0) await this.#until(() => this.#judge.open === 0);
        this.#isJudged = false;
      }
      const isAlone = fds.length > 0 || cuts.length > 0 || bytes.length > BATCH;
      if (isAlone || this.#outLength + bytes.length > BATCH) await this.#flush();
      if (isAlone) await this.#sendAlone(message);
      else {
        this.#out.bytes.set(bytes, this.#outLength);
        this.#outLength += bytes.length;
        this.#note(message);
      }
      if (window === 1) await this.#flush();
      if (this.#judge.open >= window && !message.isLast) {
        await this.#flush();
        await this.#until(() => this.#judge.open < window);
      }
      if (message.isLast) {
        await this.#flush();
        this.#drain();
        this.#finish("lost");
      }
    }
    await this.#flush();
    await this.#answer(this.#late);
    if (!this.#isOwing) return await this.#probe();
    this.#drain();
    this.#finish("lost");
  }

  /** Asks what can always be answered: then all before it is answered, too. */
  async #probe(): Promise<void> {
    this.#hasProbe = true;
    this.#judge.sent(PROBE);
    this.#options.onMessage?.("us", PROBE.bytes, PROBE);
    await this.#send(new IoBuffer(Uint8Array.from(PROBE.bytes)), PROBE.bytes.length, []);
    await this.#until(() => this.#judge.open === 0);
    // A reply that nothing asked for may be behind the last one.
    this.#drain();
  }

  async #sendAlone(message: FuzzMessage): Promise<void> {
    const { bytes, fds, cuts } = message;
    this.#note(message);
    let numbers: readonly number[] = this.#options.descriptors.numbers(fds, this.#socket.fd);
    let at = 0;
    for (const cut of [...cuts, bytes.length]) {
      const end = Math.min(cut, bytes.length); // a message may have been cut short after its pieces
      if (end <= at) continue;
      if (at > 0) await sleep(PAUSE_MS, this.#options.signal);
      await this.#send(new IoBuffer(bytes.slice(at, end)), end - at, numbers);
      numbers = [];
      at = end;
    }
  }

  #note(message: FuzzMessage): void {
    this.#sent++;
    this.#judge.sent(message);
    this.#options.onMessage?.("us", message.bytes, message);
  }

  async #flush(): Promise<void> {
    const length = this.#outLength;
    this.#outLength = 0;
    if (length > 0) await this.#send(this.#out, length, []);
    this.#drain();
    await this.#answer(this.#owed);
  }

  /** Sends all of it, and takes what comes meanwhile. */
  async #send(buffer: IoBuffer, length: number, numbers: readonly number[]): Promise<void> {
    let deadline = monotonicMs() + this.#options.timeoutMs();
    for (let at = 0; at < length;) {
      const sent = this.#socket.send(buffer, at, length - at, at === 0 ? numbers : []);
      if (sent > 0) {
        at += sent;
        deadline = monotonicMs() + this.#options.timeoutMs();
        continue;
      }
      if (sent === -ETOOMANYREFS) numbers = []; // the peer leaves too many in the queue
      else if (sent !== -EAGAIN && sent !== -EINTR) {
        this.#drain(); // the last replies
        this.#finish("closed");
      }
      if (this.#drain()) deadline = monotonicMs() + this.#options.timeoutMs();
      if (!await this.#wait(POLLIN | POLLOUT, deadline)) {
        this.#lose({ kind: "hang", text: "the peer reads no more", isSilence: true });
      }
    }
  }

  /** Takes messages until something holds. */
  async #until(holds: () => boolean): Promise<void> {
    let deadline = monotonicMs() + this.#options.timeoutMs();
    while (true) {
      if (this.#drain()) deadline = monotonicMs() + this.#options.timeoutMs();
      if (this.#owed.length > 0) {
        await this.#answer(this.#owed);
        continue;
      }
      if (holds()) return;
      if (await this.#wait(POLLIN, deadline)) continue;
      if (this.#isOwing) this.#finish("lost"); // the peer waits for its answer
      if (this.#late.length > 0) {
        await this.#answer(this.#late);
        continue;
      }
      const [first] = this.#judge.unanswered();
      if (first === PROBE || !this.#hasProbe || this.#judge.open > 1) {
        const label = first === PROBE ? undefined : first?.label;
        const text = "the peer answers no more";
        this.#lose({ kind: "hang", text, isSilence: true, ...(label && { label }) });
      }
      const text = "a request stays without a reply, while a later one has its own";
      const label = first && { label: first.label };
      this.#lose({ kind: "wrong reply", text, isSilence: true, ...label });
    }
  }

  /** Takes what is there; true if anything was. */
  #drain(): boolean {
    let has = false;
    while (true) {
      const { buffer } = this;
      if (this.#end === buffer.length) this.#makeRoom();
      const room = this.buffer.length - this.#end;
      const count = this.#socket.receive(this.buffer, this.#end, room);
      if (this.#socket.receivedFds.length > 0) closeAll(this.#socket.receivedFds);
      if (count === -EAGAIN) return has;
      if (count === -EINTR) continue;
      if (count <= 0) {
        this.#takeAll();
        this.#finish("closed");
      }
      has = true;
      this.#end += count;
      this.#receivedBytes += count;
      this.#takeAll();
      if (this.#receivedBytes > MAX_RECEIVED) {
        this.#lose({ kind: "wrong reply", text: "the peer sends without an end" });
      }
    }
  }

  #makeRoom(): void {
    const { buffer } = this;
    if (this.#start > 0) {
      buffer.bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    } else {
      const larger = new IoBuffer(Math.min(2 * buffer.length, MAX_MESSAGE + BATCH));
      larger.bytes.set(buffer.bytes);
      this.buffer = larger;
    }
  }

  #takeAll(): void {
    const { bytes, view } = this.buffer;
    while (this.#end - this.#start >= HEADER_SIZE) {
      const size = view.getUint32(this.#start + SIZE_AT, true);
      if (size < HEADER_SIZE || size > MAX_MESSAGE) {
        if (!this.#isJudged) this.#finish("lost");
        const rest = bytes.slice(this.#start, Math.min(this.#end, this.#start + 256));
        this.#options.onMessage?.("peer", rest);
        this.#lose({ kind: "wrong reply", text: "bytes that are no message" });
      }
      if (this.#end - this.#start < size) break;
      const at = this.#start;
      this.#start += size;
      this.#received++;
      this.#take(bytes.subarray(at, at + size), new DataView(bytes.buffer, at, size));
    }
    if (this.#start === this.#end) this.#start = this.#end = 0;
  }

  #take(bytes: Uint8Array, view: DataView): void {
    this.#options.onMessage?.("peer", bytes);
    if (!this.#isJudged) return;
    const type = view.getUint32(FLAGS_AT, true) & MessageFlags.TYPE_MASK;
    if (type === MessageFlags.COMMAND) return this.#takeRequest(bytes, view);
    if (type !== MessageFlags.REPLY) {
      this.#lose({ kind: "wrong reply", text: "a message that is neither command nor reply" });
    }
    const wrong = this.#judge.reply(bytes, view);
    if (wrong === undefined) return;
    this.#observe(wrong);
    if (wrong.isFinal) this.#finish("lost");
  }

  #takeRequest(bytes: Uint8Array, view: DataView): void {
    const command = view.getUint16(COMMAND_AT, true);
    if (command !== Command.DMA_READ && command !== Command.DMA_WRITE) {
      const text = `a request ${commandName(command)}, which no server sends`;
      this.#lose({ kind: "wrong reply", text });
    }
    const name = this.#connection.answers[this.#requests++] ?? "right";
    if (this.#requests > MAX_REQUESTS) this.#finish("lost");
    if ((view.getUint32(FLAGS_AT, true) & MessageFlags.NO_REPLY) !== 0) return;
    if (name === "never") this.#isOwing = true;
    const request = {
      messageId: view.getUint16(ID_AT, true),
      command,
      payload: bytes.slice(HEADER_SIZE, HEADER_SIZE + ACCESS_SIZE), // data may be many
    };
    (name === "late" ? this.#late : this.#owed).push({ name, request });
  }

  /** Sends the answers that are due. */
  async #answer(owed: Owed[]): Promise<void> {
    for (let next; (next = owed.shift()) !== undefined;) {
      for (const bytes of answersTo(next.name, next.request)) {
        this.#options.onMessage?.("us", bytes);
        this.#judge.answered(bytes);
        await this.#send(new IoBuffer(Uint8Array.from(bytes)), bytes.length, []);
      }
    }
  }

  /** Waits on the event loop; false once the deadline has passed. */
  async #wait(events: number, deadline: number): Promise<boolean> {
    const { signal } = this.#options;
    signal.throwIfAborted();
    if (deadline <= monotonicMs()) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const giveUp = () => resolve(false);
    const watching = watch(this.#socket.fd, events, (revents) => {
      watching.close();
      resolve(revents !== 0); // 0 at the deadline
    }, true);
    watching.deadline = deadline;
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      return await promise;
    } finally {
      signal.removeEventListener("abort", giveUp);
      watching.close();
      signal.throwIfAborted();
    }
  }

  #observe(observation: Observation): void {
    const signature = signatureOf(observation);
    if (!this.#observations.has(signature)) this.#observations.set(signature, observation);
  }

  #lose(observation: Observation): never {
    this.#observe(observation);
    this.#finish("lost");
  }

  #finish(state: Played["end"]): never {
    this.#state = state;
    throw new End();
  }
}
