/**
 * `vfu show --html`: a recording as one page, to look at in a browser.
 *
 * @module
 */

import type { HeardMessage } from "../../../lib/record/conversation.ts";
import type { Access } from "../../../lib/record/decode.ts";
import type { RecordedEvent } from "../../../lib/record/event.ts";
import { littleEndian } from "../../../lib/base/little_endian.ts";
import { locatedWords, type RegisterLocator } from "../../../lib/registers/locate.ts";
import { errnoName, MAX_ERRNO } from "../../../lib/text/errno.ts";
import { hex } from "../../../lib/text/hex.ts";
import { Command } from "../../../lib/wire/command.ts";
import { describeMessage } from "../../../lib/wire/describe.ts";
import { HeaderLayout, MessageFlags } from "../../../lib/wire/header.ts";
import { irqName, PciIrq, vectorsName } from "../../../lib/wire/irq.ts";
import type { PayloadForm } from "../../../lib/wire/codec.ts";
import type { StructForm } from "../../../lib/wire/layout.ts";
import { type MessageCodecs, messages } from "../../../lib/wire/messages.ts";
import { PciRegion, placeText, regionName } from "../../../lib/wire/region.ts";
import type { Destination } from "../../shared/destination.ts";
import { printable } from "../../shared/printable.ts";
import { humanSize } from "../../shared/size.ts";
import { descriptorText } from "../text.ts";
import {
  type ColumnName,
  COLUMNS,
  type Columns,
  type NameTable,
  packReport,
  type ReportForm,
  type ReportMeta,
  type ReportStruct,
  type ReportTail,
  type RowExtra,
} from "./data.ts";
import { pageFrame } from "./document.ts";
import { plural } from "../../../lib/text/plural.ts";

/** Events that a page takes: a browser works with these without delay. */
export const MAX_PAGE_EVENTS = 500_000;
/** Bytes of one message that a page has. */
const MAX_MESSAGE_BYTES = 1024;
/** Bytes of all messages, after which of each only the first are kept. */
const MAX_BYTES = 32 << 20;
/** Bytes of a message that are always there: its header and its struct. */
const LEAST_BYTES = 64;
/** Characters of one text, and of all. */
const MAX_TEXT = 2000;
const MAX_TEXTS = 32 << 20;
/** Names of the accesses of one message. */
const MAX_NAMED = 4;
/** Lanes of regions; more share the last. */
const MAX_REGION_LANES = 32;
/** The start of what describeMessage() says, which has columns of its own. */
const TITLE = /^#\d+ (?:command )?\S+ (?:request|reply|error reply)(?: \(no reply\))?(?:, | |$)/;
/** No lane. */
const NO_LANE = 255;

const KINDS = ["message", "garbage", "interrupt", "ioeventfd", "open", "end", "note"] as const;
const TYPES = ["request", "reply", "error", "other"] as const;
const ORIGINS = ["peer", "side", "recorder"] as const;
/** The lanes above those of the regions. */
const LANES = ["connection", "client requests", "device DMA", "interrupts", "doorbells"] as const;

/** A recording that has more events than a page takes. */
export class PageFullError extends Error {
  override readonly name = "PageFullError";

  constructor(path: string) {
    super(
      `Cannot write ${path}: a page takes ${MAX_PAGE_EVENTS} events, the recording has more; ` +
        "choose some with --filter, such as 'time < 1000000000' or 'command == REGION_WRITE'",
    );
  }
}

/** The names in a report, for people. */
export interface ReportNames {
  /** The recording's file, without its folder. */
  readonly file: string;
  /** The expression that chose the events. */
  readonly filter: string | undefined;
}

type Row = Record<ColumnName, number>;

/** Collects the events of a recording, and writes a page. Its memory is bounded. */
export class HtmlReport {
  /** True if an event came that there was no room for. */
  isFull = false;
  readonly #destination: Destination;
  readonly #path: string;
  readonly #names: ReportNames;
  readonly #locator: RegisterLocator | undefined;
  readonly #columns = newColumns(1024);
  #capacity = 1024;
  #rows = 0;
  #startNs = 0n;
  #bytes = new Uint8Array(64 << 10);
  #byteLength = 0;
  readonly #texts = new Map<string, number>([["", 0]]);
  #textLength = 0;
  #omittedTexts = 0;
  readonly #extras: Record<number, RowExtra> = {};
  /** Rows of requests by the number of their event, until their reply. */
  readonly #requests = new Map<number, number>();
  /** Lanes of regions, by their index. */
  readonly #regions = new Map<number, number>();

  constructor(
    destination: Destination,
    path: string,
    names: ReportNames,
    locator: RegisterLocator | undefined,
  ) {
    this.#destination = destination;
    this.#path = path;
    this.#names = names;
    this.#locator = locator;
  }

