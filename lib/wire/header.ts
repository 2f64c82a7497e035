/**
 * The header that every message starts with (specification: "Header").
 *
 * @module
 */

import { HEADER_SIZE } from "../base/limits.ts";
import { type Layout, layout, u16, u32 } from "./layout.ts";

export { HEADER_SIZE };

/** The first 16 bytes of every message. */
export interface Header {
  /** Chosen by the sender of a command, echoed in the reply. 16 bits. */
  messageId: number;
  /** A number of {@linkcode Command}, echoed in the reply. 16 bits. */
  command: number;
  /** Bytes of the message, this header included. 32 bits. */
  size: number;
  /** {@linkcode MessageFlags}; bits that are reserved are kept as they came. 32 bits. */
  flags: number;
  /** In an error reply Linux's error number, which may be 0. 32 bits. */
  error: number;
}

/**
 * The flags of a {@linkcode Header}. The lowest four bits are the type, the others are one bit
 * each.
 */
export const MessageFlags = {
  /** The bits that hold the type. */
  TYPE_MASK: 0xf,
  /** Type of a command. */
  COMMAND: 0,
  /** Type of a reply. */
  REPLY: 1,
  /** In a command: the sender wants no reply. */
  NO_REPLY: 0x10,
  /** In a reply: the command failed, `error` says why. */
  ERROR: 0x20,
} as const;

/**
 * The layout of a header. It judges nothing: any size, type and reserved bit is taken as it is.
 *
 * @example
 * ```ts
 * import { HeaderLayout } from "./header.ts";
 *
 * const bytes = new Uint8Array([7, 0, 13, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
 * const header = HeaderLayout.decode(bytes);
 * console.assert(header.messageId === 7 && header.command === 13 && header.size === 16);
 * ```
 */
export const HeaderLayout: Layout<Header> = layout("message header", HEADER_SIZE, {
  messageId: u16(0),
  command: u16(2),
  size: u32(4),
  flags: u32(8),
  error: u32(12),
});

/** The fields of a header that a command and its reply share. */
export type MessageKey = Pick<Header, "messageId" | "command">;

/**
 * The header of a command.
 *
 * @param payloadSize bytes that follow the header
 * @param noReply asks the receiver for no reply
 */
export function commandHeader(key: MessageKey, payloadSize: number, noReply = false): Header {
  return header(key, payloadSize, noReply ? MessageFlags.NO_REPLY : MessageFlags.COMMAND, 0);
}

/**
 * The header of the reply to a command.
 *
 * @param key of the command; its whole header will do
 * @param payloadSize bytes that follow the header
 */
export function replyHeader(key: MessageKey, payloadSize: number): Header {
  return header(key, payloadSize, MessageFlags.REPLY, 0);
}

/**
 * The header that is, alone, the error reply to a command.
 *
 * @param key of the command; its whole header will do
 * @param errno Linux's error number
 */
export function errorReplyHeader(key: MessageKey, errno: number): Header {
  return header(key, 0, MessageFlags.REPLY | MessageFlags.ERROR, errno);
}

function header(key: MessageKey, payloadSize: number, flags: number, error: number): Header {
  const { messageId, command } = key;
  return { messageId, command, size: HEADER_SIZE + payloadSize, flags, error };
}

/**
 * A whole message: header, then payload, in bytes of its own. The size is that of the parts.
 *
 * @param fields the header but for its size; flags and error are 0 if left out
 * @throws {RangeError} if a field does not fit
 *
 * @example
 * ```ts
 * import { Command } from "./command.ts";
 * import { encodeMessage } from "./header.ts";
 *
 * const reset = encodeMessage({ messageId: 7, command: Command.DEVICE_RESET });
 * console.assert(reset.length === 16 && reset[4] === 16);
 * ```
 */
export function encodeMessage(
  fields: MessageKey & Partial<Header>,
  payload: Uint8Array = new Uint8Array(),
): Uint8Array {
  const { messageId, command, flags = 0, error = 0 } = fields;
  const size = HEADER_SIZE + payload.length;
  const message = new Uint8Array(size);
  HeaderLayout.write({ messageId, command, size, flags, error }, message);
  message.set(payload, HEADER_SIZE);
  return message;
}
