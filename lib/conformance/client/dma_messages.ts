/**
 * Checks of a client: memory that the device asks for by message (specification:
 * "VFIO_USER_DMA_READ", "VFIO_USER_DMA_WRITE").
 *
 * @module
 */

import { MAX_DATA_XFER_SIZE } from "../../base/limits.ts";
import { Command, commandName } from "../../wire/command.ts";
import { DmaMapFlags } from "../../wire/dma.ts";
import { MessageFlags } from "../../wire/header.ts";
import { type Act, ANY, type AskOptions, clientGroup, type Scene } from "../client_check.ts";
import type { ClientMap } from "../client_state.ts";
import { ConnectionEnded, Deviation, NotApplicable } from "../deviation.ts";
import { join, pack, u64At } from "../pack.ts";
import type { CameMessage } from "../raw_peer.ts";

const READ = "VFIO_USER_DMA_READ";
const WRITE = "VFIO_USER_DMA_WRITE";
const TWIN = "Twin sockets";
const { DMA_READ, DMA_WRITE, DMA_UNMAP, VERSION } = Command;
const { READ: READABLE, WRITE: WRITABLE } = DmaMapFlags;
/** Bytes of the requests and replies ahead of data. */
const HEAD = 16;
/** The way of a command over the twin socket, which has no part in what the client waits for. */
const OVER_TWIN = { viaTwin: true, isWaiting: true } as const;
/** Bytes that a check reads at once, at most: a client's limit may be any number. */
const MOST = MAX_DATA_XFER_SIZE;
const PATTERN = Uint8Array.from([0x76, 0x66, 0x75, 0x21]);

const readOf = (address: bigint, count: bigint | number) => pack("u64 u64", address, count);
const writeOf = (address: bigint, data: Uint8Array, count = data.length) =>
  join(pack("u64 u64", address, count), data);
const isError = ({ flags }: CameMessage) => (flags & MessageFlags.ERROR) !== 0;
const endOf = ({ address, size }: ClientMap) => address + size;

/** A map with these rights and so many bytes at least. */
function mapOf(t: Scene, flags: number = READABLE | WRITABLE, least = 4): ClientMap {
  if (t.maps.length === 0) throw new NotApplicable("the client maps no memory");
  // The one that was mapped first is the largest, if any is: RAM.
  const found = t.maps.find((map) => (map.flags & 3) === flags && map.size >= BigInt(least));
  if (found === undefined) throw new NotApplicable("the client has no map of that kind");
  return found;
}

/** Throws unless the reply has what it has to; memory that the client took back is none of it. */
function expectReply(
  t: Scene,
  map: ClientMap,
  reply: CameMessage,
  length: number,
  asked: Uint8Array,
) {
  const isSame = reply.payload.length === length &&
    asked.subarray(0, HEAD).every((byte, at) => byte === reply.payload[at]);
  if (!isError(reply) && isSame) return;
  if (isError(reply) && !t.maps.includes(map)) {
    throw new NotApplicable("the client unmaps the memory meanwhile");
  }
  if (isError(reply) && !t.isBusMaster()) {
    throw new NotApplicable("the client has not made the device a bus master, and refuses");
  }
  const name = commandName(reply.command);
  throw new Deviation(`a reply to ${name} with its address and count, ${length} bytes`, reply.text);
}

/** Reads memory, which must succeed; returns the bytes. */
async function reads(
  t: Scene,
  map: ClientMap,
  address: bigint,
  count: number,
  options?: AskOptions,
): Promise<Uint8Array> {
  const asked = readOf(address, count);
  const reply = await t.ask(DMA_READ, asked, options);
  expectReply(t, map, reply, HEAD + count, asked);
  return reply.payload.subarray(HEAD);
}

/** Writes memory, which must succeed. */
async function writes(
  t: Scene,
  map: ClientMap,
  address: bigint,
  data: Uint8Array,
  options?: AskOptions,
): Promise<void> {
  const asked = writeOf(address, data);
  expectReply(t, map, await t.ask(DMA_WRITE, asked, options), HEAD, asked);
}

