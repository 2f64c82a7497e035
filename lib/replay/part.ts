/**
 * The part that the server of a recording had: what it answered and did, by what it was asked.
 *
 * @module
 */

import { EIO } from "../../ffi/errno.ts";
import { turnUnless } from "../base/turn.ts";
import { HEADER_SIZE } from "../wire/header.ts";
import { accessesOf, type DecodedPayload } from "../record/decode.ts";
import { RegionAccessLayout } from "../wire/access.ts";
import { type DmaMapRequest, type DmaUnmap, DmaUnmapFlags } from "../wire/dma.ts";
import type { IrqInfoReply } from "../wire/irq.ts";
import { PciRegion, type RegionInfoReply } from "../wire/region.ts";
import type { RecordedEvent } from "../record/event.ts";
import type { Version } from "../wire/version.ts";
import { AccessedMemory } from "./accessed.ts";
import { EchoPlaces } from "./echoes.ts";
import { FACTS } from "./harmless.ts";
import { KnownMemory, PageBudget } from "./memory.ts";
import type { UnmappedRange } from "./relocation.ts";
import { type DmaStep, noRequest, type RequestStep, Script } from "./script.ts";
import { type Knowledge, type PartWrite, placeOf } from "./known.ts";

/** Bytes of messages that a part may have. */
const MAX_BYTES = 128 << 20;
/** Events that a part may have. */
const MAX_EVENTS = 1_000_000;
/** Ranges that a client unmaps within one scene which are kept: with more, no address stays. */
const MAX_UNMAPPED = 1024;
/** Bytes of memory that is looked at as a structure: a command, a descriptor. */
const MAX_STRUCTURE = 256;

/** Bytes of region, offset and count ahead of the data of an access. */
export const HEAD_SIZE = RegionAccessLayout.size;

/** An answer: a payload, or an errno that is not 0. */
export interface PartAnswer {
  readonly errno: number;
  readonly payload: Uint8Array;
}

/** Something that the server did by itself. */
export type Effect =
  & {
    /** Nanoseconds since the request that the scene begins with. */
    readonly delayNs: bigint;
    /** The read of a register that came before it in the scene, if there was one. */
    readonly afterRead: PartRead | undefined;
    /** True if it came before the reply to the request that the scene begins with. */
    readonly isBeforeReply: boolean;
  }
  & (
    | { readonly kind: "dma"; readonly step: DmaStep }
    | {
      readonly kind: "interrupt";
      readonly irq: number;
      readonly vector: number;
      readonly count: bigint;
    }
  );

/** A read of a register in the recording. */
export interface PartRead {
  readonly kind: "read";
  /** The answer; undefined if the recording has none. */
  answer: PartAnswer | undefined;
  /** The place that was read. */
  readonly region: number;
  /** Bytes from the start of the region. */
  readonly offset: bigint;
  /** Bytes that were read. */
  readonly count: number;
}

/** A request that may change the device, and all up to the next one. */
export interface Scene {
  /** The request; undefined for what comes before the first one. */
  readonly step: RequestStep | undefined;
  /** The kind of the request, with its place. */
  readonly key: string;
  /** Data that it writes. */
  readonly data: Uint8Array;
  /** The write, if it is one. */
  readonly write: PartWrite | undefined;
  /** The answer. */
  answer: PartAnswer | undefined;
  /** Reads of registers by their places, in order. */
  readonly reads: Map<string, PartRead[]>;
  /** All that the server does by itself, in order. */
  readonly effects: Effect[];
  /** Reads and effects as they came. */
  readonly order: (PartRead | Effect)[];
}

/** The part of a server. */
export interface ServerPart {
  /** The time of the recording's first event. */
  readonly startNs: bigint;
  /** The scenes, in order; the first has no request. */
  readonly scenes: readonly Scene[];
  /** The server's VERSION. */
  readonly version: Version | undefined;
  /** The answer to DEVICE_GET_INFO. */
  readonly info: PartAnswer | undefined;
  /** Regions by index. */
  readonly regions: ReadonlyMap<number, RegionInfoReply>;
  /** IRQ indexes. */
  readonly irqs: ReadonlyMap<number, IrqInfoReply>;
  /** The first contents of regions by index, as far as they are known. */
  readonly contents: ReadonlyMap<number, KnownMemory>;
  /** Places of reads that the recording has. */
  readonly places: ReadonlySet<string>;
  /** Clients of the recording whose server is another part. */
  readonly otherClients: number;
  /** Signals on descriptors of regions, which a part does not have. */
  readonly kicks: number;
  /** Memory that the client gave, in order. */
  readonly maps: readonly DmaMapRequest[];
  /** Facts by which a client vouches for the device's DMA. */
  readonly known: Knowledge;
}

