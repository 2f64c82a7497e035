/**
 * VERSION, the first command: two numbers and a JSON text with the capabilities of the sender
 * (specification: "VFIO_USER_VERSION").
 *
 * @module
 */

import { DecodeError, type ProtocolError } from "../base/errors.ts";
import {
  DEFAULT_MAX_DATA_XFER_SIZE,
  DEFAULT_MAX_MSG_FDS,
  MAX_DATA_XFER_SIZE,
  MAX_MSG_FDS,
  MAX_VERSION_SIZE,
} from "../base/limits.ts";
import { type Codec, payloadForm } from "./codec.ts";
import { layout, u16 } from "./layout.ts";

/** A JSON value. An integer beyond 2^53 is a bigint, so that no bit of it is lost. */
export type JsonValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | JsonValue[]
  | { [key: string]: JsonValue };

/** A JSON object. */
export type JsonObject = { [key: string]: JsonValue };

/**
 * The abilities of the sender of a VERSION. One that is left out has the specification's default.
 */
export interface Capabilities {
  /** File descriptors that it takes in one message; default 1, may be 0. */
  maxMsgFds?: number;
  /** Bytes of data that it takes in one message; default 1048576. */
  maxDataXferSize?: number;
  /** DMA maps that it holds at one time; default 65535. */
  maxDmaMaps?: number;
  /** Page sizes that a DMA map may have, a mask of their bits, 64 bits wide; default 4096. */
  pgsizes?: bigint;
  /** True if it knows REGION_WRITE_MULTI; default false. */
  writeMultiple?: boolean;
  /** A socket of its own for the commands of the server. */
  twinSocket?: TwinSocket;
  /** A capability of older drafts: the way in which dirty pages of a migration are tracked. */
  migration?: MigrationCapability;
  /** Keys that are not known here, as they came. */
  extra?: JsonObject;
}

/** The name of a capability's field. */
export type CapabilityName = Exclude<keyof Capabilities, "extra">;

/**
 * Everything that one end could say: each capability, or undefined for one that it leaves out. A
 * capability that is left out does not compile.
 */
export type CapabilityOffer = { readonly [K in CapabilityName]: Capabilities[K] | undefined };

/** The `twin_socket` capability. */
export interface TwinSocket {
  /** The client asks for a twin socket; the server has made one. Default false. */
  supported?: boolean;
  /** In a reply: which of its file descriptors is the client's end. */
  fdIndex?: number;
  /** Keys that are not known here, as they came. */
  extra?: JsonObject;
}

/** The `migration` capability of older drafts. */
export interface MigrationCapability {
  /** Bytes of memory that one bit of a dirty bitmap stands for. */
  pgsize?: number;
  /** The largest dirty bitmap, in bytes. */
  maxBitmapSize?: number;
  /** Keys that are not known here, as they came. */
  extra?: JsonObject;
}

/** The version that both our ends speak: the client proposes it, the server goes up to it. */
export const PROTOCOL_VERSION = { major: 0, minor: 2 } as const;

/** The payload of a VERSION, request or reply. */
export interface Version {
  /** The major version: 0. */
  major: number;
  /** The minor version. */
  minor: number;
  /** The contents of `capabilities` in the JSON; empty if there is no JSON. */
  capabilities: Capabilities;
  /** Keys of the JSON beside `capabilities`, as they came. */
  extra?: JsonObject;
}

const Numbers = layout("VERSION", 4, { major: u16(0), minor: u16(2) });

/** Bytes of a payload that has no JSON. */
export const VERSION_NUMBERS_SIZE: number = Numbers.size;

/** The form of one field in JSON. */
interface Entry<V> {
  /** Its key. */
  readonly key: string;
  /** Checks the value of the key and makes that of the field of it. */
  read(value: JsonValue, key: string): V;
  /** The value of the key. */
  write(value: V): JsonValue;
}

/** An object that keeps the keys which are not known here. */
interface Extensible {
  readonly extra?: JsonObject;
}

