/** Checks of error replies. @module */

import { Command } from "../../wire/command.ts";
import { HEADER_SIZE, MessageFlags } from "../../wire/header.ts";
import { type CheckGroup, type CheckRow, group } from "../check.ts";
import { pack } from "../pack.ts";
import {
  type Ask,
  deviceInfo,
  ioFds,
  irqInfo,
  read,
  regionInfo,
  setIrqs,
  write,
} from "../requests.ts";
import { dmaMap, dmaUnmap } from "../requests.ts";
import type { Facts } from "../facts.ts";

const SECTION = "Header";

/** Requests that no server can serve. */
const IMPOSSIBLE: readonly (readonly [name: string, ask: (facts: Facts) => Ask])[] = [
  ["REGION_INFO of an absent index", ({ numRegions }) => regionInfo(numRegions + 7)],
  ["IRQ_INFO of an absent index", ({ numIrqs }) => irqInfo(numIrqs + 7)],
  ["REGION_READ of an absent region", ({ numRegions }) => read(numRegions + 7, 0, 4)],
  [
    "REGION_WRITE of an absent region",
    ({ numRegions }) => write(numRegions + 7, 0, new Uint8Array(4)),
  ],
  ["SET_IRQS of an absent index", ({ numIrqs }) => setIrqs(numIrqs + 7, 0x21, 0, 0)],
  ["REGION_IO_FDS of an absent region", ({ numRegions }) => ioFds(numRegions + 7)],
  ["an unknown command", () => ({ command: 0x6666 })],
];

/** Payloads that end too early: the request is refused, and the stream stays in step. */
const SHORT: readonly (readonly [name: string, ask: Ask])[] = [
  ["DEVICE_GET_INFO", deviceInfo()],
  ["DEVICE_GET_REGION_INFO", regionInfo(0)],
  ["DEVICE_GET_IRQ_INFO", irqInfo(0)],
  ["DEVICE_SET_IRQS", setIrqs(0, 0x21, 0, 0)],
  ["REGION_READ", read(0, 0, 4)],
  ["REGION_WRITE", write(0, 0, new Uint8Array(0))],
  ["DMA_MAP", dmaMap(0x1000n, 0x1000n)],
  ["DMA_UNMAP", dmaUnmap(0x1000n, 0x1000n)],
];

/** The checks of error replies. */
export const errors: CheckGroup = group("errors", "Error replies", [
  ...IMPOSSIBLE.map(([name, ask], i): CheckRow => [
    1 + i,
    "MUST",
    SECTION,
    `The error reply to ${name} is the header alone.`,
    async (t) => {
      const reply = await t.refuses(ask(t.facts));
      t.expect(reply.size === HEADER_SIZE, "16 bytes", `${reply.size} bytes: ${reply.text}`);
      await t.inStep();
    },
  ]),
  ...IMPOSSIBLE.map(([name, ask], i): CheckRow => [
    11 + i,
    "SHOULD",
    SECTION,
    `The error reply to ${name} says why, by an error number.`,
    async (t) => {
      const reply = await t.refuses(ask(t.facts));
      t.expect(reply.error !== 0, "an error number that is not 0", reply);
    },
  ]),
  ...SHORT.map(([name, ask], i): CheckRow => [
    21 + i,
    "MUST",
    `VFIO_USER_${name}`,
    `A ${name} without its last 4 bytes is refused, and the stream stays in step.`,
    async (t) => {
      const payload = ask.payload!.subarray(0, -4);
      await t.refuses({ command: ask.command, payload });
      await t.inStep();
    },
  ]),
  ...SHORT.map(([name, ask], i): CheckRow => [
    31 + i,
    "MUST",
    `VFIO_USER_${name}`,
    `A ${name} without a payload is refused, and the stream stays in step.`,
    async (t) => {
      await t.refuses({ command: ask.command });
      await t.inStep();
    },
  ]),
  [41, "MUST", SECTION, "The type of an error reply is 1, and its error bit is set.", async (t) => {
    const { flags, text } = await t.refuses({ command: 0x6666 });
    const isRight = (flags & 0x2f) === (MessageFlags.REPLY | MessageFlags.ERROR);
    t.expect(isRight, "flags 0x21", text);
  }],
  [42, "SHOULD", SECTION, "The error number is one of Linux.", async (t) => {
    const reply = await t.refuses({ command: 0x6666 });
    t.expect(reply.error < 4096, "an error number below 4096", reply);
  }],
  [43, "MUST", SECTION, "A hundred errors leave the stream in step.", async (t) => {
    for (let i = 0; i < 100; i++) await t.refuses(read(t.facts.numRegions + 1 + i, 0, 4));
    await t.inStep();
  }],
  [44, "MUST", SECTION, "An error changes no request that is under way with it.", async (t) => {
    const good = [deviceInfo(), deviceInfo()];
    const first = await t.send(good[0]!);
    const bad = { command: Command.REGION_READ, payload: pack("u64 u32 u32", 0, 0xffff, 4) };
    const second = await t.send(bad);
    const third = await t.send(good[1]!);
    await t.reply(good[0]!, first);
    const refused = await t.reply(bad, second);
    t.expect((refused.flags & MessageFlags.ERROR) !== 0, "an error reply", refused);
    await t.reply(good[1]!, third);
  }],
]);