/** The place of a read, as a key. */
export function readKey(region: number, offset: bigint, count: number | bigint): string {
  return `${region}+${offset}.${count}`;
}

/** A request that may change the device: its kind with its place, and the data that it writes. */
export interface Cause {
  readonly key: string;
  readonly data: Uint8Array;
  readonly write?: PartWrite;
}

/** The kinds of a request that may change the device, with their places and the data written. */
export function causesOf(
  name: string,
  payload: DecodedPayload | undefined,
  bytes: Uint8Array,
): Cause[] {
  if (payload?.name === "REGION_WRITE" || payload?.name === "REGION_WRITE_MULTI") {
    return accessesOf(payload).map(({ region, offset, count, data = new Uint8Array() }) => ({
      key: `write ${region}+${offset}.${count}`,
      data,
      write: { region: region!, offset, data },
    }));
  }
  if (payload?.name === "DEVICE_SET_IRQS" && payload.side === "request") {
    const { flags, index, start, count } = payload.value;
    return [{ key: `irqs ${flags} ${index} ${start} ${count}`, data: new Uint8Array() }];
  }
  if (payload?.name === "DEVICE_FEATURE") {
    const { flags } = payload.value;
    return [{ key: `feature ${flags}`, data: bytes.subarray(HEADER_SIZE + 8) }];
  }
  return [{ key: name, data: new Uint8Array() }];
}

