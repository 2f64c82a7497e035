/** The devices of `examples/`, each served to a client of ours. */

import { assert, assertEquals } from "@std/assert";
import dmaEngine from "../../examples/dma_engine.ts";
import gpio from "../../examples/gpio.ts";
import timer from "../../examples/timer.ts";
import uart from "../../examples/uart.ts";
import { defineDevice, type Device, type DeviceDefinition, registers } from "../../mod.ts";
import { parseConfigSpace } from "../../lib/pci/mod.ts";
import { testFds } from "../_fds.ts";
import { serveDefined } from "../lib/define/_served.ts";
import { PATIENT } from "../_until.ts";

/** Saves the state of one device and restores it into another of the same kind. */
async function migrate(from: Device, to: Device): Promise<void> {
  await from.migration.save({ after: "STOP" }).pipeTo(to.migration.restore());
}

Deno.test("the devices of examples/ have less than 225 lines each, and their parts 300", () => {
  for (const name of ["gpio", "timer", "uart", "dma_engine", "nvme", "virtio_blk"]) {
    const text = Deno.readTextFileSync(new URL(`../../examples/${name}.ts`, import.meta.url));
    assert(text.split("\n").length <= 225, name);
  }
  for (const folder of ["nvme", "virtio"]) {
    const parts = new URL(`../../examples/${folder}/`, import.meta.url);
    for (const { name } of Deno.readDirSync(parts)) {
      assert(Deno.readTextFileSync(new URL(name, parts)).split("\n").length <= 300, name);
    }
  }
});

testFds("gpio.ts counts reads by threes, each with an interrupt held until the next", async () => {
  await using pair = await serveDefined(gpio.create());
  const { device } = pair;
  const space = parseConfigSpace(await device.readConfigSpace());
  assertEquals([space.vendorId, space.deviceId, space.classCode], [0x494f, 0x0dc8, 0xff]);
  const bar2 = device.region("bar2");
  assertEquals(bar2.size, 0x100);
  const intx = await device.irqs("intx");
  await intx.enable();
  const values: number[] = [];
  for (let i = 0; i < 8; i++) {
    values.push(await bar2.read8Async(0));
    if (i % 3 !== 2) continue;
    await intx.waitAsync(0, PATIENT);
    await intx.unmask(0); // the level is up: it fires again
    await intx.waitAsync(0, PATIENT);
  }
  await intx.unmask(0);
  assertEquals([values, intx.total(0)], [[0, 0, 0, 1, 1, 1, 2, 2], 4n]);
  assertEquals((await bar2.read32Async(4)) + (await bar2.read8Async(0xff)), 0);
  await using other = await serveDefined(gpio.create());
  await migrate(device, other.device);
  const rest = other.device.region("bar2");
  assertEquals([await rest.read8Async(0), await rest.read8Async(0)], [2, 3]);
  await other.device.reset();
  assertEquals(await rest.read8Async(0), 0);
});

const CTRL = 0;
const PERIOD = 4;
const COUNT = 8;
const STATUS = 12;

testFds("timer.ts counts periods, with an interrupt by MSI or on its pin", async () => {
  await using pair = await serveDefined(timer.create());
  const { device } = pair;
  const bar0 = device.region("bar0");
  const [msi, intx] = [await device.irqs("msi"), await device.irqs("intx")];
  assertEquals(await bar0.read32Async(PERIOD), 1000);
  await bar0.write32Async(PERIOD, 3);
  await msi.enable();
  await bar0.write32Async(CTRL, 3);
  for (let i = 0; i < 3; i++) await msi.waitAsync(0, PATIENT);
  await bar0.write32Async(CTRL, 0);
  assert(await bar0.read32Async(COUNT) >= 3);
  assertEquals(await bar0.read32Async(STATUS), 1);
  await msi.disable();
  await intx.enable();
  await bar0.write32Async(CTRL, 1); // once
  await intx.waitAsync(0, PATIENT);
  assertEquals(await bar0.read32Async(CTRL), 0);
  await intx.unmask(0);
  await intx.waitAsync(0, PATIENT); // the pin is up until STATUS is cleared
  await bar0.write32Async(STATUS, 1);
  await intx.unmask(0);
  assertEquals([await bar0.read32Async(STATUS), intx.total(0)], [0, 2n]);
});

testFds("timer.ts goes on elsewhere, and a reset ends it", async () => {
  await using pair = await serveDefined(timer.create());
  await using other = await serveDefined(timer.create());
  const [bar0, rest] = [pair.device.region("bar0"), other.device.region("bar0")];
  await bar0.write32Async(PERIOD, 20);
  await bar0.write32Async(CTRL, 3);
  const msi = await other.device.irqs("msi");
  await msi.enable();
  await migrate(pair.device, other.device);
  await msi.waitAsync(0, PATIENT);
  await msi.waitAsync(0, PATIENT);
  assert(await rest.read32Async(COUNT) >= 2);
  await other.device.reset();
  assertEquals([await rest.read32Async(CTRL), await rest.read32Async(COUNT)], [0, 0]);
});

/** Registers of a channel. */
const DMA = { LIST: 0, COUNT: 8, CTRL: 12, STATUS: 16, COPIED: 24 } as const;
const DONE = 2;
const ERROR = 4;

