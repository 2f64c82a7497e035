/**
 * VERSION, the first command: two numbers and a JSON text with the capabilities of the sender
 * (specification: "VFIO_USER_VERSION").
 *
 * @module
 */

import { ProtocolError } from "../errors.ts";
import { MAX_DATA_XFER_SIZE, MAX_MSG_FDS, MAX_VERSION_SIZE } from "../limits.ts";
import type { Codec } from "./codec.ts";
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
 * What the sender of a VERSION can do. What it does not say has the default of the specification.
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
  /** Whether it knows REGION_WRITE_MULTI; default false. */
  writeMultiple?: boolean;
  /** A socket of its own for the commands of the server. */
  twinSocket?: TwinSocket;
  /** Of older drafts: how the dirty pages of a migration are tracked. */
  migration?: MigrationCapability;
  /** Keys that are not known here, as they came. */
  extra?: JsonObject;
}

/** The `twin_socket` capability. */
export interface TwinSocket {
  /** The client asks for a twin socket; the server has made one. */
  supported: boolean;
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
  /** What the JSON says under `capabilities`; empty if there is no JSON. */
  capabilities: Capabilities;
  /** Keys of the JSON beside `capabilities`, as they came. */
  extra?: JsonObject;
}

const Numbers = layout("VERSION", 4, { major: u16(0), minor: u16(2) });

/** How one key of a JSON object is read: its name here, and the check of its value. */
type Readers = Readonly<
  Record<string, readonly [name: string, read: (value: JsonValue, key: string) => unknown]>
>;

const TWIN_SOCKET: Readers = {
  supported: ["supported", toBoolean],
  fd_index: ["fdIndex", toInteger(0)],
};
const MIGRATION: Readers = {
  pgsize: ["pgsize", toInteger(1)],
  max_bitmap_size: ["maxBitmapSize", toInteger(1)],
};
const CAPABILITIES: Readers = {
  max_msg_fds: ["maxMsgFds", toInteger(0)],
  max_data_xfer_size: ["maxDataXferSize", toInteger(1)],
  max_dma_maps: ["maxDmaMaps", toInteger(1)],
  pgsizes: ["pgsizes", toMask],
  write_multiple: ["writeMultiple", toBoolean],
  twin_socket: ["twinSocket", toTwinSocket],
  migration: ["migration", (value, key) => readKeys(MIGRATION, toObject(value, key), key)],
};

/**
 * The payload of a VERSION. If there is nothing to say in JSON, it ends after the two numbers.
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
  const capabilities = capabilitiesToJson(version.capabilities);
  const json = { ...version.extra };
  if (Object.keys(capabilities).length > 0) json["capabilities"] = capabilities;
  const text = Object.keys(json).length > 0 ? stringifyJson(json) + "\0" : "";
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
 * is an integer, not negative, not above 2^53, and 0 only where that means something. Whether a
 * value is acceptable is for {@linkcode checkCapabilities} to say.
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
    capabilities: readKeys(CAPABILITIES, toObject(capabilities, "capabilities")),
    ...(Object.keys(extra).length > 0 && { extra }),
  };
}

/**
 * VERSION, request and reply, as a codec: {@linkcode encodeVersion} and {@linkcode decodeVersion}.
 */
export const Version: Codec<Version> = {
  name: "VERSION",
  encode: encodeVersion,
  decode: decodeVersion,
};

/**
 * Refuses capabilities that go beyond our own limits. Apart from decoding, so that such a VERSION
 * can still be shown.
 *
 * @throws {ProtocolError} if max_data_xfer_size or max_msg_fds is above the limit
 */
