/** Recorders between real peers: QEMU's server with our client, a guest's VMM with our device. */

import { assert, assertEquals } from "@std/assert";
import type { RecordedEvent } from "../../lib/record/event.ts";
import { Command } from "../../lib/wire/command.ts";
import { HeaderLayout, MessageFlags } from "../../lib/wire/header.ts";
import { startServe } from "../_demo_process.ts";
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

guestTest("a guest uses nvme through a recorder that makes everything visible", async () => {
  await using served = await startServe("examples/nvme.ts", "--option", "size=64M");
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
});
