/** `examples/nvme.ts`, by the steps that bring up QEMU's controller. */

import { assert, assertEquals } from "@std/assert";
import nvme from "../../examples/nvme.ts";
import { identify } from "../../examples/nvme_identify.ts";
import type { Device, DmaMap, IrqIndex, Region } from "../../mod.ts";
import { startServe } from "../_demo_process.ts";
import { testFds } from "../_fds.ts";
import { type Pair, serveDefined, until } from "../lib/define/_served.ts";

const MODULE = new URL("../../examples/nvme.ts", import.meta.url).pathname;
const BASE = 0x10_0000;
const ENTRIES = 32;
const [CC, CSTS, AQA, ASQ, ACQ] = [0x14, 0x1c, 0x24, 0x28, 0x30];
const CC_ENABLE = 0x0046_0001;

/** Words of a command that are not 0. */
interface Command {
  opcode: number;
  namespace?: number;
  prp1?: number;
  prp2?: number;
  cdw10?: number;
  cdw11?: number;
  cdw12?: number;
}

/** A driver: memory of 2 MiB, admin queues at its start, queues of I/O behind them. */
class Driver {
  readonly bar0: Region;
  readonly #tails = [0, 0];
  readonly #heads = [0, 0];
  readonly #phases = [1, 1];
  #id = 0;

  private constructor(readonly device: Device, readonly map: DmaMap, readonly msix: IrqIndex) {
    this.bar0 = device.region("bar0");
  }

  /** Steps 1 to 4, or to 3 if the controller is up already. */
  static async start(device: Device, isUp = false): Promise<Driver> {
    const map = await device.dma.mapAsync({ iova: BigInt(BASE), size: 2 << 20 });
    if (!isUp) await device.pci.enable();
    const msix = await device.irqs("msix");
    await msix.enable({ count: 2 });
    const driver = new Driver(device, map, msix);
    if (isUp) return driver;
    const { bar0 } = driver;
    for (const [i, word] of [0xfee0_0000, 0, 1, 0].entries()) {
      await bar0.write32Async(0x2010 + i * 4, word);
    }
    await device.region("config").write16Async(0x42, 0x8000);
    await bar0.write32Async(CC, 0);
    assertEquals(await bar0.read32Async(CSTS), 0);
    await bar0.write32Async(AQA, 0x001f_001f);
    await bar0.write64Async(ASQ, BigInt(BASE));
    await bar0.write64Async(ACQ, BigInt(BASE + 0x1000));
    await bar0.write32Async(CC, CC_ENABLE);
    assertEquals(await bar0.read32Async(CSTS), 1);
    return driver;
  }

  /** Step 6. */
  async createQueues(): Promise<void> {
    const size = (ENTRIES - 1) << 16 | 1;
    const features = await this.run(0, { opcode: 9, cdw10: 7, cdw11: 0xffff_ffff });
    assertEquals(features, { status: 0, result: 0x0003_0003 }); // four pairs
    const cq = { opcode: 5, prp1: BASE + 0x4000, cdw10: size, cdw11: 0x0001_0003 };
    assertEquals((await this.run(0, cq)).status, 0);
    const sq = { opcode: 1, prp1: BASE + 0x3000, cdw10: size, cdw11: 0x0001_0001 };
    assertEquals((await this.run(0, sq)).status, 0);
  }

  /** Submits a command, waits for its interrupt, and takes its completion. */
  async run(queue: 0 | 1, command: Command): Promise<{ status: number; result: number }> {
    await this.submit(queue, command);
    await this.msix.waitAsync(queue);
    return await this.take(queue);
  }

