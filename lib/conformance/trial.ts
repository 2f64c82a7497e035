/**
 * One try of a check: a connection, messages, expectations, and what is put back afterwards.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { SystemError } from "../../ffi/errno.ts";
import { EventFd } from "../../ffi/event.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { createMemfd } from "../../ffi/memory.ts";
import { countDescriptors, countMemfdMappings } from "../../ffi/process_facts.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { sleep } from "../base/sleep.ts";
import { plural } from "../text/plural.ts";
import { Command, commandName } from "../wire/command.ts";
import { encodeMessage, MessageFlags } from "../wire/header.ts";
import { IrqFlags } from "../wire/irq.ts";
import type { Copying } from "./copying.ts";
import { ConnectionEnded, Deviation, NotApplicable, NotRefused, Silence } from "./deviation.ts";
import type { Facts, FoundIrq, FoundRegion } from "./facts.ts";
import { beyond, limitsOf, tooLarge } from "./limits.ts";
import { u64At } from "./pack.ts";
import { type CameMessage, type Note, RawPeer, type RawPeerOptions } from "./raw_peer.ts";
import {
  type Ask,
  capabilitiesText,
  deviceInfo,
  OUR_CAPABILITIES,
  versionPayload,
} from "./requests.ts";
import { type DmaAsked, ServedMemory } from "./served_memory.ts";

const REFUSED_OR_ENDED = "an error reply, or the end of the connection";
const ENDS_WITH_CLIENT = "the server ends when its client has left";

/** The means of a check. */
export interface TrialOptions {
  /** Opens one more connection, starting the server before that if need be. */
  readonly connect: () => Promise<UnixSocket>;
  /** Opens one beside those that are open; undefined if the server takes no other. */
  readonly tryConnect: () => UnixSocket | undefined;
  /** The offers of the server. */
  readonly facts: Facts;
  /** The longest wait for anything, in milliseconds. */
  readonly timeoutMs: number;
  /** The signal that ends the run. */
  readonly signal: AbortSignal;
  /** The process of the server, if that is known. */
  readonly process: number | undefined;
  /** As of the target: the last connection went to a server that was ending. */
  readonly wasSpent: () => Promise<boolean>;
  /** The way in which the device is made to copy memory, if one is known. */
  readonly copying?: Copying | undefined;
}

/** The name of memory that is shared with the server, as /proc shows it. */
const MEMORY_NAME = "vfu-check";

/** Requests of the server that are answered ahead of one reply. */
const MAX_ASKED = 4096;

/** One try of a check. */
export class Trial implements AsyncDisposable {
  /** The offers of the server. */
  readonly facts: Facts;
  /** Messages of all connections, in order. */
  readonly notes: Note[] = [];
  /** The signal that ends the command. */
  readonly signal: AbortSignal;
  /** The longest wait for anything, in milliseconds. */
  timeoutMs: number;
  readonly #options: TrialOptions;
  readonly #peers: RawPeer[] = [];
  readonly #closing: Disposable[] = [];
  readonly #undo: (() => Promise<void>)[] = [];
  #nextId = 0x100;
  readonly #memory = new ServedMemory();
  /** Message ids of requests whose replies no longer matter. */
  readonly #abandoned = new Set<number>();
  /** Addresses of the maps that the server has taken. */
  readonly #maps = new Set<bigint>();

  /** Begins one; the run of checks does that. */
  constructor(options: TrialOptions) {
    this.#options = options;
    this.facts = options.facts;
    this.signal = options.signal;
    this.timeoutMs = options.timeoutMs;
  }

  /** Requests of the server for memory, in order. */
  get asked(): DmaAsked[] {
    return this.#memory.asked;
  }

  /** The connection that the check was given. */
  get peer(): RawPeer {
    return this.#peers[0]!;
  }

  // ---- Connections

  /** All connections of the check. */
  get connections(): readonly RawPeer[] {
    return this.#peers;
  }

  /** Opens a connection, on which no VERSION has been sent. */
  async connect(): Promise<RawPeer> {
    return this.#add(await this.#options.connect());
  }

  /** Opens a connection beside the check's; not applicable where the server takes one client. */
  async tryConnect(): Promise<RawPeer> {
    await Promise.resolve();
    return this.#add(this.needed(this.#options.tryConnect(), "the server takes one client"));
  }