/** Does something with bytes of the client, which are then as before. */
async function borrowing(
  t: Scene,
  map: ClientMap,
  address: bigint,
  count: number,
  use: (before: Uint8Array) => Promise<void>,
): Promise<void> {
  const before = (await reads(t, map, address, count)).slice();
  await use(before);
  await writes(t, map, address, before);
}

/** Expects an error reply. */
async function refused(
  t: Scene,
  command: number,
  payload: Uint8Array,
  options?: AskOptions,
): Promise<void> {
  const reply = await t.ask(command, payload, options);
  if (!isError(reply)) throw new Deviation(`an error reply to ${commandName(command)}`, reply.text);
  if (reply.error === 0) throw new Deviation("an error reply with an errno", reply.text);
}

/** Expects an error reply, or the end of the connection. */
async function refusedOrEnded(t: Scene, command: number, payload: Uint8Array): Promise<void> {
  try {
    await refused(t, command, payload);
  } catch (error) {
    if (!(error instanceof ConnectionEnded)) throw error;
  }
}

/** The first address behind a map that no other map has. */
function behind(t: Scene, map: ClientMap): bigint {
  let at = endOf(map);
  for (let next; (next = t.maps.find((each) => each.address === at)) !== undefined;) {
    at = endOf(next);
  }
  return at;
}

/** The first address of a row of maps without a gap. */
function startOf(t: Scene, map: ClientMap): bigint {
  let at = map.address;
  for (let next; (next = t.maps.find((each) => endOf(each) === at)) !== undefined;) {
    at = next.address;
  }
  return at;
}

/** Reads as much as a message may carry. */
async function readMost(_: unknown, t: Scene): Promise<void> {
  const map = mapOf(t);
  const limit = Math.min(t.limit, MOST);
  const count = map.size < BigInt(limit) ? Number(map.size) : limit;
  await reads(t, map, map.address, count);
}

/** Agrees on a twin socket, and uses it at the first occasion behind that. */
function viaTwin(use: (t: Scene) => Promise<void>): Act {
  return async (answer, t) => {
    if (t.request.command === VERSION) {
      t.offerTwin(answer);
      throw new NotApplicable("the client asks nothing behind VERSION");
    }
    if (!t.hasTwin()) throw new NotApplicable("the client does not propose a twin socket");
    await use(t);
  };
}

