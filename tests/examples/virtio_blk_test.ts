/** `examples/virtio_blk.ts`, driven by a client. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { virtioFunction, virtioPci } from "../../examples/virtio/function.ts";
import { sizeOf } from "../../examples/virtio/queue.ts";
import { testDevice } from "../../lib/testing/mod.ts";
import { parseConfigSpace } from "../../lib/pci/mod.ts";
import { defineDevice, registers } from "../../mod.ts";
import { testFds } from "../_fds.ts";
import { until } from "../_until.ts";
import { BLOCKS, IOERR, OK, SIZE, testDisk, UNSUPP } from "./_virtio_disk.ts";
import {
  AT,
  begin,
  DATA,
  HEADER,
  NEEDS_RESET,
  PLACE,
  Request,
  request,
  RESULT,
  UP,
  VirtioDriver,
  WRITE,
} from "./_virtio_driver.ts";

/** Bytes that tell where they belong. */
function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 9)) & 0xff);
}

testFds("virtio_blk.ts shows its structures as virtio's capabilities", async () => {
  await using test = await testDisk();
  const space = parseConfigSpace(await test.client.readConfigSpace());
  assertEquals([space.vendorId, space.deviceId, space.revisionId], [0x1af4, 0x1042, 1]);
  assertEquals(space.notes, []);
  const structures = space.capabilities.flatMap((each) => {
    assertEquals(each.notes, []);
    return "virtio" in each && each.virtio ? [each.virtio] : [];
  });
  assertEquals(
    structures.map((each) => [
      each.cfgTypeName,
      each.bar,
      Number(each.barOffset),
      Number(each.structureLength),
      each.notifyOffMultiplier,
    ]),
    [
      ["COMMON_CFG", 4, 0, 0x38, undefined],
      ["NOTIFY_CFG", 4, 0x3000, 4, 4],
      ["ISR_CFG", 4, 0x1000, 1, undefined],
      ["DEVICE_CFG", 4, 0x2000, 0x10, undefined],
      ["PCI_CFG", 0, 0, 0, undefined],
    ],
  );
  const bar4 = test.client.region("bar4");
  assertEquals(await bar4.read64Async(AT.CONFIG), BigInt(BLOCKS));
  assertEquals(await bar4.read32Async(AT.CONFIG + 12), 254);
});

testFds("virtio_blk.ts is reached through the window in its configuration space", async () => {
  await using test = await testDisk();
  const { client } = test;
  const space = parseConfigSpace(await client.readConfigSpace());
  const window = space.capabilities.find((each) =>
    "virtio" in each && each.virtio?.cfgTypeName === "PCI_CFG"
  )!.offset;
  const config = client.region("config");
  const place = async (bar: number, at: number, length: number) => {
    await config.write8Async(window + 4, bar);
    await config.write32Async(window + 8, at);
    await config.write32Async(window + 12, length);
  };
  const bar4 = client.region("bar4");
  await place(4, AT.STATUS, 1);
  await config.write8Async(window + 16, 3);
  assertEquals(await bar4.read8Async(AT.STATUS), 3);
  await config.write32Async(window + 16, 0);
  assertEquals(await config.read32Async(window + 16), 0);
  assertEquals(await bar4.read8Async(AT.STATUS), 0);
  await place(4, AT.CONFIG, 4);
  assertEquals(await config.read32Async(window + 16), BLOCKS);
  // What can't be one access to the BAR is none.
  for (const odd of [[1, AT.STATUS, 1], [4, AT.STATUS, 3], [4, 2, 4], [4, 0x4000, 1], [4, 0, 0]]) {
    await place(...odd as [number, number, number]);
    await config.write32Async(window + 16, 0x0f0f0f0f);
    assertEquals(await config.read32Async(window + 16), 0x0f0f0f0f);
    assertEquals(await bar4.read8Async(AT.STATUS), 0);
  }
});