/** An entry for each field: one that is missing does not compile. */
type Entries<T extends Extensible> = {
  readonly [K in Exclude<keyof T, "extra">]-?: Entry<Exclude<T[K], undefined>>;
};

const TWIN_SOCKET: Entries<TwinSocket> = {
  supported: { key: "supported", ...boolean() },
  fdIndex: { key: "fd_index", ...integer(0) },
};
const MIGRATION: Entries<MigrationCapability> = {
  pgsize: { key: "pgsize", ...integer(1) },
  maxBitmapSize: { key: "max_bitmap_size", ...integer(1) },
};
const CAPABILITIES: Entries<Capabilities> = {
  maxMsgFds: { key: "max_msg_fds", ...integer(0) },
  maxDataXferSize: { key: "max_data_xfer_size", ...integer(1) },
  maxDmaMaps: { key: "max_dma_maps", ...integer(0) },
  pgsizes: { key: "pgsizes", read: toMask, write: (mask) => mask },
  writeMultiple: { key: "write_multiple", ...boolean() },
  twinSocket: { key: "twin_socket", ...object(TWIN_SOCKET) },
  migration: { key: "migration", ...object(MIGRATION) },
};

/**
 * The payload of a VERSION. It ends after the two numbers if there are neither capabilities nor
 * `extra`; an `extra` without keys makes it end with an empty JSON object.
 *
 * @throws {RangeError} if a number does not fit, or the payload would be longer than a peer may
 * send
 *
 * @example
 * ```ts
 * import { encodeVersion } from "./version.ts";
 *
 * const payload = encodeVersion({ major: 0, minor: 1, capabilities: { maxMsgFds: 8 } });
 * const json = new TextDecoder().decode(payload.subarray(4));
 * console.assert(json === '{"capabilities":{"max_msg_fds":8}}\0');
 * ```
 */
export function encodeVersion(version: Version): Uint8Array {
  const capabilities = writeFields(CAPABILITIES, version.capabilities);
  const isEmpty = Object.keys(capabilities).length === 0;
  const json = { ...version.extra, ...(!isEmpty && { capabilities }) };
  const text = isEmpty && version.extra === undefined ? "" : stringifyJson(json) + "\0";
  const encoded = new TextEncoder().encode(text);
  const payload = new Uint8Array(Numbers.size + encoded.length);
  if (payload.length > MAX_VERSION_SIZE) {
    throw new RangeError(
      `Cannot encode VERSION: ${payload.length} bytes, the limit is ${MAX_VERSION_SIZE}`,
    );
  }
  Numbers.write({ major: version.major, minor: version.minor }, payload);
  payload.set(encoded, Numbers.size);
  return payload;
}

/**
 * The value of the payload of a VERSION. Every key that is known must have a sane value: a number
 * is an integer, not negative, and 0 only where that means something. How large it is does not
 * matter: a limit says what its sender can take, and {@linkcode limitsOf} takes the lesser. One
 * beyond 2^53 is decoded as 2^53 - 1. More than one NUL at the end is harmless.
 *
 * @throws {ProtocolError} that says what is wrong: the length, the NUL, the UTF-8, the JSON, or
 * which key
 *
 * @example
 * ```ts
 * import { decodeVersion } from "./version.ts";
 *
 * const json = new TextEncoder().encode('{"capabilities":{"pgsizes":4096}}\0');
 * const version = decodeVersion(new Uint8Array([0, 0, 1, 0, ...json]));
 * console.assert(version.minor === 1 && version.capabilities.pgsizes === 4096n);
 * ```
 */
export function decodeVersion(payload: Uint8Array): Version {
  // The bound on the size bounds the JSON in every way, its nesting too: see parseJson.
  if (payload.length > MAX_VERSION_SIZE) {
    throw failure(`${payload.length} bytes came, the limit is ${MAX_VERSION_SIZE}`);
  }
  const { major, minor } = Numbers.decode(payload);
  const text = decodeText(payload.subarray(Numbers.size));
  if (text === undefined) return { major, minor, capabilities: {} };
  const { capabilities = {}, ...extra } = toObject(parseJson(text), "the JSON");
  return {
    major,
    minor,
    capabilities: readFields(CAPABILITIES, toObject(capabilities, "capabilities"), ""),
    ...(Object.keys(extra).length > 0 && { extra }),
  };
}

