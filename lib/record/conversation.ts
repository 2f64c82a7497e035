/**
 * A recording as a conversation: each reply with its request, and what is known of the device and
 * of the client's memory at that point.
 *
 * @module
 */

import { MAX_PENDING } from "../base/limits.ts";
import { type DmaMapRequest, DmaUnmapFlags } from "../wire/dma.ts";
import { type IrqInfoReply, IrqSetFlags, type SetIrqsRequest } from "../wire/irq.ts";
import { HEADER_SIZE } from "../wire/header.ts";
import { decodeDmaWriteReply } from "../wire/access.ts";
import { PciRegion, type RegionInfoReply } from "../wire/region.ts";
import type { Version } from "../wire/version.ts";
import { type Access, accessesOf, type DecodedMessage, decodeMessage } from "./decode.ts";
import {
  receivedBytes,
  type RecordedDirection,
  type RecordedEvent,
  type RecordedMessage,
} from "./event.ts";
import { type KnownCapabilities, KnownConfig } from "./known_config.ts";

/** Clients whose state is kept. A recorder serves one after another; files may say otherwise. */
const MAX_CONNECTIONS = 64;
/** Bytes of a request that is kept until its reply; longer ones are kept without their data. */
const MAX_KEPT_REQUEST = 4096;
/** DMA maps that are kept: more than any peer allows. */
const MAX_KEPT_MAPS = 65_536;
/** Vectors of one IRQ index that are kept: MSI-X has 2048. */
const MAX_KEPT_VECTORS = 4096;
/** IRQ indexes and regions that are kept: a PCI device has 5, and 10 at most. */
const MAX_KEPT_INDEXES = 256;

/** The facts of a request that are kept until its reply. */
export interface Asked {
  /** The number of its event. */
  readonly index: number;
  /** When it was sent. */
  readonly timeNs: bigint;
  /** Its way. */
  readonly direction: RecordedDirection;
  /** The message; its payload is missing if it was long. */
  readonly decoded: DecodedMessage;
  /** Its accesses; data are missing if they were long. */
  readonly accesses: readonly Access[];
  /** Descriptors that its receiver got with it. */
  readonly descriptors: number;
}

/** A message in its conversation. */
export interface HeardMessage {
  /** The event. */
  readonly event: RecordedMessage;
  /** The message as values; undefined if it is shorter than a header. */
  readonly decoded: DecodedMessage | undefined;
  /** Its accesses; those of its request if it has none itself, as an error reply. */
  readonly accesses: readonly Access[];
  /** The request of a reply. Undefined for a request, and for a reply to nothing. */
  readonly request?: Asked;
  /** The latency of a reply: nanoseconds since its request. */
  readonly latencyNs?: bigint;
  /** A request that it leaves without an answer: of the same id, or the oldest of too many. */
  readonly replaces?: Asked;
}

/** The facts that one client and its server have exchanged so far. */
export interface ConversationState {
  /** The server's VERSION, once it answered. */
  readonly version: Version | undefined;
  /** The regions by index, as the server described them last. */
  readonly regions: ReadonlyMap<number, RegionInfoReply>;
  /** The IRQ indexes, as the server described them last. */
  readonly irqs: ReadonlyMap<number, IrqInfoReply>;
  /** The client's memory by address, as far as the server accepted it; 65,536 maps at most. */
  readonly maps: ReadonlyMap<bigint, DmaMapRequest>;
  /** Vectors that signal an eventfd of the client's, by IRQ index, as far as the server agreed. */
  readonly vectors: ReadonlyMap<number, ReadonlySet<number>>;
  /** The capabilities in the configuration space, as far as it was read. */
  readonly capabilities: KnownCapabilities;
  /** Requests without a reply yet. */
  readonly unanswered: Iterable<Asked>;
}

class State implements ConversationState {
  version: Version | undefined;
  readonly regions = new Map<number, RegionInfoReply>();
  readonly irqs = new Map<number, IrqInfoReply>();
  readonly maps = new Map<bigint, DmaMapRequest>();
  readonly vectors = new Map<number, Set<number>>();
  readonly config = new KnownConfig();
  readonly pending = new Map<string, Asked>();

  get unanswered(): Iterable<Asked> {
    return this.pending.values();
  }

  get capabilities(): KnownCapabilities {
    return this.config.capabilities;
  }
}

