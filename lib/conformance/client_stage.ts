/**
 * One connection of a client under test, with the device behind it and the check that alters it.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { POLLIN } from "../../ffi/event.ts";
import { closeAll, OwnedFd } from "../../ffi/fd.ts";
import { createMemfd } from "../../ffi/memory.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { sleep } from "../base/sleep.ts";
import { Command, commandName } from "../wire/command.ts";
import { encodeMessage, HEADER_SIZE, MessageFlags } from "../wire/header.ts";
import { PciIrq } from "../wire/irq.ts";
import { type Answer, ANY, type AskOptions, type ClientCheck, type Scene } from "./client_check.ts";
import { ClientState } from "./client_state.ts";
import { ConnectionEnded, Deviation, NotApplicable, Silence } from "./deviation.ts";
import { capabilitiesOf } from "./learn.ts";
import { ModelDevice, SHARED_SIZE, versionWith } from "./model_device.ts";
import { u32At } from "./pack.ts";
import { type CameMessage, type Note, RawPeer } from "./raw_peer.ts";
import { whenReady } from "./ready.ts";
import { plural } from "../text/plural.ts";

const RETRY_MS = 5;
/** Requests after which a client is held for one that asks for ever. */
const MAX_REQUESTS = 100_000;
/** The time that a client may take until it closes a descriptor, in milliseconds. */
const LEAK_MS = 5000;
/** The time in which a client that pipelines has sent its next request, in milliseconds. */
const NEXT_MS = 20;
/** Ids of the device's own commands. */
const OWN_ID = 0x4000;

/** Settings of a {@linkcode Stage}. */
export interface StageOptions {
  /** The silence after which a client asks no more, in milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** One connection. */
export class Stage implements Disposable {
  /** Commands that the client sent, in order. */
  readonly commands: number[] = [];
  /** Commands up to the first that the check answered; undefined if there was none. */
  before: number | undefined;
  /** True if the client sent the request of the first altered answer again. */
  hasAskedAgain = false;
  /** True if the client closed the connection. */
  hasLeft = false;
  deviation: Deviation | undefined;
  /** The reason for which the check can't be tried. */
  reason: string | undefined;
  readonly #check: ClientCheck | undefined;
  readonly #peer: RawPeer;
  readonly #options: StageOptions;
  readonly #notes: Note[];
  readonly #owned: Disposable[] = [];
  readonly #watched: UnixSocket[] = [];
  readonly #waiting: CameMessage[] = [];
  readonly #state = new ClientState();
  readonly #device: ModelDevice;
  #altered: CameMessage | undefined;
  #twin: RawPeer | undefined;
  #leaked = 0;
  #isOver = false;
  #ownId = OWN_ID;

  constructor(
    socket: UnixSocket,
    check: ClientCheck | undefined,
    notes: Note[],
    options: StageOptions,
  ) {
    this.#check = check;
    this.#options = options;
    this.#notes = notes;
    this.#peer = this.#peerOf(socket);
    this.#device = new ModelDevice(() => this.#memory(SHARED_SIZE));
  }

  /** Descriptors that were to be closed, and were open at the last request. */
  get leaked(): number {
    return this.#leaked;
  }