export function checkCapabilities(capabilities: Capabilities): void {
  const { maxDataXferSize = 0, maxMsgFds = 0 } = capabilities;
  if (maxDataXferSize > MAX_DATA_XFER_SIZE) {
    throw new ProtocolError(
      `Cannot accept VERSION: max_data_xfer_size is ${maxDataXferSize}, the limit is ${MAX_DATA_XFER_SIZE}`,
    );
  }
  if (maxMsgFds > MAX_MSG_FDS) {
    throw new ProtocolError(
      `Cannot accept VERSION: max_msg_fds is ${maxMsgFds}, the limit is ${MAX_MSG_FDS}`,
    );
  }
}

function capabilitiesToJson(capabilities: Capabilities): JsonObject {
  const { twinSocket, migration } = capabilities;
  return withoutUndefined({
    ...capabilities.extra,
    max_msg_fds: capabilities.maxMsgFds,
    max_data_xfer_size: capabilities.maxDataXferSize,
    max_dma_maps: capabilities.maxDmaMaps,
    pgsizes: capabilities.pgsizes,
    write_multiple: capabilities.writeMultiple,
    twin_socket: twinSocket && withoutUndefined({
      ...twinSocket.extra,
      supported: twinSocket.supported,
      fd_index: twinSocket.fdIndex,
    }),
    migration: migration && withoutUndefined({
      ...migration.extra,
      pgsize: migration.pgsize,
      max_bitmap_size: migration.maxBitmapSize,
    }),
  });
}

function withoutUndefined(object: Record<string, JsonValue | undefined>): JsonObject {
  return Object.fromEntries(
    Object.entries(object).filter((entry): entry is [string, JsonValue] => entry[1] !== undefined),
  );
}

/** The text before the NUL; undefined if there is nothing at all. */
function decodeText(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return undefined;
  const nul = bytes.indexOf(0);
  if (nul < 0) throw failure("the JSON does not end with a NUL");
  if (nul !== bytes.length - 1) {
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

function readKeys(readers: Readers, object: JsonObject, parent?: string): Record<string, never> {
  const known: [string, unknown][] = [];
  const extra: [string, JsonValue][] = [];
  for (const [key, value] of Object.entries(object)) {
    const reader = Object.hasOwn(readers, key) ? readers[key] : undefined;
    if (reader === undefined) extra.push([key, value]);
    else known.push([reader[0], reader[1](value, parent ? `${parent}.${key}` : key)]);
  }
  // fromEntries, not assignment: a key may be "__proto__".
  if (extra.length > 0) known.push(["extra", Object.fromEntries(extra)]);
  return Object.fromEntries(known) as Record<string, never>;
}

function toTwinSocket(value: JsonValue, key: string): TwinSocket {
  const object = toObject(value, key);
  if (!Object.hasOwn(object, "supported")) throw failure(`${key} has no key supported`);
  return readKeys(TWIN_SOCKET, object, key) as unknown as TwinSocket;
}

function toObject(value: JsonValue, what: string): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw failure(`${what} is ${kindOf(value)}, not an object`);
}

function toBoolean(value: JsonValue, key: string): boolean {
  if (typeof value === "boolean") return value;
  throw failure(`${key} is ${kindOf(value)}, not true or false`);
}

function toInteger(least: number): (value: JsonValue, key: string) => number {
  return (value, key) => {
    if (typeof value === "bigint") throw failure(`${key} is ${shorten(value)}, beyond 2^53`);
    if (typeof value !== "number") throw failure(`${key} is ${kindOf(value)}, not a number`);
    if (!Number.isSafeInteger(value)) throw failure(`${key} is ${value}, not an integer`);
    if (value < least) throw failure(`${key} is ${value}, the least is ${least}`);
    return value;
  };
}

function toMask(value: JsonValue, key: string): bigint {
  if (typeof value !== "bigint") return BigInt(toInteger(1)(value, key));
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
function shorten(value: bigint): string {
  const digits = String(value);
  return digits.length > 24 ? `${digits.slice(0, 20)}… (${digits.length} digits)` : digits;
}

function failure(reason: string, options?: ErrorOptions): ProtocolError {
  return new ProtocolError(`Cannot decode VERSION: ${reason}`, options);
}
