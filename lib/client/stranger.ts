/**
 * Servers of other protocols: what they said in place of a VERSION reply.
 *
 * @module
 */

import { Command } from "../wire/command.ts";

/** Bytes of which something is shown. */
const MAX_SHOWN = 80;
/** The same where they are shown in hexadecimal. */
const MAX_HEX = 16;

/** A protocol that is known by its first bytes. */
interface KnownProtocol {
  readonly name: string;
  /** True if bytes begin as it does; `text` is the same bytes, a character each. */
  begins(text: string, bytes: Uint8Array): boolean;
}

const KNOWN: readonly KnownProtocol[] = [
  { name: "HTTP", begins: (text) => /^HTTP\/\d/.test(text) },
  { name: "HTTP/2", begins: (_, bytes) => bytes.length >= 9 && isSettingsFrame(bytes) },
  { name: "QMP, a monitor of QEMU", begins: (text) => /^\{\s*"QMP"/.test(text) },
  { name: "SSH", begins: (text) => text.startsWith("SSH-") },
  { name: "VNC", begins: (text) => text.startsWith("RFB ") },
  { name: "TLS", begins: (_, [type, major]) => type === 0x15 && major === 3 },
  { name: "D-Bus", begins: (text) => /^(REJECTED|ERROR)\b.*\r\n/.test(text) },
  { name: "vhost-user", begins: (_, bytes) => bytes.length >= 12 && isVhostUser(bytes) },
];

/**
 * Tells what a server said that is no vfio-user server.
 *
 * @param bytes what came in place of a VERSION reply, as far as it has come
 * @param messageId of the VERSION request
 * @returns one line of printable text, bounded; undefined if the bytes may begin a VERSION reply
 *
 * @example
 * ```ts
 * import { strangersWords } from "./stranger.ts";
 *
 * const said = strangersWords(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n"), 1);
 * if (said !== "HTTP/1.1 400 Bad Request (HTTP)") throw new Error(said);
 * ```
 */
export function strangersWords(bytes: Uint8Array, messageId: number): string | undefined {
  if (bytes.length === 0 || mayBeReply(bytes, messageId)) return undefined;
  const text = String.fromCharCode(...bytes.subarray(0, MAX_SHOWN));
  const protocol = KNOWN.find(({ begins }) => begins(text, bytes));
  const said = printableLine(text, bytes.length) ?? hexLine(bytes);
  return protocol === undefined ? said : `${said} (${protocol.name})`;
}

/** Tells whether bytes are those of a VERSION reply, as far as they go. */
function mayBeReply(bytes: Uint8Array, messageId: number): boolean {
  const head = [messageId & 0xff, messageId >> 8, Command.VERSION, 0];
  return head.every((byte, i) => i >= bytes.length || bytes[i] === byte);
}

/** The first line, if the bytes are text. */
function printableLine(text: string, length: number): string | undefined {
  if (!/^[\x20-\x7e\r\n\t]+$/.test(text)) return undefined;
  const lines = text.split(/[\r\n]+/).map((line) => line.replaceAll("\t", " ").trim());
  const line = lines.find((each) => each !== "");
  if (line === undefined) return undefined;
  const isCut = lines.length === 1 && length > MAX_SHOWN;
  return isCut ? `${line} …` : line;
}

function hexLine(bytes: Uint8Array): string {
  const shown = bytes.subarray(0, MAX_HEX);
  const text = Array.from(
    shown,
    (byte) => byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".",
  ).join("");
  const more = bytes.length > shown.length ? " …" : "";
  return `${(shown.toHex().match(/../g) ?? []).join(" ")}${more} |${text}|`;
}

/** A frame of type SETTINGS on stream 0: an HTTP/2 server begins with it. */
function isSettingsFrame(bytes: Uint8Array): boolean {
  return bytes[0] === 0 && bytes[3] === 4 && bytes.subarray(5, 9).every((byte) => byte === 0);
}

/** A request of a vhost-user front-end: 32 bits each of number, flags with version 1, and size. */
function isVhostUser(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const [request, flags, size] = [0, 4, 8].map((at) => view.getUint32(at, true)) as [
    number,
    number,
    number,
  ];
  return request > 0 && request < 64 && (flags & ~0xc) === 1 && size <= MAX_VHOST_USER;
}

/** Bytes of a vhost-user payload, of those that begin a connection. */
const MAX_VHOST_USER = 256;
