/**
 * Any bytes as one readable line, for traces and error reports.
 *
 * @module
 */

import { describeErrno } from "../../ffi/errno.ts";
import { DecodeError } from "../base/errors.ts";
import type { DmaAccess, DmaData, RegionAccess, RegionData } from "./access.ts";
import { Command, commandName } from "./command.ts";
import { DeviceFlags } from "./device.ts";
import { DmaMapFlags, type DmaUnmap, DmaUnmapFlags } from "./dma.ts";
import {
  type DeviceFeature,
  DeviceStateData,
  deviceStateName,
  DmaLoggingReportData,
  DmaLoggingStartData,
  Feature,
  FeatureFlags,
  featureName,
  MigrationData,
  MigrationFlags,
} from "./feature.ts";
import { type Header, HEADER_SIZE, HeaderLayout, MessageFlags } from "./header.ts";
import { IrqFlags, irqName, IrqSetFlags, vectorsName } from "./irq.ts";
import { type MessageCodecs, messageOf, type Messages } from "./messages.ts";
import { placeText, type RegionCapability, RegionFlags, regionName } from "./region.ts";
import type { MigData } from "./migration.ts";
import { hex, hexDigits } from "../text/hex.ts";
import { plural } from "../text/plural.ts";

/** The longest line of all messages but VERSION, in UTF-16 units. */
const MAX_LINE = 200;
/** Bytes of data that are shown. */
const MAX_HEX = 16;
/**
 * The same of VERSION: its JSON says what was negotiated, and real peers send about 200 characters.
 */
const MAX_VERSION_LINE = 2000;
/** Bytes of a VERSION's JSON that are looked at: more would not fit the line. */
const MAX_JSON = 2048;
/** The offset of the JSON in a VERSION, behind its two numbers. */
const VERSION_JSON_AT = 4;

/** The facts of a message beside its bytes. */
export interface DescribeOptions {
  /** File descriptors that came with it; default 0. */
  fds?: number;
}

/**
 * A line about the bytes of a message: of a whole one, a truncated one, or anything else. It never
 * throws. The line has at most 200 characters, or 2000 for a VERSION, and no control character.
 *
 * @example
 * ```ts
 * import { describeMessage, encodeMessage, messages } from "./mod.ts";
 *
 * const { command, request } = messages.REGION_READ;
 * const payload = request.encode({ offset: 0x1cn, region: 0, count: 4 });
 * const line = describeMessage(encodeMessage({ messageId: 3, command }, payload));
 * console.assert(line === "#3 REGION_READ request bar0+0x1c 4 bytes");
 * ```
 */
export function describeMessage(bytes: Uint8Array, options: DescribeOptions = {}): string {
  const { fds = 0 } = options;
  const tail = fds === 0 ? "" : `, ${plural(fds, "fd")}`;
  const most = commandOf(bytes) === Command.VERSION ? MAX_VERSION_LINE : MAX_LINE;
  return fitLine(describe(bytes), most - tail.length) + tail;
}

function commandOf(bytes: Uint8Array): number | undefined {
  return bytes.length < HEADER_SIZE ? undefined : HeaderLayout.decode(bytes).command;
}

function describe(bytes: Uint8Array): string {
  if (bytes.length < HEADER_SIZE) {
    return `truncated header: ${bytes.length} of ${HEADER_SIZE} bytes${hexAfterColon(bytes)}`;
  }
  const header = HeaderLayout.decode(bytes);
  const title = `#${header.messageId} ${commandName(header.command)} ${typeName(header)}`;
  const payload = bytes.subarray(HEADER_SIZE);
  if (header.size < HEADER_SIZE) {
    return `${title}, bad size ${header.size}${hexAfterColon(payload)}`;
  }
  if (header.size > bytes.length) {
    return `${title}, truncated: ${bytes.length} of ${header.size} bytes${hexAfterColon(payload)}`;
  }
  const surplus = bytes.length - header.size;
  return title + describePayload(header, payload.subarray(0, header.size - HEADER_SIZE)) +
    (surplus === 0 ? "" : `, ${plural(surplus, "byte")} after it`);
}

