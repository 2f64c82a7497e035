/**
 * `vfu show --chrome-trace`: a recording for Perfetto and chrome://tracing.
 *
 * @module
 */

import type { Asked, HeardMessage } from "../../lib/record/conversation.ts";
import type { RecordedEvent } from "../../lib/record/event.ts";
import { irqName, vectorsName } from "../../lib/wire/irq.ts";
import { describeMessage } from "../../lib/wire/describe.ts";
import type { Destination } from "../shared/destination.ts";
import { jsonText } from "../shared/json.ts";
import type { EventText } from "./text.ts";

/** Requests in flight that are drawn above one another; more share the last lane. */
const MAX_LANES = 64;
/** Bytes that are collected before they are written. */
const CHUNK = 64 << 10;

/** The lanes of a client, as far as they are no requests: numbers of their threads. */
const LANES = { interrupts: 1, doorbells: 2, connection: 3 } as const;
/** The first lanes of requests of both ends. */
const REQUEST_LANES = { "to-server": 100, "to-client": 200 } as const;
const REQUEST_NAMES = { "to-server": "client requests", "to-client": "device DMA" } as const;

/**
 * Writes a trace: a request and its reply are a span, all else is a moment. A span is in a lane
 * that is free, as those of one lane must not overlap.
 */
export class ChromeTrace {
  readonly #destination: Destination;
  readonly #text: EventText;
  #chunk = '{"displayTimeUnit":"ns","traceEvents":[\n';
  #isFirst = true;
  #startNs = 0n;
  /** Lanes that have a name, by client and number. */
  readonly #named = new Set<string>();
  /** The time until which each lane is taken, by client and direction. */
  readonly #busy = new Map<string, bigint[]>();

  /** @param text names the places of accesses */
  constructor(destination: Destination, text: EventText) {
    this.#destination = destination;
    this.#text = text;
  }

  /** Times count from here. */
  start(timeNs: bigint): void {
    this.#startNs = timeNs;
  }

  /** Takes the next event. */
  add(event: RecordedEvent, heard: HeardMessage | undefined): void {
    switch (event.kind) {
      case "message":
        if (heard?.request !== undefined) this.#span(heard, heard.request);
        else if (heard?.decoded?.noReply) this.#moment(event, "connection", "no reply", heard);
        return;
      case "interrupt":
        return this.#moment(event, "interrupts", vectorsName(irqName(event.irq), event.vector));
      case "ioeventfd":
        return this.#moment(event, "doorbells", `region ${event.region}+${event.offset}`);
      case "garbage":
      case "open":
      case "end":
      case "note":
        return this.#moment(event, "connection", event.kind);
    }
  }

  /** Ends the trace. */
  finish(): void {
    this.#chunk += "\n]}\n";
    this.#flush();
    this.#destination.finish();
  }

  #span({ event, decoded, accesses, latencyNs = 0n }: HeardMessage, request: Asked): void {
    const { direction, timeNs } = request;
    const { connection } = event;
    const key = `${connection} ${direction}`;
    const busy = this.#busy.get(key) ?? [];
    this.#busy.set(key, busy);
    const free = busy.findIndex((until) => until <= timeNs);
    const lane = Math.min(free < 0 ? busy.length : free, MAX_LANES - 1);
    busy[lane] = event.timeNs;
    const tid = REQUEST_LANES[direction] + lane;
    this.#name(connection, tid, `${REQUEST_NAMES[direction]}${lane === 0 ? "" : ` ${lane + 1}`}`);
    const [access] = accesses;
    const place = access === undefined ? "" : ` ${this.#text.place(access)}`;
    this.#put({
      name: `${request.decoded.name}${place}`,
      cat: decoded?.type === "error" ? "error" : "request",
      ph: "X",
      ts: this.#micros(timeNs),
      dur: Math.max(0, Number(latencyNs) / 1000), // clocks may go back
      pid: connection,
      tid,
      args: { request: request.index, reply: event.index, says: describeMessage(event.bytes) },
    });
  }

  #moment(
    event: RecordedEvent,
    lane: keyof typeof LANES,
    name: string,
    heard?: HeardMessage,
  ): void {
    const { connection, timeNs } = event;
    this.#name(connection, LANES[lane], lane);
    const says = "text" in event ? event.text : heard && describeMessage(heard.event.bytes);
    this.#put({
      name,
      cat: event.kind,
      ph: "i",
      s: "t",
      ts: this.#micros(timeNs),
      pid: connection,
      tid: LANES[lane],
      args: { index: event.index, ...(says !== undefined && { says }) },
    });
  }

  #name(connection: number, tid: number, name: string): void {
    const key = `${connection} ${tid}`;
    if (this.#named.has(key)) return;
    this.#named.add(key);
    this.#put({ name: "thread_name", ph: "M", pid: connection, tid, args: { name } });
    this.#put({
      name: "thread_sort_index",
      ph: "M",
      pid: connection,
      tid,
      args: { sort_index: tid },
    });
    if (this.#named.has(String(connection))) return;
    this.#named.add(String(connection));
    const client = { name: `client ${connection}` };
    this.#put({ name: "process_name", ph: "M", pid: connection, tid: 0, args: client });
  }

  #micros(timeNs: bigint): number {
    return Number(timeNs - this.#startNs) / 1000;
  }

  #put(event: Record<string, unknown>): void {
    this.#chunk += (this.#isFirst ? "" : ",\n") + jsonText(event);
    this.#isFirst = false;
    if (this.#chunk.length >= CHUNK) this.#flush();
  }

  #flush(): void {
    this.#destination.write(new TextEncoder().encode(this.#chunk));
    this.#chunk = "";
  }
}