testFds("virtio_blk.ts agrees on features that it has, with VERSION_1", async () => {
  await using test = await testDisk();
  const bar4 = test.client.region("bar4");
  const words: number[] = [];
  for (const word of [0, 1, 2, 0xffffffff]) {
    await bar4.write32Async(AT.DEVICE_FEATURE_SELECT, word);
    words.push(await bar4.read32Async(AT.DEVICE_FEATURE));
  }
  assertEquals(words, [1 << 2 | 1 << 9, 3, 0, 0]);
  const accept = async (low: number, high: number) => {
    await bar4.write8Async(AT.STATUS, 0);
    await bar4.write8Async(AT.STATUS, 3);
    for (const [word, bits] of [low, high].entries()) {
      await bar4.write32Async(AT.DRIVER_FEATURE_SELECT, word);
      await bar4.write32Async(AT.DRIVER_FEATURE, bits);
      assertEquals(await bar4.read32Async(AT.DRIVER_FEATURE), bits);
    }
    await bar4.write8Async(AT.STATUS, 11);
    return await bar4.read8Async(AT.STATUS);
  };
  assertEquals(await accept(1 << 9, 1), 11);
  assertEquals(await accept(1 << 9, 0), 3, "an old driver");
  assertEquals(await accept(1 << 9 | 1, 1), 3, "a feature that the device has not");
  assertEquals(await accept(0, (1 | 1 << 31) >>> 0), 3, "the same in the second word");
  assertEquals(await accept(0, 3), 11);
  await bar4.write32Async(AT.DRIVER_FEATURE, 1); // too late
  assertEquals(await bar4.read32Async(AT.DRIVER_FEATURE), 3);
  await bar4.write8Async(AT.STATUS, 0);
  assertEquals([await bar4.read8Async(AT.STATUS), await bar4.read32Async(AT.DRIVER_FEATURE)], [
    0,
    0,
  ]);
});

testFds("virtio_blk.ts has one queue, whose registers stay as they were enabled", async () => {
  await using test = await testDisk();
  const bar4 = test.client.region("bar4");
  assertEquals(await bar4.read16Async(AT.NUM_QUEUES), 1);
  await bar4.write16Async(AT.QUEUE_SELECT, 1);
  await bar4.write16Async(AT.QUEUE_SIZE, 8);
  await bar4.write16Async(AT.QUEUE_ENABLE, 1);
  const queue = async () => [
    await bar4.read16Async(AT.QUEUE_SIZE),
    await bar4.read16Async(AT.QUEUE_VECTOR),
    await bar4.read16Async(AT.QUEUE_ENABLE),
    await bar4.read64Async(AT.QUEUE_DESC),
  ];
  assertEquals(await queue(), [0, 0xffff, 0, 0n]);
  await bar4.write16Async(AT.QUEUE_SELECT, 0);
  assertEquals(await queue(), [256, 0xffff, 0, 0n]);
  await bar4.write32Async(AT.QUEUE_DESC + 4, 0x12); // the halves, as Linux writes them
  await bar4.write32Async(AT.QUEUE_DESC, 0x3450);
  await bar4.write16Async(AT.QUEUE_SIZE, 8);
  const vectors: number[] = [];
  for (const vector of [0, 1, 2, 0x7fff]) {
    await bar4.write16Async(AT.CONFIG_VECTOR, vector);
    await bar4.write16Async(AT.QUEUE_VECTOR, vector);
    vectors.push(await bar4.read16Async(AT.CONFIG_VECTOR), await bar4.read16Async(AT.QUEUE_VECTOR));
  }
  assertEquals(vectors, [0, 0, 1, 1, 0xffff, 0xffff, 0xffff, 0xffff]);
  await bar4.write16Async(AT.QUEUE_ENABLE, 1);
  await bar4.write64Async(AT.QUEUE_DESC, 0n);
  await bar4.write16Async(AT.QUEUE_SIZE, 16);
  await bar4.write16Async(AT.QUEUE_ENABLE, 0);
  assertEquals(await queue(), [8, 0xffff, 1, 0x12_0000_3450n]);
});