function typeName({ flags }: Header): string {
  const type = flags & MessageFlags.TYPE_MASK;
  if (type === MessageFlags.COMMAND) {
    return flags & MessageFlags.NO_REPLY ? "request (no reply)" : "request";
  }
  if (type === MessageFlags.REPLY) return flags & MessageFlags.ERROR ? "error reply" : "reply";
  return `of type ${type}`;
}

/** Describes what follows the title, with the separator that it needs. */
function describePayload(header: Header, payload: Uint8Array): string {
  const type = header.flags & MessageFlags.TYPE_MASK;
  if (type === MessageFlags.REPLY && header.flags & MessageFlags.ERROR) {
    const errno = header.error === 0 ? ", no errno" : ` ${describeErrno(header.error)}`;
    return errno + unknownPayload(payload);
  }
  const message = messageOf(header.command);
  const known = type === MessageFlags.COMMAND || type === MessageFlags.REPLY;
  if (message === undefined || !known) return unknownPayload(payload);
  try {
    const text = describeKnown(message, type === MessageFlags.REPLY, payload);
    return text === "" ? "" : ` ${text}`;
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    const rest = header.command === Command.VERSION && payload.length > VERSION_JSON_AT
      ? `, ${versionJson(payload)}`
      : unknownPayload(payload);
    return `, malformed: ${fitLine(error.reason, 100)}${rest}`;
  }
}

function describeKnown(
  message: MessageCodecs<unknown, unknown>,
  isReply: boolean,
  payload: Uint8Array,
): string {
  const side = isReply ? "reply" : "request";
  const value = message[side].decode(payload);
  const describers:
    | Record<"request" | "reply", (value: never, payload: Uint8Array) => string>
    | undefined = DESCRIBERS[message.name as keyof Messages];
  return describers === undefined ? fieldsText(value) : describers[side](value as never, payload);
}

/** Sentences about request and reply of a message, in place of their fields. */
type Describers = {
  readonly [K in keyof Messages]?: Messages[K] extends MessageCodecs<infer Q, infer P> ? {
      request(value: Q, payload: Uint8Array): string;
      reply(value: P, payload: Uint8Array): string;
    }
    : never;
};

const nothing = () => "";

const DESCRIBERS: Describers = {
  VERSION: { request: versionText, reply: versionText },
  DMA_MAP: {
    request: ({ flags, offset, address, size }) =>
      `${range(address, size)} ${accessText(flags)} offset ${hex(offset)}`,
    reply: nothing,
  },
  DMA_UNMAP: { request: unmapText, reply: unmapText },
  DEVICE_GET_INFO: {
    request: nothing,
    reply: ({ flags, numRegions, numIrqs }) =>
      words(plural(numRegions, "region"), plural(numIrqs, "IRQ index", "IRQ indexes"), [
        flagNames(flags, DeviceFlags),
      ]),
  },
  DEVICE_GET_REGION_INFO: {
    request: ({ argsz, index }) => `${regionName(index)} argsz ${argsz}`,
    reply: ({ flags, index, size, capabilities }) =>
      words(`${regionName(index)} size ${hex(size)}`, [
        flagNames(flags, RegionFlags),
      ], ...capabilities.map(capabilityText)),
  },
  DEVICE_GET_REGION_IO_FDS: {
    request: ({ argsz, index }) => `${regionName(index)} argsz ${argsz}`,
    reply: ({ index, count }) => `${regionName(index)} ${plural(count, "sub-region")}`,
  },
  DEVICE_GET_IRQ_INFO: {
    request: ({ index }) => irqName(index),
    reply: ({ flags, index, count }) =>
      words(`${irqName(index)} ${plural(count, "vector")}`, [flagNames(flags, IrqFlags)]),
  },
  DEVICE_SET_IRQS: {
    request: ({ flags, index, start, count, data }) => {
      const vectors = count === 0
        ? `${irqName(index)} start ${start} count 0` // with "none": all of them, switched off
        : vectorsName(irqName(index), start, count);
      return `${vectors} ${irqSetText(flags)}${hexAfterColon(data)}`;
    },
    reply: nothing,
  },
  REGION_READ: { request: regionAccessText, reply: regionDataText },
  REGION_WRITE: { request: regionDataText, reply: regionAccessText },
  DMA_READ: { request: dmaAccessText, reply: dmaDataText },
  DMA_WRITE: { request: dmaDataText, reply: dmaAccessText },
  DEVICE_RESET: { request: nothing, reply: nothing },
  REGION_WRITE_MULTI: {
    request: ({ writes }) =>
      plural(writes.length, "write") + (writes[0] ? `, first ${regionDataText(writes[0])}` : ""),
    reply: ({ count }) => plural(count, "write"),
  },
  DEVICE_FEATURE: { request: featureRequestText, reply: featureText },
  MIG_DATA_READ: { request: ({ size }) => plural(size, "byte"), reply: migDataText },
  MIG_DATA_WRITE: { request: migDataText, reply: nothing },
};