  /** Serves until the client leaves, or asks no more. */
  async serve(): Promise<void> {
    try {
      while (!this.#isOver) {
        if (this.commands.length >= MAX_REQUESTS) return;
        const request = this.#waiting.shift() ?? await this.#peer.receive();
        if (request === undefined) break;
        if ((request.flags & MessageFlags.TYPE_MASK) !== MessageFlags.COMMAND) continue;
        if (this.#watched.length > 0) await this.#countLeaks();
        await this.#serveOne(request, this.#check);
      }
      this.hasLeft = true;
    } catch (error) {
      if (error instanceof ConnectionEnded) this.hasLeft = true;
      else if (error instanceof LeftFirst) {
        this.hasLeft = true;
        this.reason = error.message;
      } else if (error instanceof Deviation) {
        if (!(error instanceof Silence) || error instanceof Unanswered) this.deviation = error;
      } else throw error;
    }
  }

  /** Counts descriptors that are still open. The client may have sent a request ahead. */
  async #countLeaks(): Promise<void> {
    const deadline = monotonicMs() + (this.#leaked > 0 ? 0 : LEAK_MS);
    while (true) {
      this.#leaked = this.#watched.filter((socket) => !socket.isHungUp()).length;
      if (this.#leaked === 0 || monotonicMs() >= deadline) return;
      await sleep(RETRY_MS, this.#options.signal);
    }
  }

  async #serveOne(request: CameMessage, check: ClientCheck | undefined): Promise<void> {
    const turn = this.#take(request);
    const { command, flags } = request;
    const isTurn = check !== undefined &&
      (check.command === command || check.command === ANY && !REMAPPING.includes(command)) &&
      (check.times === "each" || this.before === undefined);
    // There is nothing to alter where the device has no answer, or refuses.
    const isMute = (flags & MessageFlags.NO_REPLY) !== 0 ||
      (turn.answer.flags & MessageFlags.ERROR) !== 0;
    if (!isTurn || isMute) return await this.#finish(turn);
    const count = this.commands.length;
    this.#altered ??= request;
    let answers: Answer[] | undefined;
    try {
      answers = await check.act(turn.answer, this.#scene(turn)) ?? undefined;
      this.before ??= count;
      this.reason = undefined; // of an occasion before
    } catch (error) {
      if (!(error instanceof NotApplicable) || error instanceof LeftFirst) {
        this.before ??= count;
        throw error;
      }
      this.reason = error.message; // not on this occasion
      if (this.before === undefined) this.#altered = undefined;
    }
    await this.#finish(turn, answers);
  }

  /** Has the device process a request, whose answer is then to be sent. */
  #take(request: CameMessage): Turn {
    this.commands.push(request.command);
    if (this.#altered !== undefined && isSame(this.#altered, request)) this.hasAskedAgain = true;
    const answer = this.#device.answer(request);
    const interrupts = this.#device.takeInterrupts();
    return { request, answer, interrupts, isAnswered: false };
  }

  /** Sends the answer, unless that was done, and raises interrupts. */
  async #finish(turn: Turn, answers: readonly Answer[] = [turn.answer]): Promise<void> {
    if (turn.isAnswered) return;
    turn.isAnswered = true;
    const { request } = turn;
    const isPosted = (request.flags & MessageFlags.NO_REPLY) !== 0;
    if (!isPosted) { for (const each of answers) await this.#send(each); }
    this.#settle(request, answers);
    for (const vector of turn.interrupts.splice(0)) this.#signal(PciIrq.MSIX, vector);
  }

  /** Takes over what a request sets up, unless it is refused. */
  #settle(request: CameMessage, answers: readonly Answer[]): void {
    const isRefused = answers.some(({ flags }) => (flags & MessageFlags.ERROR) !== 0);
    if (isRefused) closeAll(request.fds);
    else this.#state.apply(request);
  }

  #scene(turn: Turn): Scene {
    const state = this.#state;
    const { request } = turn;
    return {
      request,
      interrupts: turn.interrupts,
      get maps() {
        return state.maps;
      },
      get vectors() {
        return state.vectors;
      },
      get limit() {
        return state.limit;
      },
      isBusMaster: () => this.#device.isBusMaster,
      send: (answer) => this.#send(answer),
      answerNow: () => this.#finish(turn),
      next: () => this.#next(),
      encode,
      sendBytes: (bytes) => this.#peer.send(bytes),
      sendPieces: (bytes, size) => this.#sendPieces(bytes, size),
      ask: async (command, payload, options = {}) => {
        if (!options.isWaiting) await this.#finish(turn);
        return await this.#ask(command, payload, options);
      },
      reply: (command, ids) => this.#reply(command, ids, {}),
      post: (command, payload) => this.#post(command, payload),
      signal: (index, vector, times) => this.#signal(index, vector, times),
      offerTwin: (answer) => this.#offerTwin(answer, request),
      endTwin: () => this.#twin?.[Symbol.dispose](),
      hasTwin: () => this.#twin !== undefined,
      pause: (ms = 50) => sleep(ms, this.#options.signal),
      stray: () => this.#pair(this.#watched),
      kept: () => this.#pair(this.#owned),
      memory: (size) => this.#memory(size),
      endSending: () => this.#peer.shutdownSending(),
      hangUp: () => {
        turn.isAnswered = true;
        this.#isOver = true;
        this.#peer[Symbol.dispose]();
      },
    };
  }

  #signal(index: number, vector: number, times = 1): void {
    const found = this.#state.vectors.find((each) =>
      each.index === index && each.vector === vector
    );
    found?.event.signal(times);
  }

