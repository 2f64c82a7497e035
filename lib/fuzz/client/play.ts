/**
 * Runs a client once, serves it a device that a plan changes, and observes what becomes of it.
 *
 * @module
 */

import { monotonicMs } from "../../../ffi/clock.ts";
import { closeAll } from "../../../ffi/fd.ts";
import type { OwnedFd } from "../../../ffi/fd.ts";
import { createMemfd } from "../../../ffi/memory.ts";
import { UnixListener } from "../../../ffi/listener.ts";
import type { UnixSocket } from "../../../ffi/socket.ts";
import { sleep } from "../../base/sleep.ts";
import type { Answer } from "../../conformance/client_check.ts";
import { ClientState } from "../../conformance/client_state.ts";
import { ConnectionEnded, Deviation, Silence } from "../../conformance/deviation.ts";
import { ModelDevice, SHARED_SIZE } from "../../conformance/model_device.ts";
import { type CameMessage, RawPeer } from "../../conformance/raw_peer.ts";
import type { ClientProcess } from "../../conformance/run_client.ts";
import { endText, type ServerEnd, Unreachable, wordsText } from "../../conformance/target.ts";
import { encodeMessage, MessageFlags } from "../../wire/header.ts";
import { PciIrq } from "../../wire/irq.ts";
import { type DescriptorName, Descriptors } from "../descriptors.ts";
import type { Observation } from "../finding.ts";
import { reportIn, withoutNumbers } from "../last_words.ts";
import { crashOf } from "../subject.ts";
import { type Change, changedBytes, leavesWaiting } from "./change.ts";
import type { Plan, Turn } from "./deviser.ts";
import { PeakMemory } from "./peak_memory.ts";

const RETRY_MS = 5;
/** The time that a client may take until it connects, in milliseconds. */
const START_MS = 30_000;
/** The pause before a late reply, in milliseconds. */
const LATE_MS = 50;
/** The silence of a client that may wait for ever, in milliseconds. */
const WAITING_MS = 200;
/** Requests after which a client is stopped: a changed size or count may keep it busy for ever. */
const MAX_REQUESTS = 20_000;
/** Connections of one client that are served, one after the other. */
const MAX_CONNECTIONS = 16;
/** Messages of a conversation that are kept, and their bytes. */
const MAX_CONVERSATION = 4096;
const MAX_KEPT = 32 << 20;
/** Signals whose number a shell adds to 128 when it reports the end of its command. */
const FATAL: Readonly<Record<number, Deno.Signal>> = {
  4: "SIGILL",
  5: "SIGTRAP",
  6: "SIGABRT",
  7: "SIGBUS",
  8: "SIGFPE",
  9: "SIGKILL",
  11: "SIGSEGV",
  31: "SIGSYS",
};

/** Settings of a {@linkcode ClientSubject}. */
export interface ClientSubjectOptions {
  /** The path at which the device is served. */
  readonly path: string;
  /** Starts a client of that path. */
  readonly start: (path: string) => ClientProcess;
  /** The silence after which a client hangs, in milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** A message of a conversation. */
export interface Said {
  readonly from: "us" | "peer";
  readonly bytes: Uint8Array;
  /** Descriptors that went with it, of a change by name. */
  readonly fds: number;
  readonly names?: readonly DescriptorName[];
  readonly change?: Change;
}

/** One run of the client. */
export interface ClientPlayed {
  /** Commands of the client's requests, in order. */
  readonly commands: readonly number[];
  /** Changes that were made, in order, each with the number of requests up to then. */
  readonly changes: readonly { readonly change: Change; readonly requests: number }[];
  readonly observations: readonly Observation[];
  readonly conversation: readonly Said[];
  readonly connections: number;
  /** True if the client closed its last connection. */
  readonly hasLeft: boolean;
  /** The end of its process; undefined if it was stopped. */
  readonly end: ServerEnd | undefined;
  /** The most memory that it had, in bytes; 0 if that is not known. */
  readonly peak: number;
  /** Its first report of a fault, as a text. */
  readonly report: string | undefined;
}

/** The behaviour of the client with a plain device, with which all other is compared. */
export type Usual = Pick<ClientPlayed, "hasLeft" | "end" | "peak" | "report">;

/** A client that can be started again and again. */
export class ClientSubject implements Disposable {
  readonly #options: ClientSubjectOptions;
  readonly #listener: UnixListener;
  readonly #descriptors = new Descriptors();
  /** The behaviour with a plain device, once it is known. */
  usual: Usual | undefined;