  /**
   * Connects a client after those before it, which is then in step. A server that ends with its
   * client is none for which this can be tried.
   *
   * @param last closed first
   */
  async nextClient(last?: RawPeer): Promise<RawPeer> {
    last?.[Symbol.dispose]();
    const before = this.#options.process;
    const peer = await this.connect();
    try {
      await this.negotiate(peer);
      await this.inStep(peer);
    } catch (error) {
      const hasMoved = error instanceof ConnectionEnded && await this.#options.wasSpent();
      this.need(!hasMoved, ENDS_WITH_CLIENT);
      throw error;
    }
    this.need(this.#options.process === before, ENDS_WITH_CLIENT);
    return peer;
  }

  /** Takes over a socket that came as a descriptor. */
  adopt(socket: UnixSocket): RawPeer {
    return this.#add(socket);
  }

  #add(socket: UnixSocket): RawPeer {
    const { signal } = this.#options;
    const options: RawPeerOptions = {
      timeoutMs: () => this.timeoutMs,
      signal,
      notes: this.notes,
    };
    const peer = new RawPeer(socket, options);
    this.#peers.push(peer);
    return peer;
  }

  /** Does something with more patience: a server may wait for a while on purpose. */
  async patiently(act: () => Promise<void>): Promise<void> {
    const { timeoutMs } = this;
    this.timeoutMs = timeoutMs * 3;
    try {
      await act();
    } finally {
      this.timeoutMs = timeoutMs;
    }
  }

  /** Sends VERSION and returns its reply, which must be none of an error. */
  async negotiate(
    peer: RawPeer = this.peer,
    capabilities: object | undefined = OUR_CAPABILITIES,
    minor = this.facts.minor,
  ): Promise<CameMessage> {
    const json = capabilities === undefined ? undefined : capabilitiesText(capabilities);
    const payload = versionPayload(this.facts.major, minor, json);
    return await this.accepts({ command: Command.VERSION, payload }, peer);
  }

  // ---- Messages

  /** Returns a message id that was not used before. */
  freshId(): number {
    return this.#nextId++ & 0xffff;
  }

  /**
   * Sends a request and returns its message id.
   *
   * @throws {NotApplicable} if the server takes less data, or fewer descriptors
   */
  async send(ask: Ask, peer: RawPeer = this.peer): Promise<number> {
    const { command, payload, fds, flags = 0, id = this.freshId(), isBeyond = false } = ask;
    const reason = isBeyond ? undefined : tooLarge(ask, limitsOf(this.facts));
    if (reason !== undefined) throw new NotApplicable(reason);
    await peer.send(encodeMessage({ messageId: id, command, flags }, payload), fds);
    return id;
  }

  /** Waits for a reply to a request; the server's own requests before it are answered. */
  async reply(
    ask: Pick<Ask, "command" | "payload">,
    id: number,
    peer: RawPeer = this.peer,
  ): Promise<CameMessage> {
    const name = commandName(ask.command);
    const expected = `a reply to ${name} with message id ${id}`;
    for (let asked = 0;;) {
      const message = await this.receive(expected, peer);
      const type = message.flags & MessageFlags.TYPE_MASK;
      if (type === MessageFlags.COMMAND && await this.answer(message, peer)) {
        if (++asked < MAX_ASKED) continue;
        throw new Deviation(
          expected,
          `${plural(asked, "request")} of the server in place of the reply`,
        );
      }
      if (type === MessageFlags.REPLY && this.#abandoned.delete(message.messageId)) continue;
      const isReply = type === MessageFlags.REPLY && message.messageId === id &&
        message.command === ask.command;
      if (!isReply) throw new Deviation(expected, message.text);
      this.#noteMap(ask, message);
      return message;
    }
  }

  /** Ignores the reply to a request that was sent, whenever it comes. */
  abandon(id: number): void {
    this.#abandoned.add(id);
  }

  /** Waits for any message. */
  async receive(expected: string, peer: RawPeer = this.peer): Promise<CameMessage> {
    let message: CameMessage | undefined;
    try {
      message = await peer.receive();
    } catch (error) {
      if (!(error instanceof Deviation)) throw error;
      const Kind = [ConnectionEnded, Silence].find((kind) => error instanceof kind) ?? Deviation;
      throw new Kind(expected, error.came);
    }
    if (message === undefined) {
      throw new ConnectionEnded(expected, "the end of the connection");
    }
    return message;
  }

  /** Sends a request and returns its reply, of an error or not. */
  async ask(ask: Ask, peer: RawPeer = this.peer): Promise<CameMessage> {
    return await this.reply(ask, await this.send(ask, peer), peer);
  }

  /** Counts the maps that the server has taken. */
  #noteMap(
    { command, payload = new Uint8Array() }: Pick<Ask, "command" | "payload">,
    reply: CameMessage,
  ): void {
    if (isError(reply)) return;
    if (command === Command.DMA_MAP) this.#maps.add(u64At(payload, 16));
    if (command === Command.DMA_UNMAP) this.#maps.delete(u64At(payload, 8));
  }

  // ---- Expectations

  /** Throws unless something holds. */
  expect(holds: boolean, expected: string, came: string | CameMessage): void {
    if (!holds) throw new Deviation(expected, typeof came === "string" ? came : came.text);
  }