/**
 * Follows a recording. Its memory is bounded, however long the recording is.
 *
 * @example
 * ```ts
 * import { Conversation } from "./conversation.ts";
 * import { readRecording, RecordingWriter } from "./mod.ts";
 * import { encodeMessage } from "../wire/mod.ts";
 *
 * const path = Deno.makeTempFileSync({ suffix: ".pcapng" });
 * const message = { kind: "message", connection: 0, socket: "main", origin: "peer" } as const;
 * const [reset, done] = [0, 1].map((flags) => encodeMessage({ messageId: 7, command: 13, flags }));
 * {
 *   using writer = RecordingWriter.create(path);
 *   const place = { ...message, direction: "to-server" } as const;
 *   const request = { ...place, bytes: reset!, descriptors: [] } as const;
 *   writer.write({ ...request, timeNs: 1000n });
 *   writer.write({ ...request, timeNs: 3500n, direction: "to-client", bytes: done! });
 * }
 * const conversation = new Conversation();
 * const latencies = [];
 * for await (const event of readRecording(path)) {
 *   latencies.push(conversation.take(event)?.latencyNs);
 * }
 * console.assert(latencies[0] === undefined && latencies[1] === 2500n);
 * Deno.removeSync(path);
 * ```
 */
export class Conversation {
  readonly #states = new Map<number, State>();
  /** Requests by command that will not be answered any more. */
  readonly #givenUp = new Map<string, number>();

  /** Requests without a reply by the names of their commands. */
  unanswered(): Map<string, number> {
    const counts = new Map(this.#givenUp);
    for (const { pending } of this.#states.values()) {
      for (const { decoded: { name } } of pending.values()) count(counts, name);
    }
    return counts;
  }

  /** Returns the state of a client and its server; undefined before their first event. */
  state(connection: number): ConversationState | undefined {
    return this.#states.get(connection);
  }

  /** Takes the next event. Returns the message in its conversation if it is one. */
  take(event: RecordedEvent): HeardMessage | undefined {
    const state = this.#stateOf(event.connection);
    if (event.kind !== "message") return undefined;
    const decoded = decodeMessage(event.bytes);
    if (decoded === undefined) return { event, decoded, accesses: [] };
    if (decoded.type === "request") return this.#request(state, event, decoded);
    if (decoded.type === "other") return { event, decoded, accesses: [] };
    return this.#reply(state, event, decoded);
  }

  #stateOf(connection: number): State {
    const known = this.#states.get(connection);
    if (known !== undefined) return known;
    const state = new State();
    this.#states.set(connection, state);
    const [[oldest, { pending }]] = this.#states as unknown as [[number, State]];
    if (this.#states.size > MAX_CONNECTIONS) {
      for (const { decoded: { name } } of pending.values()) count(this.#givenUp, name);
      this.#states.delete(oldest);
    }
    return state;
  }

  #request({ pending }: State, event: RecordedMessage, decoded: DecodedMessage): HeardMessage {
    const accesses = accessesOf(decoded.payload);
    if (decoded.noReply) return { event, decoded, accesses };
    const key = requestKey(event);
    // A peer that gave up on a request may use its id again.
    let replaces = pending.get(key);
    pending.delete(key);
    if (replaces === undefined && pending.size >= MAX_PENDING) {
      const [[oldestKey, oldest]] = pending as unknown as [[string, Asked]];
      pending.delete(oldestKey);
      replaces = oldest;
    }
    pending.set(key, asked(event, decoded, accesses));
    if (replaces !== undefined) count(this.#givenUp, replaces.decoded.name);
    return { event, decoded, accesses, ...(replaces && { replaces }) };
  }

  #reply(state: State, event: RecordedMessage, found: DecodedMessage): HeardMessage {
    const key = replyKey(event);
    const request = state.pending.get(key);
    if (request === undefined || request.decoded.header.command !== found.header.command) {
      return { event, decoded: found, accesses: accessesOf(found.payload) };
    }
    state.pending.delete(key);
    const decoded = withShortReply(event, found, request);
    learn(state, decoded, request);
    const own = accessesOf(decoded.payload);
    const latencyNs = event.timeNs - request.timeNs;
    const accesses = own.length > 0 ? own : request.accesses;
    return { event, decoded, accesses, request, latencyNs };
  }
}

function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

/** The id of a message. */
function idOf(bytes: Uint8Array): number {
  return bytes[0]! | bytes[1]! << 8;
}

/**
 * A request by the id with which its answer will come: the one that its receiver got. A recorder
 * that keeps a request answers it itself.
 */
function requestKey(event: RecordedMessage): string {
  const received = receivedBytes(event);
  const isKept = received === null || received.length < HEADER_SIZE;
  return key(event, event.direction, isKept, idOf(isKept ? event.bytes : received));
}

function replyKey(event: RecordedMessage): string {
  const asked = event.direction === "to-client" ? "to-server" : "to-client";
  const isOwn = event.origin === "recorder";
  return key(event, asked, isOwn, idOf(event.bytes));
}