for (const share of ["memfd", "message"] as const) {
  testFds(`virtio_blk.ts writes, flushes and reads (memory by ${share})`, async () => {
    await using test = await testDisk({ options: { serial: "a serial number, too long" } });
    const driver = await VirtioDriver.start(test, { share });
    const bytes = pattern(3 << 20);
    driver.map.bytes.set(bytes, DATA);
    const place = { sector: 3, length: bytes.length };
    assertEquals(await request(driver, Request.OUT, place), [OK, 1]);
    await driver.interrupted(1);
    assertEquals(await request(driver, Request.FLUSH), [OK, 1]);
    driver.map.bytes.fill(0, DATA);
    assertEquals(await request(driver, Request.IN, place), [OK, bytes.length + 1]);
    assertEquals(driver.map.bytes.slice(DATA, DATA + bytes.length), bytes);
    assertEquals(await request(driver, Request.IN, { sector: 1, length: 2048 }), [OK, 2049]);
    assertEquals(driver.map.bytes.slice(DATA + 1024, DATA + 2048), bytes.slice(0, 1024));
    assertEquals(await request(driver, Request.GET_ID, { length: 20 }), [OK, 21]);
    const id = driver.map.bytes.slice(DATA, DATA + 20);
    assertEquals(new TextDecoder().decode(id), "a serial number, too");
    assertEquals(await driver.status(), UP);
  });

  testFds(`virtio_blk.ts takes any layout of descriptors (memory by ${share})`, async () => {
    await using test = await testDisk();
    const driver = await VirtioDriver.start(test, { share, size: 16 });
    driver.map.bytes.set(pattern(1024), DATA);
    begin(driver, Request.OUT, 5);
    // The header in three parts, the last one with data; an empty one; the rest of the data.
    driver.map.bytes.copyWithin(DATA + 0x2000, HEADER + 4, HEADER + 16);
    driver.map.bytes.set(driver.map.bytes.slice(DATA, DATA + 100), DATA + 0x2000 + 12);
    driver.chain([
      [HEADER, 1],
      [HEADER + 1, 3],
      [DATA + 0x2000, 112],
      [0, 0],
      [DATA + 100, 1024 - 100],
      [RESULT, 1, WRITE],
    ], 3);
    assertEquals(await driver.use(3), { id: 3, written: 1 });
    assertEquals(driver.memory.getUint8(RESULT), OK);
    // All that is written in one descriptor, the result behind the data.
    begin(driver, Request.IN, 5);
    driver.map.bytes.fill(0xff, DATA, DATA + 0x1000);
    driver.chain([[HEADER, 16], [DATA, 1025, WRITE]], 14);
    assertEquals(await driver.use(14), { id: 14, written: 1025 });
    assertEquals(driver.map.bytes.slice(DATA, DATA + 1024), pattern(1024));
    assertEquals(driver.map.bytes.slice(DATA + 1024, DATA + 1026).join(), "0,255");
  });
}

testFds("virtio_blk.ts tells of requests that it can't do", async () => {
  await using test = await testDisk();
  const driver = await VirtioDriver.start(test);
  const last = BLOCKS - 1;
  for (const type of [Request.IN, Request.OUT]) {
    const fails = async (sector: number | bigint, length: number) =>
      assertEquals((await request(driver, type, { sector, length }))[0], IOERR, `${sector}`);
    await fails(BLOCKS, 512);
    await fails(last, 1024);
    await fails(0, 511);
    await fails(0, SIZE + 512);
    await fails(2n ** 64n - 1n, 512);
    await fails(2n ** 55n, 512); // times 512 it is 2^64
    assertEquals((await request(driver, type, { sector: last, length: 512 }))[0], OK);
  }
  assertEquals(await request(driver, 2), [UNSUPP, 1]);
  assertEquals(await request(driver, 0xffffffff, { length: 512 }), [UNSUPP, 0]);
  assertEquals(await request(driver, Request.FLUSH), [OK, 1]);
  assertEquals([await driver.status(), test.log], [UP, []]);
});

testFds("virtio_blk.ts interrupts on its pin until ISR is read, and not if unwanted", async () => {
  await using test = await testDisk({ interrupts: "intx" });
  const driver = await VirtioDriver.start(test, { hasPin: true });
  const irq = test.irq!;
  await request(driver, Request.FLUSH);
  await driver.interrupted(0);
  await irq.unmask(0);
  await driver.interrupted(0); // the level is up
  const isr = () => driver.bar4.read8Async(AT.ISR);
  assertEquals([await isr(), await isr()], [1, 0]);
  await irq.unmask(0);
  const before = irq.total(0);
  driver.memory.setUint16(PLACE.avail, 1, true); // NO_INTERRUPT
  await request(driver, Request.FLUSH);
  assertEquals([await isr(), irq.total(0)], [0, before]);
  driver.memory.setUint16(PLACE.avail, 0, true);
  await request(driver, Request.FLUSH);
  await driver.interrupted(0);
});

