/** `examples/nvme.ts`: its bring-up, its identity, and its commands. */

import { assert, assertEquals } from "@std/assert";
import nvme from "../../examples/nvme.ts";
import { identify } from "../../examples/nvme_identify.ts";
import { connect } from "../../mod.ts";
import { startServe } from "../_demo_process.ts";
import { testFds } from "../_fds.ts";
import { type Pair, serveDefined } from "../lib/define/_served.ts";
import { until } from "../_until.ts";
import { ACQ, AQA, ASQ, BASE, CC, CC_ENABLE, CSTS, DATA, NvmeDriver } from "./_nvme_driver.ts";

const MODULE = new URL("../../examples/nvme.ts", import.meta.url).pathname;

async function start(
  options: Parameters<typeof nvme.create>[0] = {},
  entries?: number,
  share?: "memfd" | "message",
) {
  const pair: Pair = await serveDefined(nvme.create({ size: 1 << 20, ...options }));
  return { ...pair, driver: await NvmeDriver.start(pair.device, entries, share) };
}

const ascii = (bytes: Uint8Array) => new TextDecoder().decode(bytes).replace(/[\0 ]+$/, "");

for (const doorbells of ["mapped", "message"]) {
  testFds(`nvme_identify.ts runs on nvme.ts as it is (doorbells: ${doorbells})`, async () => {
    const options = ["--option", `doorbells=${doorbells}`, "--option", "serial=S123"];
    await using served = await startServe(MODULE, ...options);
    for (let i = 0; i < 2; i++) { // a client that comes later finds it as it was
      assertEquals(await identify(served.path), {
        vendorId: 0x1234,
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

for (const doorbells of ["mapped", "message"] as const) {
  testFds(`nvme.ts takes each step of a driver (doorbells: ${doorbells})`, async () => {
    await using pair = await start({ doorbells });
    const { driver, device } = pair;
    const { bar0 } = driver;
    const capabilities = (await device.regionInfo(0)).capabilities.map(({ kind }) => kind);
    assertEquals(capabilities, doorbells === "mapped" ? ["sparse_mmap"] : []);
    const msix = await device.irqs("msix");
    await msix.enable({ count: 3 });
    const queues = await driver.pass(0, { opcode: 9, cdw10: 7, cdw11: 0x0005_0005 });
    assertEquals(queues, 0x0003_0003); // four pairs
    await driver.createQueues(2);
    driver.bytes(DATA, 512).fill(0x77);
    const io = { namespace: 1, prp1: DATA, cdw10: 5 };
    await driver.pass(2, { opcode: 1, ...io });
    await driver.pass(2, { opcode: 0, namespace: 1 });
    await driver.pass(2, { opcode: 2, ...io, prp1: DATA + 0x1000 });
    assert(driver.bytes(DATA + 0x1000, 512).every((byte) => byte === 0x77));
    assertEquals([msix.total(0) > 0n, msix.total(1), msix.total(2) > 0n], [true, 0n, true]);
    await bar0.write32Async(CC, CC_ENABLE | 0x4000);
    assertEquals(await bar0.read32Async(CSTS), 9);
    await bar0.write32Async(CC, 0);
    assertEquals(await bar0.read32Async(CSTS), 0);
    await driver.map.unmapAsync();
    assertEquals(pair.errors, []);
  });
}

testFds("nvme.ts serves a driver that polls: no interrupts, no messages", async () => {
  await using served = await startServe(MODULE);
  using device = await connect(served.path);
  for (const index of [0, 7]) await device.regionInfo(index);
  const driver = await NvmeDriver.attach(device);
  await device.region("config").write16Async(4, 0x0404); // bus master, as SPDK has it
  assertEquals(driver.bar0.mappedAreas, [{ offset: 0x1000, size: 0x1000 }]);
  await driver.enable();
  await driver.createQueues(1, 64);
  driver.bytes(DATA, 4096).fill(0x31);
  await driver.pass(1, { opcode: 1, namespace: 1, prp1: DATA, cdw12: 7 });
  for (let i = 0; i < 300; i++) {
    await driver.pass(1, { opcode: 2, namespace: 1, prp1: DATA + 0x1000, cdw12: 7 });
    if (i % 100 === 50) await new Promise((resolve) => setTimeout(resolve, 50)); // it is idle
  }
  assertEquals(driver.bytes(DATA + 0x1000, 4096), driver.bytes(DATA, 4096));
});

testFds("nvme.ts tells who it is, as NVMe 1.4 has it", async () => {
  await using pair = await start({ serial: "S1" });
  const { driver, device } = pair;
  const page = driver.view(DATA, 4096);
  const ask = async (cdw10: number, namespace: number) => {
    driver.bytes(DATA, 4096).fill(0xee);
    return (await driver.run(0, { opcode: 6, namespace, prp1: DATA, cdw10 })).status;
  };
  assertEquals(await ask(0, 1), 0);
  assertEquals([page.getBigUint64(0, true), page.getUint8(130)], [2048n, 9]);
  for (const namespace of [0, 2, 0xffff_fffe, 0xffff_ffff]) {
    assertEquals(await ask(0, namespace), 0x400b);
    assertEquals(await ask(3, namespace), 0x400b);
  }
  assertEquals(await device.region("config").read32Async(0), 0x4e56_1234);
  assertEquals(await ask(1, 0), 0);
  assertEquals([page.getUint16(0, true), page.getUint16(2, true)], [0x1234, 0x1234]);
  assertEquals([page.getUint32(80, true), page.getUint32(516, true)], [0x10400, 1]);
  const name = ascii(driver.bytes(DATA + 768, 256));
  assert(/^nqn\.2014-08\.org\.nvmexpress:uuid:[0-9a-f-]{36}$/.test(name), name);
  // The namespaces that are behind the one that is named.
  for (const [namespace, first] of [[0, 1], [1, 0], [7, 0]] as const) {
    assertEquals(await ask(2, namespace), 0);
    assertEquals([page.getUint32(0, true), page.getUint32(4, true)], [first, 0]);
  }
  for (const namespace of [0xffff_fffe, 0xffff_ffff]) {
    assertEquals(await ask(2, namespace), 0x400b);
  }
  assertEquals(await ask(3, 1), 0);
  assertEquals([page.getUint16(0), page.getUint8(4 + 6) >> 4], [0x0310, 8]); // a UUID of version 8
  assertEquals(driver.bytes(DATA + 20, 4076).every((byte) => byte === 0), true);
  for (const what of [4, 0x10, 0x55]) assertEquals(await ask(what, 0), 0x4002);
});

testFds(
  "two controllers of nvme.ts are two; a file has the same serial number each time",
  async () => {
    const path = Deno.makeTempFileSync();
    Deno.truncateSync(path, 1 << 20);
    const names = async (disk?: string) => {
      await using pair = await start(disk === undefined ? {} : { disk });
      await pair.driver.pass(0, { opcode: 6, prp1: DATA, cdw10: 1 });
      await pair.driver.pass(0, { opcode: 6, namespace: 1, prp1: DATA + 4096, cdw10: 3 });
      return [
        ascii(pair.driver.bytes(DATA + 4, 20)),
        ascii(pair.driver.bytes(DATA + 768, 256)),
        pair.driver.bytes(DATA + 4096, 20).join(),
      ];
    };
    try {
      const all = [await names(), await names(), await names(path)];
      for (let i = 0; i < 3; i++) assertEquals(new Set(all.map((each) => each[i])).size, 3);
      assertEquals(await names(path), all[2]);
    } finally {
      Deno.removeSync(path);
    }
  },
);

testFds("nvme.ts has the log pages of NVMe 1.4, in parts too", async () => {
  await using pair = await start();
  const { driver } = pair;
  const log = async (id: number, dwords: number, offset = 0, namespace = 0xffff_ffff) => {
    driver.bytes(DATA, 4096).fill(0xee);
    const cdw10 = ((dwords - 1) & 0xffff) << 16 | id;
    const cdw11 = (dwords - 1) >>> 16;
    return (await driver.run(0, {
      opcode: 2,
      namespace,
      prp1: DATA,
      cdw10,
      cdw11,
      cdw12: offset,
    })).status;
  };
  const page = driver.view(DATA, 4096);
  assertEquals(await log(1, 256), 0);
  assertEquals(page.getBigUint64(0, true), 0n);
  await driver.createQueues(1);
  await driver.pass(1, { opcode: 2, namespace: 1, prp1: DATA, cdw12: 7 });
  const failed = await driver.run(1, { opcode: 2, namespace: 1, prp1: DATA, cdw10: 0x9999 });
  assertEquals(failed.status, 0x4080);
  assertEquals(await log(1, 256), 0);
  assertEquals(page.getBigUint64(0, true), 1n);
  assertEquals([page.getUint16(8, true), page.getUint16(10, true)], [1, failed.id]);
  assertEquals([page.getUint16(12, true), page.getBigUint64(16, true)], [0x8100, 0x9999n]);
  for (const namespace of [0, 1, 0xffff_ffff]) assertEquals(await log(2, 128, 0, namespace), 0);
  assertEquals([page.getUint8(0), page.getUint16(1, true), page.getUint8(3)], [0, 300, 100]);
  assertEquals([page.getBigUint64(32, true), page.getBigUint64(64, true)], [1n, 1n]);
  assertEquals(page.getBigUint64(176, true), 1n);
  assertEquals(page.getUint8(512), 0xee);
  assertEquals(await log(3, 128), 0);
  assertEquals([page.getUint8(0), ascii(driver.bytes(DATA + 8, 8))], [1, "1.0"]);
  assertEquals(await log(5, 1024), 0);
  const effects = (opcode: number, io = 0) => page.getUint32(io * 1024 + opcode * 4, true);
  assertEquals([effects(6), effects(0x7f), effects(1, 1), effects(2, 1)], [1, 0, 3, 1]);
  assertEquals(await log(5, 1, 1024 + 4), 0); // a part: that of Write
  assertEquals([page.getUint32(0, true), page.getUint8(4)], [3, 0xee]);
  assertEquals(await log(3, 128, 508), 0); // no more than there is
  assertEquals(page.getUint8(4), 0xee);
  assertEquals(await log(3, 128, 512), 0x4002);
  assertEquals(await log(3, 128, 2), 0x4002);
  assertEquals(await log(3, 0x1_0000), 0x4002); // more than MDTS
  assertEquals(await log(2, 128, 0, 2), 0x400b);
  for (const id of [0, 4, 0x80]) assertEquals(await log(id, 128), 0x4109);
});

testFds("nvme.ts keeps features, and says which there are", async () => {
  await using pair = await start();
  const { driver } = pair;
  const get = (id: number, select = 0, cdw11 = 0, namespace = 0) =>
    driver.run(0, { opcode: 0xa, namespace, cdw10: select << 8 | id, cdw11 });
  const set = async (id: number, cdw11: number, namespace = 0, flags = 0) =>
    (await driver.run(0, { opcode: 9, namespace, cdw10: (flags | id) >>> 0, cdw11 })).status;
  const values: [id: number, initial: number, value: number, kept?: number][] = [
    [1, 0, 0x0102_0303],
    [4, 343, 320],
    [5, 0, 100],
    [6, 1, 0],
    [8, 0, 0x0a0b],
    [9, 2, 0x1_0002],
    [0xa, 0, 1],
    [0xb, 0, 0x1f],
  ];
  for (const [id, initial, value] of values) {
    const [cdw11, namespace] = [id === 9 ? 2 : 0, id === 5 ? 1 : 0];
    assertEquals((await get(id, 0, cdw11, namespace)).result, initial);
    assertEquals(await set(id, value, namespace), 0);
    assertEquals((await get(id, 0, cdw11, namespace)).result, value);
    for (const select of [1, 2]) { // by default, and saved
      assertEquals((await get(id, select, cdw11, namespace)).result, initial);
    }
    assertEquals((await get(id, 3, cdw11, namespace)).result, id === 5 ? 6 : 4);
    assertEquals((await get(id, 4, cdw11, namespace)).status, 0x4002);
    assertEquals(await set(id, value, namespace, 0x8000_0000), 0x410d); // it can't be saved
  }
  assertEquals((await get(7)).result, 0x0003_0003);
  assertEquals((await get(2)).status, 0);
  assertEquals((await get(9, 0, 1)).result, 1); // of another vector
  assertEquals((await get(4, 0, 0x10_0000)).result, 0); // the lower threshold
  const refused: [id: number, value: number, status: number, namespace?: number][] = [
    [2, 1, 0x4002],
    [4, 0x20_0000 | 300, 0x4002],
    [4, 0x01_0000 | 300, 0x4002],
    [5, 0x1_0000, 0x4002, 1],
    [7, 0xffff, 0x4002],
    [7, 0xffff_0000, 0x4002],
    [9, 5, 0x4002],
    [0xb, 0x100, 0x4002],
    [8, 1, 0x410f, 1],
    [8, 1, 0x400b, 2],
  ];
  for (const [id, value, status, namespace] of refused) {
    assertEquals([id, (await set(id, value, namespace)).toString(16)], [id, status.toString(16)]);
  }
  for (const id of [0, 3, 0xc, 0xd, 0xe, 0xf, 0x10, 0x16, 0x80, 0x81, 0xff]) {
    assertEquals([(await get(id)).status, await set(id, 0)], [0x4002, 0x4002]);
  }
  await driver.createQueues(1);
  assertEquals(await set(7, 0), 0x400c); // too late
  await driver.enable(); // a reset of the controller
  for (const [id, initial] of values) {
    assertEquals((await get(id, 0, id === 9 ? 2 : 0, id === 5 ? 1 : 0)).result, initial);
  }
});

testFds("nvme.ts answers requests for events when something happens, and aborts them", async () => {
  await using pair = await start();
  const { driver } = pair;
  const ids = Array.from({ length: 4 }, () => driver.put(0, { opcode: 0xc }));
  await driver.ring(0);
  assertEquals((await driver.run(0, { opcode: 0xc })).status, 0x4105); // AERL says four
  assertEquals(driver.pending(0), 4);
  const abort = (queue: number, id: number) =>
    driver.pass(0, { opcode: 8, cdw10: (id << 16 | queue) >>> 0 });
  assertEquals(await abort(0, ids[1]!), 0);
  assertEquals((await driver.wait(0, ids[1]!)).status, 0x0007);
  assertEquals(await abort(0, ids[1]!), 1); // it has ended
  assertEquals([await abort(0, 0x7777), await abort(1, 1), await abort(99, 1)], [1, 1, 1]);
  const event = async () => {
    let result: number | undefined;
    const look = () => result = driver.take((each) => ids.includes(each.id))?.result;
    await until(() => look() !== undefined, "an event");
    await driver.acknowledge();
    return result;
  };
  const threshold = (kelvin: number) => driver.pass(0, { opcode: 9, cdw10: 4, cdw11: kelvin });
  const readLog = (id: number, isRetaining = false) =>
    driver.pass(0, {
      opcode: 2,
      namespace: 0xffff_ffff,
      prp1: DATA,
      cdw10: 127 << 16 | Number(isRetaining) << 15 | id,
    });
  await threshold(290);
  await threshold(343);
  assertEquals(driver.pending(0), 3); // the driver did not ask for that
  await driver.pass(0, { opcode: 9, cdw10: 0xb, cdw11: 2 });
  await threshold(290);
  assertEquals(await event(), 0x2_0101);
  await readLog(2, true);
  assertEquals(driver.bytes(DATA, 1)[0], 2); // too warm
  await threshold(291); // the driver has not read of the first: no second
  assertEquals([driver.take(), driver.pending(0)], [undefined, 2]);
  await readLog(2);
  await threshold(292);
  assertEquals(await event(), 0x2_0101);
  await driver.ring(0, 9999);
  assertEquals(await event(), 0x1_0100);
  const id = driver.put(0, { opcode: 0xc });
  await driver.ring(0);
  await until(() => driver.room(0) > 0, "room");
  driver.put(0, { opcode: 6, prp1: DATA, cdw10: 1 }, id);
  await driver.ring(0);
  assertEquals((await driver.wait(0, id)).status, 0x4003); // the id is in use
});

for (const share of ["memfd", "message"] as const) {
  testFds(
    `nvme.ts moves data by two entries and by lists that go on in others (${share})`,
    async () => {
      await using pair = await start({}, 32, share);
      const { driver } = pair;
      await driver.createQueues(1);
      const [from, to, lists] = [DATA + 0x200, DATA + 0x4_0000, DATA + 0x10_0000];
      const length = 20 * 4096;
      const data = driver.bytes(from, length);
      for (let i = 0; i < length; i++) data[i] = i * 13 + (i >> 8);
      const words = driver.view(lists, 0x10_0000);
      /** A list whose first part ends with its page, after `first` entries, and goes on. */
      const list = (data: number, first: number, order: (page: number) => number): number => {
        const at = 0x1000 - first * 8;
        words.setBigUint64(0x1000 - 8, BigInt(lists + 0x1000), true);
        for (let i = 0; i < 20; i++) {
          const place = i < first - 1 ? at + i * 8 : 0x1000 + (i - first + 1) * 8;
          words.setBigUint64(place, BigInt((data & ~0xfff) + (order(i) + 1) * 4096), true);
        }
        return lists + at;
      };
      const io = { namespace: 1, cdw12: length / 512 - 1 };
      const inOrder = (page: number) => page;
      await driver.pass(1, { opcode: 1, ...io, prp1: from, prp2: list(from, 4, inOrder) });
      await driver.pass(1, { opcode: 2, ...io, prp1: to + 0x200, prp2: list(to, 7, inOrder) });
      assertEquals(driver.bytes(to + 0x200, length), data);
      // Pages in another order than they have in memory, and a list that begins with the pointer to
      // the next.
      const backwards = (page: number) => 19 - page;
      await driver.pass(1, { opcode: 2, ...io, prp1: to + 0x200, prp2: list(to, 1, backwards) });
      for (let page = 0; page < 19; page++) {
        const at = 0xe00 + page * 4096; // of the data, behind the first page
        const place = to + (backwards(page) + 1) * 4096;
        assertEquals(driver.bytes(place, 4096), data.subarray(at, at + 4096), `page ${page}`);
      }
      const [first, second] = [DATA + 0x8_0e00, DATA + 0x9_0000];
      await driver.pass(1, { opcode: 2, namespace: 1, prp1: first, prp2: second, cdw12: 3 });
      assertEquals(driver.bytes(first, 0x200), data.subarray(0, 0x200));
      assertEquals(driver.bytes(second, 0x600), data.subarray(0x200, 0x800));
      // Of two pages the second one is nowhere: the command fails, and the next one does not.
      const lost = await driver.run(1, { opcode: 2, namespace: 1, prp1: first, prp2: 0, cdw12: 3 });
      assertEquals(lost.status, 0x4004);
      await driver.pass(1, { opcode: 2, namespace: 1, prp1: first, prp2: second, cdw12: 3 });
      assertEquals(pair.errors, []);
    },
  );
}

testFds("nvme.ts makes blocks 0, by Write Zeroes and by Dataset Management", async () => {
  const path = Deno.makeTempFileSync();
  Deno.truncateSync(path, 1 << 20);
  try {
    for (const disk of [undefined, path]) {
      await using pair = await start(disk === undefined ? {} : { disk });
      const { driver } = pair;
      await driver.createQueues(1);
      driver.bytes(DATA, 0x8000).fill(0x55);
      const all = { namespace: 1, prp1: DATA, prp2: DATA + 0x1_0000, cdw12: 63 };
      const list = driver.view(DATA + 0x1_0000, 64);
      for (let i = 0; i < 7; i++) list.setBigUint64(i * 8, BigInt(DATA + (i + 1) * 4096), true);
      await driver.pass(1, { opcode: 1, ...all });
      await driver.pass(1, { opcode: 8, namespace: 1, cdw10: 3, cdw12: 1 | 1 << 25 });
      const ranges = driver.view(DATA + 0x2_0000, 48);
      for (const [i, [block, count]] of [[10, 2], [0, 0], [63, 1]].entries()) {
        ranges.setUint32(i * 16 + 4, count!, true);
        ranges.setBigUint64(i * 16 + 8, BigInt(block!), true);
      }
      const dsm = { opcode: 9, namespace: 1, prp1: DATA + 0x2_0000, cdw10: 2 };
      await driver.pass(1, { ...dsm, cdw11: 3 }); // hints change nothing
      await driver.pass(1, { opcode: 2, ...all });
      const zeros = () =>
        Array.from({ length: 64 }, (_, i) => i)
          .filter((i) => driver.bytes(DATA + i * 512, 512).every((byte) => byte === 0));
      assertEquals(zeros(), [3, 4]);
      await driver.pass(1, { ...dsm, cdw11: 4 });
      await driver.pass(1, { opcode: 2, ...all });
      assertEquals(zeros(), [3, 4, 10, 11, 63]);
      ranges.setBigUint64(40, 2048n, true);
      assertEquals((await driver.run(1, { ...dsm, cdw11: 4 })).status, 0x4080);
      await driver.pass(1, { opcode: 8, namespace: 1, cdw12: 2047 }); // all, more than MDTS
      await driver.pass(1, { opcode: 2, ...all });
      assertEquals(zeros().length, 64);
    }
  } finally {
    Deno.removeSync(path);
  }
});

testFds("nvme.ts waits while a completion queue is full", async () => {
  await using pair = await start({}, 8);
  const { driver } = pair;
  for (let i = 0; i < 7; i++) driver.put(0, { opcode: 0x7f });
  await driver.ring(0);
  const seen: number[] = [];
  const take = () => {
    const next = driver.take();
    if (next !== undefined) seen.push(next.id);
    return seen.length;
  };
  await until(() => take() === 7, "what there is room for");
  driver.put(0, { opcode: 0x7f });
  await driver.ring(0);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assertEquals([take(), driver.pending(0)], [7, 1]);
  await driver.acknowledge();
  await until(() => take() === 8, "the last");
});

testFds("nvme.ts serves queues in turns: a busy one starves no other", async () => {
  await using pair = await start();
  const { driver } = pair;
  await driver.createQueues(1, 64, [1, 2, 3]);
  const order: number[] = [];
  const collect = async (count: number) => {
    const look = () => {
      for (let each = driver.take(); each !== undefined; each = driver.take()) {
        order.push(each.queue);
      }
      return order.length >= count;
    };
    await until(look, "completions");
    await driver.acknowledge();
  };
  const fill = (queue: number, count: number) => {
    for (let i = 0; i < count; i++) driver.put(queue, { opcode: 0, namespace: 1 });
  };
  fill(1, 40);
  fill(2, 2);
  fill(3, 10);
  // All of them at once: the controller is in this thread, and the doorbells are mapped.
  const rung = [1, 2, 3].map((queue) => driver.ring(queue));
  await Promise.all(rung);
  await collect(52);
  assert(order.lastIndexOf(2) < 8, order.join(""));
  assert(order.lastIndexOf(3) < 32, order.join(""));
  // By the feature Arbitration, four in a row.
  order.length = 0;
  await driver.pass(0, { opcode: 9, cdw10: 1, cdw11: 2 });
  fill(1, 12);
  fill(2, 12);
  await Promise.all([1, 2].map((queue) => driver.ring(queue)));
  await collect(24);
  assert(/1111.*2222.*1111|2222.*1111.*2222/.test(order.join("")), order.join(""));
});

testFds("nvme.ts keeps its blocks in a file, and can be told to be sure of them", async () => {
  const path = Deno.makeTempFileSync();
  try {
    Deno.truncateSync(path, (1 << 20) + 100);
    await using pair = await start({ disk: path });
    const { driver } = pair;
    await driver.createQueues(1);
    driver.bytes(DATA, 512).fill(0x42);
    const io = { namespace: 1, prp1: DATA, cdw10: 2047 };
    await driver.pass(1, { opcode: 1, ...io });
    await driver.pass(1, { opcode: 0, namespace: 0xffff_ffff });
    const file = Deno.readFileSync(path);
    assertEquals([file.length, file.subarray(2047 * 512, 1 << 20)], [
      (1 << 20) + 100,
      new Uint8Array(512).fill(0x42),
    ]);
    await driver.pass(1, { opcode: 1, ...io, cdw12: 1 << 30 }); // FUA
    await driver.pass(0, { opcode: 9, cdw10: 6, cdw11: 0 }); // no cache
    await driver.pass(1, { opcode: 1, ...io });
    assertEquals((await driver.run(1, { opcode: 1, ...io, cdw10: 2048 })).status, 0x4080);
    Deno.truncateSync(path, 1000); // by another process
    assertEquals((await driver.run(1, { opcode: 2, ...io })).status, 0x0281);
  } finally {
    Deno.removeSync(path);
  }
});

testFds("nvme.ts goes on elsewhere between two commands", async () => {
  await using from = await start({ serial: "here" });
  const { driver } = from;
  await driver.createQueues(1);
  const event = driver.put(0, { opcode: 0xc });
  await driver.ring(0);
  await driver.pass(0, { opcode: 9, cdw10: 0xb, cdw11: 2 });
  driver.bytes(DATA, 512).fill(0x42);
  const io = { namespace: 1, prp1: DATA, cdw10: 9 };
  await driver.pass(1, { opcode: 1, ...io });
  await using to = await serveDefined(nvme.create({ size: 1 << 20, serial: "there" }));
  const saved = from.device.migration.save({ after: "STOP" });
  await saved.pipeTo(to.device.migration.restore());
  const next = await NvmeDriver.attach(to.device);
  next.continue(driver);
  await next.pass(1, { opcode: 2, ...io, prp1: DATA + 4096 });
  assert(next.bytes(DATA + 4096, 512).every((byte) => byte === 0x42));
  await next.pass(0, { opcode: 6, prp1: DATA, cdw10: 1 });
  assertEquals(ascii(next.bytes(DATA + 4, 20)), "here"); // it is the same controller
  await next.pass(0, { opcode: 9, cdw10: 4, cdw11: 290 });
  assertEquals((await next.wait(0, event)).result, 0x2_0101); // the request went along
  await to.device.reset();
  assertEquals(await next.bar0.read32Async(CSTS), 0);
  await next.enable();
});

testFds("nvme.ts says CSTS.CFS if its queues are nowhere, and is brought up again", async () => {
  await using pair = await start();
  const { driver, device } = pair;
  await driver.map.unmapAsync();
  await driver.bar0.write32Async(0x1000, 1);
  await driver.bar0.pollAsync(CSTS, 4, (status) => status === 3);
  await driver.bar0.write32Async(CC, CC_ENABLE); // not without being disabled
  assertEquals(await driver.bar0.read32Async(CSTS), 3);
  const again = await NvmeDriver.start(device);
  await again.pass(0, { opcode: 6, prp1: DATA, cdw10: 1 });
});

testFds("nvme.ts refuses to be enabled with what CAP does not have: CSTS.CFS", async () => {
  await using pair = await serveDefined(nvme.create({ size: 1 << 20 }));
  const driver = await NvmeDriver.attach(pair.device);
  const { bar0 } = driver;
  const good = { cc: CC_ENABLE, aqa: 0x001f_001f, asq: BigInt(BASE), acq: BigInt(BASE + 0x8000) };
  const wrong: Partial<typeof good>[] = [
    { cc: CC_ENABLE | 1 << 4 }, // CSS
    { cc: CC_ENABLE | 6 << 4 },
    { cc: CC_ENABLE | 7 << 4 },
    { cc: CC_ENABLE | 1 << 7 }, // MPS
    { cc: CC_ENABLE | 15 << 7 },
    { cc: CC_ENABLE | 1 << 11 }, // AMS
    { cc: CC_ENABLE | 7 << 11 },
    { cc: CC_ENABLE | 3 << 14 }, // SHN
    { cc: 0x0047_0001 }, // IOSQES
    { cc: 0x0045_0001 },
    { cc: 0x0036_0001 }, // IOCQES
    { cc: CC_ENABLE | 1 << 24 }, // CRIME
    { aqa: 0x001f_0000 },
    { aqa: 0x0000_001f },
    { asq: 0xffff_ffff_ffff_f000n, aqa: 0x001f_0fff },
    { acq: 0xffff_ffff_ffff_f000n, aqa: 0x0fff_001f },
  ];
  for (const each of [...wrong, {}, { cc: 1 }, { aqa: 0x0fff_0fff }, { aqa: 0x0001_0001 }]) {
    const { cc, aqa, asq, acq } = { ...good, ...each };
    await bar0.write32Async(CC, 0);
    await bar0.write32Async(AQA, aqa);
    await bar0.write64Async(ASQ, asq);
    await bar0.write64Async(ACQ, acq);
    await bar0.write32Async(CC, cc);
    const status = await bar0.read32Async(CSTS);
    assertEquals(status & 3, wrong.includes(each) ? 2 : 1, JSON.stringify(each, String));
    await bar0.write32Async(CC, 0);
    assertEquals(await bar0.read32Async(CSTS), 0);
  }
  await driver.enable();
  await bar0.write32Async(CC, CC_ENABLE | 1 << 7); // while it works
  assertEquals(await bar0.read32Async(CSTS), 3);
  assertEquals(pair.errors, []);
});

testFds("nvme.ts refuses what it has not promised, each with its status, and goes on", async () => {
  await using pair = await start();
  const { driver } = pair;
  await driver.createQueues(1);
  const size = 0x001f_0000;
  const at = BASE + 0x10_0000;
  type Refusal = [command: Parameters<typeof driver.run>[1], status: number];
  const admin: Refusal[] = [
    ...[0x03, 0x0d, 0x10, 0x11, 0x14, 0x15, 0x18, 0x19, 0x1a, 0x7f, 0x80, 0x84, 0xff].map((
      opcode,
    ): Refusal => [{ opcode }, 0x4001]),
    ...[1, 2, 3, 0x40, 0x80, 0xc0].flatMap((flags): Refusal[] => [
      [{ opcode: 6, flags, prp1: DATA, cdw10: 1 }, 0x4002],
      [{ opcode: 9, flags, cdw10: 7 }, 0x4002],
    ]),
    [{ opcode: 6, prp1: 0x9000_0000, cdw10: 1 }, 0x4004], // nothing is mapped there
    [{ opcode: 6, prp1: 0xffff_ffff_ffff_fffcn, cdw10: 1 }, 0x4004],
    [{ opcode: 6, prp1: DATA + 2, cdw10: 1 }, 0x4013],
    [{ opcode: 6, prp1: DATA + 8, prp2: DATA + 0x1008, cdw10: 1 }, 0x4013],
    // Create I/O Completion Queue
    [{ opcode: 5, prp1: at, cdw10: size | 0, cdw11: 3 }, 0x4101],
    [{ opcode: 5, prp1: at, cdw10: size | 1, cdw11: 3 }, 0x4101], // it is there
    [{ opcode: 5, prp1: at, cdw10: size | 5, cdw11: 3 }, 0x4101], // there are four
    [{ opcode: 5, prp1: at, cdw10: size | 0xffff, cdw11: 3 }, 0x4101],
    [{ opcode: 5, prp1: at, cdw10: 2, cdw11: 3 }, 0x4102],
    [{ opcode: 5, prp1: at, cdw10: 0x0800_0002, cdw11: 3 }, 0x4102],
    [{ opcode: 5, prp1: at, cdw10: 0xffff_0002, cdw11: 3 }, 0x4102],
    [{ opcode: 5, prp1: at, cdw10: size | 2, cdw11: 2 }, 0x4002], // PC
    [{ opcode: 5, prp1: at + 16, cdw10: size | 2, cdw11: 3 }, 0x4013],
    [{ opcode: 5, prp1: 0xffff_ffff_ffff_f000n, cdw10: 0x07ff_0002, cdw11: 3 }, 0x4002],
    [{ opcode: 5, prp1: at, cdw10: size | 2, cdw11: 0x0005_0003 }, 0x4108],
    [{ opcode: 5, prp1: at, cdw10: size | 2, cdw11: 0xffff_0003 }, 0x4108],
    // Create I/O Submission Queue
    [{ opcode: 1, prp1: at, cdw10: size | 0, cdw11: 0x0001_0001 }, 0x4101],
    [{ opcode: 1, prp1: at, cdw10: size | 1, cdw11: 0x0001_0001 }, 0x4101],
    [{ opcode: 1, prp1: at, cdw10: size | 5, cdw11: 0x0001_0001 }, 0x4101],
    [{ opcode: 1, prp1: at, cdw10: 2, cdw11: 0x0001_0001 }, 0x4102],
    [{ opcode: 1, prp1: at, cdw10: 0x0800_0002, cdw11: 0x0001_0001 }, 0x4102],
    [{ opcode: 1, prp1: at, cdw10: size | 2, cdw11: 0x0001_0000 }, 0x4002],
    [{ opcode: 1, prp1: at + 64, cdw10: size | 2, cdw11: 0x0001_0001 }, 0x4013],
    [{ opcode: 1, prp1: 0xffff_ffff_ffff_f000n, cdw10: 0x00ff_0002, cdw11: 0x0001_0001 }, 0x4002],
    [{ opcode: 1, prp1: at, cdw10: size | 2, cdw11: 0x0000_0001 }, 0x4101],
    [{ opcode: 1, prp1: at, cdw10: size | 2, cdw11: 0x0009_0001 }, 0x4101],
    [{ opcode: 1, prp1: at, cdw10: size | 2, cdw11: 0x0003_0001 }, 0x4100],
    // Deletion, in the wrong order, and twice
    [{ opcode: 4, cdw10: 1 }, 0x410c],
    [{ opcode: 4, cdw10: 0 }, 0x4101],
    [{ opcode: 4, cdw10: 3 }, 0x4101],
    [{ opcode: 0, cdw10: 0 }, 0x4101],
    [{ opcode: 0, cdw10: 2 }, 0x4101],
    [{ opcode: 0, cdw10: 0xffff }, 0x4101],
  ];
  const last = 0xffff_ffff;
  const io: Refusal[] = [
    ...[0x03, 0x04, 0x05, 0x0c, 0x0d, 0x0e, 0x11, 0x15, 0x7f, 0xff].map((opcode): Refusal => [
      { opcode, namespace: 1 },
      0x4001,
    ]),
    ...[1, 2, 0x40, 0x80, 0xc0].map((flags): Refusal => [
      { opcode: 2, flags, namespace: 1, prp1: DATA },
      0x4002,
    ]),
    ...[0, 1, 2, 8, 9].flatMap((opcode): Refusal[] => [
      [{ opcode, namespace: 0, prp1: DATA }, 0x400b],
      [{ opcode, namespace: 2, prp1: DATA }, 0x400b],
    ]),
    ...[1, 2, 8, 9].map((opcode): Refusal => [{ opcode, namespace: last, prp1: DATA }, 0x400b]),
    ...[1, 2, 8].flatMap((opcode): Refusal[] => [
      [{ opcode, namespace: 1, prp1: DATA, cdw10: 2048 }, 0x4080],
      [{ opcode, namespace: 1, prp1: DATA, cdw10: 2047, cdw12: 1 }, 0x4080],
      [{ opcode, namespace: 1, prp1: DATA, cdw11: last }, 0x4080],
      [{ opcode, namespace: 1, prp1: DATA, cdw10: last, cdw11: last, cdw12: 1 }, 0x4080],
    ]),
    ...[1, 2].flatMap((opcode): Refusal[] => [
      [{ opcode, namespace: 1, prp1: DATA, cdw12: 256 }, 0x4002], // MDTS
      [{ opcode, namespace: 1, prp1: DATA + 0x100, prp2: DATA + 1, cdw12: 7 }, 0x4013],
      [{ opcode, namespace: 1, prp1: DATA + 1 }, 0x4013],
      [{ opcode, namespace: 1, prp1: DATA, prp2: DATA + 4, cdw12: 31 }, 0x4013], // a list
      [{ opcode, namespace: 1, prp1: DATA, prp2: 0x9000_0000, cdw12: 31 }, 0x4004],
      [{ opcode, namespace: 1, prp1: DATA, prp2: 0x9000_0000, cdw12: 15 }, 0x4004],
      [{ opcode, namespace: 1, prp1: 0 }, 0x4004],
    ]),
    [{ opcode: 9, namespace: 1, prp1: 0x9000_0000, cdw11: 4 }, 0x4004],
  ];
  const check = async (queue: number, refusals: Refusal[]) => {
    for (const [command, status] of refusals) {
      const shown = `queue ${queue}: ${
        JSON.stringify(command, (_, v) => typeof v === "bigint" ? `${v}` : v)
      }`;
      assertEquals(
        (await driver.run(queue, command)).status.toString(16),
        status.toString(16),
        shown,
      );
    }
  };
  await check(1, io);
  await check(0, admin);
  await driver.pass(0, { opcode: 0, cdw10: 1 });
  await driver.pass(0, { opcode: 4, cdw10: 1 });
  await check(0, [[{ opcode: 0, cdw10: 1 }, 0x4101], [{ opcode: 4, cdw10: 1 }, 0x4101]]);
  await driver.createQueues(1);
  await driver.pass(1, { opcode: 0, namespace: 1 });
  await driver.enable(32, 1); // without sizes of entries there can be no queues of I/O
  await check(0, [
    [{ opcode: 5, prp1: at, cdw10: size | 2, cdw11: 3 }, 0x4102],
    [{ opcode: 1, prp1: at, cdw10: size | 2, cdw11: 0x0001_0001 }, 0x4102],
  ]);
  assertEquals(pair.errors, []);
});

for (const doorbells of ["mapped", "message"] as const) {
  testFds(`nvme.ts ignores doorbells that make no sense (${doorbells})`, async () => {
    await using pair = await serveDefined(nvme.create({ size: 1 << 20, doorbells }));
    const driver = await NvmeDriver.attach(pair.device);
    const { bar0 } = driver;
    for (let at = 0x1000; at < 0x1030; at += 4) await bar0.write32Async(at, 3); // before CC.EN
    await driver.enable();
    const isIdle = async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      assertEquals([driver.take(), await bar0.read32Async(CSTS)], [undefined, 1]);
    };
    await isIdle();
    for (const value of [32, 0x8000, 0xffff, 0x1_0001, 0xffff_ffff]) {
      await driver.ring(0, value);
      await isIdle();
      await driver.ring(0);
    }
    await bar0.write32Async(0x1004, 5); // more than there is
    await bar0.write32Async(0x1008, 1); // of queues that are not there
    await bar0.write32Async(0x1ffc, 1);
    await isIdle();
    await bar0.write32Async(0x1004, 0);
    await driver.createQueues(1);
    await isIdle(); // what was rung before the queue was there is not counted
    await driver.pass(1, { opcode: 0, namespace: 1 });
    assertEquals(pair.errors, []);
  });
}
