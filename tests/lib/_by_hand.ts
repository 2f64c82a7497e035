/**
 * A device whose server is driven by hand, message by message, in this process.
 *
 * @module
 */

import { OwnedFd } from "../../ffi/fd.ts";
import { connect, type ConnectOptions } from "../../lib/client/connect.ts";
import type { Device } from "../../lib/client/device.ts";
import { Command } from "../../lib/wire/command.ts";
import { encodeMessage, type Header, MessageFlags } from "../../lib/wire/header.ts";
import { type Capabilities, encodeVersion } from "../../lib/wire/version.ts";
import { RawPeer } from "../_raw_peer.ts";
import { PATIENT } from "../_until.ts";

/** Both ends of a connection. `twin` is the server's end of the twin socket. */
export interface ByHand<T extends RawPeer | undefined = RawPeer | undefined> {
  readonly device: Device;
  readonly peer: RawPeer;
  readonly twin: T;
}

/** A device, and the server's end of its connection. Both are closed after the body. */
export async function withHand(
  body: (hand: ByHand) => void | Promise<void>,
  capabilities: Capabilities = { maxMsgFds: 8 },
  options: ConnectOptions = {},
): Promise<void> {
  const [peer, socket] = RawPeer.pair();
  const connecting = connect(socket.release(), { ...PATIENT, ...options });
  await peer.acceptVersion(capabilities);
  const device = await connecting;
  try {
    await body({ device, peer, twin: undefined });
  } finally {
    device.close();
    peer.close();
  }
}

/** The same with a twin socket. */
export async function withTwin(
  body: (hand: ByHand<RawPeer>) => void | Promise<void>,
  options: ConnectOptions = {},
): Promise<void> {
  const [peer, socket] = RawPeer.pair();
  const [twin, theirs] = RawPeer.pair();
  const theirEnd = new OwnedFd(theirs.release());
  const connecting = connect(socket.release(), { ...PATIENT, twinSocket: true, ...options });
  const request = await peer.expect(Command.VERSION);
  const capabilities = { maxMsgFds: 8, twinSocket: { supported: true, fdIndex: 0 } };
  peer.reply(request, encodeVersion({ major: 0, minor: 1, capabilities }), [theirEnd]);
  theirEnd.close();
  const device = await connecting;
  try {
    await body({ device, peer, twin });
  } finally {
    device.close();
    twin.close();
    peer.close();
  }
}

/**
 * A reply as bytes, to be sent ahead of a request that blocks this thread. The first request after
 * VERSION has id 2.
 */
export function replyTo(messageId: number, command: number, payload?: Uint8Array): Uint8Array {
  return encodeMessage({ messageId, command, flags: MessageFlags.REPLY }, payload);
}

/** Returns the kind of answer that a message is: "ok", the errno, or "command". */
export function outcome(
  { flags, error }: Pick<Header, "flags" | "error">,
): "ok" | "command" | number {
  if ((flags & MessageFlags.TYPE_MASK) !== MessageFlags.REPLY) return "command";
  return (flags & MessageFlags.ERROR) === 0 ? "ok" : error;
}

/** Lets the event loop turn. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
