/**
 * A small client that does a bit of everything, with one deliberate fault, or none.
 *
 * @module
 */

import { POLLIN } from "../../../ffi/event.ts";
import { EventFd } from "../../../ffi/event.ts";
import type { OwnedFd } from "../../../ffi/fd.ts";
import { createMemfd } from "../../../ffi/memory.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { capabilitiesOf } from "../../../lib/conformance/learn.ts";
import { join, pack, u32At, u64At } from "../../../lib/conformance/pack.ts";
import { type CameMessage, RawPeer } from "../../../lib/conformance/raw_peer.ts";
import { whenReady } from "../../../lib/conformance/ready.ts";
import type { ClientProcess } from "../../../lib/conformance/run_client.ts";
import type { ServerEnd } from "../../../lib/conformance/target.ts";
import { OUR_CAPABILITIES, versionPayload } from "../../../lib/conformance/requests.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";

/** Faults, and the check that has to name each. */
export const MUTANTS = {
  // Replies
  "ignores the id": "framing/3",
  "ignores the command": "framing/5",
  "takes a command for a reply": "framing/7",
  "ignores the error flag": "info/4",
  "takes the errno for the error flag": "framing/18",
  "waits for replies in order": "region_read/11",
  "does not notice the end": "connection/5",
  "leaves descriptors open": "info/14",
  // VERSION
  "ignores the major version": "negotiation/2",
  "rejects a smaller minor version": "negotiation/1",
  "takes a greater minor version": "negotiation/33",
  "rejects spaces in JSON": "negotiation/24",
  "rejects an empty object": "negotiation/23",
  "reads more than the limit": "negotiation/19",
  "sends more descriptors than agreed": "negotiation/20",
  // Information
  "takes cut information": "info/1",
  "rejects capabilities that it does not know": "info/25",
  "rejects areas that are not sorted": "info/28",
  "needs areas": "info/31",
  "rejects more regions than it knows": "info/42",
  "takes interrupts of another index": "irqs/26",
  // Accesses
  "takes a truncated read": "region_read/1",
  "takes a read of another region": "region_read/6",
  "takes a short write": "region_write/6",
  "takes a write of another region": "region_write/8",
  // Commands of the device
  "reads memory that is not mapped": "server_commands/1",
  "leaves when the device asks": "server_commands/2",
  "reads over the end of a map": "dma_messages/6",
  "reads what is write-only": "dma_messages/11",
  "writes what is read-only": "dma_messages/34",
  "keeps memory that was unmapped": "dma_messages/12",
  "echoes no address": "dma_messages/1",
  "answers a kilobyte at most": "dma_messages/3",
  "answers each second command": "dma_messages/15",
  "serves no command while it waits": "dma_messages/17",
  "takes a command with its id for its reply": "dma_messages/18",
  "refuses without an errno": "dma_messages/7",
  "writes into a copy": "dma_messages/31",
  "loses what is written": "dma_messages/30",
  "writes a part of what it refuses": "dma_messages/33",
  "leaves descriptors of commands open": "dma_messages/16",
  "listens to no twin socket": "dma_messages/50",
  // Interrupts
  "looks for an interrupt once": "irqs/11",
  "takes several interrupts for none": "irqs/12",
  "rejects an index that can't be masked": "irqs/21",
} as const;

/** A deliberate fault. */
export type Fault = keyof typeof MUTANTS;

/** Faults by which the client says no more: a check ends by its time. */
export const SILENT: readonly Fault[] = [
  "does not notice the end",
  "answers each second command",
  "serves no command while it waits",
  "takes a command with its id for its reply",
  "listens to no twin socket",
  "takes several interrupts for none",
];

/** Memory that the client gives to the device. */
interface Given {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  readonly flags: number;
  readonly file?: OwnedFd;
}

const PATIENCE_MS = 60_000;
const RAM = 0x10_0000n;
const RAM_SIZE = 2 << 20;
const READ_ONLY = 0x100_0000n;
const WRITE_ONLY = 0x200_0000n;
const VECTORS = 4;

