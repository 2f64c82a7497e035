/** Recorders between real peers: QEMU's server with our client, a guest's VMM with our device. */

import { assert, assertEquals } from "@std/assert";
import { accessesOf, decodeMessage } from "../../lib/record/decode.ts";
import type { RecordedEvent } from "../../lib/record/event.ts";
import { Command } from "../../lib/wire/command.ts";
import { HeaderLayout, MessageFlags } from "../../lib/wire/header.ts";
import { startServe } from "../_demo_process.ts";
import { editExample } from "../_edited_sources.ts";
import { runHere } from "../cli/_cli.ts";
import { startRecord } from "../_record_process.ts";
import { vfuAt, vfuLine } from "./_vfu.ts";
import { bootGuest, guestTest } from "./guest.ts";
import { startQemu } from "./peers.ts";

/** Counts the requests of a command. */
function requests(events: readonly RecordedEvent[], command: number): number {
  return events.filter((event) => {
    if (event.kind !== "message") return false;
    const header = HeaderLayout.decode(event.bytes);
    return header.command === command && (header.flags & MessageFlags.TYPE_MASK) === 0;
  }).length;
}

function countOf(events: readonly RecordedEvent[], kind: RecordedEvent["kind"]): number {
  return events.filter((event) => event.kind === kind).length;
}

Deno.test("a session on QEMU's edu passes through a recorder, interrupts included", async () => {
  await using peer = await startQemu("edu");
  await using record = await startRecord("--connect", peer.socketPath, "--intercept", "mmap,irq");
  const session = new URL("../../examples/sessions/edu.yaml", import.meta.url).pathname;
  const { code, err } = await vfuLine("run", session, record.path);
  assertEquals([code, err], [0, ""]);
  const { code: recordCode, events } = await record.finish();
  assertEquals(recordCode, 0);
  assertEquals(countOf(events, "garbage"), 0);
  assert(requests(events, Command.REGION_READ) > 5);
  assert(countOf(events, "interrupt") > 0);
  const end = events.findLast((event) => event.kind === "end");
  assertEquals(end?.kind === "end" && [end.side, end.reason], ["client", "left"]);
});

const NVME_OPTIONS = ["--option", "size=64M", "--option", "serial=recorded"];
const SET_FEATURES = 9;
const NUMBER_OF_QUEUES = 7;

/** The events of `vfu replay --json` on a device. */
async function replayOn(device: string, file: string): Promise<Record<string, unknown>[]> {
  await using served = await startServe(device, ...NVME_OPTIONS);
  // Conditions end the waits; each difference of a device costs one.
  const options = ["--map", "nvme", "--json", "--timeout", "30s", "--differences", "1"];
  const { out, err } = await runHere(["replay", file, served.path, ...options]);
  assertEquals(err, "");
  return out.trimEnd().split("\n").map((line) => JSON.parse(line));
}

/** The event in which the controller says how many queues the driver may have. */
function answerToQueues(events: readonly RecordedEvent[]): number {
  let id = -1;
  for (const event of events) {
    if (event.kind !== "message") continue;
    const [access] = accessesOf(decodeMessage(event.bytes)?.payload);
    if (access?.space !== "memory" || access.data === undefined) continue;
    const words = new Uint32Array(access.data.slice().buffer, 0, access.data.length >> 2);
    const isCommand = access.action === "read" && words.length === 16;
    if (isCommand && (words[0]! & 0xff) === SET_FEATURES && words[10] === NUMBER_OF_QUEUES) {
      id = words[0]! >>> 16;
    }
    const isAnswer = access.action === "write" && words.length === 4;
    if (isAnswer && (words[3]! & 0xffff) === id && words[2]! >>> 16 === 0) return event.index;
  }
  throw new Error("No driver has asked for queues");
}

guestTest("a guest uses nvme through a recorder, and its recording is replayed", async () => {
  await using served = await startServe("examples/nvme.ts", ...NVME_OPTIONS);
  await using record = await startRecord("--connect", served.path, "--intercept", "all");
  {
    await using guest = await bootGuest({ devices: [{ socket: record.path }] });
    const sums = await guest.sh(
      `set -e
      mkfs.ext4 -q /dev/nvme0n1
      mount /dev/nvme0n1 /mnt
      dd if=/dev/urandom of=/mnt/file bs=1M count=4 2>/dev/null
      sha256sum /mnt/file
      umount /mnt
      mount /dev/nvme0n1 /mnt
      sha256sum /mnt/file`,
      { timeoutMs: 300_000 },
    );
    const [before, after] = sums.split("\n");
    assertEquals(after, before);
    // The device at the side, while the guest uses it.
    const { code, out } = await vfuAt(record.side, "read", "bar0+8.l");
    assertEquals([code, out], [0, "0x00010400\n"]);
    const refused = await vfuAt(record.side, "write", "bar0+0x14.l=0");
    assertEquals(refused.code, 1);
    assertEquals(guest.qemuSaid(), "");
  }
  const { code, events } = await record.finish();
  assertEquals(code, 0);
  assertEquals(countOf(events, "garbage"), 0);
  assert(requests(events, Command.DMA_READ) > 100, "DMA by message");
  assert(requests(events, Command.DMA_WRITE) > 100, "DMA by message");
  assert(requests(events, Command.REGION_WRITE) > 200, "registers by message");
  assert(countOf(events, "interrupt") > 100, "interrupts");
  const descriptors = events.flatMap((event) => event.kind === "message" ? event.descriptors : []);
  assert(descriptors.some(({ kind, fate }) => kind === "memfd" && fate === "withheld"));
  assert(descriptors.some(({ kind, fate }) => kind === "eventfd" && fate === "replaced"));
  assert(events.some((event) => event.kind === "message" && event.origin === "side"));

  const [result, ...none] = await replayOn("examples/nvme.ts", record.file);
  assertEquals([result?.event, result?.differences, none], ["result", 0, []]);
  assert(Number(result?.dma) > 200 && Number(result?.interrupts) > 100);
  // A controller that offers a queue more than it has.
  const count = "(this.queues - 1) * 0x1_0001";
  using edited = editExample("nvme", [["nvme/features.ts", count, `${count} + 1`]]);
  const [first] = await replayOn(edited.path, record.file);
  assertEquals([first?.event, first?.kind, first?.index], [
    "difference",
    "dma",
    answerToQueues(events),
  ]);
});