  async submit(queue: 0 | 1, command: Command): Promise<void> {
    const at = queue * 0x3000 + this.#tails[queue]! * 64;
    const entry = new DataView(this.map.bytes.buffer, this.map.bytes.byteOffset + at, 64);
    for (let i = 0; i < 64; i += 4) entry.setUint32(i, 0);
    entry.setUint32(0, command.opcode | ++this.#id << 16, true);
    entry.setUint32(4, command.namespace ?? 0, true);
    entry.setBigUint64(24, BigInt(command.prp1 ?? 0), true);
    entry.setBigUint64(32, BigInt(command.prp2 ?? 0), true);
    entry.setUint32(40, command.cdw10 ?? 0, true);
    entry.setUint32(44, command.cdw11 ?? 0, true);
    entry.setUint32(48, command.cdw12 ?? 0, true);
    this.#tails[queue] = (this.#tails[queue]! + 1) % ENTRIES;
    await this.bar0.write32Async(0x1000 + queue * 8, this.#tails[queue]!);
  }

  async take(queue: 0 | 1): Promise<{ status: number; result: number }> {
    const at = 0x1000 + queue * 0x3000 + this.#heads[queue]! * 16;
    const entry = new DataView(this.map.bytes.buffer, this.map.bytes.byteOffset + at, 16);
    const status = entry.getUint16(14, true);
    assertEquals([status & 1, entry.getUint16(10, true)], [this.#phases[queue]!, queue]);
    this.#heads[queue] = (this.#heads[queue]! + 1) % ENTRIES;
    if (this.#heads[queue] === 0) this.#phases[queue]! ^= 1;
    await this.bar0.write32Async(0x1004 + queue * 8, this.#heads[queue]!);
    return { status: status >> 1, result: entry.getUint32(0, true) };
  }

  /** Goes on where another driver is, whose memory this one gets. */
  continue(other: Driver): void {
    this.map.bytes.set(other.map.bytes);
    for (const queue of [0, 1]) {
      this.#tails[queue] = other.#tails[queue]!;
      this.#heads[queue] = other.#heads[queue]!;
      this.#phases[queue] = other.#phases[queue]!;
    }
  }
}

async function start(options: Parameters<typeof nvme.create>[0] = {}) {
  const pair: Pair = await serveDefined(nvme.create(options));
  return { ...pair, driver: await Driver.start(pair.device) };
}

for (const doorbells of ["mapped", "message"]) {
  testFds(`nvme_identify.ts runs on nvme.ts as it is (doorbells: ${doorbells})`, async () => {
    const options = ["--option", `doorbells=${doorbells}`, "--option", "serial=S123"];
    await using served = await startServe(MODULE, ...options);
    for (let i = 0; i < 2; i++) { // a client that comes later finds it as it was
      assertEquals(await identify(served.path), {
        vendorId: 0x1b36,
        serial: "S123",
        model: "vfu NVMe",
        firmware: "1.0",
        capabilities: 0x20_0f01_07ffn,
        version: 0x10400,
        interrupts: [4n, 3n],
        blockIsBack: true,
      });
    }
    assertEquals(/error/i.test(served.stderr()), false, served.stderr());
  });
}

testFds("nvme.ts takes each step of a driver", async () => {
  await using pair = await start({ size: 1 << 20 });
  const { driver, device } = pair;
  const { bar0, map, msix } = driver;
  assertEquals((await device.regionInfo(0)).capabilities.map(({ kind }) => kind), ["sparse_mmap"]);
  assertEquals((await driver.run(0, { opcode: 6, prp1: BASE + 0x2000, cdw10: 1 })).status, 0);
  const page = new DataView(map.bytes.buffer, map.bytes.byteOffset + 0x2000, 4096);
  assertEquals([page.getUint16(0, true), page.getUint32(516, true)], [0x1b36, 1]);
  await driver.run(0, { opcode: 6, namespace: 1, prp1: BASE + 0x2000, cdw10: 0 });
  assertEquals([page.getBigUint64(0, true), page.getUint8(130)], [2048n, 9]);
  await driver.createQueues();
  map.bytes.fill(0x77, 0x5000, 0x5200);
  const io = { namespace: 1, prp1: BASE + 0x5000, cdw10: 5 };
  assertEquals((await driver.run(1, { opcode: 1, ...io })).status, 0);
  assertEquals((await driver.run(1, { opcode: 0, namespace: 1 })).status, 0);
  assertEquals((await driver.run(1, { opcode: 2, ...io, prp1: BASE + 0x6000 })).status, 0);
  assertEquals(map.bytes.subarray(0x6000, 0x6200).every((byte) => byte === 0x77), true);
  assertEquals(msix.total(1), 3n);
  await bar0.write32Async(CC, 0x0046_4001);
  assertEquals(await bar0.read32Async(CSTS), 9);
  await bar0.write32Async(CC, 0);
  assertEquals(await bar0.read32Async(CSTS), 0);
  await map.unmapAsync();
});

testFds("nvme.ts moves data by two entries and by lists that go on in others", async () => {
  await using pair = await start();
  const { driver } = pair;
  const { map } = driver;
  await driver.createQueues();
  const [from, to] = [0x4_0200, 0x8_0000];
  const length = 20 * 4096;
  for (let i = 0; i < length; i++) map.bytes[from + i] = i * 13 + (i >> 8);
  const words = new DataView(map.bytes.buffer, map.bytes.byteOffset, map.bytes.length);
  /** A list whose first part ends with its page after `first` entries, and goes on at 0x2_0000. */
  const list = (data: number, first: number): number => {
    const at = 0x2_0000 - first * 8;
    const pages = Array.from(
      { length: 20 },
      (_, i) => BigInt(BASE + (data & ~0xfff) + (i + 1) * 4096),
    );
    const places = [...Array(first - 1).keys()].map((i) => at + i * 8);
    words.setBigUint64(0x2_0000 - 8, BigInt(BASE + 0x2_0000), true);
    for (let i = 0; i < 20; i++) {
      words.setBigUint64(places[i] ?? 0x2_0000 + (i - first + 1) * 8, pages[i]!, true);
    }
    return BASE + at;
  };
  const cdw12 = length / 512 - 1;
  const write = { opcode: 1, namespace: 1, prp1: BASE + from, prp2: list(from, 4), cdw12 };
  assertEquals((await driver.run(1, write)).status, 0);
  const read = { opcode: 2, namespace: 1, prp1: BASE + to, prp2: list(to, 7), cdw12 };
  assertEquals((await driver.run(1, read)).status, 0);
  assertEquals(map.bytes.slice(to, to + length), map.bytes.slice(from, from + length));
  const two = { opcode: 2, namespace: 1, prp1: BASE + 0xa_0e00, prp2: BASE + 0xb_0000, cdw12: 3 };
  assertEquals((await driver.run(1, two)).status, 0);
  assertEquals(map.bytes.slice(0xa_0e00, 0xa_1000), map.bytes.slice(from, from + 0x200));
  assertEquals(map.bytes.slice(0xb_0000, 0xb_0600), map.bytes.slice(from + 0x200, from + 0x800));
});

testFds("nvme.ts refuses what it can't do, each with its status, and goes on", async () => {
  await using pair = await start({ size: 1 << 20 });
  const { driver } = pair;
  await driver.createQueues();
  const admin: [Command, number][] = [
    [{ opcode: 0x7f }, 0x4001],
    [{ opcode: 6, prp1: BASE + 0x2000, cdw10: 0x55 }, 0x4002],
    [{ opcode: 6, prp1: 0x9000_0000, cdw10: 1 }, 0x4004], // nothing is mapped there
    [{ opcode: 5, prp1: BASE, cdw10: 0x001f_0001, cdw11: 3 }, 0x4101], // it is there
    [{ opcode: 5, prp1: BASE, cdw10: 0x001f_0005, cdw11: 3 }, 0x4101], // there are four
    [{ opcode: 5, prp1: BASE, cdw10: 0x0fff_0002, cdw11: 3 }, 0x4102],
    [{ opcode: 5, prp1: BASE, cdw10: 0x001f_0002, cdw11: 0x0005_0003 }, 0x4108],
    [{ opcode: 1, prp1: BASE, cdw10: 0x001f_0002, cdw11: 0x0003_0001 }, 0x4100],
    [{ opcode: 4, cdw10: 1 }, 0x410c],
    [{ opcode: 0, cdw10: 0 }, 0x4101],
    [{ opcode: 0, cdw10: 1 }, 0],
    [{ opcode: 4, cdw10: 1 }, 0],
  ];
  const io: [Command, number][] = [
    [{ opcode: 9, namespace: 1 }, 0x4001],
    [{ opcode: 2, namespace: 2, prp1: BASE }, 0x400b],
    [{ opcode: 2, namespace: 1, prp1: BASE, cdw10: 2048 }, 0x4080],
    [{ opcode: 2, namespace: 1, prp1: BASE, cdw11: 0xffff_ffff }, 0x4080],
    [{ opcode: 2, namespace: 1, prp1: BASE, cdw12: 0x1ff }, 0x4002],
    [{ opcode: 2, namespace: 1, prp1: BASE + 0x100, prp2: BASE + 1, cdw12: 7 }, 0x4013],
    [{ opcode: 2, namespace: 1, prp1: BASE, prp2: BASE + 0x5ffc, cdw12: 31 }, 0x4013], // a list
  ];
  for (const [command, status] of io) {
    assertEquals((await driver.run(1, command)).status, status, JSON.stringify(command));
  }
  for (const [command, status] of admin) {
    assertEquals((await driver.run(0, command)).status, status, JSON.stringify(command));
  }
  assertEquals(pair.errors, []);
});

testFds("nvme.ts says CSTS.CFS if its queues are nowhere, and is brought up again", async () => {
  await using pair = await start();
  const { driver, device } = pair;
  await driver.map.unmapAsync();
  await driver.bar0.write32Async(0x1000, 1);
  await driver.bar0.pollAsync(CSTS, 4, (status) => status === 3);
  await driver.bar0.write32Async(CC, 0);
  assertEquals(await driver.bar0.read32Async(CSTS), 0);
  const again = await Driver.start(device);
  assertEquals((await again.run(0, { opcode: 6, prp1: BASE + 0x2000, cdw10: 1 })).status, 0);
});

testFds("nvme.ts waits while a completion queue is full", async () => {
  await using pair = await start();
  const { driver } = pair;
  const isThere = (entry: number) => (driver.map.bytes[0x1000 + entry * 16 + 14]! & 1) === 1;
  for (let i = 0; i < ENTRIES - 1; i++) await driver.submit(0, { opcode: 0x7f });
  await until(() => isThere(ENTRIES - 2), "the completions");
  await driver.submit(0, { opcode: 0x7f });
  await new Promise((resolve) => setTimeout(resolve, 20));
  assertEquals(isThere(ENTRIES - 1), false);
  assertEquals((await driver.take(0)).status, 0x4001);
  await until(() => isThere(ENTRIES - 1), "the last");
  for (let i = 1; i < ENTRIES; i++) assertEquals((await driver.take(0)).status, 0x4001);
});

testFds("nvme.ts keeps its blocks in a file", async () => {
  const path = Deno.makeTempFileSync();
  try {
    Deno.truncateSync(path, 1 << 20);
    await using pair = await start({ disk: path });
    const { driver } = pair;
    await driver.createQueues();
    driver.map.bytes.fill(0x42, 0x5000, 0x5200);
    const io = { namespace: 1, prp1: BASE + 0x5000, cdw10: 2047 };
    assertEquals((await driver.run(1, { opcode: 1, ...io })).status, 0);
    assertEquals((await driver.run(1, { opcode: 0, namespace: 1 })).status, 0);
    assertEquals(Deno.readFileSync(path).slice(-512), new Uint8Array(512).fill(0x42));
  } finally {
    Deno.removeSync(path);
  }
});

testFds("nvme.ts goes on elsewhere between two commands", async () => {
  await using from = await start({ size: 1 << 20 });
  const { driver } = from;
  await driver.createQueues();
  driver.map.bytes.fill(0x42, 0x5000, 0x5200);
  const io = { namespace: 1, prp1: BASE + 0x5000, cdw10: 9 };
  assertEquals((await driver.run(1, { opcode: 1, ...io })).status, 0);
  await using to = await serveDefined(nvme.create({ size: 1 << 20 }));
  const saved = from.device.migration.save({ after: "STOP" });
  await saved.pipeTo(to.device.migration.restore());
  const next = await Driver.start(to.device, true);
  next.continue(driver);
  assertEquals((await next.run(1, { opcode: 2, ...io, prp1: BASE + 0x6000 })).status, 0);
  assertEquals(next.map.bytes.subarray(0x6000, 0x6200).every((byte) => byte === 0x42), true);
  assert(next.msix.total(1) === 1n);
});