/** Options of {@linkcode learnPart}. */
export interface LearnPartOptions {
  /** The number of the client; the first that asks something if left out. */
  readonly client?: number | undefined;
  /** Ends the work. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Learns the part of the server from a recording.
 *
 * @throws {RangeError} if the recording is too long for memory, or has no such client
 * @throws as the recording does when it is damaged; the signal's reason
 */
export async function learnPart(
  events: AsyncIterable<RecordedEvent>,
  { client, signal }: LearnPartOptions = {},
): Promise<ServerPart> {
  await using script = new Script(events, { client: client ?? "first" });
  const scenes: Scene[] = [sceneOf(undefined, { key: "", data: new Uint8Array() })];
  const regions = new Map<number, RegionInfoReply>();
  const irqs = new Map<number, IrqInfoReply>();
  const contents = new Map<number, KnownMemory>();
  const budget = new PageBudget();
  const reads = new Map<RequestStep, PartRead>();
  const causes = new Map<RequestStep, Scene>();
  const inOrder: PartRead[] = [];
  const places = new Set<string>();
  const maps: DmaMapRequest[] = [];
  const unmapped = new Map<number, UnmappedRange[]>();
  let kicks = 0;
  let version: Version | undefined;
  let info: PartAnswer | undefined;
  let lastRead: PartRead | undefined;
  let startNs = 0n;
  let bytes = 0;
  let count = 0;
  for (let step = await script.next(); step !== undefined; step = await script.next()) {
    const { timeNs } = step.event;
    if (step.kind === "kick") kicks++;
    const size = step.event.kind === "message" ? step.event.bytes.length : 0;
    if (++count > MAX_EVENTS || (bytes += size) > MAX_BYTES) {
      throw new RangeError(
        `Cannot take the server's part: the recording has more than ${MAX_EVENTS} events or ` +
          `${MAX_BYTES >> 20} MiB of messages; record less`,
      );
    }
    const scene = scenes.at(-1)!;
    if (step.kind === "request") {
      const { sent, bytes } = step;
      const { payload } = sent;
      if (payload?.name === "DMA_MAP" && payload.side === "request") maps.push(payload.value);
      if (payload?.name === "DMA_UNMAP" && payload.side === "request") {
        const scene = scenes.length - 1;
        const ranges = unmapped.get(scene) ?? [];
        unmapped.set(scene, ranges);
        if (ranges.length < MAX_UNMAPPED) ranges.push(unmappedRange(payload.value, scene));
      }
      if (FACTS.has(sent.name)) continue;
      if (payload?.name === "REGION_READ" && payload.side === "request") {
        const { region, offset, count } = payload.value;
        lastRead = { kind: "read", answer: undefined, region, offset, count };
        scene.order.push(lastRead);
        reads.set(step, lastRead);
        inOrder.push(lastRead);
        const key = readKey(region, offset, count);
        places.add(key);
        const list = scene.reads.get(key) ?? [];
        list.push(lastRead);
        scene.reads.set(key, list);
        continue;
      }
      for (const cause of causesOf(sent.name, payload, bytes)) {
        const next = sceneOf(step, cause);
        scenes.push(next);
        causes.set(step, next);
      }
      startNs = timeNs;
      lastRead = undefined;
    } else if (step.kind === "reply") {
      const { reply, to, event } = step;
      const answer = {
        errno: reply.type === "error" ? reply.header.error || EIO : 0,
        payload: reply.type === "error" ? new Uint8Array() : event.bytes.subarray(HEADER_SIZE),
      };
      const read = reads.get(to);
      if (read !== undefined) read.answer = answer;
      const cause = causes.get(to);
      if (cause !== undefined) cause.answer = answer;
      const { payload } = reply;
      if (payload?.side !== "reply") continue;
      if (payload.name === "VERSION") version = payload.value;
      if (payload.name === "DEVICE_GET_INFO") info = answer;
      if (payload.name === "DEVICE_GET_IRQ_INFO") irqs.set(payload.value.index, payload.value);
      if (payload.name === "DEVICE_GET_REGION_INFO") {
        const { index, capabilities } = payload.value;
        const before = regions.get(index);
        const isShorter = (before?.capabilities.length ?? 0) > capabilities.length;
        if (!isShorter) regions.set(index, payload.value);
      }
    } else if (step.kind === "dma" || step.kind === "interrupt") {
      const base = {
        delayNs: timeNs - startNs,
        afterRead: lastRead,
        isBeforeReply: scene.step !== undefined && !scene.step.sent.noReply &&
          scene.answer === undefined,
      };
      if (step.kind === "dma") {
        const [access] = accessesOf(step.asked.payload);
        if (access?.space !== "memory") continue;
        addEffect(scene, { ...base, kind: "dma", step });
      } else if (step.event.action === "trigger") {
        const { irq, vector, count } = step.event;
        addEffect(scene, { ...base, kind: "interrupt", irq, vector, count });
      }
    }
  }
  if (count === 0) {
    throw new RangeError(`Cannot take the server's part: ${noRequest(script, client)}`);
  }
  for (const { region, offset, answer } of inOrder.reverse()) {
    if (answer?.errno !== 0) continue;
    await turnUnless(signal);
    const memory = contents.get(region) ?? new KnownMemory(budget);
    contents.set(region, memory);
    memory.write(offset, answer.payload.subarray(HEAD_SIZE));
  }
  return {
    startNs: script.startNs ?? 0n,
    otherClients: script.otherClients.size,
    kicks,
    scenes,
    version,
    info,
    regions,
    irqs,
    contents,
    places,
    maps,
    known: await knowledgeOf(scenes, unmapped, signal),
  };
}

/** Memory that a DMA of the recording read; undefined if it wrote, or failed. */
export function memoryRead({ asked, answer }: DmaStep): Uint8Array | undefined {
  if (asked.name !== "DMA_READ" || answer?.errno !== 0) return undefined;
  return answer.payload.subarray(HEAD_SIZE);
}

function unmappedRange({ flags, address, size }: DmaUnmap, scene: number): UnmappedRange {
  const isAll = (flags & DmaUnmapFlags.ALL) !== 0;
  return isAll
    ? { scene, from: 0n, end: 1n << 64n }
    : { scene, from: address, end: address + size };
}

async function knowledgeOf(
  scenes: readonly Scene[],
  unmapped: Knowledge["unmapped"],
  signal: AbortSignal | undefined,
): Promise<Knowledge> {
  const [accessed, echoes, written] = [new AccessedMemory(), new EchoPlaces(), new Set<string>()];
  const steps = scenes.flatMap(({ effects }) =>
    effects.flatMap((effect) => effect.kind === "dma" ? [effect.step] : [])
  );
  for (const scene of scenes) {
    await turnUnless(signal);
    for (const effect of scene.effects) {
      if (effect.kind !== "dma") continue;
      const [access] = accessesOf(effect.step.asked.payload);
      const data = memoryRead(effect.step);
      // What a request claims, and no answer shows, is not known to be memory.
      const count = BigInt((data ?? access!.data)?.length || 1);
      accessed.add({ ...access!, count }, scene);
      if (data !== undefined) echoes.addRead(data);
      else if (access!.data !== undefined) echoes.addWrite(access!.data);
    }
  }
  for (const { write } of scenes) {
    if (write === undefined || write.region === PciRegion.CONFIG) continue;
    await turnUnless(signal);
    written.add(placeOf(write));
    accessed.see(placeOf(write), write.data);
  }
  for (const step of steps) {
    await turnUnless(signal);
    const data = memoryRead(step);
    if (data !== undefined && data.length <= MAX_STRUCTURE) {
      accessed.see(`memory ${data.length}`, data);
    }
  }
  return { accessed, echoes, written, unmapped };
}

function sceneOf(step: RequestStep | undefined, { key, data, write }: Cause): Scene {
  return { step, key, data, write, answer: undefined, reads: new Map(), effects: [], order: [] };
}

function addEffect({ effects, order }: Scene, effect: Effect): void {
  effects.push(effect);
  order.push(effect);
}
