/**
 * Serves a device to a client under test, a connection a check, and judges what the client does.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { POLLIN } from "../../ffi/event.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { createMemfd } from "../../ffi/memory.ts";
import { UnixListener, UnixSocket } from "../../ffi/socket.ts";
import { sleep } from "../base/sleep.ts";
import { whenReady } from "./ready.ts";
import { Command, commandName } from "../wire/command.ts";
import { encodeMessage, HEADER_SIZE, MessageFlags } from "../wire/header.ts";
import type { Answer, ClientCheck, Scene } from "./client_check.ts";
import { ConnectionEnded, Deviation, NotApplicable, Silence } from "./deviation.ts";
import { ModelDevice, SHARED_SIZE } from "./model_device.ts";
import { type CameMessage, type Note, RawPeer } from "./raw_peer.ts";
import type { CheckResult, Plan } from "./run.ts";
import { endText, type ServerEnd, Unreachable, wordsText } from "./target.ts";

const RETRY_MS = 5;
/** Requests after which a client is held for one that asks for ever. */
const MAX_REQUESTS = 100_000;
/** The time that a started client may take until it connects, in milliseconds. */
const START_MS = 30_000;
/** The time that a client may take until it closes a descriptor, in milliseconds. */
const LEAK_MS = 5000;
/** Ids of the device's own commands. */
const OWN_ID = 0x4000;

/** A client that was started. */
export interface ClientProcess {
  /** Its end; undefined while it runs. */
  readonly end: ServerEnd | undefined;
  /** Ends it. */
  stop(): Promise<void>;
}

/** Settings of {@linkcode runClientChecks}. */
export interface ClientRunOptions {
  /** The path at which the device is served. */
  readonly path: string;
  /** Starts a client of that path, for each check; without it clients come by themselves. */
  readonly start?: (path: string) => ClientProcess;
  /** The silence after which a client asks no more, in milliseconds. */
  readonly timeoutMs: number;
  /** The longest wait for a client that comes by itself, in milliseconds; default for ever. */
  readonly waitMs?: number;
  /** Hears that a client has to come by itself: for a check, or for the plain device. */
  readonly onWait?: (check: ClientCheck | undefined) => void;
  readonly signal: AbortSignal;
}

/** The behaviour of a client on one connection. */
interface Behaviour {
  /** Commands that it sent, in order. */
  readonly commands: readonly number[];
  /** Commands before the first altered answer, that one's included; undefined if none was. */
  readonly before: number | undefined;
  /** True if it closed the connection, false if it just asked no more. */
  readonly hasLeft: boolean;
  /** Its end, of a client that was started and ended by itself. */
  readonly end: ServerEnd | undefined;
  readonly deviation: Deviation | undefined;
  readonly reason: string | undefined;
  /** Descriptors to be closed that stayed open while it asked on. */
  readonly leaked: number;
}

/**
 * Does checks, after one connection with a plain device.
 *
 * @throws {Unreachable} if a client that was started does not connect, or a plain device does not
 *   suit it
 */
export async function* runClientChecks(
  plans: readonly Plan<ClientCheck>[],
  options: ClientRunOptions,
): AsyncGenerator<CheckResult> {
  using listener = UnixListener.listen(options.path);
  const plain = await meet(listener, undefined, [], options);
  if (plain.commands.length === 0 || isCrash(plain)) {
    throw new Unreachable(
      `Cannot check the client: with a plain device it ${describe(plain)}; try the client with ` +
        "vfu serve demo",
    );
  }
  for (const { group, checks } of plans) {
    for (const check of checks) {
      const startMs = performance.now();
      const messages: Note[] = [];
      const behaviour = await meet(listener, check, messages, options);
      const rest = {
        check,
        group,
        messages,
        timeMs: performance.now() - startMs,
        ...(isCrash(behaviour) && behaviour.end && { end: behaviour.end }),
      };
      try {
        judge(check, behaviour, plain);
        yield { ...rest, verdict: "passed" };
      } catch (error) {
        if (error instanceof NotApplicable) {
          yield { ...rest, verdict: "not applicable", reason: error.message };
        } else if (error instanceof Deviation) {
          const { expected, came } = error;
          yield { ...rest, verdict: "failed", expected, came };
        } else throw error;
      }
    }
  }
}

