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

/** Bytes of whole numbers, the lowest first, as the client's steps take them. */
function hexOf(width: number, ...values: number[]): string {
  return values.map((value) =>
    value.toString(16).padStart(width * 2, "0").match(/../g)!.reverse().join("")
  ).join("");
}

const EXAMPLES = new URL("../../examples/", import.meta.url).pathname;

Deno.test("the crate's client reads gpio.ts, which interrupts it at each third time", async () => {
  await using server = await startServe(`${EXAMPLES}gpio.ts`);
  const answers = await runSteps(
    server.path,
    `read:${CONFIG}:0:4`,
    `enable:${PciIrq.INTX}:0:1`,
    ...new Array(4).fill(`read:${BAR2}:0:1`),
    `wait:${PciIrq.INTX}:0`,
    "reset",
    `read:${BAR2}:0:1`,
  );
  assertEquals(answers, ["4f49c80d", null, "00", "00", "00", "01", 1, null, "00"]);
});

for (const doorbells of ["mapped", "message"] as const) {
  Deno.test(`the crate's client brings up nvme.ts, its doorbells ${doorbells}, and asks what it is`, async () => {
    await using server = await startServe(
      `${EXAMPLES}nvme.ts`,
      ...["--option", `doorbells=${doorbells}`, "--option", "serial=deadbeef"],
    );
    const QUEUE = 0x100000;
    const write = (offset: number, width: number, value: number) =>
      `write:${BAR0}:${offset}:${hexOf(width, value)}`;
    const ring = (offset: number, value: number) =>
      doorbells === "message"
        ? write(offset, 4, value)
        : `mapped-write:${BAR0}:${offset}:${hexOf(4, value)}`;
    // Identify controller: opcode 6, PRP1, CNS 1.
    const identify = hexOf(4, 6, 0, 0, 0, 0, 0, QUEUE + 0x2000, 0, 0, 0, 1, 0, 0, 0, 0, 0);
    const answers = await runSteps(
      server.path,
      `map:${QUEUE}:0x10000`,
      `write:${CONFIG}:0x10:${hexOf(4, 0x8000_0000)}`,
      `write:${CONFIG}:0x14:${hexOf(4, 0)}`,
      `write:${CONFIG}:4:${hexOf(2, 6)}`,
      `enable:${PciIrq.MSIX}:0:2`,
      `write:${CONFIG}:0x42:${hexOf(2, 0x8000)}`,
      write(0x14, 4, 0), // CC
      write(0x24, 4, 0x001f_001f), // AQA
      write(0x28, 8, QUEUE), // ASQ
      write(0x30, 8, QUEUE + 0x1000), // ACQ
      write(0x14, 4, 0x0046_0001),
      `until:${BAR0}:0x1c:${hexOf(4, 1)}`, // CSTS.RDY
      `fill:${QUEUE}:${identify}`,
      ring(0x1000, 1),
      `wait:${PciIrq.MSIX}:0`,
      `peek:${QUEUE + 0x1000}:16`,
      `peek:${QUEUE + 0x2004}:20`,
      ring(0x1004, 1),
      "reset",
      `unmap:${QUEUE}:0x10000`,
    );
    const [count, completion, serial] = answers.filter((answer) => answer !== null);
    assertEquals(count, 1);
    assertEquals((completion as string).slice(28), "0100"); // phase 1, success
    const text = String.fromCharCode(
      ...(serial as string).match(/../g)!.map((byte) => parseInt(byte, 16)),
    );
    assertEquals(text, "deadbeef".padEnd(20));
  });
}
