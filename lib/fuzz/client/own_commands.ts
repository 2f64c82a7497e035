/**
 * Messages that a server sends without being asked: accesses to memory, and odd ones.
 *
 * @module
 */

import type { Random } from "../../base/random.ts";
import type { ClientMap } from "../../conformance/client_state.ts";
import { join, pack } from "../../conformance/pack.ts";
import { Command } from "../../wire/command.ts";
import { encodeMessage, MessageFlags } from "../../wire/header.ts";

/** Ids of the device's own commands. */
const OWN_ID = 0x4000;
/** Bytes of a DMA_WRITE. */
const MAX_DATA = 4096;
const END = 2n ** 64n;

/** An address and a count. */
type Span = readonly [address: bigint, count: bigint];

/** Spans of memory, in a map or beside it. */
const SPANS: Readonly<Record<string, (map: Map, random: Random) => Span>> = {
  "inside a map": ({ address, size }, random) => {
    const count = BigInt(1 + random.below(MAX_DATA));
    const room = size > count ? size - count : 0n;
    return [address + BigInt(random.below(0xffff_ffff)) % (room + 1n), count];
  },
  "over the end of a map": ({ address, size }, random) => [
    address + size - BigInt(random.below(8)),
    BigInt(8 + random.below(MAX_DATA)),
  ],
  "before a map": ({ address }, random) => [address - BigInt(1 + random.below(8)), 16n],
  "outside": (_, random) => [BigInt(random.below(2 ** 32)) << 24n, BigInt(random.below(64))],
  "at the end of all": (_, random) => [END - BigInt(1 + random.below(16)), 16n],
  "nothing": ({ address }) => [address, 0n],
  "huge": ({ address }, random) => [address, END - BigInt(1 + random.below(0x2000))],
  "more than a message": ({ address }, random) => [
    address,
    (1n << 20n) + BigInt(random.below(2 ** 32)),
  ],
};

type Map = Pick<ClientMap, "address" | "size">;
const NO_MAP: Map = { address: 0n, size: 0x1000n };

/** A message, before it is altered. */
export interface OwnMessage {
  readonly command: number;
  readonly way: string;
  readonly bytes: Uint8Array;
}

/**
 * Makes a message of the server.
 *
 * @param pendingId the id of the request that the client waits for
 */
export function ownMessage(
  maps: readonly Map[],
  pendingId: number,
  random: Random,
): OwnMessage {
  const messageId = random.oneIn(4) ? pendingId : OWN_ID + random.below(OWN_ID);
  if (random.oneIn(6)) {
    const command = random.pick([0, 14, 19, 99, 0x7fff, 0xffff, ...Object.values(Command)]);
    const bytes = encodeMessage({ messageId, command }, new Uint8Array(random.below(64)));
    return { command, way: "of the server", bytes };
  }
  if (random.oneIn(8)) {
    const command = random.pick(Object.values(Command));
    const header = { messageId, command, flags: MessageFlags.REPLY };
    return {
      command,
      way: "reply to no request",
      bytes: encodeMessage(header, new Uint8Array(random.below(64))),
    };
  }
  const map = maps.length === 0 ? NO_MAP : random.pick(maps);
  const way = random.pick(Object.keys(SPANS));
  const [address, count] = SPANS[way]!(map, random);
  const span = pack("u64 u64", address, count);
  const isWrite = random.oneIn(2);
  const command = isWrite ? Command.DMA_WRITE : Command.DMA_READ;
  const data = !isWrite || count > BigInt(MAX_DATA) ? 0 : Number(count);
  const bytes = encodeMessage({ messageId, command }, join(span, new Uint8Array(data)));
  return { command, way, bytes };
}