for (const share of ["memfd", "message"] as const) {
  testFds(`dma_engine.ts copies by a list of descriptors (memory by ${share})`, async () => {
    await using pair = await serveDefined(dmaEngine.create({ channels: 3 }));
    const { device } = pair;
    await device.pci.enable();
    const bar0 = device.region("bar0");
    const msix = await device.irqs("msix");
    await msix.enable();
    assertEquals(msix.count, 3);
    const map = await device.dma.mapAsync({ iova: 0x10_0000n, size: 4 << 20, share });
    const bytes = Uint8Array.from({ length: 1_500_000 }, (_, i) => (i * 31 + (i >> 9)) & 0xff);
    map.bytes.set(bytes, 0x1000);
    const list = new DataView(map.bytes.buffer, map.bytes.byteOffset, 64);
    const describe = (at: number, source: bigint, destination: bigint, length: number) => {
      list.setBigUint64(at, source, true);
      list.setBigUint64(at + 8, destination, true);
      list.setUint32(at + 16, length, true);
    };
    const far = 0x30_0000n;
    describe(0, 0x10_1000n, far, 1_400_000);
    describe(32, 0x10_1000n + 1_400_000n, far + 1_400_000n, 100_000);
    const channel = 2;
    const at = channel * 32;
    await bar0.write64Async(at + DMA.LIST, 0x10_0000n);
    await bar0.write32Async(at + DMA.COUNT, 2);
    await bar0.write32Async(at + DMA.CTRL, 1);
    await msix.waitAsync(channel, PATIENT);
    assertEquals(await bar0.read32Async(at + DMA.STATUS), DONE);
    assertEquals(await bar0.read64Async(at + DMA.COPIED), 1_500_000n);
    const start = Number(far - 0x10_0000n);
    assertEquals(map.bytes.slice(start, start + bytes.length), bytes);
    // A list that is not there: an error with its errno, EFAULT, and an interrupt all the same.
    await bar0.write64Async(DMA.LIST, 0x1n << 40n);
    await bar0.write32Async(DMA.COUNT, 1);
    await bar0.write32Async(DMA.CTRL, 1);
    await msix.waitAsync(0, PATIENT);
    assertEquals(await bar0.read32Async(DMA.STATUS), ERROR | 14 << 16);
    assertEquals(pair.errors, []);
  });
}

testFds("a list of descriptors keeps no other client waiting", async () => {
  await using pair = await serveDefined(dmaEngine.create({ channels: 32 }));
  await using other = await serveDefined(gpio.create());
  const { device } = pair;
  await device.pci.enable();
  const bar0 = device.region("bar0");
  const msix = await device.irqs("msix");
  await msix.enable();
  const size = 32 << 20;
  const map = await device.dma.mapAsync({ iova: 0n, size });
  const list = new DataView(map.bytes.buffer, map.bytes.byteOffset, 4096);
  const count = 64;
  for (let i = 0; i < count; i++) {
    list.setBigUint64(i * 32, 0x1000n, true);
    list.setBigUint64(i * 32 + 8, BigInt(size / 2), true);
    list.setUint32(i * 32 + 16, size / 2, true); // as much as is possible: 1 GiB in all
  }
  const channels = [0, 31];
  const ended = channels.map((channel) => msix.waitAsync(channel, PATIENT));
  let areDone = false;
  Promise.all(ended).then(() => areDone = true);
  for (const channel of channels) {
    await bar0.write64Async(channel * 32 + DMA.LIST, 0n);
    await bar0.write32Async(channel * 32 + DMA.COUNT, count);
    await bar0.write32Async(channel * 32 + DMA.CTRL, 1);
  }
  const total = BigInt(count * size / 2);
  const rest = other.device.region("bar2");
  let [before, longest] = [0n, 0n]; // bytes that were copied while a register was read
  while (!areDone) {
    await rest.read8Async(0);
    const copied = await bar0.read64Async(DMA.COPIED);
    if (copied - before > longest) longest = copied - before;
    before = copied;
  }
  assert(
    longest < total / 2n,
    `${longest} bytes of ${total} were copied while a register was read`,
  );
  for (const channel of channels) {
    assertEquals(await bar0.read32Async(channel * 32 + DMA.STATUS), DONE);
  }
});

testFds(
  "one access to the client's memory keeps no other client waiting, however long",
  async () => {
    const size = 128 << 20;
    let data: Uint8Array<ArrayBuffer> | undefined;
    const reader = defineDevice({
      name: "reader",
      pci: { vendor: 0x1234, device: 1 },
      create({ dma, run }) {
        const bar0 = registers({
          registers: [{ name: "GO", offset: 0, width: 4 }, { name: "DONE", offset: 4, width: 4 }],
        });
        bar0.on({
          GO: {
            write: () =>
              run(async () => {
                data = await dma.read(0n, size);
                await dma.write(0n, data);
                bar0.regs.DONE.value = 1;
              }),
          },
        });
        return { regions: { bar0 } };
      },
    });
    await using pair = await serveDefined(reader.create());
    const { device } = pair;
    await device.pci.enable();
    const map = await device.dma.mapAsync({ iova: 0n, size });
    map.bytes.fill(0x5a, size - 4096);
    const bar0 = device.region("bar0");
    await bar0.write32Async(0, 1);
    let reads = 0;
    while (await bar0.read32Async(4) === 0) reads++;
    assert(reads > 4, `${reads}`);
    assertEquals([data!.length, data![size - 4097], data![size - 1]], [size, 0, 0x5a]);
  },
);

testFds("each device of examples/ shows a configuration space without a mistake", async () => {
  for (const definition of [gpio, timer, uart, dmaEngine] as DeviceDefinition[]) {
    await using pair = await serveDefined(definition.create());
    const space = parseConfigSpace(await pair.device.readConfigSpace());
    assertEquals(space.notes, []);
    assertEquals(space.capabilities.flatMap((each) => each.notes), []);
  }
});
