/**
 * A proxy and the other end of its socket, driven by hand.
 *
 * @module
 */

import { VfioProxy } from "../../../lib/transport/proxy.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { PATIENT } from "../../_until.ts";

/** A client's proxy whose server is driven by hand. */
export function clientPair(
  options: Partial<ConstructorParameters<typeof VfioProxy>[1]> = {},
): [VfioProxy, RawPeer] {
  const [peer, socket] = RawPeer.pair();
  const proxy = new VfioProxy(socket, { role: "client", ...PATIENT, ...options });
  proxy.limits = { maxFds: 16, maxMessageSize: (1 << 20) + 4096 };
  proxy.peerMaxFds = 16;
  return [proxy, peer];
}

/** A few bytes. */
export function bytes(...values: number[]): Uint8Array {
  return new Uint8Array(values);
}

/** A reply as its sender writes it. */
export function replyTo(messageId: number, command: number, payload?: Uint8Array): Uint8Array {
  return encodeMessage({ messageId, command, flags: MessageFlags.REPLY }, payload);
}

/** Pieces of bytes in one. */
export function concat(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}