/** @throws {Deviation | NotApplicable} unless the client does what the check demands */
function judge(check: ClientCheck, is: Behaviour, plain: Behaviour): void {
  if (is.before === undefined) {
    throw new NotApplicable(`the client does not send ${commandName(check.command)}`);
  }
  if (isCrash(is)) throw new Deviation(EXPECTED[check.demand], `the client ${describe(is)}`);
  if (is.deviation !== undefined) throw is.deviation;
  if (is.reason !== undefined) throw new NotApplicable(is.reason);
  const hasGivenUp = is.commands.length < plain.commands.length;
  if (is.leaked > 0 && !hasGivenUp) {
    throw new Deviation(
      "descriptors without a use to be closed",
      `${is.leaked} still open at a later request`,
    );
  }
  const fail = (came: string) => {
    throw new Deviation(EXPECTED[check.demand], came);
  };
  const isHanging = !is.hasLeft && plain.hasLeft;
  if (check.demand === "goes on") {
    // A client that agreed to another version or other capabilities may ask for less.
    const usual = check.command === Command.VERSION ? plain.commands.slice(0, 2) : plain.commands;
    const missing = usual.find((command) => !is.commands.includes(command));
    if (missing !== undefined) fail(`${describe(is)}, and never sent ${commandName(missing)}`);
    if (isHanging) fail(describe(is));
    if (is.end?.code !== plain.end?.code) fail(describe(is));
    return;
  }
  if (isHanging) fail(describe(is));
  if (check.demand === "survives") return;
  // The end tells more than the messages.
  if (plain.end?.code === 0 && is.end !== undefined) {
    if (is.end.code === 0) fail(`${describe(is)}, as with a plain device`);
    return;
  }
  const asked = is.commands.length - is.before;
  const usual = plain.commands.length - is.before;
  if (usual <= 0) throw new NotApplicable("the client asks nothing after it: use --spawn");
  if (!is.hasLeft || asked >= usual) fail(`${describe(is)}, after ${asked} more messages`);
}

const EXPECTED = {
  "goes on": "a client that goes on as with a plain device",
  "gives up": "a client that closes the connection and reports a failure",
  "survives": "a client that goes on or gives up",
} as const;

/** Describes the end of a connection. */
function describe({ end, hasLeft, commands }: Behaviour): string {
  if (end !== undefined) return `${endText(end)}${wordsText(end)}`;
  const last = commands.at(-1);
  const behind = last === undefined ? "nothing" : commandName(last);
  return hasLeft ? `left after ${behind}` : `neither asked on nor left after ${behind}`;
}

function isCrash({ end }: Pick<Behaviour, "end">): boolean {
  return end?.signal !== undefined;
}

/** Serves one client until it leaves or asks no more. */
async function meet(
  listener: UnixListener,
  check: ClientCheck | undefined,
  notes: Note[],
  options: ClientRunOptions,
): Promise<Behaviour> {
  const client = options.start?.(options.path);
  if (client === undefined) options.onWait?.(check);
  const deadline = monotonicMs() + (client === undefined ? options.waitMs ?? Infinity : START_MS);
  try {
    while (true) {
      const socket = await accept(listener, client, deadline, options);
      using stage = new Stage(socket, check, notes, options);
      await stage.serve();
      const { commands, before, hasLeft, deviation, reason, leaked } = stage;
      // A script that waits for the socket connects and leaves; the client comes behind it.
      if (client === undefined && hasLeft && commands.length === 0) continue;
      if (hasLeft && client !== undefined) await ended(client, options);
      const { end } = client ?? { end: undefined };
      return { commands, before, hasLeft, deviation, reason, leaked, end };
    }
  } finally {
    await client?.stop();
  }
}

/** Waits for a connection. The end of a client that was started is looked for now and then. */
async function accept(
  listener: UnixListener,
  client: ClientProcess | undefined,
  deadline: number,
  { path, waitMs, signal }: ClientRunOptions,
): Promise<UnixSocket> {
  while (true) {
    const socket = listener.accept();
    if (socket !== undefined) return socket;
    if (client === undefined) {
      if (await whenReady(listener.fd, POLLIN, deadline, signal)) continue;
      throw new Unreachable(
        `Cannot check the client: none has connected to ${path} within ` +
          `${waitMs! / 1000} s; connect it for each check, or use --spawn`,
      );
    }
    if (client.end !== undefined) {
      throw new Unreachable(
        `Cannot check the client: it ${endText(client.end)} before it connected` +
          wordsText(client.end),
      );
    }
    if (monotonicMs() > deadline) {
      throw new Unreachable(
        `Cannot check the client: it has not connected within ${START_MS / 1000} s`,
      );
    }
    await sleep(RETRY_MS, signal);
  }
}