/** Memory that the device asks for. */
export const dmaMessages = clientGroup("dma_messages", "Memory by message", [
  [1, "MUST", READ, "The first bytes of a map are read.", "goes on", ANY, async (_, t) => {
    const map = mapOf(t);
    await reads(t, map, map.address, 4);
  }],
  [2, "MUST", READ, "The last byte of a map is read.", "goes on", ANY, async (_, t) => {
    const map = mapOf(t);
    await reads(t, map, endOf(map) - 1n, 1);
  }],
  [3, "MUST", READ, "A page is read.", "goes on", ANY, async (_, t) => {
    const map = mapOf(t, 3, 4096);
    await reads(t, map, map.address, 4096);
  }],
  [4, "MUST", READ, "As much is read as a message may carry.", "goes on", ANY, readMost],
  [
    5,
    "MUST",
    READ,
    "An odd number of bytes at an odd address is read.",
    "goes on",
    ANY,
    async (_, t) => {
      const map = mapOf(t, 3, 64);
      await reads(t, map, map.address + 3n, 61);
    },
  ],
  [
    6,
    "MUST",
    READ,
    "A read over the end of a map is refused.",
    "goes on",
    ANY,
    (_, t) => refused(t, DMA_READ, readOf(behind(t, mapOf(t)) - 2n, 4)),
  ],
  [
    7,
    "MUST",
    READ,
    "A read right behind a map is refused.",
    "goes on",
    ANY,
    (_, t) => refused(t, DMA_READ, readOf(behind(t, mapOf(t)), 1)),
  ],
  [8, "MUST", READ, "A read over the start of a map is refused.", "goes on", ANY, async (_, t) => {
    const start = startOf(t, mapOf(t));
    if (start < 2n) throw new NotApplicable("the map starts at address 0");
    await refused(t, DMA_READ, readOf(start - 2n, 4));
  }],
  [
    9,
    "MUST",
    READ,
    "A read of more than a message may carry is refused.",
    "goes on",
    ANY,
    async (_, t) => {
      const map = mapOf(t);
      if (map.size <= BigInt(t.limit)) throw new NotApplicable("no map is that large");
      await refused(t, DMA_READ, readOf(map.address, t.limit + 1));
    },
  ],
  [10, "SHOULD", READ, "A read of no byte is survived.", "goes on", ANY, async (_, t) => {
    await t.ask(DMA_READ, readOf(mapOf(t).address, 0));
  }],
  [
    11,
    "MUST",
    READ,
    "A read of memory that is write-only is refused.",
    "goes on",
    ANY,
    (_, t) => refused(t, DMA_READ, readOf(mapOf(t, WRITABLE).address, 4)),
  ],
  [
    12,
    "MUST",
    READ,
    "A read of memory that was unmapped is refused.",
    "goes on",
    DMA_UNMAP,
    async (_, t) => {
      const address = u64At(t.request.payload, 8);
      await t.answerNow();
      const isMapped = t.maps.some((map) => map.address <= address && address < endOf(map));
      if (isMapped) throw new NotApplicable("the client unmaps a part");
      // A client may meet the first together with the reply to its unmap.
      if (!isError(await t.ask(DMA_READ, readOf(address, 1)))) {
        await t.pause();
        await refused(t, DMA_READ, readOf(address, 1));
      }
    },
  ],
  [
    13,
    "MUST",
    READ,
    "A read request that is cut is refused.",
    "survives",
    ANY,
    (_, t) => refusedOrEnded(t, DMA_READ, pack("u64", mapOf(t).address)),
  ],
  [
    14,
    "MUST",
    READ,
    "A read request without a payload is refused.",
    "survives",
    ANY,
    async (_, t) => {
      mapOf(t);
      await refusedOrEnded(t, DMA_READ, new Uint8Array());
    },
  ],
  [15, "MUST", READ, "Many reads at once are each answered.", "goes on", ANY, async (_, t) => {
    const map = mapOf(t);
    await t.answerNow();
    const asked = readOf(map.address, 4);
    const ids: number[] = [];
    for (let i = 0; i < 50; i++) ids.push(await t.post(DMA_READ, asked));
    while (ids.length > 0) {
      const reply = await t.reply(DMA_READ, ids);
      expectReply(t, map, reply, HEAD + 4, asked);
      ids.splice(ids.indexOf(reply.messageId), 1);
    }
  }],
  [16, "SHOULD", READ, "A descriptor with a request is closed.", "goes on", ANY, async (_, t) => {
    const map = mapOf(t);
    await reads(t, map, map.address, 4, { fds: [t.stray()] });
  }],
  [
    17,
    "MUST",
    READ,
    "Memory is read while the client waits for a reply.",
    "goes on",
    ANY,
    async (_, t) => {
      const map = mapOf(t);
      await reads(t, map, map.address, 4, { isWaiting: true });
    },
  ],
  [
    18,
    "MUST",
    READ,
    "A request with the id of the client's own is answered.",
    "goes on",
    ANY,
    async (_, t) => {
      const map = mapOf(t);
      await reads(t, map, map.address, 4, { isWaiting: true, id: t.request.messageId });
    },
  ],
  [
    19,
    "MUST",
    READ,
    "A refusal while the client waits leaves its request alone.",
    "goes on",
    ANY,
    (_, t) => refused(t, DMA_READ, readOf(behind(t, mapOf(t)), 1), { isWaiting: true }),
  ],
  [
    20,
    "MUST",
    READ,
    "A request in one piece with a reply is answered.",
    "goes on",
    ANY,
    async (a, t) => {
      const map = mapOf(t);
      const payload = readOf(map.address, 4);
      const asked = { messageId: 0x7a7a, command: DMA_READ, flags: 0, error: 0, payload, fds: [] };
      if (a.fds.length > 0) throw new NotApplicable("the reply has descriptors");
      await t.sendBytes(join(t.encode(asked), t.encode(a)));
      expectReply(t, map, await t.reply(DMA_READ, [0x7a7a]), HEAD + 4, payload);
      return [];
    },
  ],
  [30, "MUST", WRITE, "A write is found by a read.", "goes on", ANY, async (_, t) => {
    const map = mapOf(t);
    await borrowing(t, map, map.address, 4, async () => {
      await writes(t, map, map.address, PATTERN);
      const found = await reads(t, map, map.address, 4);
      if (PATTERN.some((byte, i) => byte !== found[i])) {
        throw new Deviation("the bytes that were written", "others");
      }
    });
  }],
  [
    31,
    "MUST",
    WRITE,
    "A write and the shared file are one memory.",
    "goes on",
    ANY,
    async (_, t) => {
      const map = mapOf(t);
      if (map.fd === undefined) throw new NotApplicable("the client shares no file");
      await borrowing(t, map, map.address, 4, async () => {
        await writes(t, map, map.address, PATTERN);
        const found = new Uint8Array(4);
        map.fd!.readAt(found, map.offset);
        if (PATTERN.some((byte, i) => byte !== found[i])) {
          throw new Deviation("the bytes that were written, in the file", "others");
        }
      });
    },
  ],
  [32, "MUST", WRITE, "The last byte of a map is written.", "goes on", ANY, async (_, t) => {
    const map = mapOf(t);
    await borrowing(t, map, endOf(map) - 1n, 1, async () => {});
  }],
  [
    33,
    "MUST",
    WRITE,
    "A write over the end of a map is refused, and changes nothing.",
    "goes on",
    ANY,
    async (_, t) => {
      const map = mapOf(t);
      const end = behind(t, map);
      if (end !== endOf(map)) throw new NotApplicable("another map follows");
      const before = (await reads(t, map, end - 2n, 2)).slice();
      await refused(t, DMA_WRITE, writeOf(end - 2n, PATTERN));
      const after = await reads(t, map, end - 2n, 2);
      if (before.some((byte, i) => byte !== after[i])) {
        throw new Deviation("the bytes as before", "others");
      }
    },
  ],
  [
    34,
    "MUST",
    WRITE,
    "A write to memory that is read-only is refused.",
    "goes on",
    ANY,
    (_, t) => refused(t, DMA_WRITE, writeOf(mapOf(t, READABLE).address, PATTERN)),
  ],
  [
    35,
    "MUST",
    WRITE,
    "A write with fewer bytes than it counts is refused.",
    "survives",
    ANY,
    (_, t) => refusedOrEnded(t, DMA_WRITE, writeOf(mapOf(t, 3, 64).address, PATTERN, 64)),
  ],
  [
    36,
    "MUST",
    WRITE,
    "A write that counts 2^64 - 1 bytes is refused.",
    "survives",
    ANY,
    (_, t) =>
      refusedOrEnded(t, DMA_WRITE, join(readOf(mapOf(t).address, 0xffff_ffff_ffff_ffffn), PATTERN)),
  ],
  [
    37,
    "MUST",
    WRITE,
    "A write request that is cut is refused.",
    "survives",
    ANY,
    (_, t) => refusedOrEnded(t, DMA_WRITE, pack("u64", mapOf(t).address)),
  ],
  [
    38,
    "MUST",
    WRITE,
    "Memory is written while the client waits for a reply.",
    "goes on",
    ANY,
    async (_, t) => {
      const map = mapOf(t);
      const before = await reads(t, map, map.address, 4, { isWaiting: true });
      await writes(t, map, map.address, before.slice(), { isWaiting: true });
    },
  ],
  [
    50,
    "MUST",
    TWIN,
    "Over the twin socket memory is read.",
    "goes on",
    ANY,
    viaTwin(async (t) => {
      const map = mapOf(t);
      await reads(t, map, map.address, 4, OVER_TWIN);
    }),
  ],
  [
    51,
    "MUST",
    TWIN,
    "Over the twin socket memory is written.",
    "goes on",
    ANY,
    viaTwin(async (t) => {
      const map = mapOf(t);
      const before = await reads(t, map, map.address, 4, OVER_TWIN);
      await writes(t, map, map.address, before.slice(), OVER_TWIN);
    }),
  ],
  [
    52,
    "MUST",
    TWIN,
    "Over the twin socket memory that is not mapped is refused.",
    "goes on",
    ANY,
    viaTwin(
      (t) => refused(t, DMA_READ, readOf(behind(t, mapOf(t)), 1), OVER_TWIN),
    ),
  ],
]);