  /** @throws {SystemError} if it can't listen at the path */
  constructor(options: ClientSubjectOptions) {
    this.#options = options;
    this.#listener = UnixListener.listen(options.path);
  }

  /**
   * Runs the client once.
   *
   * @throws {Unreachable} if it does not connect
   */
  async play(plan: Plan, timeoutMs: number = this.#options.timeoutMs): Promise<ClientPlayed> {
    const options = { ...this.#options, timeoutMs };
    using play = new ClientPlay(options, this.#listener, this.#descriptors, this.usual, plan);
    return await play.run();
  }

  /** Stops listening, and closes its descriptors. */
  [Symbol.dispose](): void {
    this.#listener[Symbol.dispose]();
    this.#descriptors[Symbol.dispose]();
  }
}

class ClientPlay implements Disposable {
  readonly #options: ClientSubjectOptions;
  readonly #listener: UnixListener;
  readonly #descriptors: Descriptors;
  readonly #usual: Usual | undefined;
  readonly #plan: Plan;
  readonly #process: ClientProcess;
  readonly #memory: PeakMemory;
  readonly #commands: number[] = [];
  readonly #counts = new Map<number, number>();
  readonly #changes: { change: Change; requests: number }[] = [];
  readonly #observations: Observation[] = [];
  readonly #conversation: Said[] = [];
  #kept = 0;
  #connections = 0;
  #hasLeft = false;
  /** True if the client may wait for ever, by what it was sent. */
  #mayWait = false;

  constructor(
    options: ClientSubjectOptions,
    listener: UnixListener,
    descriptors: Descriptors,
    usual: Usual | undefined,
    plan: Plan,
  ) {
    this.#options = options;
    this.#listener = listener;
    this.#descriptors = descriptors;
    this.#usual = usual;
    this.#plan = plan;
    this.#process = options.start(options.path);
    this.#memory = new PeakMemory(usual?.peak, () => void this.#process.stop());
  }

  async run(): Promise<ClientPlayed> {
    let end: ServerEnd | undefined;
    try {
      let socket = await this.#accept(START_MS);
      if (socket === undefined && !this.#memory.isTooMuch) this.#checkConnected();
      while (socket !== undefined) {
        this.#connections++;
        await this.#connection(socket);
        if (this.#connections >= MAX_CONNECTIONS || !this.#hasLeft) break;
        const isPatient = this.#usual === undefined || this.#usual.end !== undefined;
        socket = await this.#accept(isPatient ? this.#options.timeoutMs : 0);
      }
      end = this.#memory.isTooMuch ? undefined : this.#process.end;
      this.#judge(end);
    } finally {
      await this.#process.stop();
    }
    return {
      commands: this.#commands,
      changes: this.#changes,
      observations: [...this.#observations, ...this.#reports(end)],
      conversation: this.#conversation,
      connections: this.#connections,
      hasLeft: this.#hasLeft,
      end,
      peak: this.#memory.peak,
      report: reportText(this.#process.end),
    };
  }

  /** Waits for a connection; undefined if the client ends before, or none comes in time. */
  async #accept(timeoutMs: number): Promise<UnixSocket | undefined> {
    const deadline = monotonicMs() + timeoutMs;
    while (true) {
      const socket = this.#listener.accept();
      if (socket !== undefined) return socket;
      if (this.#process.end !== undefined || this.#memory.isTooMuch) return undefined;
      if (monotonicMs() > deadline) return undefined;
      await sleep(RETRY_MS, this.#options.signal);
    }
  }

  #checkConnected(): void {
    const { end } = this.#process;
    if (end === undefined) {
      throw new Unreachable(
        `Cannot fuzz the client: it has not connected within ${START_MS / 1000} s`,
      );
    }
    throw new Unreachable(
      `Cannot fuzz the client: it ${endText(end)} before it connected${wordsText(end)}`,
    );
  }

  /** Serves one connection until the client leaves, or asks no more. */
  async #connection(socket: UnixSocket): Promise<void> {
    const { signal, timeoutMs } = this.#options;
    const usual = this.#usual;
    this.#hasLeft = false;
    using peer = new RawPeer(socket, {
      timeoutMs: () => this.#mayWait ? Math.min(WAITING_MS, timeoutMs) : timeoutMs,
      signal,
      notes: [],
      from: "client",
    });
    this.#memory.watch(peer.process());
    using served = new Served(peer);
    try {
      while (this.#commands.length < MAX_REQUESTS) {
        const request = await peer.receive();
        if (request === undefined) {
          this.#hasLeft = true;
          return;
        }
        if (!await this.#serve(request, served)) return await this.#leave(peer);
      }
    } catch (error) {
      if (error instanceof ConnectionEnded) this.#hasLeft = true;
      else if (error instanceof Silence) {
        if (this.#mayWait) return await this.#leave(peer);
        if (usual?.hasLeft !== true || this.#changes.length === 0) return;
        this.#observations.push(HANG);
      } else if (error instanceof Deviation) return await this.#leave(peer);
      else throw error;
    } finally {
      peer.shutdown();
    }
  }

  /** Closes the connection, which a client has to notice. */
  async #leave(peer: RawPeer): Promise<void> {
    peer.shutdown();
    peer[Symbol.dispose]();
    if (this.#usual?.end === undefined) return;
    const deadline = monotonicMs() + this.#options.timeoutMs;
    while (this.#process.end === undefined && monotonicMs() < deadline) {
      await sleep(RETRY_MS, this.#options.signal);
    }
    this.#hasLeft = this.#process.end !== undefined;
    if (!this.#hasLeft && !this.#memory.isTooMuch) this.#observations.push(HANG_AFTER_END);
  }

  /** Serves a request; returns false once the connection is to end. */
  async #serve(request: CameMessage, served: Served): Promise<boolean> {
    const { command, flags, messageId, payload, fds } = request;
    this.#say({ from: "peer", bytes: encodeMessage(request, payload), fds: fds.length });
    if ((flags & MessageFlags.TYPE_MASK) !== MessageFlags.COMMAND) {
      closeAll(fds);
      return true;
    }
    this.#commands.push(command);
    const nth = (this.#counts.get(command) ?? 0) + 1;
    this.#counts.set(command, nth);
    const answer = served.device.answer(request);
    const interrupts = served.device.takeInterrupts();
    const isPosted = (flags & MessageFlags.NO_REPLY) !== 0;
    const right = encodeMessage({ ...answer, messageId }, answer.payload);
    const { maps } = served.state;
    const turn: Turn = { command, nth, right, fds: answer.fds.length, maps };
    const changes = this.#plan.changesAt(turn);
    const isRefused = (answer.flags & MessageFlags.ERROR) !== 0;
    if (isRefused) closeAll(fds);
    else served.state.apply(request);
    for (const change of changes) {
      if (change.kind === "before") await this.#change(change, turn, answer, served.peer);
    }
    const changed = changes.find(({ kind }) => kind === "reply");
    let goesOn = true;
    if (!isPosted && changed !== undefined) {
      goesOn = await this.#change(changed, turn, answer, served.peer);
    } else if (!isPosted) {
      this.#say({ from: "us", bytes: right, fds: answer.fds.length });
      await served.peer.send(right, answer.fds);
    }
    for (const fd of answer.fds) fd[Symbol.dispose]();
    for (const change of changes) {
      if (change.kind === "after") await this.#change(change, turn, answer, served.peer);
    }
    for (const vector of interrupts) served.signal(vector);
    return goesOn;
  }

  /** Sends what a change makes; returns false if the connection is to end behind it. */
  async #change(change: Change, turn: Turn, answer: Answer, peer: RawPeer): Promise<boolean> {
    const { kind, timing, fds: names, cuts } = change;
    const bytes = changedBytes(change, kind === "reply" ? turn.right : new Uint8Array());
    this.#changes.push({ change, requests: this.#commands.length });
    if (kind === "reply" ? leavesWaiting(bytes, turn.right, timing) : isHalf(bytes)) {
      this.#mayWait = true;
    }
    const numbers = names === undefined || kind !== "reply" && names.length === 0
      ? undefined
      : this.#descriptors.numbers(names, peer.fd);
    const count = numbers?.length ?? (kind === "reply" ? answer.fds.length : 0);
    const said = { from: "us", fds: count, change, ...(names && { names }) } as const;
    if (timing === "never") {
      this.#say({ ...said, bytes: new Uint8Array() });
      return true;
    }
    if (timing === "late") await sleep(LATE_MS, this.#options.signal);
    const own = kind === "reply" ? answer.fds : [];
    const fds = numbers === undefined ? own : numbers.map((fd) => ({ fd }));
    for (let i = 0; i < (timing === "twice" ? 2 : 1); i++) {
      this.#say({ ...said, bytes });
      await sendPieces(peer, bytes, fds, cuts);
    }
    return timing !== "then end";
  }

  #say(said: Said): void {
    if (this.#conversation.length >= MAX_CONVERSATION || this.#kept > MAX_KEPT) return;
    this.#kept += said.bytes.length;
    this.#conversation.push(said);
  }

  #judge(end: ServerEnd | undefined): void {
    if (this.#memory.isTooMuch) {
      this.#observations.splice(0, Infinity, TOO_MUCH_MEMORY);
      return;
    }
    if (end === undefined) {
      const isHanging = this.#hasLeft && this.#usual?.end !== undefined &&
        this.#connections < MAX_CONNECTIONS;
      if (isHanging && this.#changes.length > 0) this.#observations.push(HANG_AFTER_LEAVING);
      return;
    }
    const signal = signalOf(end);
    if (signal === undefined) return;
    this.#observations.splice(0, Infinity, crashOf({ ...end, signal }));
  }

  /** The report that it wrote, unless it does so with a plain device, or has crashed. */
  #reports(end: ServerEnd | undefined): readonly Observation[] {
    if (this.#observations.some(({ kind }) => kind === "crash")) return [];
    const text = reportText(this.#process.end);
    if (text === undefined || text === this.#usual?.report) return [];
    const isCrash = end !== undefined && end.code !== 0 && reportIn(end.output)?.goesOn === false;
    return [isCrash ? crashOf(end) : { kind: "report", text }];
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

/** The device of one connection, with what the client has set up. */
class Served implements Disposable {
  readonly state = new ClientState();
  readonly device: ModelDevice;
  readonly #owned: OwnedFd[] = [];

  constructor(readonly peer: RawPeer) {
    this.device = new ModelDevice(() => {
      const fd = createMemfd("vfu-fuzz-bar", SHARED_SIZE);
      this.#owned.push(fd);
      return fd;
    });
  }

  /** Signals a vector of MSI-X, if the client has enabled it. */
  signal(vector: number): void {
    this.state.vectors.find((each) => each.index === PciIrq.MSIX && each.vector === vector)
      ?.event.signal();
  }

  [Symbol.dispose](): void {
    this.state[Symbol.dispose]();
    closeAll(this.#owned);
  }
}

const HANG: Observation = {
  kind: "hang",
  text: "the client neither asks nor ends",
  isSilence: true,
};
const HANG_AFTER_END: Observation = {
  kind: "hang",
  text: "the client does not end after the server has closed the connection",
  isSilence: true,
};
const HANG_AFTER_LEAVING: Observation = {
  kind: "hang",
  text: "the client does not end after it has closed the connection",
  isSilence: true,
};
const TOO_MUCH_MEMORY: Observation = {
  kind: "leak",
  text: "the client takes memory without a bound",
};

async function sendPieces(
  peer: RawPeer,
  bytes: Uint8Array,
  fds: readonly Pick<OwnedFd, "fd">[],
  cuts: readonly number[],
): Promise<void> {
  if (bytes.length === 0) return;
  const edges = [0, ...cuts.filter((at) => at > 0 && at < bytes.length), bytes.length];
  for (let i = 0; i + 1 < edges.length; i++) {
    await peer.send(bytes.subarray(edges[i], edges[i + 1]), i === 0 ? fds : [], "");
    if (edges.length > 2) await peer.taken();
  }
}

/** Reports whether bytes that no request asked for are no whole message. */
function isHalf(bytes: Uint8Array): boolean {
  return bytes.length < 16 ||
    new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true) !== bytes.length;
}

/** The signal that ended a client, by itself or under a shell; undefined after an exit. */
function signalOf({ signal, code }: ServerEnd): string | undefined {
  return signal ?? FATAL[code - 128];
}

/** Reports of faults; those of a crash come with a signal, and are looked for in its words. */
function reportText(end: ServerEnd | undefined): string | undefined {
  const report = end && reportIn(end.output);
  if (report === undefined || BY_SIGNAL.includes(report.name)) return undefined;
  return withoutNumbers(`${report.name}: ${report.text}`);
}

/** Reports behind which the C library ends the program by a signal. */
const BY_SIGNAL: readonly string[] = ["heap corruption", "stack smashing"];