function key(
  { socket }: RecordedMessage,
  direction: RecordedDirection,
  byRecorder: boolean,
  id: number,
): string {
  return `${socket} ${direction} ${byRecorder} ${id}`;
}

function asked(
  { index, timeNs, direction, bytes, descriptors: came }: RecordedMessage,
  decoded: DecodedMessage,
  accesses: readonly Access[],
): Asked {
  const descriptors = came.filter(({ fate }) => fate !== "withheld").length;
  const base = { index, timeNs, direction, descriptors };
  if (bytes.length <= MAX_KEPT_REQUEST) return { ...base, decoded, accesses };
  const { payload: _, ...head } = decoded;
  const bare = accesses.slice(0, 1).map(({ data: _, ...access }) => access);
  return { ...base, decoded: head, accesses: bare };
}

/** Peers answer a DMA_WRITE in three lengths; two of them can be read beside the request alone. */
function withShortReply(
  { bytes }: RecordedMessage,
  decoded: DecodedMessage,
  { accesses: [access] }: Asked,
): DecodedMessage {
  const isShort = decoded.name === "DMA_WRITE" && decoded.type === "reply" &&
    decoded.payload === undefined && [0, 12].includes(bytes.length - HEADER_SIZE);
  if (!isShort || access === undefined) return decoded;
  const { problem: _, ...rest } = decoded;
  const value = decodeDmaWriteReply(bytes.subarray(HEADER_SIZE), {
    address: access.offset,
    count: access.count,
  });
  return { ...rest, payload: { name: "DMA_WRITE", side: "reply", value } };
}

/** Keeps what a reply says of the device, or makes true of the client's memory and vectors. */
function learn(state: State, reply: DecodedMessage, request: Asked): void {
  if (reply.type !== "reply") return;
  const { payload } = reply;
  if (payload?.side === "reply") {
    switch (payload.name) {
      case "VERSION":
        state.version = payload.value;
        break;
      case "DEVICE_GET_REGION_INFO":
        keep(state.regions, payload.value.index, payload.value, MAX_KEPT_INDEXES);
        break;
      case "DEVICE_GET_IRQ_INFO":
        keep(state.irqs, payload.value.index, payload.value, MAX_KEPT_INDEXES);
        break;
      case "REGION_READ": {
        const { region, offset, data } = payload.value;
        if (region === PciRegion.CONFIG) state.config.learn(offset, data);
      }
    }
  }
  const asked = request.decoded.payload;
  if (asked?.side !== "request") return;
  if (asked.name === "DMA_MAP") keep(state.maps, asked.value.address, asked.value, MAX_KEPT_MAPS);
  if (asked.name === "DMA_UNMAP") unmap(state.maps, asked.value);
  if (asked.name === "DEVICE_SET_IRQS") {
    setVectors(state.vectors, asked.value, request.descriptors);
  }
}

/** Keeps a value, unless there are too many others. */
function keep<K, V>(values: Map<K, V>, key: K, value: V, most: number): void {
  if (values.has(key) || values.size < most) values.set(key, value);
}

/** A range gets an eventfd for each vector, or none; a count of 0 ends all of the index. */
function setVectors(
  vectors: Map<number, Set<number>>,
  { flags, index, start, count }: SetIrqsRequest,
  descriptors: number,
): void {
  if ((flags & IrqSetFlags.ACTION_TRIGGER) === 0) return;
  if ((flags & IrqSetFlags.DATA_NONE) !== 0 && count === 0) vectors.delete(index);
  if ((flags & IrqSetFlags.DATA_EVENTFD) === 0) return;
  const own = vectors.get(index) ?? new Set();
  for (const vector of own) if (vector >= start && vector < start + count) own.delete(vector);
  const signalled = Math.min(count, descriptors, MAX_KEPT_VECTORS - own.size);
  for (let i = 0; i < signalled; i++) own.add(start + i);
  if (own.size === 0) vectors.delete(index);
  else keep(vectors, index, own, MAX_KEPT_INDEXES);
}

function unmap(
  maps: Map<bigint, DmaMapRequest>,
  { flags, address, size }: { flags: number; address: bigint; size: bigint },
): void {
  const isAll = (flags & DmaUnmapFlags.ALL) !== 0;
  if (!isAll && maps.get(address)?.size === size) {
    maps.delete(address);
    return;
  }
  for (const map of maps.values()) {
    const isInside = map.address >= address && map.address + map.size <= address + size;
    if (isAll || isInside) maps.delete(map.address);
  }
}
