/**
 * Checks of memory that the device copies: DMA_READ and DMA_WRITE, which the server sends, and
 * memory that is shared. A description says how the device is made to copy.
 *
 * @module
 */

import type { OwnedFd } from "../../../ffi/fd.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { hex } from "../../text/hex.ts";
import { plural } from "../../text/plural.ts";
import { Command } from "../../wire/command.ts";
import { Feature, FeatureFlags } from "../../wire/feature.ts";
import { encodeMessage, MessageFlags } from "../../wire/header.ts";
import { type CheckGroup, type CheckRow, group } from "../check.ts";
import { copy, type CopyEnd, firstAsked } from "../copy.ts";
import { DESTINATION, LEAST_COPIED, MOST_COPIED, SOURCE } from "../copying.ts";
import { pack, u64At } from "../pack.ts";
import type { CameMessage } from "../raw_peer.ts";
import { dmaMap, dmaUnmap, feature, OUR_CAPABILITIES, read, reset } from "../requests.ts";
import type { Trial } from "../trial.ts";

const READ = "VFIO_USER_DMA_READ";
const WRITE = "VFIO_USER_DMA_WRITE";
const MAP = "VFIO_USER_DMA_MAP";
const UNMAP = "VFIO_USER_DMA_UNMAP";
const END = "Socket Disconnection Behavior";
const TWIN = "VFIO_USER_VERSION";
const LOGGING = "VFIO_DEVICE_FEATURE_DMA_LOGGING";
const { GET, SET } = FeatureFlags;
const RISKY = { isDestructive: true, mayEnd: true } as const;

const SIZE = MOST_COPIED;
const PAGE = 0x1000n;
/** Bytes that tell where they are from. */
const COUNTED = Uint8Array.from({ length: 256 }, (_, i) => i);

/** The most bytes that the device copies at once, and no more than {@linkcode SIZE}. */
const most = (t: Trial): number => t.copying().most;

/** Has the device copy, and waits for the end. */
async function copied(
  t: Trial,
  length: number,
  { source = SOURCE, destination = DESTINATION } = {},
): Promise<CopyEnd> {
  t.atEnd(async () => void await t.ask(reset()));
  return await copy(t, t.copying(), { source, destination, length });
}

/** Ends the check as not applicable if the server asks for no memory: rule 1 is about that. */
function needAsking(t: Trial): void {
  t.need(t.copying().asks, "the server asks for no memory by message");
}

/** A file of zeros that the server has, where the device copies from or to. */
async function shared(t: Trial, address: bigint, fill = 0, flags = 3): Promise<OwnedFd> {
  const file = t.memory(SIZE);
  file.writeAt(new Uint8Array(SIZE).fill(fill), 0n);
  await t.accepts(dmaMap(address, BigInt(SIZE), { flags, fds: [file] }));
  return file;
}

function bytesOf(file: OwnedFd, offset = 0): Uint8Array {
  const bytes = new Uint8Array(SIZE);
  file.readAt(bytes, BigInt(offset));
  return bytes;
}

/** The first of so many bytes that is another; in words. */
function otherThan(bytes: Uint8Array, value: number, length: number): string | undefined {
  const at = bytes.findIndex((byte, i) => byte !== (i < length ? value : 0));
  return at < 0 ? undefined : `${hex(bytes[at]!, 2)} at byte ${at} of ${length}`;
}

/** Memory that the server asks for by message. */
async function byMessage(t: Trial, address: bigint, fill = 0, flags = 3): Promise<Uint8Array> {
  const bytes = new Uint8Array(SIZE).fill(fill);
  t.serve(address, bytes);
  await t.accepts(dmaMap(address, BigInt(SIZE), { flags }));
  return bytes;
}

/** Starts a copy from memory by message, and waits for the first request. */
async function firstRead(t: Trial, peer = t.peer): Promise<CameMessage> {
  needAsking(t);
  await t.accepts(dmaMap(SOURCE, BigInt(SIZE)));
  await byMessage(t, DESTINATION);
  t.atEnd(async () => void await t.ask(reset()));
  const about = { source: SOURCE, destination: DESTINATION, length: LEAST_COPIED };
  const message = await firstAsked(t, t.copying(), about, peer);
  t.expect(message.command === Command.DMA_READ, "a DMA_READ", message);
  return message;
}