/**
 * VERSION, request and reply, as a codec: {@linkcode encodeVersion} and {@linkcode decodeVersion}.
 */
export const Version: Codec<Version> = {
  name: "VERSION",
  form: payloadForm(Numbers, { kind: "text", name: "json" }),
  encode: encodeVersion,
  decode: decodeVersion,
};

/** The limits of one message to a peer. */
export interface PeerLimits {
  /** File descriptors. */
  maxMsgFds: number;
  /** Bytes of data. */
  maxDataXferSize: number;
}

/**
 * Computes the limits of one message to a peer. They are the peer's own, or the specification's
 * defaults, and never more than the limits of vfu. They are 253 descriptors and 64 MiB.
 *
 * @example
 * ```ts
 * import { limitsOf } from "./version.ts";
 *
 * console.assert(limitsOf({ maxMsgFds: 1_000_000 }).maxMsgFds === 253);
 * console.assert(limitsOf({}).maxDataXferSize === 1 << 20);
 * ```
 */
export function limitsOf(peer: Capabilities): PeerLimits {
  const {
    maxMsgFds = DEFAULT_MAX_MSG_FDS,
    maxDataXferSize = DEFAULT_MAX_DATA_XFER_SIZE,
  } = peer;
  return {
    maxMsgFds: Math.min(maxMsgFds, MAX_MSG_FDS),
    maxDataXferSize: Math.min(maxDataXferSize, MAX_DATA_XFER_SIZE),
  };
}

/** The key of each capability in JSON, in the order of the table. */
export const CAPABILITY_KEYS: Readonly<Record<CapabilityName, string>> = Object.fromEntries(
  entriesOf(CAPABILITIES).map(([field, { key }]) => [field, key]),
) as Record<CapabilityName, string>;

/** Capabilities as the JSON of a VERSION has them. */
export function capabilitiesJson(capabilities: Capabilities): JsonObject {
  return writeFields(CAPABILITIES, capabilities);
}

/** Makes capabilities of an offer: those that are not undefined. */
export function capabilitiesOf(offer: CapabilityOffer): Capabilities {
  return Object.fromEntries(Object.entries(offer).filter(([, value]) => value !== undefined));
}

/**
 * Finds the capabilities of ours that the peer has proposed: the reply is a subset of those.
 *
 * No client that is known needs more. QEMU's takes a missing max_msg_fds for 8, but proposes it;
 * SPDK's proposes nothing, and works with the specification's defaults.
 */
export function subsetOf(proposed: Capabilities, ours: CapabilityOffer): Capabilities {
  const isProposed = (field: string) => proposed[field as keyof Capabilities] !== undefined;
  const offered = Object.entries(capabilitiesOf(ours));
  return Object.fromEntries(offered.filter(([field]) => isProposed(field)));
}

/** The text before the NUL; undefined if there is nothing at all. */
function decodeText(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return undefined;
  const nul = bytes.indexOf(0);
  if (nul < 0) throw failure("the JSON does not end with a NUL");
  if (bytes.subarray(nul).some((byte) => byte !== 0)) {
    throw failure(`${bytes.length - 1 - nul} bytes follow the NUL that ends the JSON`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      bytes.subarray(0, nul),
    );
  } catch {
    throw failure("the JSON is not UTF-8");
  }
}

/**
 * The reviver's third argument has the number as it was written; TypeScript does not know it yet.
 */
type Reviver = (key: string, value: JsonValue, context?: { source?: string }) => JsonValue;

const keepIntegers: Reviver = (_key, value, context) =>
  typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
    ? BigInt(context!.source!)
    : value;

