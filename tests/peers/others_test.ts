/**
 * DMA maps, interrupts and reset on other servers.
 * They are those of Cloud Hypervisor's crate and of libvfio-user's samples.
 */

import { assertEquals } from "@std/assert";
import { connect } from "../../lib/client/connect.ts";
import type { Device } from "../../lib/client/device.ts";
import { testFds } from "../_fds.ts";
import { type Peer, startGpio, startQemu, startSample } from "./peers.ts";

/** Does what each server bears: maps and unmaps memory, enables and disables INTx, resets. */
async function exercise(device: Device, hasTrigger: boolean): Promise<void> {
  const map = await device.dma.mapAsync({ iova: 0x100000, size: 0x10000 });
  const other = await device.dma.mapAsync({ iova: 0x200000, size: 0x1000 });
  await map.unmapAsync();
  assertEquals(device.dma.maps, [other]);
  const intx = await device.irqs("intx");
  await intx.enable();
  assertEquals(intx.enabled, [0]);
  if (hasTrigger) {
    await intx.trigger(0);
    assertEquals(await intx.waitAsync(0), { vector: 0, count: 1n });
  }
  await intx.disable();
  await device.reset({ timeoutMs: 60_000 });
  assertEquals((await device.info()).numIrqs, 5);
}

const PEERS: [name: string, start: () => Promise<Peer>, hasTrigger: boolean][] = [
  ["the crate's gpio", startGpio, false], // it ends at a trigger by its client
  ["libvfio-user's sample server", () => startSample("server"), true],
  ["libvfio-user's gpio", () => startSample("gpio-pci-idio-16"), true],
];
for (const [name, start, hasTrigger] of PEERS) {
  testFds(`${name} takes memory, interrupts and a reset`, async () => {
    await using peer = await start();
    using device = await connect(peer.socketPath);
    await exercise(device, hasTrigger);
  });
}

testFds("servers that know nothing of migration are told apart, and most go on", async () => {
  const qemu = () => startQemu("edu");
  for (const start of [...PEERS.map(([, start]) => start), qemu]) {
    await using peer = await start();
    using device = await connect(peer.socketPath);
    assertEquals(await device.migration.support(), undefined);
    // It does not read what follows the header, and is out of step
    if (start === startGpio) continue;
    assertEquals((await device.info()).numIrqs, 5);
  }
});

testFds(
  "areas that libvfio-user's sample server shares are mapped, each at its place",
  async () => {
    await using peer = await startSample("server");
    using device = await connect(peer.socketPath);
    await device.regionInfo(1);
    const bar1 = device.region("bar1");
    assertEquals(bar1.mappedAreas, [{ offset: 0, size: 0x1000 }, { offset: 0x2000, size: 0x1000 }]);
    for (const [at, value] of [[0x10, 0x1111_2222], [0x2010, 0x3333_4444]] as const) {
      await bar1.write32Async(at, value, { via: "message" });
      assertEquals(bar1.read32(at, { via: "map" }), value);
    }
    bar1.write32(0, 0x5555_6666, { via: "map" });
    assertEquals(await bar1.read32Async(0, { via: "message" }), 0x5555_6666);
  },
);
