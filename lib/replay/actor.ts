/**
 * A server that plays the part of a recorded one, for one client.
 *
 * @module
 */

import { EINVAL, ENOSPC } from "../../ffi/errno.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { sameBytes } from "../base/bytes.ts";
import { HEADER_SIZE, MAX_MSG_FDS, MESSAGE_OVERHEAD } from "../base/limits.ts";
import { type Access, accessesOf, decodeMessage } from "../record/decode.ts";
import { MAPPABLE } from "../record/intercept.ts";
import { limitHandshake } from "../transport/handshake.ts";
import type { IncomingRequest } from "../transport/incoming.ts";
import { VfioProxy } from "../transport/proxy.ts";
import { Command, commandName } from "../wire/command.ts";
import { DmaAccessLayout, RegionAccessLayout, RegionWriteMultiReply } from "../wire/access.ts";
import { DeviceInfoReply } from "../wire/device.ts";
import type { DmaMapRequest } from "../wire/dma.ts";
import { encodeMessage } from "../wire/header.ts";
import { IrqInfoReply } from "../wire/irq.ts";
import { encodeRegionInfo, RegionFlags } from "../wire/region.ts";
import { decodeVersion, encodeVersion, limitsOf, PROTOCOL_VERSION } from "../wire/version.ts";
import { EffectQueue } from "./effect_queue.ts";
import { KnownMemory, PageBudget } from "./memory.ts";
import {
  causesOf,
  type Effect,
  HEAD_SIZE,
  memoryRead,
  type PartAnswer,
  type PartRead,
  readKey,
  type Scene,
  type ServerPart,
} from "./part.ts";
import type { DmaStep, RequestStep } from "./script.ts";
import type { Moment } from "./relocation.ts";
import { ToldByClient } from "./told.ts";
import { Vectors } from "./vectors.ts";

/** Scenes that a client may leave out before one that it takes up exactly. */
const MAX_JUMP = 16;
/** The same before one at the same place with other data. */
const MAX_INEXACT_JUMP = 4;
/** Regions, and IRQ indexes, of a device whose recording does not say how many it has. */
const DEFAULT_COUNT = 9;
/** The same at most. */
const MAX_COUNT = 64;

/** A request that the recording does not have there. */
export interface Deviation {
  /** The request that came. */
  readonly found: Uint8Array;
  /** The request that the recording has next; undefined at its end. */
  readonly expected: RequestStep | undefined;
  /** The reason in words. */
  readonly text: string;
}

const START: Moment = { turn: 0, scene: 0 };

/** A DMA of the recording that the mock does not do. */
export interface Omission {
  /** The DMA. */
  readonly step: DmaStep;
  /** The reason in words. */
  readonly text: string;
}

/** Counts of a mock for one client. */
export interface ActorCounts {
  /** Requests of the recording, which may change the device, that the client did. */
  scenes: number;
  /** DMA that was done. */
  dma: number;
  /** DMA of scenes that were taken up, which was left out. */
  omitted: number;
  /** Reads by region index that were answered with zeros: the recording does not have them. */
  readonly zeros: Map<number, number>;
}

/** Options of an {@linkcode Actor}. */
export interface ActorOptions {
  readonly part: ServerPart;
  /** The time in milliseconds for the client's answers. */
  readonly timeoutMs: number;
  /** The time that the client has to send its VERSION. In milliseconds; default 5000. */
  readonly handshakeTimeoutMs?: number;
  /** Called once, where the client leaves the recorded path. */
  readonly onDeviation?: ((deviation: Deviation) => void) | undefined;
  /** Called once, for the first DMA that is left out. */
  readonly onOmission?: ((omission: Omission) => void) | undefined;
  /** Called when the client has left, or broke the protocol. */
  readonly onEnd: (cause: Error | undefined) => void;
}

/** The effects of a scene that were done. */
interface Progress {
  /** The moment in which the client began the scene. */
  readonly moment: Moment;
  /** True once a DMA was left out: what the device then says of its work is not true. */
  hasOmitted: boolean;
}

/** The server's end of a connection. */
export class Actor implements Disposable {
  readonly #options: ActorOptions;
  readonly #part: ServerPart;
  readonly #proxy: VfioProxy;
  readonly #contents = new Map<number, KnownMemory>();
  readonly #budget = new PageBudget();
  readonly #vectors = new Vectors();
  readonly #used = new Set<Scene>();
  /** Reads that were answered, of the present scene. */
  readonly #readsDone = new Map<string, number>();
  readonly #effects = new EffectQueue();
  #at = 0;
  #hasDeviated = false;
  #isNegotiated = false;
  readonly #told: ToldByClient;
  readonly #counts: ActorCounts = { scenes: 0, dma: 0, omitted: 0, zeros: new Map() };

