/**
 * Numbers about a recording: how many messages of each kind, how fast they were answered, which
 * registers were used most.
 *
 * @module
 */

import { describeErrno } from "../../ffi/errno.ts";
import { irqName, vectorsName } from "../wire/irq.ts";
import type { Conversation, HeardMessage } from "./conversation.ts";
import type { RecordedEvent, RecordedMessage } from "./event.ts";
import { TimeHistogram } from "./histogram.ts";
import type { Interception } from "./intercept.ts";

/** Registers, vectors and errors that are counted one by one; more are counted together. */
const MAX_COUNTED = 65_536;

/** Numbers about one command. */
export interface CommandStatistics {
  /** Requests. */
  requests: number;
  /** Replies, error replies included. */
  replies: number;
  /** Error replies. */
  errors: number;
  /** Bytes of all its messages. */
  bytes: number;
  /** Times from request to reply. */
  readonly latency: TimeHistogram;
}

/** Numbers about one place in a region. */
export interface RegisterStatistics {
  /** The region index. */
  readonly region: number;
  /** Bytes from the start of the region. */
  readonly offset: bigint;
  /** Bytes of the first access. */
  readonly width: number;
  /** Requests that read it. */
  reads: number;
  /** Requests that write it. */
  writes: number;
}

/** Numbers about DMA by message. */
export interface DmaStatistics {
  /** Requests of the device. */
  requests: number;
  /** Bytes that they are about. */
  bytes: bigint;
}

/** The descriptors by which traffic bypasses a recorder, by command, and what intercepts them. */
const BYPASSES: ReadonlyMap<string, HiddenTraffic> = new Map([
  ["DEVICE_GET_REGION_INFO", "mmap"],
  ["DMA_MAP", "dma"],
  ["DEVICE_SET_IRQS", "irq"],
  ["DEVICE_GET_REGION_IO_FDS", "ioeventfd"],
]);

/** Traffic that a recording lacks, by the kind of interception that would have made it visible. */
export type HiddenTraffic = Interception;

/** Collects numbers while a recording is read. */
export class RecordingStatistics {
  /** Events of each kind. */
  readonly events: Map<RecordedEvent["kind"], number> = new Map();
  /** Numbers about each command, by its name. */
  readonly commands: Map<string, CommandStatistics> = new Map();
  /** Reads of the client's memory by message. */
  readonly dmaRead: DmaStatistics = { requests: 0, bytes: 0n };
  /** Writes of the client's memory by message. */
  readonly dmaWrite: DmaStatistics = { requests: 0, bytes: 0n };
  /** Signals by vector, as "msix[0]"; those that mask and unmask are not counted. */
  readonly interrupts: Map<string, bigint> = new Map();
  /**
   * Error replies by command and reason, as "REGION_READ EINVAL (Invalid argument)". Those beyond
   * 65,536 are counted together as "others".
   */
  readonly errors: Map<string, number> = new Map();
  /**
   * Traffic that the recording may lack: one side passed a descriptor to the other, through which
   * the two go on without messages.
   */
  readonly hidden: Set<HiddenTraffic> = new Set();
  /** Replies without a request; those that the recorder kept are not counted. */
  strays = 0;
  /** Messages that were altered or withheld. */
  altered = 0;
  /** The time of the first event; undefined before it. */
  firstNs: bigint | undefined;
  /** The latest time of an event. */
  lastNs = 0n;
  readonly #registers = new Map<string, RegisterStatistics>();
  #others = 0;

  /** Takes the next event, and its message in the conversation if it is one. */
  add(event: RecordedEvent, heard: HeardMessage | undefined): void {
    this.firstNs ??= event.timeNs;
    if (event.timeNs > this.lastNs) this.lastNs = event.timeNs;
    this.events.set(event.kind, (this.events.get(event.kind) ?? 0) + 1);
    if ("bytes" in event && event.passedOn !== undefined) this.altered++;
    if (event.kind === "interrupt" && event.action === "trigger") {
      this.#interrupt(vectorsName(irqName(event.irq), event.vector), event.count);
    }
    if (heard?.decoded === undefined) return;
    this.#message(heard, heard.decoded);
    this.#bypasses(heard.event, heard.decoded.name);
  }

  /** Places in regions, those that were used most first. */
  hottest(): RegisterStatistics[] {
    const total = ({ reads, writes }: RegisterStatistics) => reads + writes;
    return [...this.#registers.values()].sort((a, b) => total(b) - total(a));
  }

  /** Accesses to places that were too many to be counted one by one. */
  get otherAccesses(): number {
    return this.#others;
  }

  /** Requests without a reply, by command. */
  unanswered(conversation: Conversation): Map<string, number> {
    return conversation.unanswered();
  }

  #interrupt(vector: string, signals: bigint): void {
    const isFull = this.interrupts.size >= MAX_COUNTED && !this.interrupts.has(vector);
    const key = isFull ? "others" : vector;
    this.interrupts.set(key, (this.interrupts.get(key) ?? 0n) + signals);
  }

  #message(heard: HeardMessage, decoded: NonNullable<HeardMessage["decoded"]>): void {
    const command = this.#command(decoded.name);
    command.bytes += heard.event.bytes.length;
    if (decoded.type === "request") {
      command.requests++;
      this.#accesses(heard);
      return;
    }
    if (decoded.type === "other") return;
    command.replies++;
    if (heard.request === undefined && heard.event.passedOn !== null) this.strays++;
    if (heard.latencyNs !== undefined) command.latency.add(Number(heard.latencyNs));
    if (decoded.type === "error") {
      command.errors++;
      const { error } = decoded.header;
      const reason = error === 0 ? "without errno" : describeErrno(error);
      count(this.errors, `${decoded.name} ${reason}`, 1, MAX_COUNTED);
    }
  }

  #bypasses({ descriptors }: RecordedMessage, name: string): void {
    const hidden = BYPASSES.get(name);
    if (hidden === undefined || descriptors.length === 0) return;
    if (descriptors.some(({ fate }) => fate === "passed")) this.hidden.add(hidden);
  }

  #command(name: string): CommandStatistics {
    const known = this.commands.get(name);
    if (known !== undefined) return known;
    const latency = new TimeHistogram();
    const made = { requests: 0, replies: 0, errors: 0, bytes: 0, latency };
    this.commands.set(name, made);
    return made;
  }

  #accesses({ accesses }: HeardMessage): void {
    for (const { region, action, offset, count } of accesses) {
      if (region === undefined) {
        const dma = action === "read" ? this.dmaRead : this.dmaWrite;
        dma.requests++;
        dma.bytes += count;
        continue;
      }
      const key = `${region} ${offset}`;
      let register = this.#registers.get(key);
      if (register === undefined) {
        if (this.#registers.size >= MAX_COUNTED) {
          this.#others++;
          continue;
        }
        register = { region, offset, width: Number(count), reads: 0, writes: 0 };
        this.#registers.set(key, register);
      }
      if (action === "read") register.reads++;
      else register.writes++;
    }
  }
}

/** Counts a key; as "others" if there are `most` keys without it. */
function count(counts: Map<string, number>, key: string, by: number, most: number): void {
  const known = counts.get(key);
  if (known === undefined && counts.size >= most) key = "others";
  counts.set(key, (counts.get(key) ?? 0) + by);
}