/** Waits for a client that has left to end. */
async function ended(client: ClientProcess, { timeoutMs, signal }: ClientRunOptions) {
  const deadline = monotonicMs() + timeoutMs;
  while (client.end === undefined && monotonicMs() < deadline) await sleep(RETRY_MS, signal);
}

/** One connection, with the device behind it. */
class Stage implements Disposable {
  readonly commands: number[] = [];
  before: number | undefined;
  hasLeft = false;
  deviation: Deviation | undefined;
  reason: string | undefined;
  readonly #check: ClientCheck | undefined;
  readonly #peer: RawPeer;
  readonly #options: ClientRunOptions;
  readonly #owned: Disposable[] = [];
  readonly #watched: UnixSocket[] = [];
  readonly #waiting: CameMessage[] = [];
  readonly #maps: Uint8Array[] = [];
  readonly #device: ModelDevice;
  #leaked = 0;
  #isOver = false;
  #ownId = OWN_ID;

  constructor(
    socket: UnixSocket,
    check: ClientCheck | undefined,
    notes: Note[],
    options: ClientRunOptions,
  ) {
    this.#check = check;
    this.#options = options;
    const { timeoutMs, signal } = options;
    this.#peer = new RawPeer(socket, {
      timeoutMs: () => timeoutMs,
      signal,
      notes,
      from: "client",
    });
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
        await this.#serveOne(request);
      }
      this.hasLeft = true;
    } catch (error) {
      if (error instanceof ConnectionEnded) this.hasLeft = true;
      else if (error instanceof NotApplicable) this.reason = error.message;
      else if (error instanceof Deviation) {
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

  async #serveOne(request: CameMessage): Promise<void> {
    this.commands.push(request.command);
    if (request.command === Command.DMA_MAP) this.#maps.push(request.payload);
    const answer = this.#device.answer(request);
    if ((request.flags & MessageFlags.NO_REPLY) !== 0) return;
    const check = this.#check;
    const isTurn = check?.command === request.command &&
      (check.times === "each" || this.before === undefined);
    if (!isTurn) return await this.#send(answer);
    this.before ??= this.commands.length;
    const answers = await check.act(answer, this.#scene(request)) ?? [answer];
    for (const each of answers) await this.#send(each);
  }

  #scene(request: CameMessage): Scene {
    return {
      request,
      maps: this.#maps,
      send: (answer) => this.#send(answer),
      encode,
      sendBytes: (bytes) => this.#peer.send(bytes),
      ask: (command, payload, flags) => this.#ask(command, payload, flags),
      pause: (ms = 50) => sleep(ms, this.#options.signal),
      stray: () => this.#pair(this.#watched),
      kept: () => this.#pair(this.#owned),
      memory: (size) => this.#memory(size),
      hangUp: () => {
        this.#isOver = true;
        this.#peer[Symbol.dispose]();
      },
    };
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

  async #ask(command: number, payload: Uint8Array, flags: number = MessageFlags.COMMAND) {
    const messageId = ++this.#ownId;
    await this.#send({ messageId, command, flags, error: 0, payload, fds: [] });
    try {
      while (true) {
        const message = await this.#peer.receive();
        if (message === undefined) {
          throw new Deviation(
            `a reply to ${commandName(command)}`,
            "the end of the connection",
          );
        }
        const isReply = (message.flags & MessageFlags.TYPE_MASK) === MessageFlags.REPLY;
        if (!isReply) this.#waiting.push(message);
        else if (message.messageId === messageId && message.command === command) return message;
        else throw new Deviation(`a reply with id ${messageId}`, message.text);
      }
    } catch (error) {
      if (error instanceof Silence) throw new Unanswered(error.expected, error.came);
      throw error;
    }
  }

  async #send(answer: Answer): Promise<void> {
    await this.#peer.send(encode(answer), answer.fds);
    for (const fd of answer.fds) fd[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#peer[Symbol.dispose]();
    for (const each of this.#owned) each[Symbol.dispose]();
    for (const socket of this.#watched) socket[Symbol.dispose]();
  }
}

/** The bytes of an answer, whose size may be a false one. */
function encode({ payload, size, ...header }: Answer): Uint8Array {
  const bytes = encodeMessage(header, payload);
  const total = size ?? HEADER_SIZE + payload.length;
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(4, total, true);
  return bytes;
}

/** The client says nothing to a command of the device. */
class Unanswered extends Silence {}