testFds("virtio_blk.ts goes on when the indexes of its rings begin anew", async () => {
  await using test = await testDisk();
  const driver = await VirtioDriver.start(test, { size: 256 });
  begin(driver, Request.FLUSH);
  driver.chain([[HEADER, 16], [RESULT, 1, WRITE]], 2);
  for (let round = 1; round <= 257; round++) { // 2^16 buffers, and some more
    for (let i = 0; i < 256; i++) driver.offer(2);
    await driver.notify();
    await until(() => driver.used === (256 * round & 0xffff), `the buffers of round ${round}`);
  }
  assertEquals([await driver.status(), driver.used], [UP, 256]);
});

testFds("buffers that are there before DRIVER_OK are used", async () => {
  await using test = await testDisk();
  const driver = await VirtioDriver.start(test);
  await driver.bar4.write8Async(AT.STATUS, 11); // once more without DRIVER_OK
  begin(driver, Request.FLUSH);
  driver.chain([[HEADER, 16], [RESULT, 1, WRITE]]);
  driver.offer(0);
  await driver.notify();
  assertEquals([await driver.status(), driver.used], [11, 0]);
  await driver.bar4.write8Async(AT.STATUS, UP);
  await until(() => driver.used === 1, "the buffer's return");
});

testFds("virtio_blk.ts fails without bus mastering, and works again with it", async () => {
  await using test = await testDisk();
  const driver = await VirtioDriver.start(test);
  const config = test.client.region("config");
  await config.write16Async(4, 2);
  driver.offer(0);
  await driver.notify();
  await driver.interrupted(0);
  assertMatch(test.log[0]!, /bus master enable is off/);
  await config.write16Async(4, 6);
  await driver.setUp();
  assertEquals(await request(driver, Request.FLUSH), [OK, 1]);
});

for (const share of ["memfd", "message"] as const) {
  testFds(`virtio_blk.ts does nothing more once STATUS is 0 (memory by ${share})`, async () => {
    await using test = await testDisk();
    const driver = await VirtioDriver.start(test, { share });
    for (let round = 0; round < 8; round++) {
      begin(driver, Request.IN);
      driver.chain([[HEADER, 16], [DATA, 2 << 20, WRITE], [RESULT, 1, WRITE]]);
      for (let i = 0; i < 64; i++) driver.offer(0);
      const { bar4 } = driver;
      await Promise.all([driver.notify(), bar4.write8Async(AT.STATUS, 0)]);
      await bar4.write8Async(AT.STATUS, 1); // too early, if it still works: ignored then
      await until(async () => (await driver.status() & ~1) === 0, "the end of the reset");
      assert(driver.used < 64, "it was not reset while it worked");
      driver.map.bytes.fill(0xaa);
      await bar4.write16Async(AT.NOTIFY, 0);
      await bar4.read32Async(AT.DRIVER_FEATURE);
      assert(driver.map.bytes.every((byte) => byte === 0xaa));
      await driver.setUp();
      assertEquals(await request(driver, Request.FLUSH), [OK, 1]);
    }
  });
}

testFds("a reset of the whole device ends what virtio_blk.ts is doing", async () => {
  await using test = await testDisk();
  const driver = await VirtioDriver.start(test, { share: "message" });
  begin(driver, Request.IN);
  driver.chain([[HEADER, 16], [DATA, 2 << 20, WRITE], [RESULT, 1, WRITE]]);
  for (let i = 0; i < 64; i++) driver.offer(0);
  await Promise.all([driver.notify(), test.client.reset()]);
  assertEquals([await driver.status(), test.log], [0, []]);
  assert(driver.used < 64);
  await test.client.pci.enable();
  await driver.setUp();
  assertEquals(await request(driver, Request.FLUSH), [OK, 1]);
});

testFds("a client that goes in the midst of it is no fault of its driver", async () => {
  const test = await testDisk();
  const driver = await VirtioDriver.start(test, { share: "message" });
  begin(driver, Request.IN);
  driver.chain([[HEADER, 16], [DATA, 2 << 20, WRITE], [RESULT, 1, WRITE]]);
  for (let i = 0; i < 64; i++) driver.offer(0);
  await driver.notify();
  await test[Symbol.asyncDispose]();
  assertEquals([test.log, test.errors], [[], []]);
});