  /** Takes the request behind the one that is served, if the client does not wait for its reply. */
  async #next(): Promise<Answer> {
    let request: CameMessage | undefined;
    try {
      request = this.#waiting.shift() ?? await this.#peer.receive(NEXT_MS);
    } catch (error) {
      if (!(error instanceof Silence)) throw error;
    }
    if (request === undefined || (request.flags & MessageFlags.NO_REPLY) !== 0) {
      if (request !== undefined) this.#waiting.unshift(request);
      throw new NotApplicable("the client waits for each reply");
    }
    const { answer } = this.#take(request);
    this.#settle(request, [answer]);
    return answer;
  }

  #offerTwin(answer: Answer, { payload }: CameMessage): void {
    if (capabilitiesOf(payload).twin_socket === undefined) {
      throw new NotApplicable("the client does not propose a twin socket");
    }
    const [ours, theirs] = UnixSocket.pair();
    this.#twin = this.#peerOf(ours);
    const fd = new OwnedFd(theirs.release());
    this.#owned.push(this.#twin, fd);
    answer.fds = [fd];
    const twin = { twin_socket: { supported: true, fd_index: 0 } };
    const capabilities = { ...capabilitiesOf(answer.payload), ...twin };
    answer.payload = versionWith(capabilities, u32At(answer.payload, 0) >>> 16);
  }

  #peerOf(socket: UnixSocket): RawPeer {
    const { timeoutMs, signal } = this.#options;
    return new RawPeer(socket, {
      timeoutMs: () => timeoutMs,
      signal,
      notes: this.#notes,
      from: "client",
    });
  }

  /** Makes a socket pair, whose end of ours goes into the list, and returns the client's. */
  #pair(ends: { push(end: UnixSocket): unknown }): OwnedFd {
    const [ours, theirs] = UnixSocket.pair();
    ends.push(ours);
    const fd = new OwnedFd(theirs.release());
    this.#owned.push(fd);
    return fd;
  }

  #memory(size: number): OwnedFd {
    const fd = createMemfd("vfu-check", size);
    this.#owned.push(fd);
    return fd;
  }

  /** Sends a command without waiting for its reply, and returns its id. */
  async #post(
    command: number,
    payload: Uint8Array,
    { flags = 0, id, fds, viaTwin }: AskOptions = {},
  ) {
    const messageId = id ?? ++this.#ownId;
    const header = { messageId, command, flags: MessageFlags.COMMAND | flags, error: 0 };
    const peer = viaTwin ? this.#twin! : this.#peer;
    await peer.send(encode({ ...header, payload, fds: [] }), fds);
    for (const fd of fds ?? []) fd[Symbol.dispose]();
    return messageId;
  }

  async #ask(command: number, payload: Uint8Array, options: AskOptions): Promise<CameMessage> {
    return await this.#reply(command, [await this.#post(command, payload, options)], options);
  }

  /** Waits for a reply. The client's requests are served meanwhile, or wait for that, too. */
  async #reply(
    command: number,
    ids: readonly number[],
    { isWaiting = false, viaTwin = false }: AskOptions,
  ): Promise<CameMessage> {
    const expected = `a reply to ${commandName(command)}`;
    const before = this.commands.length;
    const deadline = monotonicMs() + this.#options.timeoutMs;
    while (true) {
      const message = await this.#receive(deadline, viaTwin, expected);
      if (message === undefined) {
        // Behind a second request it has had an answer that was sent behind the command.
        const more = this.commands.length - before;
        if (more < 2) throw new LeftFirst("the client leaves before it answers");
        throw new Deviation(
          expected,
          `the end of the connection, after ${plural(more, "more request")}`,
        );
      }
      const isReply = (message.flags & MessageFlags.TYPE_MASK) === MessageFlags.REPLY;
      if (isReply) {
        if (ids.includes(message.messageId) && message.command === command) return message;
        throw new Deviation(`${expected} with id ${ids.join(" or ")}`, message.text);
      }
      if (isWaiting) this.#waiting.push(message);
      else await this.#serveOne(message, undefined);
    }
  }

  /** Waits for a message on either socket; undefined at the end of one. */
  async #receive(
    deadline: number,
    viaTwin: boolean,
    expected: string,
  ): Promise<CameMessage | undefined> {
    const { timeoutMs, signal } = this.#options;
    const peers = [this.#peer, ...(viaTwin ? [this.#twin!] : [])];
    while (true) {
      for (const peer of peers) {
        const message = peer.receiveNow();
        if (message !== undefined) return message;
        if (!peer.isOpen) return undefined;
      }
      const enough = new AbortController();
      const either = AbortSignal.any([signal, enough.signal]);
      const waits = peers.map((peer) => whenReady(peer.fd, POLLIN, deadline, either));
      const isReady = await Promise.race(waits).finally(() => {
        enough.abort();
        return Promise.allSettled(waits);
      });
      if (!isReady) throw new Unanswered(expected, `nothing within ${timeoutMs / 1000} s`);
    }
  }

  async #send(answer: Answer): Promise<void> {
    await this.#peer.send(encode(answer), answer.fds);
    for (const fd of answer.fds) fd[Symbol.dispose]();
  }

  async #sendPieces(bytes: Uint8Array, size: number): Promise<void> {
    for (let at = 0; at < bytes.length; at += size) {
      await this.#peer.send(bytes.subarray(at, at + size), [], `bytes from ${at} of a message`);
      await this.#peer.taken();
    }
  }

  [Symbol.dispose](): void {
    this.#peer[Symbol.dispose]();
    this.#state[Symbol.dispose]();
    for (const each of this.#owned) each[Symbol.dispose]();
    for (const socket of this.#watched) socket[Symbol.dispose]();
  }
}

/** A request that is being served. */
interface Turn {
  readonly request: CameMessage;
  readonly answer: Answer;
  /** Vectors of MSI-X that the device raises behind the answer. */
  readonly interrupts: number[];
  isAnswered: boolean;
}

/** Reports whether requests ask the same; of a read, for the same place. */
function isSame(one: CameMessage, other: CameMessage): boolean {
  const place = one.command === Command.REGION_READ ? 12 : Infinity;
  const bytes = [one, other].map(({ payload }) => payload.subarray(0, place));
  return one.command === other.command && bytes[0]!.length === bytes[1]!.length &&
    bytes[0]!.every((byte, at) => byte === bytes[1]![at]);
}

/** Commands behind which memory is another: not those of ANY. */
const REMAPPING: readonly number[] = [Command.DMA_MAP, Command.DMA_UNMAP];

/** The bytes of an answer, whose size may be a false one. */
function encode({ payload, size, ...header }: Answer): Uint8Array {
  const bytes = encodeMessage(header, payload);
  const total = size ?? HEADER_SIZE + payload.length;
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(4, total, true);
  return bytes;
}

/** The client says nothing to a command of the device. */
class Unanswered extends Silence {}

/** The client has left, as it may, before it answered a command of the device. */
class LeftFirst extends NotApplicable {}