function parseJson(text: string): JsonValue {
  try {
    return JSON.parse(text, keepIntegers);
  } catch (cause) {
    // A SyntaxError, or the RangeError of an engine whose stack a few thousand brackets exhaust.
    throw failure(`the JSON is not valid: ${(cause as Error).message}`, { cause });
  }
}

function stringifyJson(value: JsonObject): string {
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  return JSON.stringify(
    value,
    (_key, value) => typeof value === "bigint" ? rawJSON(String(value)) : value,
  );
}

function readFields<T extends Extensible>(
  entries: Entries<T>,
  object: JsonObject,
  parent: string,
): T {
  const byKey = new Map(entriesOf(entries).map((each) => [each[1].key, each]));
  const known: [string, unknown][] = [];
  const extra: [string, JsonValue][] = [];
  for (const [key, value] of Object.entries(object)) {
    const found = byKey.get(key);
    if (found === undefined) extra.push([key, value]);
    else known.push([found[0], found[1].read(value, parent + key)]);
  }
  // fromEntries, not assignment: a key may be "__proto__".
  if (extra.length > 0) known.push(["extra", Object.fromEntries(extra)]);
  return Object.fromEntries(known) as unknown as T;
}

/** Known keys come first, and win over those of the same name in `extra`. */
function writeFields<T extends Extensible>(entries: Entries<T>, value: T): JsonObject {
  const known = entriesOf(entries).flatMap(([field, { key, write }]): [string, JsonValue][] => {
    const part = value[field as keyof T];
    return part === undefined ? [] : [[key, write(part)]];
  });
  // fromEntries, not assignment: a key may be "__proto__".
  return Object.fromEntries([...known, ...Object.entries(value.extra ?? {}), ...known]);
}

function entriesOf<T extends Extensible>(entries: Entries<T>): [string, Entry<unknown>][] {
  return Object.entries<Entry<unknown>>(entries as Record<string, Entry<unknown>>);
}

/** The way of a field to and from JSON, but for its key. */
type Way<V> = Omit<Entry<V>, "key">;

function object<T extends Extensible>(entries: Entries<T>): Way<T> {
  return {
    read: (value, key) => readFields(entries, toObject(value, key), `${key}.`),
    write: (value) => writeFields(entries, value),
  };
}

function boolean(): Way<boolean> {
  return {
    read(value, key) {
      if (typeof value === "boolean") return value;
      throw failure(`${key} is ${kindOf(value)}, not true or false`);
    },
    write: (value) => value,
  };
}

function integer(least: number): Way<number> {
  return { read: (value, key) => toInteger(value, key, least), write: (value) => value };
}

function toObject(value: JsonValue, what: string): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw failure(`${what} is ${kindOf(value)}, not an object`);
}

function toInteger(value: JsonValue, key: string, least: number): number {
  if (typeof value !== "number" && typeof value !== "bigint") {
    throw failure(`${key} is ${kindOf(value)}, not a number`);
  }
  if (typeof value === "number" && !Number.isInteger(value)) {
    throw failure(`${key} is ${value}, not an integer`);
  }
  if (value < least) throw failure(`${key} is ${shorten(value)}, the least is ${least}`);
  return value > Number.MAX_SAFE_INTEGER ? Number.MAX_SAFE_INTEGER : Number(value);
}

function toMask(value: JsonValue, key: string): bigint {
  if (typeof value !== "bigint") return BigInt(toInteger(value, key, 1));
  if (value < 1n || value >= 1n << 64n) {
    throw failure(`${key} is ${shorten(value)}, not a mask of 64 bits`);
  }
  return value;
}

function kindOf(value: JsonValue): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return "an object";
  return typeof value === "bigint" ? "a number" : `a ${typeof value}`;
}

/** The number of a peer may have thousands of digits. */
function shorten(value: number | bigint): string {
  const digits = String(value);
  return digits.length > 24 ? `${digits.slice(0, 20)}… (${digits.length} digits)` : digits;
}

function failure(reason: string, options?: ErrorOptions): ProtocolError {
  return new DecodeError("VERSION", reason, options);
}