testFds("virtio_blk.ts is told of buffers by an eventfd, too", async () => {
  await using test = await testDisk();
  const driver = await VirtioDriver.start(test);
  using parts = await test.client.regionIoFds(4);
  assertEquals(parts.entries.map(({ offset, size }) => [Number(offset), Number(size)]), [
    [AT.NOTIFY, 2],
  ]);
  begin(driver, Request.FLUSH);
  driver.chain([[HEADER, 16], [RESULT, 1, WRITE]]);
  driver.offer(0);
  parts.kick(parts.entries[0]!);
  await until(() => driver.used === 1, "the buffer's return");
});

testFds("another kind of device is made of the same parts, also one that fails", async () => {
  const source = defineDevice({
    name: "virtio_rng",
    pci: virtioPci(4, 0xff0000, 0x10),
    create(context) {
      const config = registers({ registers: [{ name: "NONE", offset: 0, width: 4 }] });
      const virtio = virtioFunction(context, {
        features: 0,
        config,
        async serve({ writable }) {
          if (sizeOf(writable) > 64) throw new TypeError("a mistake of its author");
          for (const { at, length } of writable) {
            await context.dma.copyFrom(at, crypto.getRandomValues(new Uint8Array(length)));
          }
          return sizeOf(writable);
        },
      });
      return { regions: { bar4: virtio.bar4 }, reset: virtio.reset };
    },
  });
  await using test = await testDevice(source);
  const driver = await VirtioDriver.start(test);
  driver.chain([[DATA, 60, WRITE], [DATA + 100, 4, WRITE]]);
  assertEquals(await driver.use(0), { id: 0, written: 64 });
  assert(driver.map.bytes.subarray(DATA, DATA + 60).some((byte) => byte !== 0));
  driver.chain([[DATA, 65, WRITE]]);
  driver.offer(0);
  await driver.notify();
  await driver.interrupted(0);
  assertEquals(await driver.status(), UP | NEEDS_RESET);
  assertMatch(String(test.errors.pop()!.error), /a mistake of its author/);
  await driver.setUp();
  driver.chain([[DATA, 1, WRITE]]);
  assertEquals(await driver.use(0), { id: 0, written: 1 });
});

testFds("virtio_blk.ts goes on elsewhere, with its disk and where the rings are", async () => {
  await using from = await testDisk();
  await using to = await testDisk();
  const driver = await VirtioDriver.start(from);
  driver.map.bytes.set(pattern(4096), DATA);
  await request(driver, Request.OUT, { sector: 7, length: 4096 });
  await from.client.migration.setState("STOP");
  begin(driver, Request.FLUSH);
  driver.chain([[HEADER, 16], [RESULT, 1, WRITE]]);
  driver.offer(0);
  await driver.notify(); // which is for the other one to hear
  assertEquals(driver.used, 1);
  const other = await driver.moveTo(to);
  await from.client.migration.save({ after: "STOP" }).pipeTo(to.client.migration.restore());
  await other.interrupted(1);
  assertEquals([await other.status(), other.used, driver.used], [UP, 2, 1]);
  assertEquals(await request(other, Request.IN, { sector: 7, length: 4096 }), [OK, 4097]);
  assertEquals(other.map.bytes.slice(DATA, DATA + 4096), pattern(4096));
});

testFds("virtio_blk.ts keeps its disk in a file, and tells when that fails", async () => {
  const path = Deno.makeTempFileSync({ prefix: "vfu-test-" });
  try {
    Deno.truncateSync(path, 1 << 20);
    await using test = await testDisk({ options: { disk: path } });
    const driver = await VirtioDriver.start(test, { features: 0 }); // each write is flushed
    assertEquals(await driver.bar4.read64Async(AT.CONFIG), 2048n);
    driver.map.bytes.set(pattern(1 << 20), DATA);
    assertEquals(await request(driver, Request.OUT, { length: 1 << 20 }), [OK, 1]);
    assertEquals(Deno.readFileSync(path), pattern(1 << 20));
    Deno.truncateSync(path, 4096);
    assertEquals(await request(driver, Request.IN, { sector: 8, length: 512 }), [IOERR, 0]);
    assertMatch(test.log.join(), /has become shorter/);
    assertEquals(await request(driver, Request.IN, { sector: 7, length: 512 }), [OK, 513]);
    assertEquals(await driver.status(), UP);
  } finally {
    Deno.removeSync(path);
  }
});