  /** Times count from here. */
  start(timeNs: bigint): void {
    this.#startNs = timeNs;
  }

  /**
   * Takes the next event.
   *
   * @throws {PageFullError} if there are more than a page takes
   */
  add(event: RecordedEvent, heard: HeardMessage | undefined): void {
    if (this.#rows === MAX_PAGE_EVENTS) {
      this.isFull = true;
      throw new PageFullError(this.#path);
    }
    const row = { ...this.#common(event, heard), ...this.#own(event, heard) };
    if (this.#rows === this.#capacity) this.#grow();
    for (const name of COLUMN_NAMES) this.#columns[name]![this.#rows] = row[name];
    this.#rows++;
  }

  /**
   * Writes the page.
   *
   * @param problem why the recording is not whole
   * @throws the signal's reason
   */
  async finish(problem: string | undefined, signal: AbortSignal): Promise<void> {
    const { head, tail } = await pageFrame();
    const columns = Object.fromEntries(
      COLUMN_NAMES.map((name) => [name, this.#columns[name]!.subarray(0, this.#rows)]),
    ) as unknown as Columns;
    this.#sortRegions();
    const bytes = this.#bytes.subarray(0, this.#byteLength);
    const write = (text: string) => this.#destination.write(new TextEncoder().encode(text));
    write(head);
    const data = packReport({ meta: this.#meta(problem), columns, bytes }, signal);
    for await (const piece of data) write(piece);
    write(tail);
    this.#destination.finish();
  }

  /**
   * Puts the lanes of regions in the order of their indexes, the one that more share at the end.
   */
  #sortRegions(): void {
    const before = [...this.#regions];
    const own = before.slice(0, MAX_REGION_LANES).sort(([a], [b]) => a - b);
    this.#regions.clear();
    const lanes = new Map<number, number>();
    for (const [region, lane] of [...own, ...before.slice(MAX_REGION_LANES)]) {
      lanes.set(lane, LANES.length + this.#regions.size);
      this.#regions.set(region, LANES.length + this.#regions.size);
    }
    const column = this.#columns.regionLane!;
    for (let row = 0; row < this.#rows; row++) column[row] = lanes.get(column[row]!) ?? NO_LANE;
  }

  #meta(problem: string | undefined): ReportMeta {
    const regions = [...this.#regions].map(([index]) => index);
    const lanes = [
      ...LANES,
      ...regions.map((index, i) => i < MAX_REGION_LANES ? regionName(index) : "more regions"),
    ];
    const { file, filter } = this.#names;
    return {
      file: printable(file),
      ...(filter !== undefined && { filter: printable(filter) }),
      ...(problem !== undefined && { problem: printable(problem) }),
      startNs: String(this.#startNs),
      rows: this.#rows,
      texts: [...this.#texts.keys()],
      lanes: [...lanes],
      kinds: KINDS,
      types: TYPES,
      origins: ORIGINS,
      header: structOf("header", HeaderLayout),
      forms: Object.fromEntries(
        (Object.values(messages) as MessageCodecs<unknown, unknown>[])
          .map(({ name, command, request, reply }) => [
            command,
            { request: formOf(name, request.form), reply: formOf(name, reply.form) },
          ]),
      ),
      names: {
        regions: numbered(PciRegion, true),
        irqs: numbered(PciIrq, true),
        commands: numbered(Command, false),
        errnos: errnos(),
        flags: FLAGS,
      },
      extras: this.#extras,
      omittedTexts: this.#omittedTexts,
      columns: COLUMNS,
    };
  }

  /** Columns that all events have. */
  #common(event: RecordedEvent, heard: HeardMessage | undefined): Row {
    const { timeNs, connection, socket, comment } = event;
    const isBack = "direction" in event
      ? event.direction === "to-client"
      : event.kind === "interrupt" && event.action === "trigger";
    const isAltered = "passedOn" in event && event.passedOn !== undefined;
    return {
      time: Math.max(0, Number(timeNs - this.#startNs)),
      latency: -1,
      request: -1,
      length: 0,
      kept: 0,
      name: this.#text(event.kind),
      place: 0,
      value: 0,
      remark: this.#text(comment ?? ""),
      client: connection,
      id: 0,
      kind: KINDS.indexOf(event.kind),
      type: TYPES.indexOf("other"),
      origin: event.kind === "message" ? ORIGINS.indexOf(event.origin) : 0,
      flags: (isBack ? 1 : 0) | (socket === "twin" ? 2 : 0) | (isAltered ? 4 : 0) |
        (heard?.decoded?.noReply ? 8 : 0),
      lane: LANES.indexOf("connection"),
      regionLane: NO_LANE,
    };
  }

  /** Columns that depend on the kind of event. */
  #own(event: RecordedEvent, heard: HeardMessage | undefined): Partial<Row> {
    switch (event.kind) {
      case "message":
        return { ...this.#transfer(event, heard), ...this.#message(heard) };
      case "garbage":
        return { ...this.#transfer(event, heard), value: this.#text(describeMessage(event.bytes)) };
      case "interrupt": {
        const times = event.count === 1n ? "" : `, ${plural(event.count, "time")}`;
        return {
          lane: LANES.indexOf("interrupts"),
          place: this.#text(vectorsName(irqName(event.irq), event.vector)),
          value: this.#text(`${event.action}${times}`),
        };
      }
      case "ioeventfd": {
        const count = BigInt(event.size);
        const times = event.count === 1n ? "" : `, ${plural(event.count, "time")}`;
        return {
          lane: LANES.indexOf("doorbells"),
          regionLane: this.#regionLane(event.region),
          place: this.#text(this.#place({ region: event.region, offset: event.offset, count })),
          value: this.#text(`${event.size === 0 ? "" : plural(event.size, "byte")}${times}`),
        };
      }
      case "open": {
        const who = `${event.client ?? "a client"} to ${event.server ?? "a server"}`;
        return { value: this.#text(`client ${event.connection}: ${who}`) };
      }
      case "end": {
        const why = event.text === "" ? event.reason : event.text;
        return { value: this.#text(`client ${event.connection}: the ${event.side} ended: ${why}`) };
      }
      case "note":
        return { value: this.#text(event.text) };
    }
  }

  /** Bytes and descriptors. */
  #transfer(
    event: RecordedEvent & { readonly kind: "message" | "garbage" },
    heard: HeardMessage | undefined,
  ): Partial<Row> {
    const { bytes, descriptors, passedOn } = event;
    const problem = heard?.decoded?.problem;
    if (descriptors.length > 0 || problem !== undefined || passedOn !== undefined) {
      const texts = descriptors.map(descriptorText);
      const altered = passedOn?.subarray(0, LEAST_BYTES).toHex() ?? null;
      const extra = {
        ...(texts.length > 0 && { descriptors: texts }),
        ...(problem !== undefined && { problem: printable(problem).slice(0, MAX_TEXT) }),
        ...(passedOn !== undefined && { passedOn: altered }),
      };
      if (this.#hasRoom(JSON.stringify(extra).length)) this.#extras[this.#rows] = extra;
    }
    return { length: bytes.length, kept: this.#keep(bytes) };
  }

  #message(heard: HeardMessage | undefined): Partial<Row> {
    if (heard?.decoded === undefined) return { name: this.#text("truncated header") };
    const { event, decoded, accesses, request, latencyNs } = heard;
    const isDma = (request?.direction ?? event.direction) === "to-client";
    const isReply = decoded.type === "reply" || decoded.type === "error";
    const asked = isReply && request === undefined ? event.direction === "to-server" : isDma;
    if (decoded.type === "request") this.#requests.set(event.index, this.#rows);
    const requestRow = request === undefined ? undefined : this.#requests.get(request.index);
    if (request !== undefined) this.#requests.delete(request.index);
    const [access] = accesses;
    return {
      name: this.#text(decoded.name),
      id: decoded.header.messageId,
      type: TYPES.indexOf(decoded.type),
      lane: LANES.indexOf(asked ? "device DMA" : "client requests"),
      regionLane: access?.region === undefined ? NO_LANE : this.#regionLane(access.region),
      place: this.#text(accesses.slice(0, MAX_NAMED).map((each) => this.#place(each)).join("; ")),
      value: this.#lines(this.#value(heard)),
      request: requestRow ?? -1,
      latency: latencyNs === undefined ? -1 : Math.max(0, Number(latencyNs)),
    };
  }

  /** An access, as "CSTS  bar0+0x1c". */
  #place({ region, offset, count }: Pick<Access, "region" | "offset" | "count">): string {
    if (region === undefined) return `iova ${hex(offset)}`;
    const plain = placeText(region, offset);
    const name = this.#locator?.at(region, offset, count)?.name;
    return name === undefined ? plain : `${name}  ${plain}`;
  }

  /** The value of an access with its fields in lines; of other messages what they say. */
  #value({ event, decoded, accesses }: HeardMessage): string {
    const [access] = accesses;
    const isError = decoded!.type === "error";
    if (access === undefined || isError || decoded!.problem !== undefined) {
      const says = describeMessage(event.bytes, { fds: event.descriptors.length });
      return printable(says.replace(TITLE, ""));
    }
    const { region, offset, count, data } = access;
    if (data === undefined) return humanSize(count);
    if (data.length === 0 || data.length > 8) return humanSize(BigInt(data.length));
    const located = region === undefined ? undefined : this.#locator?.at(region, offset, count);
    const words = located === undefined ? [] : locatedWords(located, data);
    return [hex(littleEndian(data), data.length * 2), ...words].join("\n");
  }

  #regionLane(region: number): number {
    const known = this.#regions.get(region);
    if (known !== undefined) return known;
    if (this.#regions.size > MAX_REGION_LANES) return LANES.length + MAX_REGION_LANES;
    const lane = LANES.length + this.#regions.size;
    this.#regions.set(region, lane);
    return lane;
  }

  #hasRoom(length: number): boolean {
    if (this.#textLength + length > MAX_TEXTS) {
      this.#omittedTexts++;
      return false;
    }
    this.#textLength += length;
    return true;
  }

  /** The number of a text; 0, which is empty, when there are too many. */
  #text(text: string): number {
    return this.#lines(printable(text.slice(0, MAX_TEXT)));
  }

  /** The number of a text that may have several lines. */
  #lines(lines: string): number {
    const known = this.#texts.get(lines);
    if (known !== undefined) return known;
    if (!this.#hasRoom(lines.length)) return 0;
    const number = this.#texts.size;
    this.#texts.set(lines, number);
    return number;
  }

  /** Keeps the first bytes of a message. Returns how many. */
  #keep(bytes: Uint8Array): number {
    const most = this.#byteLength < MAX_BYTES ? MAX_MESSAGE_BYTES : LEAST_BYTES;
    const part = bytes.subarray(0, most);
    if (this.#byteLength + part.length > this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#bytes.length);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(part, this.#byteLength);
    this.#byteLength += part.length;
    return part.length;
  }

  #grow(): void {
    this.#capacity *= 2;
    const larger = newColumns(this.#capacity);
    for (const name of COLUMN_NAMES) larger[name]!.set(this.#columns[name]!);
    Object.assign(this.#columns, larger);
  }
}

const COLUMN_NAMES = Object.keys(COLUMNS) as ColumnName[];

type Numbers = Float64Array | Int32Array | Uint32Array | Uint16Array | Uint8Array;

function newColumns(length: number): Record<string, Numbers> {
  const types = { Float64Array, Int32Array, Uint32Array, Uint16Array, Uint8Array };
  return Object.fromEntries(
    Object.entries(COLUMNS).map(([name, type]) => [name, new types[type](length)]),
  );
}

/** The tables of names for the fields of the header. */
const HEADER_NAMES: Readonly<Record<string, NameTable>> = {
  command: "commands",
  flags: "flags",
  error: "errnos",
};

/** The flags of a header that are usual, in words. */
const FLAGS: Readonly<Record<number, string>> = {
  [MessageFlags.COMMAND]: "request",
  [MessageFlags.COMMAND | MessageFlags.NO_REPLY]: "request, no reply",
  [MessageFlags.REPLY]: "reply",
  [MessageFlags.REPLY | MessageFlags.ERROR]: "reply, error",
};

/** The table of names for the values of a field. */
function namesOf(owner: string, field: string): NameTable | undefined {
  if (owner === "header") return HEADER_NAMES[field];
  if (field === "region") return "regions";
  if (field !== "index") return undefined;
  return owner.includes("IRQ") ? "irqs" : "regions";
}

function structOf(owner: string, { size, fields }: StructForm): ReportStruct {
  return {
    size,
    fields: Object.entries(fields).map(([name, { offset, width }]) => {
      const names = namesOf(owner, name);
      return names === undefined ? [name, offset, width] : [name, offset, width, names];
    }),
  };
}

function formOf(owner: string, { heads, tail }: PayloadForm): ReportForm {
  return { heads: heads.map((head) => structOf(owner, head)), tail: tailOf(owner, tail) };
}

function tailOf(owner: string, tail: PayloadForm["tail"]): ReportTail {
  switch (tail.kind) {
    case "entries":
      return { ...tail, forms: tail.forms.map((form) => structOf(owner, form)) };
    case "chain": {
      const { variants: _, knownVersion: __, ...plain } = tail;
      return { ...plain, form: structOf(owner, tail.form) };
    }
    case "bytes": {
      const { variants: _, ...plain } = tail;
      return plain;
    }
    default:
      return tail;
  }
}

function numbered(table: Readonly<Record<string, number>>, isLower: boolean) {
  return Object.fromEntries(
    Object.entries(table).map(([name, value]) => [value, isLower ? name.toLowerCase() : name]),
  );
}

function errnos(): Record<number, string> {
  const names: Record<number, string> = {};
  for (let errno = 1; errno <= MAX_ERRNO; errno++) {
    const name = errnoName(errno);
    if (/^E[A-Z0-9]+$/.test(name)) names[errno] = name;
  }
  return names;
}