/** Sends a reply to a request of the server that is not the right one. */
async function answerWith(
  t: Trial,
  { messageId, command }: CameMessage,
  payload: Uint8Array,
  id = messageId,
): Promise<void> {
  const flags = MessageFlags.REPLY;
  await t.peer.send(encodeMessage({ messageId: id, command, flags }, payload));
}

/** Reports whether bytes hold 64 of the counted ones, those from 100 on, at 200. */
function isPart(bytes: Uint8Array): boolean {
  return bytes.every((byte, i) => byte === (i >= 200 && i < 264 ? i - 100 : 0));
}

/** A copy within two maps, which begins in the middle of them. */
const PART = { source: SOURCE + 100n, destination: DESTINATION + 200n } as const;

const ROWS: readonly CheckRow[] = [
  [1, "MUST", READ, "Memory without a descriptor is read and written by message.", async (t) => {
    const length = most(t);
    await byMessage(t, SOURCE, 0xa7);
    const destination = await byMessage(t, DESTINATION);
    expectCopied(t, await copied(t, length), destination, 0xa7, length);
  }],
  [2, "MUST", READ, "Memory with a descriptor is read and written as well.", async (t) => {
    const length = most(t);
    await shared(t, SOURCE, 0x5d);
    const destination = await shared(t, DESTINATION);
    expectCopied(t, await copied(t, length), bytesOf(destination), 0x5d, length);
  }],
  [3, "MUST", READ, "The server asks within the maps that it was given.", async (t) => {
    needAsking(t);
    await byMessage(t, SOURCE);
    await byMessage(t, DESTINATION);
    await copied(t, Math.min(most(t), SIZE - 300), PART);
    t.need(t.asked.length > 0, "the server asks for nothing");
    for (const { address, count } of t.asked) {
      const isIn = [SOURCE, DESTINATION].some((at) =>
        address >= at && address + count <= at + BigInt(SIZE)
      );
      t.expect(isIn, "an address in a map", `${address}+${count}`);
    }
  }],
  [4, "MUST", READ, "No request is for more than the client's max_data_xfer_size.", async (t) => {
    needAsking(t);
    const length = most(t);
    t.need(length > 1024, "the device copies 1024 bytes at most at once");
    await t.negotiate(t.peer, { ...OUR_CAPABILITIES, max_data_xfer_size: 1024 });
    await byMessage(t, SOURCE, 0x11);
    const destination = await byMessage(t, DESTINATION);
    const end = await copied(t, length);
    const large = t.asked.find(({ count }) => count > 1024n);
    t.expect(large === undefined, "1024 bytes at most", `${large?.count} bytes`);
    expectCopied(t, end, destination, 0x11, length);
  }, { isRaw: true }],
  [5, "MUST", READ, "Memory that is not mapped is not asked for.", async (t) => {
    needAsking(t);
    const { text } = await copied(t, LEAST_COPIED);
    const came = `${plural(t.asked.length, "request")}; the copy: ${text}`;
    t.expect(t.asked.length === 0, "no request", came);
  }],
  [6, "MUST", READ, "Memory that the device may only write is not read.", async (t) => {
    needAsking(t);
    await byMessage(t, SOURCE, 1, 2);
    await byMessage(t, DESTINATION);
    await copied(t, LEAST_COPIED);
    const found = t.asked.some(({ command }) => command === Command.DMA_READ);
    t.expect(!found, "no DMA_READ", "a DMA_READ");
  }],
  [7, "MUST", WRITE, "Memory that the device may only read is not written.", async (t) => {
    needAsking(t);
    await byMessage(t, SOURCE, 1);
    await byMessage(t, DESTINATION, 0, 1);
    await copied(t, LEAST_COPIED);
    const found = t.asked.some(({ command }) => command === Command.DMA_WRITE);
    t.expect(!found, "no DMA_WRITE", "a DMA_WRITE");
  }],
  [8, "MUST", READ, "An error reply of the client fails the copy, and nothing else.", async (t) => {
    needAsking(t);
    await t.accepts(dmaMap(SOURCE, BigInt(SIZE))); // which no bytes are served for
    const destination = await byMessage(t, DESTINATION);
    const { isDone, text } = await copied(t, LEAST_COPIED);
    // A device without an error to show may end as if it had copied; it has nothing to write.
    const isSame = destination.every((byte) => byte === 0);
    t.expect(!isDone || isSame, "a copy that failed", `${text}, and other bytes`);
    await t.inStep();
  }],
  [9, "MUST", READ, "A request has 16 bytes, and is typed as a command.", async (t) => {
    const message = await firstRead(t);
    const isRight = message.payload.length === 16 && (message.flags & 0xf) === 0;
    t.expect(isRight, "16 bytes, type 0", message);
    await t.answer(message);
  }],
  [10, "MUST", READ, "Memory that was unmapped is not asked for.", async (t) => {
    needAsking(t);
    await byMessage(t, SOURCE);
    await byMessage(t, DESTINATION);
    await t.accepts(dmaUnmap(SOURCE, BigInt(SIZE)));
    await copied(t, LEAST_COPIED);
    const found = t.asked.some(({ address }) => address < DESTINATION);
    t.expect(!found, "no request for it", "a request for it");
  }],
  [11, "MUST", READ, "An unmap while the server waits for that memory is answered.", async (t) => {
    const message = await firstRead(t);
    const unmap = dmaUnmap(SOURCE, BigInt(SIZE));
    const id = await t.send(unmap);
    await t.answer(message); // with an error: no bytes are served there
    const reply = await t.reply(unmap, id);
    t.expect((reply.flags & MessageFlags.ERROR) === 0, "DMA_UNMAP to succeed", reply);
    await t.inStep();
  }],
  [
    12,
    "MUST",
    READ,
    "Other requests are answered while the server waits for memory.",
    async (t) => {
      const message = await firstRead(t);
      const ask = read(t.readable().index, 0, 4);
      const id = await t.send(ask);
      await t.answer(message);
      await t.reply(ask, id);
      await t.inStep();
    },
  ],
  [13, "MUST", READ, "A reply with fewer bytes than asked for stops no server.", async (t) => {
    const message = await firstRead(t);
    await answerWith(t, message, message.payload.slice(0, 16));
    await t.orEnded(async () => void await t.inStep());
  }, RISKY],
  [14, "MUST", READ, "A reply with more bytes than asked for stops no server.", async (t) => {
    const message = await firstRead(t);
    const payload = new Uint8Array(16 + 4096);
    payload.set(message.payload.subarray(0, 16));
    await answerWith(t, message, payload);
    await t.orEnded(async () => void await t.inStep());
  }, RISKY],
  [15, "MUST", READ, "A reply without a payload stops no server.", async (t) => {
    await answerWith(t, await firstRead(t), new Uint8Array());
    await t.orEnded(async () => void await t.inStep());
  }, RISKY],
  [16, "MUST", END, "A client that leaves while the server waits stops no server.", async (t) => {
    await firstRead(t);
    t.peer[Symbol.dispose]();
    await t.nextClient();
  }, RISKY],
  [
    17,
    "MUST",
    TWIN,
    "With a twin socket the server asks there, and not on the main one.",
    async (t) => {
      needAsking(t);
      const capabilities = { ...OUR_CAPABILITIES, twin_socket: { supported: true } };
      const reply = await t.negotiate(t.peer, capabilities);
      t.need(reply.fds.length > 0, "the server has no twin socket");
      const twin = t.adopt(UnixSocket.adopt(reply.fds[0]!.duplicate().release()));
      t.serve(SOURCE, new Uint8Array(SIZE));
      await t.answer(await firstRead(t, twin), twin);
      const next = await t.receive("a DMA_WRITE on the twin socket", twin);
      await t.answer(next, twin);
      await t.inStep();
    },
    { isRaw: true },
  ],
  [18, "MUST", READ, "Memory by message is read and written where it is named.", async (t) => {
    needAsking(t);
    const source = await byMessage(t, SOURCE);
    const destination = await byMessage(t, DESTINATION);
    source.set(COUNTED);
    const { isDone, text } = await copied(t, LEAST_COPIED, PART);
    t.expect(isDone && isPart(destination), "64 bytes of 100 at 200", `${text}, others`);
  }],
  [19, "MUST", READ, "Memory with a descriptor is read from its offset on.", async (t) => {
    const [source, destination] = [t.memory(2 * SIZE), t.memory(2 * SIZE)];
    source.writeAt(COUNTED, BigInt(SIZE));
    const offset = BigInt(SIZE);
    await t.accepts(dmaMap(SOURCE, BigInt(SIZE), { fds: [source], offset }));
    await t.accepts(dmaMap(DESTINATION, BigInt(SIZE), { fds: [destination], offset }));
    const { isDone, text } = await copied(t, LEAST_COPIED, PART);
    const isRight = isPart(bytesOf(destination, SIZE)) &&
      bytesOf(destination).every((byte) => byte === 0);
    t.expect(isDone && isRight, "64 bytes of 100 at 200", `${text}, others`);
  }],
  [20, "MUST", LOGGING, "Memory that the device has written is reported, once.", async (t) => {
    t.need(t.facts.logs, "the device does not log what it writes");
    await shared(t, SOURCE);
    await shared(t, DESTINATION);
    t.atEnd(async () => void await t.ask(feature(SET | Feature.DMA_LOGGING_STOP)));
    const range = pack("u64 u32 u32 u64 u64", PAGE, 1, 0, DESTINATION, SIZE);
    await t.accepts(feature(SET | Feature.DMA_LOGGING_START, range));
    await copied(t, LEAST_COPIED, { destination: DESTINATION + PAGE });
    const ask = feature(
      GET | Feature.DMA_LOGGING_REPORT,
      pack("u64 u64 u64", DESTINATION, SIZE, PAGE),
      4096,
    );
    for (const wanted of [2n, 0n]) {
      const { payload, text } = await t.accepts(ask);
      t.expect(u64At(payload, 32) === wanted, `the bits ${wanted}`, text);
    }
  }],
  [21, "MUST", UNMAP, "Shared memory that was unmapped is not written.", async (t) => {
    const source = await shared(t, SOURCE, 0x31);
    const destination = await shared(t, DESTINATION);
    expectCopied(t, await copied(t, LEAST_COPIED), bytesOf(destination), 0x31, LEAST_COPIED);
    await t.accepts(dmaUnmap(DESTINATION, BigInt(SIZE)));
    source.writeAt(new Uint8Array(SIZE).fill(0x32), 0n);
    await copied(t, LEAST_COPIED);
    const other = otherThan(bytesOf(destination), 0x31, LEAST_COPIED);
    t.expect(other === undefined, "the bytes of before the unmap", other ?? "");
  }, { isDestructive: true }],
  [22, "MUST", UNMAP, "Shared memory that was unmapped is not read.", async (t) => {
    const source = await shared(t, SOURCE, 0x31);
    const destination = await shared(t, DESTINATION);
    expectCopied(t, await copied(t, LEAST_COPIED), bytesOf(destination), 0x31, LEAST_COPIED);
    await t.accepts(dmaUnmap(SOURCE, BigInt(SIZE)));
    source.writeAt(new Uint8Array(SIZE).fill(0x32), 0n);
    await copied(t, LEAST_COPIED);
    const isRead = bytesOf(destination).includes(0x32);
    t.expect(!isRead, "no byte of after the unmap", "bytes of memory that was unmapped");
  }, { isDestructive: true }],
  [23, "MUST", MAP, "Shared memory that the device may only read is not written.", async (t) => {
    await shared(t, SOURCE, 0x31);
    const destination = await shared(t, DESTINATION, 0, 1);
    const { text } = await copied(t, LEAST_COPIED);
    const isSame = bytesOf(destination).every((byte) => byte === 0);
    t.expect(isSame, "the bytes of before", `other bytes; the copy: ${text}`);
  }, { isDestructive: true }],
  [24, "MUST", MAP, "Shared memory that the device may only write is not read.", async (t) => {
    await shared(t, SOURCE, 0x31, 2);
    const destination = await shared(t, DESTINATION);
    const { text } = await copied(t, LEAST_COPIED);
    const isRead = bytesOf(destination).includes(0x31);
    t.expect(!isRead, "no byte of it", `its bytes; the copy: ${text}`);
  }, { isDestructive: true }],
];

/** Expects a copy that is done, with so many bytes of a value, and nothing behind them. */
function expectCopied(
  t: Trial,
  { isDone, text }: CopyEnd,
  bytes: Uint8Array,
  value: number,
  length: number,
): void {
  t.expect(isDone, "a copy that is done", text);
  const other = otherThan(bytes, value, length);
  const expected = `${plural(length, "byte")} of ${hex(value, 2)}, and no more`;
  t.expect(other === undefined, expected, other ?? "");
}

/** The checks of requests of the server. */
export const dmaMessages: CheckGroup = group(
  "dma_messages",
  "Requests of the server for memory",
  ROWS.map(([number, level, section, rule, test, traits]): CheckRow => [
    ...[number, level, section, rule] as const,
    async (t) => {
      t.copying(); // not applicable without one
      await test(t);
    },
    { ...traits, needsCopy: true },
  ]),
);
