/**
 * Checks of DMA_READ and DMA_WRITE, which the server sends. A device does so where a client knows
 * how to start its copy engine: {@linkcode ENGINES} lists those that are known.
 *
 * @module
 */

import { UnixSocket } from "../../../ffi/socket.ts";
import { Command } from "../../wire/command.ts";
import { Feature, FeatureFlags } from "../../wire/feature.ts";
import { encodeMessage, MessageFlags } from "../../wire/header.ts";
import { type CheckGroup, group } from "../check.ts";
import { pack, u32At, u64At } from "../pack.ts";
import type { CameMessage } from "../raw_peer.ts";
import { dmaMap, dmaUnmap, feature, OUR_CAPABILITIES, read, reset, write } from "../requests.ts";
import type { Trial } from "../trial.ts";

const READ = "VFIO_USER_DMA_READ";
const WRITE = "VFIO_USER_DMA_WRITE";
const END = "Socket Disconnection Behavior";
const TWIN = "VFIO_USER_VERSION";
const LOGGING = "VFIO_DEVICE_FEATURE_DMA_LOGGING";
const { GET, SET } = FeatureFlags;
const RISKY = { isDestructive: true, mayEnd: true } as const;

const SOURCE = 0x4100_0000n;
const TARGET = 0x4200_0000n;
const SIZE = 0x4000;
const PAGE = 0x1000n;
/** Bytes that tell where they are from. */
const COUNTED = Uint8Array.from({ length: 256 }, (_, i) => i);

/** A device that copies memory of the client. */
interface Engine {
  /** Vendor and device id. */
  readonly id: readonly [vendor: number, device: number];
  /** Starts to copy. */
  readonly start: (t: Trial, source: bigint, target: bigint, length: number) => Promise<void>;
  /** The state of the last copy. */
  readonly state: (t: Trial) => Promise<"busy" | "done" | "failed">;
}

const register = (at: number, value: bigint | number) => write(0, at, pack("u32", value));

/** The devices whose copy engine is known. */
const ENGINES: readonly Engine[] = [
  { // the demo device of vfu
    id: [0x1234, 0x0de5],
    async start(t, source, target, length) {
      await t.accepts(register(0x40, source & 0xffff_ffffn));
      await t.accepts(register(0x44, source >> 32n));
      await t.accepts(register(0x48, target & 0xffff_ffffn));
      await t.accepts(register(0x4c, target >> 32n));
      await t.accepts(register(0x50, length));
      await t.send({ ...register(0x60, 1), flags: MessageFlags.NO_REPLY });
    },
    async state(t) {
      const status = u32At((await t.accepts(read(0, 0x58, 4))).payload, 16);
      return status === 1 ? "done" : status === 2 ? "failed" : "busy";
    },
  },
];

/** Switches the device on, and finds its engine. */
async function engine(t: Trial): Promise<Engine> {
  const { index } = t.config();
  const ids = (await t.accepts(read(index, 0, 4))).payload;
  const [vendor, device] = [u32At(ids, 16) & 0xffff, u32At(ids, 16) >>> 16];
  const found = ENGINES.find(({ id }) => id[0] === vendor && id[1] === device);
  const known = t.needed(found, "how the device is made to copy is not known");
  t.atEnd(async () => void await t.ask(reset()));
  await t.accepts(write(index, 4, pack("u16", 6))); // memory and bus master
  return known;
}

/** Waits for the end of a copy; requests of the server are answered meanwhile. */
async function ended(t: Trial, { state }: Engine): Promise<"done" | "failed"> {
  let now: "busy" | "done" | "failed" = "busy";
  await t.until(async () => (now = await state(t)) !== "busy", "an end of the copy", () => now);
  return now as "done" | "failed";
}

/** Memory that the server asks for by message. */
async function byMessage(t: Trial, address: bigint, fill = 0, flags = 3): Promise<Uint8Array> {
  const bytes = new Uint8Array(SIZE).fill(fill);
  t.serve(address, bytes);
  await t.accepts(dmaMap(address, BigInt(SIZE), { flags }));
  return bytes;
}