/** The JSON as it came, white space squeezed: to write it anew could say something else. */
function versionText({ major, minor }: { major: number; minor: number }, payload: Uint8Array) {
  return `${major}.${minor} ${versionJson(payload)}`.trim();
}

/** The JSON of a VERSION on a line, whether it is valid or not. */
function versionJson(payload: Uint8Array): string {
  const json = new TextDecoder().decode(
    payload.subarray(VERSION_JSON_AT, VERSION_JSON_AT + MAX_JSON),
  );
  return json.replace(/\0$/, "").replace(/\s+/g, " ");
}

function unmapText({ flags, address, size, bitmap }: DmaUnmap): string {
  return words(range(address, size), [flagNames(flags, DmaUnmapFlags)]) +
    (bitmap ? `, bitmap ${plural(bitmap.length, "byte")}` : "");
}

function regionAccessText({ offset, region, count }: RegionAccess): string {
  return `${placeText(region, offset)} ${plural(count, "byte")}`;
}

function regionDataText({ offset, region, data }: RegionData): string {
  return regionAccessText({ offset, region, count: data.length }) + hexAfterColon(data);
}

function dmaAccessText({ address, count }: DmaAccess): string {
  return `iova ${hex(address)} ${plural(count, "byte")}`;
}

function dmaDataText({ address, data }: DmaData): string {
  return dmaAccessText({ address, count: BigInt(data.length) }) + hexAfterColon(data);
}

function migDataText({ data }: MigData): string {
  return plural(data.length, "byte") + hexAfterColon(data);
}

function capabilityText(capability: RegionCapability): string {
  switch (capability.kind) {
    case "sparse_mmap":
    case "sparse_mmap_fds":
      return `${capability.kind} ${plural(capability.areas.length, "area")}`;
    case "type":
      return `type ${hex(capability.type)}/${hex(capability.subtype)}`;
    case "msix_mappable":
      return capability.kind;
    case "unknown":
      return `capability ${capability.id}`;
  }
}

function irqSetText(flags: number): string {
  const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } =
    IrqSetFlags;
  const names = { none: DATA_NONE, bool: DATA_BOOL, eventfd: DATA_EVENTFD };
  const actions = { mask: ACTION_MASK, unmask: ACTION_UNMASK, trigger: ACTION_TRIGGER };
  return flagNames(flags, { ...names, ...actions });
}

function accessText(flags: number): string {
  const { READ, WRITE, ...drafts } = DmaMapFlags;
  const access = (flags & READ ? "r" : "-") + (flags & WRITE ? "w" : "-");
  return words(access.replace(/^(.)-$/, "$1"), [flagNames(flags & ~(READ | WRITE), drafts)]);
}

/** Zeros in a question are room for the answer, which clients may send along: they say nothing. */
function featureRequestText(request: DeviceFeature): string {
  const isQuestion = (request.flags & FeatureFlags.SET) === 0;
  const saysNothing = isQuestion && request.data.every((byte) => byte === 0);
  return featureText(saysNothing ? { ...request, data: new Uint8Array() } : request);
}

