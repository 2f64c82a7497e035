/** Cloud Hypervisor's client, as far as it is in the crate vfio_user, against `vfu serve`. */

import { assertEquals } from "@std/assert";
import { DemoRegister } from "../../lib/devices/demo.ts";
import { PciIrq } from "../../lib/wire/irq.ts";
import { PciRegion, RegionFlags } from "../../lib/wire/region.ts";
import { startServe } from "../_demo_process.ts";
import { peerProgram } from "./peers.ts";

/** The most that a run may take: the crate waits for ever for what does not come. */
const LIMIT_MS = 60_000;

const { BAR0, BAR2, CONFIG } = PciRegion;

/** Runs the client's steps on the server at `path`, and gives what each answered. */
async function runSteps(path: string, ...steps: string[]): Promise<unknown[]> {
  const { code, stdout, stderr } = await new Deno.Command(peerProgram("crate-client"), {
    args: [path, ...steps],
    signal: AbortSignal.timeout(LIMIT_MS),
  }).output();
  const decoder = new TextDecoder();
  assertEquals([code, decoder.decode(stderr)], [0, ""]);
  return decoder.decode(stdout).trimEnd().split("\n").map((line) => JSON.parse(line));
}

/** A step that writes 32 bits of BAR0. */
function write32(offset: number, value: number): string {
  const digits = value.toString(16).padStart(8, "0").match(/../g)!.reverse().join("");
  return `write:${BAR0}:${offset}:${digits}`;
}

Deno.test("the crate's client is told of the demo device's regions and interrupts", async () => {
  await using server = await startServe("demo");
  const [regions, irqs] = await runSteps(server.path, "info", "irqs:5") as [
    { size: number; flags: number; isShared: boolean; areas: number[][] }[],
    { count: number }[],
  ];
  assertEquals(regions.map(({ size }) => size), [4096, 0, 65536, 0, 4096, 0, 0, 4096, 0]);
  assertEquals(regions.map(({ isShared }) => isShared).indexOf(true), BAR2);
  assertEquals(regions[BAR2]!.areas, [[0x1000, 0x3000], [0x8000, 0x8000]]);
  assertEquals(regions[BAR0]!.flags, RegionFlags.READ | RegionFlags.WRITE);
  assertEquals(irqs.map(({ count }) => count), [1, 0, 4, 1, 1]);
});

Deno.test("the crate's client reads, writes, and shares memory with the demo device", async () => {
  await using server = await startServe("demo");
  const answers = await runSteps(
    server.path,
    `read:${CONFIG}:0:4`,
    `read:${BAR0}:${DemoRegister.ID}:4`,
    write32(DemoRegister.SCRATCH, 0x1234_5678),
    `read:${BAR0}:${DemoRegister.SCRATCH}:4`,
    `write:${BAR2}:0x1000:0102030405`,
    `mapped-read:${BAR2}:0x1000:5`,
    `mapped-write:${BAR2}:0x8000:a1a2`,
    `read:${BAR2}:0x8000:2`,
    "reset",
    `read:${BAR0}:${DemoRegister.SCRATCH}:4`,
  );
  assertEquals(
    answers,
    ["3412e50d", "76667564", null, "78563412", null, "0102030405", null, "a1a2", null, "00000000"],
  );
});

Deno.test("the crate's client gives memory to the demo device's copy engine, which interrupts it", async () => {
  await using server = await startServe("demo");
  const answers = await runSteps(
    server.path,
    `write:${CONFIG}:4:0600`, // COMMAND: memory and bus master
    "map:0x100000:0x1000",
    "map:0x200000:0x1000",
    "fill:0x100010:00112233445566778899aabbccddeeff",
    `enable:${PciIrq.MSIX}:0:4`,
    write32(DemoRegister.DMA_SRC_LO, 0x100010),
    write32(DemoRegister.DMA_DST_LO, 0x200020),
    write32(DemoRegister.DMA_LENGTH, 16),
    write32(DemoRegister.DMA_CONTROL, 3 << 8 | 1),
    `wait:${PciIrq.MSIX}:3`,
    `until:${BAR0}:${DemoRegister.DMA_STATUS}:01000000`,
    "peek:0x200020:16",
    write32(DemoRegister.TRIGGER, 1),
    `wait:${PciIrq.MSIX}:1`,
    `disable:${PciIrq.MSIX}`,
    "unmap:0x100000:0x1000",
    write32(DemoRegister.DMA_CONTROL, 1), // its source is gone
    `until:${BAR0}:${DemoRegister.DMA_STATUS}:02000000`,
    "reset",
    "unmap:0x200000:0x1000",
  );
  assertEquals(answers.filter((answer) => answer !== null), [
    1,
    "00112233445566778899aabbccddeeff",
    1,
  ]);
});