/** Starts a copy from memory by message, and waits for the first request. */
async function firstAsked(t: Trial): Promise<CameMessage> {
  const known = await engine(t);
  await t.accepts(dmaMap(SOURCE, BigInt(SIZE)));
  await byMessage(t, TARGET);
  await known.start(t, SOURCE, TARGET, 64);
  const message = await t.receive("a DMA_READ");
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

/** The checks of requests of the server. */
export const dmaMessages: CheckGroup = group("dma_messages", "Requests of the server for memory", [
  [1, "MUST", READ, "Memory without a descriptor is read and written by message.", async (t) => {
    const known = await engine(t);
    await byMessage(t, SOURCE, 0xa7);
    const target = await byMessage(t, TARGET);
    await known.start(t, SOURCE, TARGET, SIZE);
    const end = await ended(t, known);
    t.expect(end === "done", "a copy that is done", end);
    t.expect(target.every((byte) => byte === 0xa7), "the bytes of the source", "others");
  }],
  [2, "MUST", READ, "Memory with a descriptor is read and written as well.", async (t) => {
    const known = await engine(t);
    const [source, target] = [t.memory(SIZE), t.memory(SIZE)];
    source.writeAt(new Uint8Array(SIZE).fill(0x5d), 0n);
    await t.accepts(dmaMap(SOURCE, BigInt(SIZE), { fds: [source] }));
    await t.accepts(dmaMap(TARGET, BigInt(SIZE), { fds: [target] }));
    await known.start(t, SOURCE, TARGET, SIZE);
    const end = await ended(t, known);
    const bytes = new Uint8Array(SIZE);
    target.readAt(bytes, 0n);
    t.expect(end === "done", "a copy that is done", end);
    t.expect(bytes.every((byte) => byte === 0x5d), "the bytes of the source", "others");
  }],
  [3, "MUST", READ, "The server asks within the maps that it was given.", async (t) => {
    const known = await engine(t);
    await byMessage(t, SOURCE);
    await byMessage(t, TARGET);
    await known.start(t, SOURCE + 100n, TARGET + 200n, SIZE - 300);
    await ended(t, known);
    t.need(t.asked.length > 0, "the server asks for nothing");
    for (const { address, count } of t.asked) {
      const isIn = [SOURCE, TARGET].some((at) =>
        address >= at && address + count <= at + BigInt(SIZE)
      );
      t.expect(isIn, "an address in a map", `${address}+${count}`);
    }
  }],
  [4, "MUST", READ, "No request is for more than the client's max_data_xfer_size.", async (t) => {
    await t.negotiate(t.peer, { ...OUR_CAPABILITIES, max_data_xfer_size: 1024 });
    const known = await engine(t);
    await byMessage(t, SOURCE, 0x11);
    const target = await byMessage(t, TARGET);
    await known.start(t, SOURCE, TARGET, SIZE);
    const end = await ended(t, known);
    const most = t.asked.find(({ count }) => count > 1024n);
    t.expect(most === undefined, "1024 bytes at most", `${most?.count} bytes`);
    t.expect(end === "done" && target.every((byte) => byte === 0x11), "all bytes", end);
  }, { isRaw: true }],
  [5, "MUST", READ, "Memory that is not mapped is not asked for.", async (t) => {
    const known = await engine(t);
    await known.start(t, SOURCE, TARGET, 64);
    const end = await ended(t, known);
    const came = `${end}, after ${t.asked.length} requests`;
    t.expect(end === "failed" && t.asked.length === 0, "a copy that failed, and no request", came);
  }],
  [6, "MUST", READ, "Memory that the device may only write is not read.", async (t) => {
    const known = await engine(t);
    await byMessage(t, SOURCE, 1, 2);
    await byMessage(t, TARGET);
    await known.start(t, SOURCE, TARGET, 64);
    await ended(t, known);
    const found = t.asked.some(({ command }) => command === Command.DMA_READ);
    t.expect(!found, "no DMA_READ", "a DMA_READ");
  }],
  [7, "MUST", WRITE, "Memory that the device may only read is not written.", async (t) => {
    const known = await engine(t);
    await byMessage(t, SOURCE, 1);
    await byMessage(t, TARGET, 0, 1);
    await known.start(t, SOURCE, TARGET, 64);
    await ended(t, known);
    const found = t.asked.some(({ command }) => command === Command.DMA_WRITE);
    t.expect(!found, "no DMA_WRITE", "a DMA_WRITE");
  }],
  [8, "MUST", READ, "An error reply of the client fails the copy, and nothing else.", async (t) => {
    const known = await engine(t);
    await t.accepts(dmaMap(SOURCE, BigInt(SIZE))); // which no bytes are served for
    await byMessage(t, TARGET);
    await known.start(t, SOURCE, TARGET, 64);
    const end = await ended(t, known);
    t.expect(end === "failed", "a copy that failed", end);
    await t.inStep();
  }],
  [9, "MUST", READ, "A request has 16 bytes, and is typed as a command.", async (t) => {
    const message = await firstAsked(t);
    const isRight = message.payload.length === 16 && (message.flags & 0xf) === 0;
    t.expect(isRight, "16 bytes, type 0", message);
    await t.answer(message);
  }],
  [10, "MUST", READ, "Memory that was unmapped is not asked for.", async (t) => {
    const known = await engine(t);
    await byMessage(t, SOURCE);
    await byMessage(t, TARGET);
    await t.accepts(dmaUnmap(SOURCE, BigInt(SIZE)));
    await known.start(t, SOURCE, TARGET, 64);
    await ended(t, known);
    const found = t.asked.some(({ address }) => address < TARGET);
    t.expect(!found, "no request for it", "a request for it");
  }],
  [11, "MUST", READ, "An unmap while the server waits for that memory is answered.", async (t) => {
    const message = await firstAsked(t);
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
      const message = await firstAsked(t);
      const ask = read(t.readable().index, 0, 4);
      const id = await t.send(ask);
      await t.answer(message);
      await t.reply(ask, id);
      await t.inStep();
    },
  ],
  [13, "MUST", READ, "A reply with fewer bytes than asked for stops no server.", async (t) => {
    const message = await firstAsked(t);
    await answerWith(t, message, message.payload.slice(0, 16));
    await t.orEnded(async () => void await t.inStep());
  }, RISKY],
  [14, "MUST", READ, "A reply with more bytes than asked for stops no server.", async (t) => {
    const message = await firstAsked(t);
    const payload = new Uint8Array(16 + 4096);
    payload.set(message.payload.subarray(0, 16));
    await answerWith(t, message, payload);
    await t.orEnded(async () => void await t.inStep());
  }, RISKY],
  [15, "MUST", READ, "A reply without a payload stops no server.", async (t) => {
    await answerWith(t, await firstAsked(t), new Uint8Array());
    await t.orEnded(async () => void await t.inStep());
  }, RISKY],
  [16, "MUST", END, "A client that leaves while the server waits stops no server.", async (t) => {
    await firstAsked(t);
    t.peer[Symbol.dispose]();
    await t.nextClient();
  }, RISKY],
  [
    17,
    "MUST",
    TWIN,
    "With a twin socket the server asks there, and not on the main one.",
    async (t) => {
      const capabilities = { ...OUR_CAPABILITIES, twin_socket: { supported: true } };
      const reply = await t.negotiate(t.peer, capabilities);
      t.need(reply.fds.length > 0, "the server has no twin socket");
      const twin = t.adopt(UnixSocket.adopt(reply.fds[0]!.duplicate().release()));
      const known = await engine(t);
      t.serve(SOURCE, new Uint8Array(SIZE));
      await t.accepts(dmaMap(SOURCE, BigInt(SIZE)));
      await byMessage(t, TARGET);
      await known.start(t, SOURCE, TARGET, 64);
      const message = await t.receive("a DMA_READ on the twin socket", twin);
      t.expect(message.command === Command.DMA_READ, "a DMA_READ on the twin socket", message);
      await t.answer(message, twin);
      const next = await t.receive("a DMA_WRITE on the twin socket", twin);
      await t.answer(next, twin);
      await t.inStep();
    },
    { isRaw: true },
  ],
  [18, "MUST", READ, "Memory by message is read and written where it is named.", async (t) => {
    const known = await engine(t);
    const source = await byMessage(t, SOURCE);
    const target = await byMessage(t, TARGET);
    source.set(COUNTED);
    await known.start(t, SOURCE + 100n, TARGET + 200n, 64);
    const end = await ended(t, known);
    t.expect(end === "done" && isPart(target), "64 bytes of 100 at 200", `${end}, others`);
  }],
  [19, "MUST", READ, "Memory with a descriptor is read from its offset on.", async (t) => {
    const known = await engine(t);
    const [source, target] = [t.memory(2 * SIZE), t.memory(2 * SIZE)];
    source.writeAt(COUNTED, BigInt(SIZE));
    const offset = BigInt(SIZE);
    await t.accepts(dmaMap(SOURCE, BigInt(SIZE), { fds: [source], offset }));
    await t.accepts(dmaMap(TARGET, BigInt(SIZE), { fds: [target], offset }));
    await known.start(t, SOURCE + 100n, TARGET + 200n, 64);
    const end = await ended(t, known);
    const bytes = new Uint8Array(SIZE);
    target.readAt(bytes, offset);
    t.expect(end === "done" && isPart(bytes), "64 bytes of 100 at 200", `${end}, others`);
  }],
  [20, "MUST", LOGGING, "Memory that the device has written is reported, once.", async (t) => {
    t.need(t.facts.logs, "the device does not log what it writes");
    const known = await engine(t);
    await t.accepts(dmaMap(SOURCE, BigInt(SIZE), { fds: [t.memory(SIZE)] }));
    await t.accepts(dmaMap(TARGET, BigInt(SIZE), { fds: [t.memory(SIZE)] }));
    t.atEnd(async () => void await t.ask(feature(SET | Feature.DMA_LOGGING_STOP)));
    const range = pack("u64 u32 u32 u64 u64", PAGE, 1, 0, TARGET, SIZE);
    await t.accepts(feature(SET | Feature.DMA_LOGGING_START, range));
    await known.start(t, SOURCE, TARGET + PAGE, 64);
    await ended(t, known);
    const ask = feature(
      GET | Feature.DMA_LOGGING_REPORT,
      pack("u64 u64 u64", TARGET, SIZE, PAGE),
      4096,
    );
    for (const wanted of [2n, 0n]) {
      const { payload, text } = await t.accepts(ask);
      t.expect(u64At(payload, 32) === wanted, `the bits ${wanted}`, text);
    }
  }],
]);