function featureText({ flags, data }: DeviceFeature): string {
  const { GET, SET, PROBE, INDEX_MASK } = FeatureFlags;
  const index = flags & INDEX_MASK;
  const text = `${flagNames(flags & ~INDEX_MASK, { GET, SET, PROBE })} ${featureName(index)}`;
  if (data.length === 0) return text.trim();
  return `${text.trim()} ${featureDataText(index, data)}`;
}

function featureDataText(index: number, data: Uint8Array): string {
  switch (index) {
    case Feature.MIGRATION:
      return migrationText(MigrationData.decode(data).flags);
    case Feature.MIG_DEVICE_STATE:
      return deviceStateName(DeviceStateData.decode(data).state);
    case Feature.DMA_LOGGING_START: {
      const { pageSize, ranges } = DmaLoggingStartData.decode(data);
      return `page size ${hex(pageSize)}, ${plural(ranges.length, "range")}`;
    }
    case Feature.DMA_LOGGING_REPORT: {
      const { iova, length, bitmap } = DmaLoggingReportData.decode(data);
      return `${range(iova, length)}, bitmap ${plural(bitmap.length, "byte")}`;
    }
    default:
      return `${plural(data.length, "byte")}${hexAfterColon(data)}`;
  }
}

function migrationText(flags: bigint): string {
  const known = Object.entries(MigrationFlags).filter(([, bit]) => flags & bit);
  return known.map(([name]) => name.toLowerCase()).join(" ") || hex(flags);
}

function range(address: bigint, size: bigint): string {
  return `iova ${hex(address)} size ${hex(size)}`;
}

/** The fields of a value that its codec decoded: "page size 4096, data 4 bytes: 01 02 03 04". */
export function fieldsText(value: unknown): string {
  if (typeof value !== "object" || value === null) return "";
  return Object.entries(value).map(([name, field]) => {
    const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
    if (field instanceof Uint8Array) {
      return `${words} ${plural(field.length, "byte")}${hexAfterColon(field)}`;
    }
    if (Array.isArray(field)) return `${words} ${plural(field.length, "entry", "entries")}`;
    return typeof field === "object" ? words : `${words} ${field}`;
  }).join(", ");
}

/** The names of the bits that are set, in lower case; bits without a name as one number. */
function flagNames(flags: number, table: Readonly<Record<string, number>>): string {
  const names: string[] = [];
  let rest = flags;
  for (const [name, bit] of Object.entries(table)) {
    if ((flags & bit) === 0) continue;
    names.push(name.toLowerCase().replaceAll("_", " "));
    rest &= ~bit;
  }
  if (rest !== 0) names.push(hex(rest >>> 0));
  return names.join(" ");
}

/**
 * Parts joined with commas; one in brackets is joined with a space, and left out if it is empty.
 */
function words(...parts: (string | [string])[]): string {
  return parts.reduce<string>((line, part) => {
    if (typeof part === "string") return line === "" ? part : `${line}, ${part}`;
    return part[0] === "" ? line : `${line} ${part[0]}`;
  }, "");
}

function unknownPayload(payload: Uint8Array): string {
  if (payload.length === 0) return "";
  return `, ${plural(payload.length, "byte")}${hexAfterColon(payload)}`;
}

function hexAfterColon(data: Uint8Array): string {
  if (data.length === 0) return "";
  const shown = [...data.subarray(0, MAX_HEX)].map((byte) => hexDigits(byte, 2));
  return `: ${shown.join(" ")}${data.length > MAX_HEX ? " …" : ""}`;
}

/** Nothing that a terminal obeys, and no longer than `length`. */
function fitLine(text: string, length: number): string {
  const plain = text.replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, "\ufffd");
  if (plain.length <= length) return plain;
  return plain.slice(0, length - 1).replace(/[\ud800-\udbff]$/, "") + "…";
}
