/**
 * The bytes of a recorded message as values.
 *
 * @module
 */

import { DecodeError } from "../base/errors.ts";
import { commandName } from "../wire/command.ts";
import { type Header, HEADER_SIZE, HeaderLayout, MessageFlags } from "../wire/header.ts";
import { type MessageCodecs, messageOf, type Messages } from "../wire/messages.ts";

/** The payload of a message that could be decoded; `name` and `side` tell the type of `value`. */
export type DecodedPayload = {
  [K in keyof Messages]: Messages[K] extends MessageCodecs<infer Q, infer P> ?
      | { readonly name: K; readonly side: "request"; readonly value: Q }
      | { readonly name: K; readonly side: "reply"; readonly value: P }
    : never;
}[keyof Messages];

/** The type of a message by its header; `other` is none that the specification has. */
export type MessageType = "request" | "reply" | "error" | "other";

/** A message as values. */
export interface DecodedMessage {
  /** Its header. */
  readonly header: Header;
  /** The name of its command, as "REGION_READ" or "command 99". */
  readonly name: string;
  /** Its type. */
  readonly type: MessageType;
  /** True for a request that wants no reply. */
  readonly noReply: boolean;
  /** Its payload, if that could be decoded. Data in it are views of the message. */
  readonly payload?: DecodedPayload;
  /** Why there is no payload, in words; undefined for an error reply. */
  readonly problem?: string;
}

/**
 * Decodes a message: as far as it goes, never throwing.
 *
 * @returns undefined if the bytes are fewer than a header has
 *
 * @example
 * ```ts
 * import { decodeMessage } from "./decode.ts";
 * import { encodeMessage, messages } from "../wire/mod.ts";
 *
 * const { command, request } = messages.REGION_READ;
 * const payload = request.encode({ offset: 0x1cn, region: 0, count: 4 });
 * const decoded = decodeMessage(encodeMessage({ messageId: 3, command }, payload));
 * if (decoded?.payload?.name !== "REGION_READ") throw new Error();
 * console.assert(decoded.payload.value.offset === 0x1cn);
 * ```
 */
export function decodeMessage(bytes: Uint8Array): DecodedMessage | undefined {
  if (bytes.length < HEADER_SIZE) return undefined;
  const header = HeaderLayout.decode(bytes);
  const type = typeOf(header);
  const head = {
    header,
    name: commandName(header.command),
    type,
    noReply: type === "request" && (header.flags & MessageFlags.NO_REPLY) !== 0,
  };
  if (type === "error") return head;
  if (type === "other") return { ...head, problem: "its type is unknown" };
  if (header.size !== bytes.length) {
    return { ...head, problem: `its size is ${header.size}, ${bytes.length} bytes came` };
  }
  const message = messageOf(header.command);
  if (message === undefined) return { ...head, problem: "its command is unknown" };
  try {
    const value = message[type].decode(bytes.subarray(HEADER_SIZE));
    return { ...head, payload: { name: message.name, side: type, value } as DecodedPayload };
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return { ...head, problem: error.reason };
  }
}

function typeOf({ flags }: Header): MessageType {
  const type = flags & MessageFlags.TYPE_MASK;
  if (type === MessageFlags.COMMAND) return "request";
  if (type !== MessageFlags.REPLY) return "other";
  return flags & MessageFlags.ERROR ? "error" : "reply";
}

/** An access to a region of the device, or to memory of the client. */
export interface Access {
  /** The space: a region, or memory. */
  readonly space: "region" | "memory";
  /** The direction of the access. */
  readonly action: "read" | "write";
  /** The region index; undefined for memory. */
  readonly region: number | undefined;
  /** Bytes from the start of the region, or the address in memory. */
  readonly offset: bigint;
  /** Bytes of the access. */
  readonly count: bigint;
  /** The bytes, if the message has them: a view. */
  readonly data?: Uint8Array;
}

/** The accesses that a payload is about: none, one, or those of a REGION_WRITE_MULTI. */
export function accessesOf(payload: DecodedPayload | undefined): readonly Access[] {
  switch (payload?.name) {
    case "REGION_READ":
      return [regionAccess("read", payload.value)];
    case "REGION_WRITE":
      return [regionAccess("write", payload.value)];
    case "REGION_WRITE_MULTI":
      return payload.side === "reply"
        ? []
        : payload.value.writes.map((each) => regionAccess("write", each));
    case "DMA_READ":
      return [memoryAccess("read", payload.value)];
    case "DMA_WRITE":
      return [memoryAccess("write", payload.value)];
    default:
      return [];
  }
}

type Amount = { readonly count: number | bigint } | { readonly data: Uint8Array };

function regionAccess(
  action: "read" | "write",
  value: { readonly region: number; readonly offset: bigint } & Amount,
): Access {
  return { space: "region", action, region: value.region, offset: value.offset, ...amount(value) };
}

function memoryAccess(
  action: "read" | "write",
  value: { readonly address: bigint } & Amount,
): Access {
  return { space: "memory", action, region: undefined, offset: value.address, ...amount(value) };
}

function amount(value: Amount): Pick<Access, "count" | "data"> {
  return "data" in value
    ? { count: BigInt(value.data.length), data: value.data }
    : { count: BigInt(value.count) };
}