  /** Takes over a client's socket. */
  constructor(socket: UnixSocket, options: ActorOptions) {
    this.#options = options;
    this.#part = options.part;
    this.#told = new ToldByClient(this.#part.known);
    for (const [region, memory] of this.#part.contents) {
      this.#contents.set(region, memory.copy(this.#budget));
    }
    const hasSpoken = limitHandshake(
      (cause) => this.#proxy.close(cause),
      options.handshakeTimeoutMs,
    );
    this.#proxy = new VfioProxy(socket, {
      role: "server",
      timeoutMs: options.timeoutMs,
      handler: (request) => {
        hasSpoken();
        return this.#serve(request);
      },
      onClose: (cause) => {
        hasSpoken();
        this.#effects.release();
        options.onEnd(cause);
      },
    });
    this.#proxy.serving = true;
    this.#enter(0);
  }

  /** The counts so far. */
  get counts(): Readonly<ActorCounts> {
    return { ...this.#counts, scenes: this.#used.size - 1 };
  }

  /** Ends the connection. */
  [Symbol.dispose](): void {
    this.#proxy.close();
    this.#effects.release();
    this.#vectors[Symbol.dispose]();
  }

  #serve(request: IncomingRequest): void | Promise<void> {
    if (!this.#isNegotiated && request.command !== Command.VERSION) {
      return this.#proxy.close(
        new Error(`The client's first command is ${commandName(request.command)}, not VERSION`),
      );
    }
    const { command } = request;
    const bytes = encodeMessage({ messageId: 0, command }, request.payload);
    const decoded = decodeMessage(bytes)!;
    const { payload } = decoded;
    if (payload?.side !== "request") {
      this.#deviate(bytes, decoded.problem ?? "the request can't be decoded");
      return request.fail(EINVAL);
    }
    switch (payload.name) {
      case "VERSION":
        return this.#negotiate(request);
      case "DEVICE_GET_INFO":
        return answer(request, this.#part.info);
      case "DEVICE_GET_REGION_INFO":
        return this.#regionInfo(request, payload.value.index, payload.value.argsz);
      case "DEVICE_GET_IRQ_INFO": {
        const info = this.#part.irqs.get(payload.value.index) ?? this.#noIrq(payload.value.index);
        if (info === undefined) return request.fail(EINVAL);
        return request.reply(IrqInfoReply.encode(info));
      }
      case "DMA_MAP": {
        // Its descriptors are closed: memory is reached by message.
        const errno = this.#told.map(payload.value as DmaMapRequest);
        return errno === 0 ? request.reply() : request.fail(errno);
      }
      case "DMA_UNMAP": {
        const errno = this.#told.unmap(payload.value);
        return errno === 0 ? request.reply(request.payload.slice(0, 24)) : request.fail(errno);
      }
      case "DEVICE_GET_REGION_IO_FDS":
        return request.reply(request.payload.slice(0, 16));
      case "REGION_READ":
        return this.#read(request, accessesOf(payload)[0]!, bytes);
      default:
        return this.#cause(request, bytes);
    }
  }

  #negotiate(request: IncomingRequest): void {
    const { minor, capabilities: client } = decodeVersion(request.payload);
    const { version } = this.#part;
    const { twinSocket: _, ...recorded } = version?.capabilities ?? {};
    this.#isNegotiated = true;
    this.#proxy.limits = {
      maxFds: MAX_MSG_FDS,
      maxMessageSize: HEADER_SIZE + MESSAGE_OVERHEAD + this.#maxData,
    };
    this.#proxy.peerMaxFds = limitsOf(client).maxMsgFds;
    const { maxDataXferSize, maxDmaMaps, pgsizes, writeMultiple, ...capabilities } = recorded;
    request.reply(encodeVersion({
      major: PROTOCOL_VERSION.major,
      minor: Math.min(minor, version?.minor ?? PROTOCOL_VERSION.minor),
      capabilities: {
        ...capabilities,
        ...(maxDataXferSize !== undefined && { maxDataXferSize: this.#maxData }),
        ...(maxDmaMaps !== undefined && { maxDmaMaps }),
        ...(pgsizes !== undefined && { pgsizes }),
        ...(writeMultiple && client.writeMultiple && { writeMultiple }),
      },
    }));
  }

  /** Bytes of data in one message: the recorded server's limit, as far as vfu goes. */
  get #maxData(): number {
    return limitsOf(this.#part.version?.capabilities ?? {}).maxDataXferSize;
  }

  #regionInfo(request: IncomingRequest, index: number, argsz: number): void {
    const known = this.#part.regions.get(index);
    if (known === undefined) {
      if (index >= this.#count("numRegions")) return request.fail(EINVAL);
      const none = { index, flags: 0, size: 0n, offset: 0n, capabilities: [] };
      return request.reply(encodeRegionInfo(none, argsz));
    }
    const capabilities = known.capabilities.filter(({ kind }) => !MAPPABLE.has(kind));
    const flags = known.flags & ~RegionFlags.MMAP;
    request.reply(encodeRegionInfo({ ...known, flags, offset: 0n, capabilities }, argsz));
  }

  #noIrq(index: number) {
    if (index >= this.#count("numIrqs")) return undefined;
    return { argsz: 16, flags: 0, index, count: 0 };
  }

  #hasRegion(region: number): boolean {
    return region < this.#count("numRegions");
  }

  #count(name: "numRegions" | "numIrqs"): number {
    const { info } = this.#part;
    const count = info?.errno === 0 ? DeviceInfoReply.decode(info.payload)[name] : DEFAULT_COUNT;
    return Math.min(count, MAX_COUNT);
  }

  /** Answers a read by the present scene: its answers in turn, then the last one again. */
  #read(request: IncomingRequest, access: Access, bytes: Uint8Array): void {
    const { region, offset, count } = access;
    const isTooLarge = count > BigInt(this.#maxData);
    if (isTooLarge || !this.#hasRegion(region!)) return request.fail(EINVAL);
    const key = readKey(region!, offset, count);
    const scene = this.#part.scenes[this.#at]!;
    const recorded = scene.reads.get(key) ?? [];
    const done = this.#readsDone.get(key) ?? 0;
    const read = recorded[Math.min(done, recorded.length - 1)];
    if (read?.answer !== undefined) {
      this.#readsDone.set(key, done + 1);
      answer(request, read.answer);
      this.#learn(read);
      if (done < recorded.length) this.#effects.releaseAfter(read);
      return;
    }
    if (!this.#part.places.has(key) && !this.#isCovered(access)) {
      this.#deviate(bytes, "the recording does not have this read");
    }
    const memory = this.#memory(region!);
    if (!memory.isKnown(offset, Number(count))) {
      const { zeros } = this.#counts;
      zeros.set(region!, (zeros.get(region!) ?? 0) + 1);
    }
    const data = memory.read(offset, Number(count));
    request.reply(request.payload.slice(0, HEAD_SIZE), data);
  }

  /** Tells if some read of the recording begins at the same place: only its size differs. */
  #isCovered({ region, offset, count }: Access): boolean {
    return [1, 2, 4, 8, 256, 4096].some((size) => {
      const start = offset - offset % BigInt(size);
      return start + BigInt(size) >= offset + count &&
        this.#part.places.has(readKey(region!, start, size));
    });
  }

  #memory(region: number): KnownMemory {
    const memory = this.#contents.get(region) ?? new KnownMemory(this.#budget);
    this.#contents.set(region, memory);
    return memory;
  }

  #learn({ region, offset, answer }: PartRead): void {
    if (answer?.errno !== 0) return;
    this.#memory(region).write(offset, answer.payload.subarray(HEAD_SIZE));
  }

  /** Answers a request that may change the device, and does what the recorded server did then. */
  async #cause(request: IncomingRequest, bytes: Uint8Array): Promise<void> {
    const { command } = request;
    const name = commandName(command);
    const { payload } = decodeMessage(bytes)!;
    const isIrqSet = payload?.name === "DEVICE_SET_IRQS" && payload.side === "request";
    if (isIrqSet && !this.#vectors.set(request, payload.value)) return request.fail(ENOSPC);
    let reply: PartAnswer | undefined;
    const accesses = accessesOf(payload);
    if (accesses.some(({ region }) => !this.#hasRegion(region!))) return request.fail(EINVAL);
    for (const [i, { key, data, write }] of causesOf(name, payload, bytes).entries()) {
      const at = this.#find(key, data);
      const moment = this.#told.begin(at ?? this.#at);
      if (command === Command.DEVICE_RESET) this.#told.reset();
      const access = accesses[i];
      if (access?.data !== undefined) this.#memory(access.region!).write(access.offset, data);
      if (at === undefined) {
        if (write !== undefined) this.#told.write(write, undefined);
        this.#deviate(bytes, "the recording does not have this request here");
        continue;
      }
      const scene = this.#part.scenes[at]!;
      reply = scene.answer;
      this.#skipTo(at);
      const isSame = write === undefined || scene.write === undefined
        ? sameBytes(scene.data, data)
        : this.#told.write(write, scene.write);
      if (!isSame) this.#deviate(bytes, "the recording has other data here");
      await this.#enter(at, moment);
    }
    if (request.noReply) return request.reply();
    if (reply !== undefined && reply.errno !== 0) return request.fail(reply.errno);
    switch (command) {
      case Command.REGION_WRITE:
        return request.reply(request.payload.slice(0, RegionAccessLayout.size));
      case Command.REGION_WRITE_MULTI:
        return request.reply(RegionWriteMultiReply.encode({ count: BigInt(accesses.length) }));
      case Command.DEVICE_SET_IRQS:
      case Command.DEVICE_RESET:
        return request.reply();
      default:
        return answer(request, reply);
    }
  }

  /** The scene that a request begins: the next that is exact, else the next at the same place. */
  #find(key: string, data: Uint8Array): number | undefined {
    const { scenes } = this.#part;
    const isExact = (at: number) => {
      const scene = scenes[at];
      return scene?.key === key && !this.#used.has(scene) && sameBytes(scene.data, data);
    };
    const first = this.#at + 1;
    for (let at = first; at <= first + MAX_JUMP; at++) if (isExact(at)) return at;
    for (let at = first; at <= first + MAX_INEXACT_JUMP; at++) {
      if (scenes[at]?.key === key && !this.#used.has(scenes[at]!)) return at;
    }
    for (let at = this.#at - 1; at >= Math.max(1, this.#at - MAX_JUMP); at--) {
      if (isExact(at)) return at;
    }
    return undefined;
  }

  /** Leaves out the scenes between the present one and one behind it. */
  #skipTo(at: number): void {
    for (const { key, write, effects } of this.#part.scenes.slice(this.#at + 1, at)) {
      if (key === "DEVICE_RESET") this.#told.reset();
      if (write !== undefined) this.#told.skip(write);
      for (const effect of effects) {
        if (effect.kind !== "dma") continue;
        const recorded = memoryRead(effect.step);
        if (recorded !== undefined) this.#told.skipRead(recorded);
      }
    }
  }

  /**
   * Begins a scene: what was left of the one before happens now, then what this one has.
   *
   * @returns settled when all has happened that came before the reply
   */
  async #enter(at: number, moment: Moment = START): Promise<void> {
    const { scenes } = this.#part;
    this.#effects.release();
    const scene = scenes[at]!;
    this.#used.add(scene);
    if (at > this.#at) {
      for (const each of scenes.slice(this.#at, at)) {
        for (const reads of each.reads.values()) {
          const last = reads.at(-1);
          if (last !== undefined && each !== scenes[this.#at]) this.#learn(last);
        }
      }
    }
    if (at >= this.#at) {
      this.#at = at;
      this.#readsDone.clear();
    }
    let before: Promise<void> | undefined;
    const progress = { moment, hasOmitted: false };
    for (const effect of scene.effects) {
      const done = this.#effects.add(effect, async () => {
        if (this.#proxy.state === "CONNECTED") await this.#do(effect, progress);
      });
      if (effect.isBeforeReply) before = done;
    }
    await before;
  }

  async #do(effect: Effect, progress: Progress): Promise<void> {
    if (effect.kind === "interrupt") return this.#vectors.signal(effect);
    const { step } = effect;
    const { asked, answer } = step;
    const [access] = accessesOf(asked.payload);
    if (access === undefined) return;
    const recorded = memoryRead(step);
    const address = this.#told.address(access, progress.moment);
    const data = access.data && this.#told.data(access.data);
    const reason = typeof address === "string"
      ? address
      : access.data !== undefined && data === undefined
      ? "it answers a command that the client has not given"
      : access.data !== undefined && progress.hasOmitted
      ? "DMA before it was left out"
      : answer !== undefined && answer.errno !== 0
      ? "the recorded client refused it"
      : undefined;
    if (reason !== undefined) {
      progress.hasOmitted = true;
      if (recorded !== undefined) this.#told.skipRead(recorded);
      if (this.#counts.omitted++ === 0) this.#options.onOmission?.({ step, text: reason });
      return;
    }
    const head = new Uint8Array(DmaAccessLayout.size);
    DmaAccessLayout.write({ address: address as bigint, count: access.count }, head);
    try {
      const reply = await this.#proxy.request(asked.header.command, head, { ...data && { data } });
      this.#counts.dma++;
      const found = reply.payload.subarray(HEAD_SIZE);
      if (recorded !== undefined) this.#told.read(recorded, found, progress.moment);
    } catch { // the client refuses, or is gone: the recorded path was left
      progress.hasOmitted = true;
      if (recorded !== undefined) this.#told.skipRead(recorded);
    }
  }

  /** Reports where the client leaves the recorded path, once. */
  #deviate(found: Uint8Array, text: string): void {
    if (this.#hasDeviated) return;
    this.#hasDeviated = true;
    const next = this.#part.scenes[this.#at + 1];
    this.#options.onDeviation?.({ found, expected: next?.step, text });
  }
}

function answer(request: IncomingRequest, recorded: PartAnswer | undefined): void {
  if (recorded === undefined) return request.fail(EINVAL);
  if (recorded.errno !== 0) return request.fail(recorded.errno);
  request.reply(recorded.payload);
}
