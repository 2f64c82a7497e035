/** The devices of `examples/`, and a client that does anything. */

import { assertEquals } from "@std/assert";
import dmaEngine from "../../examples/dma_engine.ts";
import gpio from "../../examples/gpio.ts";
import nvme from "../../examples/nvme.ts";
import timer from "../../examples/timer.ts";
import uart from "../../examples/uart.ts";
import virtioBlk from "../../examples/virtio_blk.ts";
import { type DeviceDefinition, RemoteError } from "../../mod.ts";
import { testFds } from "../_fds.ts";
import { serveDefined } from "../lib/define/_served.ts";
import { generator } from "./_generator.ts";

const ACCESSES = 4000;

for (const definition of [gpio, timer, dmaEngine, nvme, uart, virtioBlk] as DeviceDefinition[]) {
  testFds(`${definition.name} outlives a client that does anything`, async () => {
    await using pair = await serveDefined(definition.create());
    const { device, errors } = pair;
    const random = generator(0x5eed + definition.name.length);
    const map = await device.dma.mapAsync({ iova: 0, size: 1 << 20 });
    for (let i = 0; i < map.bytes.length; i++) map.bytes[i] = random(4) === 0 ? random(256) : 0;
    for (const name of ["intx", "msi", "msix"] as const) {
      const irq = await device.irqs(name);
      if (irq.count > 0) await irq.enable();
    }
    const regions = Array.from({ length: 9 }, (_, index) => index)
      .filter((index) => device.region(index).size > 0);
    const answers = new Set<string>();
    const pending: Promise<unknown>[] = [];
    for (let i = 0; i < ACCESSES; i++) {
      const region = device.region(regions[random(regions.length)]!);
      const near = Math.min(region.size, random(4) === 0 ? region.size : 0x60);
      const offset = random(near);
      const length = Math.min(region.size - offset, 1 + random(16));
      const bytes = Uint8Array.from({ length }, () => random(3) === 0 ? random(256) : random(4));
      const access = random(2) === 0
        ? region.writeAsync(offset, bytes)
        : region.readAsync(offset, length);
      pending.push(access.catch((error) => {
        if (!(error instanceof RemoteError)) throw error;
        answers.add(error.code);
      }));
      if (pending.length === 32) await Promise.all(pending.splice(0));
      if (random(500) === 0) pending.push(device.reset());
    }
    await Promise.all(pending);
    // It refuses nothing, breaks nothing, and is the same as new after a reset.
    assertEquals([[...answers], errors], [[], []]);
    await device.reset();
    const config = await device.readConfigSpace();
    await using fresh = await serveDefined(definition.create());
    assertEquals(config, await fresh.device.readConfigSpace());
  });
}