/** The client, in this process. */
export class RawClient implements ClientProcess {
  end: ServerEnd | undefined;
  readonly #leaving = new AbortController();
  readonly #over: Promise<void>;
  readonly #fault: Fault | undefined;
  readonly #open: Disposable[] = [];
  #peer!: RawPeer;
  #twin: RawPeer | undefined;
  readonly #memory: Given[] = [];
  readonly #replies: CameMessage[] = [];
  #commands = 0;
  #id = 0;

  constructor(path: string, fault: Fault | undefined) {
    this.#fault = fault;
    this.#over = this.#run(path).then(() => 0, () => 1).then((code) => {
      for (const each of this.#open) each[Symbol.dispose]();
      this.end = { signal: undefined, code, words: [], output: "" };
    });
  }

  async stop(): Promise<void> {
    this.#leaving.abort();
    await this.#over;
  }

  async #run(path: string): Promise<void> {
    this.#peer = this.#peerOf(UnixSocket.connect(path)!);
    const limits = await this.#negotiate();
    await this.#learn();
    const file = createMemfd("raw-client", RAM_SIZE);
    this.#open.push(file);
    await this.#give({ address: RAM, bytes: new Uint8Array(RAM_SIZE), flags: 3, file });
    await this.#give({ address: READ_ONLY, bytes: new Uint8Array(4096), flags: 1 });
    await this.#give({ address: WRITE_ONLY, bytes: new Uint8Array(4096), flags: 2 });
    for (let i = 0; i < 3; i++) await this.#read(7, i * 8, 8);
    await this.#readTwice();
    const step = this.#fault === "reads more than the limit" ? 8192 : Math.min(8192, limits.data);
    for (let at = 0; at < 8192; at += step) await this.#read(2, at, step);
    await this.#useInterrupts(limits.fds);
    await this.#ask(Command.DMA_UNMAP, pack("u32 u32 u64 u64", 24, 0, READ_ONLY, 4096));
    if (this.#fault !== "keeps memory that was unmapped") {
      this.#memory.splice(this.#memory.findIndex(({ address }) => address === READ_ONLY), 1);
    }
    await this.#read(7, 0, 4);
    await this.#ask(Command.DEVICE_RESET, new Uint8Array());
  }

  async #negotiate(): Promise<{ data: number; fds: number }> {
    const twin_socket = { supported: true };
    const capabilities = JSON.stringify({ capabilities: { ...OUR_CAPABILITIES, twin_socket } });
    const reply = await this.#ask(Command.VERSION, versionPayload(0, 2, capabilities));
    const version = reply.payload;
    this.#demand("takes cut information", version.length >= 4);
    this.#demand("ignores the major version", (u32At(version, 0) & 0xffff) === 0);
    const minor = u32At(version, 0) >>> 16;
    if (this.#fault === "rejects a smaller minor version") this.#demand(undefined, minor === 2);
    this.#demand("takes a greater minor version", minor <= 2);
    const json = new TextDecoder().decode(version.subarray(4)).split("\0")[0]!;
    if (this.#fault === "rejects spaces in JSON") this.#demand(undefined, !/\s/.test(json));
    if (this.#fault === "rejects an empty object") this.#demand(undefined, json !== "{}");
    if (json !== "") JSON.parse(json);
    const agreed = capabilitiesOf(version);
    if (agreed["twin_socket"] !== undefined) this.#takeTwin(reply, agreed["twin_socket"]!);
    for (const fd of reply.fds) fd[Symbol.dispose]();
    const number = (name: string, usual: number) =>
      typeof agreed[name] === "number" ? agreed[name] as number : usual;
    return { data: number("max_data_xfer_size", 1 << 20) || 1, fds: number("max_msg_fds", 1) };
  }

  #takeTwin({ fds }: CameMessage, { fd_index }: { fd_index?: number }): void {
    const fd = fds[fd_index ?? 0];
    this.#demand(undefined, fd !== undefined && fd.stat().kind === "socket");
    if (this.#fault === "listens to no twin socket") return;
    this.#twin = this.#peerOf(new UnixSocket(fd!.duplicate()));
  }

  async #learn(): Promise<void> {
    const asked = pack("u32 u32 u32 u32", 16, 0, 0, 0);
    const info = (await this.#ask(Command.DEVICE_GET_INFO, asked)).payload;
    this.#demand("takes cut information", info.length >= 16);
    if (this.#fault === "rejects more regions than it knows") {
      this.#demand(undefined, u32At(info, 8) <= 9);
    }
    for (const index of [0, 2, 7]) await this.#learnRegion(index);
    const irq = pack("u32 u32 u32 u32", 16, 0, 2, 0);
    const { payload } = await this.#ask(Command.DEVICE_GET_IRQ_INFO, irq);
    this.#demand("takes cut information", payload.length >= 16);
    this.#demand("takes interrupts of another index", u32At(payload, 8) === 2);
    const other = pack("u32 u32 u32 u32", 16, 0, 0, 0);
    const pin = (await this.#ask(Command.DEVICE_GET_IRQ_INFO, other)).payload;
    if (this.#fault === "rejects an index that can't be masked") {
      this.#demand(undefined, (u32At(pin, 4) & 2) !== 0);
    }
  }

  async #learnRegion(index: number): Promise<void> {
    const asked = (argsz: number) => pack("u32 u32 u32 u32 u64 u64", argsz, 0, index, 0, 0, 0);
    let { payload } = await this.#ask(Command.DEVICE_GET_REGION_INFO, asked(32));
    this.#demand("takes cut information", payload.length >= 32 && u32At(payload, 8) === index);
    const room = u32At(payload, 0);
    if (room > 32 && room < 1024) {
      payload = (await this.#ask(Command.DEVICE_GET_REGION_INFO, asked(room))).payload;
    }
    const flags = u32At(payload, 4);
    const hasChain = (flags & 8) !== 0;
    if (this.#fault === "needs areas") this.#demand(undefined, (flags & 4) === 0 || hasChain);
    let at = hasChain ? u32At(payload, 12) : 0;
    for (let steps = 0; at !== 0; steps++) {
      this.#demand(undefined, steps < 8 && at >= 32 && at + 16 <= payload.length);
      const isSparse = (u32At(payload, at) & 0xffff) === 1;
      if (this.#fault === "rejects capabilities that it does not know") {
        this.#demand(undefined, isSparse);
      }
      const [first, second] = [at + 16, at + 32].map((each) => u64At(payload, each));
      if (isSparse && this.#fault === "rejects areas that are not sorted") {
        this.#demand(undefined, u32At(payload, at + 8) < 2 || first! < second!);
      }
      at = u32At(payload, at + 4);
    }
  }

  async #give(given: Given): Promise<void> {
    const { address, bytes, flags, file } = given;
    const asked = pack("u32 u32 u64 u64 u64", 32, flags, 0, address, bytes.length);
    await this.#ask(Command.DMA_MAP, asked, file && [file]);
    this.#memory.push(given);
  }

  async #read(region: number, offset: number, count: number): Promise<void> {
    const asked = pack("u64 u32 u32", offset, region, count);
    this.#judgeRead(await this.#ask(Command.REGION_READ, asked), asked, count);
  }

  #judgeRead({ payload }: CameMessage, asked: Uint8Array, count: number): void {
    const isWhole = payload.length === 16 + count && u32At(payload, 12) === count;
    this.#demand("takes a truncated read", isWhole);
    const isSame = payload.subarray(0, 12).every((byte, at) => byte === asked[at]);
    this.#demand("takes a read of another region", isSame || payload.length < 16);
  }

  /** Reads two places without waiting for the first reply. */
  async #readTwice(): Promise<void> {
    const asked = [0, 8].map((offset) => pack("u64 u32 u32", offset, 7, 8));
    const ids: number[] = [];
    const all = asked.map((payload) => {
      ids.push(++this.#id);
      return encodeMessage({ messageId: this.#id, command: Command.REGION_READ }, payload);
    });
    await this.#peer.send(join(...all));
    if (this.#fault === "waits for replies in order") {
      for (const id of ids) {
        const { messageId } = await this.#receive();
        this.#demand(undefined, messageId === id);
      }
      return;
    }
    for (const [i, payload] of asked.entries()) {
      this.#judgeRead(await this.#reply(ids[i]!, Command.REGION_READ), payload, 8);
    }
  }

  async #useInterrupts(maxFds: number): Promise<void> {
    const events = Array.from({ length: VECTORS }, () => new EventFd());
    this.#open.push(...events);
    const step = this.#fault === "sends more descriptors than agreed" ? VECTORS : maxFds || 1;
    for (let start = 0; start < VECTORS; start += step) {
      const fds = events.slice(start, start + step).map(({ handle }) => handle);
      const asked = pack("u32 u32 u32 u32 u32", 20, 0x24, 2, start, fds.length);
      await this.#ask(Command.DEVICE_SET_IRQS, asked, fds);
    }
    const head = pack("u64 u32 u32", 0x20, 0, 4);
    const { payload } = await this.#ask(Command.REGION_WRITE, join(head, pack("u32", 2)));
    this.#demand(undefined, payload.length >= 16);
    this.#demand("takes a short write", u32At(payload, 12) === 4);
    const isSame = head.subarray(0, 12).every((byte, at) => byte === payload[at]);
    this.#demand("takes a write of another region", isSame);
    const event = events[2]!;
    if (this.#fault === "looks for an interrupt once") {
      return this.#demand(undefined, event.take() !== 0n);
    }
    do await whenReady(event.handle.fd, POLLIN, Infinity, this.#leaving.signal); while (
      event.take() > 1n && this.#fault === "takes several interrupts for none"
    );
  }

  /** @throws {Error} unless the demand is met, or this client does not look */
  #demand(fault: Fault | undefined, isMet: boolean): void {
    if (!isMet && (fault === undefined || fault !== this.#fault)) throw new Error("refused");
  }

  async #ask(
    command: number,
    payload: Uint8Array,
    fds: readonly OwnedFd[] = [],
  ): Promise<CameMessage> {
    const messageId = ++this.#id;
    await this.#peer.send(encodeMessage({ messageId, command }, payload), fds);
    return await this.#reply(messageId, command);
  }

  async #reply(messageId: number, command: number): Promise<CameMessage> {
    const deferred: CameMessage[] = [];
    while (true) {
      const known = this.#replies.findIndex((each) => each.messageId === messageId);
      const message = known < 0 ? await this.#receive() : this.#replies.splice(known, 1)[0]!;
      const isReply = (message.flags & MessageFlags.TYPE_MASK) === MessageFlags.REPLY;
      if (!isReply && message.command !== command) {
        if (
          this.#fault === "takes a command with its id for its reply" &&
          message.messageId === messageId
        ) {
          await this.#never();
        }
        if (this.#fault === "serves no command while it waits") deferred.push(message);
        else await this.#serve(this.#peer, message);
        continue;
      }
      this.#demand("takes a command for a reply", isReply);
      // A reply to the other one of two requests that are under way.
      if (isReply && message.messageId === messageId + 1 && messageId + 1 === this.#id) {
        this.#replies.push(message);
        continue;
      }
      this.#demand("ignores the id", message.messageId === messageId);
      this.#demand("ignores the command", message.command === command);
      const isError = this.#fault === "takes the errno for the error flag"
        ? message.error !== 0
        : (message.flags & MessageFlags.ERROR) !== 0;
      this.#demand("ignores the error flag", !isError);
      for (const each of deferred) await this.#serve(this.#peer, each);
      if (isError) return { ...message, payload: new Uint8Array(32) };
      return message;
    }
  }

  /** Waits for a message; those over the twin socket are served. */
  async #receive(): Promise<CameMessage> {
    const { signal } = this.#leaving;
    while (true) {
      for (const peer of [this.#twin, this.#peer]) {
        const message = peer?.receiveNow();
        if (message === undefined) continue;
        const isCommand = (message.flags & MessageFlags.TYPE_MASK) === MessageFlags.COMMAND;
        const leaves = isCommand
          ? "leaves descriptors of commands open"
          : "leaves descriptors open";
        const isVersion = message.command === Command.VERSION && !isCommand;
        if (this.#fault !== leaves && !isVersion) {
          for (const fd of message.fds) fd[Symbol.dispose]();
        }
        if (peer === this.#peer) return message;
        await this.#serve(peer!, message);
      }
      if (!this.#peer.isOpen) {
        if (this.#fault === "does not notice the end") await this.#never();
        throw new Error("the end");
      }
      const enough = new AbortController();
      const either = AbortSignal.any([signal, enough.signal]);
      const peers = [this.#peer, ...(this.#twin?.isOpen ? [this.#twin] : [])];
      const waits = peers.map(({ fd }) => whenReady(fd, POLLIN, Infinity, either));
      await Promise.race(waits).finally(() => {
        enough.abort();
        return Promise.allSettled(waits);
      });
    }
  }

  /** Waits until the check ends it. */
  async #never(): Promise<void> {
    const { signal } = this.#leaving;
    await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  }

  /** Answers a command of the device. */
  async #serve(peer: RawPeer, message: CameMessage): Promise<void> {
    if (this.#fault === "leaves when the device asks") throw new Error("asked");
    if (this.#fault === "answers each second command" && ++this.#commands % 2 === 0) return;
    const { messageId, command } = message;
    const answer = this.#access(message);
    const flags = MessageFlags.REPLY | (answer === undefined ? MessageFlags.ERROR : 0);
    const errno = this.#fault === "refuses without an errno" ? 0 : 22;
    const reply = { messageId, command, flags, error: answer === undefined ? errno : 0 };
    await peer.send(encodeMessage(reply, answer ?? new Uint8Array()));
  }

  /** The payload of the reply to an access to memory; undefined if it is refused. */
  #access({ command, payload }: CameMessage): Uint8Array | undefined {
    const isWrite = command === Command.DMA_WRITE;
    if (!isWrite && command !== Command.DMA_READ || payload.length < 16) return undefined;
    if (this.#fault === "reads memory that is not mapped") return payload.slice();
    const [address, count] = [u64At(payload, 0), u64At(payload, 8)];
    if (count > 1n << 20n || isWrite && BigInt(payload.length - 16) !== count) return undefined;
    const given = this.#memory.find((each) =>
      address >= each.address - 4n && address < each.address + BigInt(each.bytes.length)
    );
    if (given === undefined) return undefined;
    const at = Number(address - given.address);
    const isInside = at >= 0 && at + Number(count) <= given.bytes.length;
    const data = payload.slice(16);
    const needed = isWrite ? 2 : 1;
    const isForeign = isWrite ? "writes what is read-only" : "reads what is write-only";
    if ((given.flags & needed) === 0 && this.#fault !== isForeign) return undefined;
    if (!isInside && isWrite && this.#fault === "writes a part of what it refuses") {
      this.#write(given, at, data.subarray(0, given.bytes.length - at));
    }
    if (!isInside && (isWrite || this.#fault !== "reads over the end of a map")) return undefined;
    const head = payload.slice(0, 16);
    if (this.#fault === "echoes no address") head.fill(0, 0, 8);
    if (isWrite) {
      if (this.#fault !== "loses what is written") this.#write(given, at, data);
      return head;
    }
    const most = this.#fault === "answers a kilobyte at most" ? 1024 : Number(count);
    const found = new Uint8Array(Math.min(most, Number(count)));
    const isShared = given.file !== undefined && this.#fault !== "writes into a copy";
    if (isShared) given.file.readAt(found, BigInt(Math.max(0, at)));
    else found.set(given.bytes.subarray(Math.max(0, at), at + found.length));
    return join(head, found);
  }

  #write({ bytes, file }: Given, at: number, data: Uint8Array): void {
    if (file !== undefined && this.#fault !== "writes into a copy") file.writeAt(data, BigInt(at));
    else bytes.set(data, at);
  }

  #peerOf(socket: UnixSocket): RawPeer {
    const { signal } = this.#leaving;
    const peer = new RawPeer(socket, { timeoutMs: () => PATIENCE_MS, signal, notes: [] });
    this.#open.push(peer);
    return peer;
  }
}
