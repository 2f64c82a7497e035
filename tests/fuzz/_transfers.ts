/**
 * The other end: a client of ours whose program transfers its buffers while they are in use. That
 * one request fails, and nothing else suffers.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { connect } from "../../lib/client/connect.ts";
import { DemoRegister } from "../../lib/devices/demo.ts";
import type { Random } from "../../lib/base/random.ts";

const PATIENCE_MS = 60_000;
const IOVA = 0x10_0000;

/** Reads, writes and copies `count` times over one connection, while buffers are transferred. */
export async function transferBuffers(path: string, random: Random, count: number): Promise<void> {
  using device = await connect(path, { timeoutMs: PATIENCE_MS });
  for (const index of [0, 2, 7]) await device.regionInfo(index);
  await device.pci.enable();
  const [registers, memory] = [device.region("bar0"), device.region("bar2")];
  for (let i = 0; i < count; i++) {
    const bytes = new Uint8Array(1 + random.below(0x1_0000));
    const pending = random.oneIn(2)
      ? memory.readAsync(0, bytes.length, { into: bytes, via: "message" })
      : memory.writeAsync(0, bytes, { via: "message" });
    const outcome = pending.then(() => "done", (error: unknown) => error);
    if (random.oneIn(2)) await pause(random);
    transfer(bytes);
    const came = await outcome;
    assert(came === "done" || came instanceof Error, String(came));
    if (random.oneIn(8)) await copyAway(device, random);
    await registers.write32Async(DemoRegister.SCRATCH, i);
    assertEquals(await registers.read32Async(DemoRegister.SCRATCH), i);
    assertEquals(device.state, "CONNECTED");
  }
}

/** Has the device copy in memory that goes away meanwhile. */
async function copyAway(
  device: Awaited<ReturnType<typeof connect>>,
  random: Random,
): Promise<void> {
  const registers = device.region("bar0");
  const share = random.pick(["memfd", "message"] as const);
  const map = await device.dma.mapAsync({ iova: IOVA, size: 0x4000, share });
  await registers.write32Async(DemoRegister.DMA_SRC_LO, IOVA);
  await registers.write32Async(DemoRegister.DMA_DST_LO, IOVA + 0x2000);
  await registers.write32Async(DemoRegister.DMA_LENGTH, 0x1000);
  const started = registers.write32Async(DemoRegister.DMA_CONTROL, 1);
  if (random.oneIn(2)) await pause(random);
  transfer(map.bytes);
  await started;
  await device.dma.unmapAsync(map).catch(() => {}); // refused, perhaps: it is gone all the same
}

/** Gives a buffer away, if it can be. */
function transfer({ buffer }: Uint8Array): void {
  try {
    structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
  } catch { /* memory of a file can't be */ }
}

async function pause(random: Random): Promise<void> {
  if (random.oneIn(2)) await undefined;
  else await new Promise((resolve) => setTimeout(resolve, random.below(2)));
}