  /** Throws unless a request was refused, as it has to be. */
  expectRefusal(isRefused: boolean, expected: string, { text }: CameMessage): void {
    if (!isRefused) throw new NotRefused(expected, text);
  }

  /**
   * Asks, and expects the reply to be none of an error.
   *
   * @throws {NotApplicable} if it is one, and the server had said that it takes less
   */
  async accepts(ask: Ask, peer: RawPeer = this.peer): Promise<CameMessage> {
    return this.accepted(ask, await this.ask(ask, peer));
  }

  /** Expects the reply to a request to be none of an error. As {@linkcode Trial.accepts}. */
  accepted(ask: Ask, reply: CameMessage): CameMessage {
    const reason = isError(reply) ? beyond(ask, limitsOf(this.facts), this.#maps.size) : undefined;
    if (reason !== undefined) throw new NotApplicable(reason);
    this.expect(!isError(reply), `${commandName(ask.command)} to succeed`, reply);
    return reply;
  }

  /** Asks, and expects an error reply. */
  async refuses(ask: Ask, peer: RawPeer = this.peer): Promise<CameMessage> {
    const reply = await this.ask(ask, peer);
    this.expectRefusal(isError(reply), `an error reply to ${commandName(ask.command)}`, reply);
    return reply;
  }

  /** Asks, and expects any reply, and that the next request is answered as well. */
  async survives(ask: Ask, peer: RawPeer = this.peer): Promise<CameMessage> {
    const reply = await this.ask(ask, peer);
    await this.inStep(peer);
    return reply;
  }

  /** Expects an error reply, or the end of the connection. */
  async refusesOrCloses(ask: Ask, peer: RawPeer = this.peer): Promise<void> {
    await this.orEnded(async () => void await this.refuses(ask, peer));
  }

  /** Accepts any reply, and the end of the connection. */
  async refusesOrAccepts(ask: Ask, peer: RawPeer = this.peer): Promise<void> {
    await this.orEnded(async () => void await this.ask(ask, peer));
  }

  /** Does something; the connection may end meanwhile. */
  async orEnded(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof ConnectionEnded)) throw error;
    }
  }

  /** Expects an error reply to what was sent, whatever its id, or the end of the connection. */
  async refusedOrEnded(why: string, peer: RawPeer = this.peer): Promise<void> {
    const expected = `${REFUSED_OR_ENDED}: ${why}`;
    await this.orEnded(() => this.#receiveError(expected, peer));
  }

  /**
   * Sends a request on a connection without a VERSION, and expects that nothing before it, and it
   * neither, is answered but with an error.
   */
  async neverSucceeds(peer: RawPeer = this.peer): Promise<void> {
    await this.orEnded(async () => {
      await this.send(deviceInfo(), peer);
      await this.#receiveError(REFUSED_OR_ENDED, peer);
    });
  }

  async #receiveError(expected: string, peer: RawPeer): Promise<void> {
    const reply = await this.receive(expected, peer);
    this.expectRefusal(isError(reply), expected, reply);
  }

  /** Expects the connection to end; error replies may come before. */
  async ends(why: string, peer: RawPeer = this.peer): Promise<void> {
    while (true) {
      let message: CameMessage | undefined;
      try {
        message = await peer.receive();
      } catch (error) {
        if (error instanceof ConnectionEnded) return;
        if (error instanceof Deviation) {
          throw new Deviation(`the end of the connection: ${why}`, error.came);
        }
        throw error;
      }
      if (message === undefined) return;
      this.expect(isError(message), `the end of the connection: ${why}`, message);
    }
  }

  /** Expects that the next message is the reply to a new request: nothing else is in the stream. */
  async inStep(peer: RawPeer = this.peer): Promise<CameMessage> {
    return await this.accepts(deviceInfo(), peer);
  }

  /** Looks again and again until something holds, for the longest wait at most. */
  async until(holds: () => boolean | Promise<boolean>, expected: string, came: () => string) {
    const deadline = monotonicMs() + this.timeoutMs;
    while (!await holds()) {
      if (monotonicMs() > deadline) throw new Deviation(expected, came());
      await sleep(5, this.signal);
    }
  }

  // ---- Subjects; a check for which there is none is not applicable

  /** Ends the check as not applicable unless something holds. */
  need(holds: boolean, reason: string): void {
    if (!holds) throw new NotApplicable(reason);
  }

  /** Returns something that must be there, else the check is not applicable. */
  needed<T>(value: T | undefined, reason: string): T {
    if (value === undefined) throw new NotApplicable(reason);
    return value;
  }

  /** A region that can be read now: configuration space, if there is one. */
  readable(): FoundRegion {
    return this.needed(this.facts.readable, "no region can be read");
  }

  /** The configuration space. */
  config(): FoundRegion {
    const region = this.facts.regions[7];
    const isThere = this.facts.isPci && region !== undefined && region.size >= 256n;
    this.need(isThere, "the device has no PCI configuration space");
    return region!;
  }

  /** A byte of a region that keeps what is written: PCI's Interrupt Line register. */
  scratch(): { region: number; offset: bigint } {
    return this.needed(this.facts.scratch, "no register is known that may be written at will");
  }

  /** An IRQ index with vectors: MSI-X, MSI or INTx before others. */
  irq(flag = 0, least = 1): FoundIrq {
    const { irqs } = this.facts;
    const first = [2, 1, 0].map((index) => irqs.find((each) => each.index === index));
    const irq = [...first, ...irqs].find((each) =>
      each !== undefined && each.count >= least && (each.flags & flag) === flag
    );
    const isAble = {
      "signalled by eventfd": IrqFlags.EVENTFD,
      masked: IrqFlags.MASKABLE,
      "masked by its own signal": IrqFlags.AUTOMASKED,
    };
    const able = Object.entries(isAble).filter(([, bit]) => (flag & bit) !== 0).map(([word]) =>
      word
    );
    const which = able.length === 0 ? "" : ` that can be ${able.join(" and ")}`;
    return this.needed(irq, `no IRQ index has ${plural(least, "vector")}${which}`);
  }

  /** The way in which the device is made to copy memory. */
  copying(): Copying {
    const reason = "how the device is made to copy is not known; --copy FILE says it";
    return this.needed(this.#options.copying, reason);
  }

  /** Ends the check as not applicable unless the device migrates. */
  needMigration(): void {
    this.need(this.facts.migration !== undefined, "the device does not migrate");
  }

  // ---- Things that are closed or put back afterwards

  /** Keeps something to close at the end. */
  keep<T extends Disposable>(thing: T): T {
    this.#closing.push(thing);
    return thing;
  }

  /** New memory as a file. */
  memory(size: number): OwnedFd {
    return this.keep(createMemfd(MEMORY_NAME, size));
  }

  /** A new eventfd. */
  event(): EventFd {
    return this.keep(new EventFd());
  }

  /** Does something at the end, on the check's connection if that is still open. */
  atEnd(undo: () => Promise<void>): void {
    this.#undo.push(undo);
  }

  /** Serves an address by message: the server may ask for its bytes. */
  serve(address: bigint, bytes: Uint8Array): void {
    this.#memory.add(address, bytes);
  }

  // ---- The server's process

  /** The number of descriptors that the server has open. */
  serverFds(): number {
    return this.#countInServer("descriptors can't be counted", countDescriptors);
  }

  /** Expects the server to have as many descriptors open as it had before, or fewer. */
  async noFdsLeft(before: number): Promise<void> {
    await this.#noMoreThan(before, () => this.serverFds(), "descriptors", " open in the server");
  }

  /** The number of mappings that the server has of memory of ours. */
  serverMappings(): number {
    const count = (process: number) => countMemfdMappings(process, MEMORY_NAME);
    return this.#countInServer("mappings can't be read", count);
  }

  /** Expects the server to have as many mappings of our memory as it had before, or fewer. */
  async noMappingsLeft(before: number): Promise<void> {
    const where = " of the client's memory in the server";
    await this.#noMoreThan(before, () => this.serverMappings(), "mappings", where);
  }

  #countInServer(failure: string, count: (process: number) => number): number {
    const process = this.needed(this.#options.process, "the server's process is not known");
    try {
      return count(process);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      throw new NotApplicable(`the server's ${failure}: ${error.code}`);
    }
  }

  async #noMoreThan(
    before: number,
    count: () => number,
    what: string,
    where: string,
  ): Promise<void> {
    let now = before;
    await this.until(
      () => (now = count()) <= before,
      `${before} ${what}${where}, as before`,
      () => `${now} ${what}`,
    );
  }

  /** Restores what was changed. The connections stay open. */
  async undo(): Promise<void> {
    for (const undo of this.#undo.splice(0).reverse()) {
      try {
        await undo();
      } catch (error) {
        if (!(error instanceof Deviation)) throw error;
      }
    }
  }

  /** Closes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const thing of this.#closing.splice(0)) thing[Symbol.dispose]();
    for (const peer of this.#peers.splice(0)) peer[Symbol.dispose]();
    await Promise.resolve();
  }

  /** Answers a request of the server; false for one that no server sends. */
  async answer(message: CameMessage, peer: RawPeer = this.peer): Promise<boolean> {
    const answer = this.#memory.answer(message);
    if (answer === undefined) return false;
    await peer.send(answer);
    return true;
  }
}

function isError({ flags }: CameMessage): boolean {
  return (flags & MessageFlags.ERROR) !== 0;
}
