/** `examples/virtio_blk.ts`, driven by a client that keeps no rule. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { testFds } from "../_fds.ts";
import { until } from "../_until.ts";
import { generator } from "./_generator.ts";
import { BLOCKS, OK, testDisk } from "./_virtio_disk.ts";
import {
  AT,
  begin,
  DATA,
  type Descriptor,
  HEADER,
  INDIRECT,
  MEMORY_SIZE,
  NEEDS_RESET,
  NEXT,
  PLACE,
  Request,
  request,
  RESULT,
  UP,
  VirtioDriver,
  WRITE,
} from "./_virtio_driver.ts";

/** Makes a buffer available: a header and room for a result, but for what is changed. */
function offer(driver: VirtioDriver, changed: Partial<Record<0 | 1, Partial<Descriptor>>>): void {
  begin(driver, Request.FLUSH);
  driver.describe([
    { at: HEADER, length: 16, flags: NEXT, next: 1, ...changed[0] },
    { at: RESULT, length: 1, flags: WRITE, ...changed[1] },
  ]);
  driver.offer(0);
}

/** Wrongs of a driver, and the words of the device about each. */
const FAULTS: Readonly<Record<string, [commit: (driver: VirtioDriver) => void, said: RegExp]>> = {
  "a loop of one descriptor": [
    (driver) => offer(driver, { 0: { next: 0 } }),
    /the chain at descriptor 0 has a loop/,
  ],
  "a loop of two descriptors": [
    (driver) => offer(driver, { 1: { flags: NEXT | WRITE, next: 1 } }),
    /descriptor 0 has a loop/,
  ],
  "a chain that leaves the queue": [
    (driver) => offer(driver, { 0: { next: 16 } }),
    /there is no descriptor 16 of 16/,
  ],
  "a head beyond the queue": [(driver) => driver.offer(0xffff), /no descriptor 65535 of 16/],
  "an indirect descriptor": [
    (driver) => offer(driver, { 1: { flags: INDIRECT, length: 64 } }),
    /descriptor 1 is indirect/,
  ],
  "what is to be read behind what is to be written": [
    (driver) => offer(driver, { 0: { flags: NEXT | WRITE }, 1: { flags: 0 } }),
    /descriptor 1 is to be read, behind one to be written/,
  ],
  "more buffers than the queue has": [
    ({ memory }) => memory.setUint16(PLACE.avail + 2, 17, true),
    /17 buffers are in a queue of 16/,
  ],
  "an index that goes back": [
    ({ memory }) => memory.setUint16(PLACE.avail + 2, 0xffff, true),
    /65535 buffers are in a queue of 16/,
  ],
  "a header that is too short": [
    (driver) => offer(driver, { 0: { length: 15 } }),
    /lacks its header or its result/,
  ],
  "no room for the result": [
    (driver) => offer(driver, { 1: { length: 0 } }),
    /lacks its header or its result/,
  ],
  "no header at all": [
    (driver) => offer(driver, { 0: { flags: NEXT | WRITE } }),
    /lacks its header or its result/,
  ],
  "a header in no memory": [
    (driver) => offer(driver, { 0: { at: MEMORY_SIZE - 8 } }),
    /nothing is mapped at 0x800000/,
  ],
  "a result in no memory": [
    (driver) => offer(driver, { 1: { at: 2n ** 63n } }),
    /nothing is mapped at 0x8000000000000000/,
  ],
  "data that go beyond 64 bits": [
    (driver) => {
      begin(driver, Request.IN);
      driver.describe([
        { at: HEADER, length: 16, flags: NEXT, next: 1 },
        { at: 2n ** 64n - 512n, length: 1024, flags: NEXT | WRITE, next: 2 },
        { at: RESULT, length: 1, flags: WRITE },
      ]);
      driver.offer(0);
    },
    /nothing is mapped at 0xfffffffffffffe00/,
  ],
};

for (const share of ["memfd", "message"] as const) {
  for (const [fault, [commit, said]] of Object.entries(FAULTS)) {
    testFds(`virtio_blk.ts refuses ${fault} (memory by ${share})`, async () => {
      await using test = await testDisk();
      const driver = await VirtioDriver.start(test, { share, size: 16 });
      commit(driver);
      await driver.notify();
      await driver.interrupted(0);
      assertEquals([await driver.status(), driver.used], [UP | NEEDS_RESET, 0]);
      assertEquals(await driver.bar4.read8Async(AT.ISR), 2);
      assertEquals(test.log.length, 1);
      assertMatch(test.log[0]!, said);
      // It does no more for this driver, until it is reset.
      driver.describe([{ at: HEADER, length: 16, flags: NEXT, next: 1 }]);
      await driver.notify();
      await driver.bar4.write8Async(AT.STATUS, UP);
      assertEquals([await driver.status(), driver.used], [UP | NEEDS_RESET, 0]);
      await driver.setUp();
      assertEquals(await request(driver, Request.FLUSH), [OK, 1]);
    });
  }
}

testFds("virtio_blk.ts enables no queue that can't be", async () => {
  await using test = await testDisk();
  const driver = await VirtioDriver.start(test);
  const places: [size: number, place: Record<"desc" | "avail" | "used", number>, said: RegExp][] = [
    [0, PLACE, /not 0$/],
    [3, PLACE, /not 3$/],
    [512, PLACE, /not 512$/],
    [0xffff, PLACE, /not 65535$/],
    [8, { ...PLACE, desc: 8 }, /multiples of 16, 2 and 4/],
    [8, { ...PLACE, avail: 0x1001 }, /multiples/],
    [8, { ...PLACE, used: 0x2002 }, /multiples/],
  ];
  for (const [size, place, said] of places) {
    await driver.reset();
    await driver.agree(0);
    await driver.place(size, place);
    await driver.bar4.write16Async(AT.QUEUE_ENABLE, 1);
    await driver.bar4.write8Async(AT.STATUS, UP);
    assertEquals(await driver.bar4.read16Async(AT.QUEUE_ENABLE), 0);
    assertEquals(await driver.status(), UP | NEEDS_RESET);
    assertMatch(test.log.pop()!.replace(/:.*$/, ""), said);
  }
  await driver.setUp();
  assertEquals(await request(driver, Request.FLUSH), [OK, 1]);
});

testFds("virtio_blk.ts outlives any descriptors", async () => {
  await using test = await testDisk();
  const driver = await VirtioDriver.start(test, { size: 16 });
  const random = generator(0x0b10c);
  const ends = { used: 0, refused: 0 };
  const addresses = [HEADER, DATA, RESULT, 0, MEMORY_SIZE - 1, PLACE.used, PLACE.desc];
  for (let round = 0; round < 400; round++) {
    begin(driver, random(4) === 0 ? random(16) : random(2), random(BLOCKS + 8));
    // Good descriptors, of which none to three are not.
    const firstWritable = 1 + random(5);
    const descriptors: Descriptor[] = Array.from({ length: 16 }, (_, i) => ({
      at: [HEADER, RESULT][i] ?? DATA + 0x1000 * i,
      length: [16, 1][i] ?? 512 * random(4),
      flags: (i < firstWritable ? 0 : WRITE) | (i === 5 ? 0 : NEXT),
      next: i === 0 ? 2 : i === 4 ? 1 : i + 1,
    }));
    descriptors[1] = { at: RESULT, length: 1, flags: WRITE };
    for (let left = random(4); left > 0; left--) {
      const index = random(8);
      const wrong: Partial<Descriptor>[] = [
        { at: addresses[random(addresses.length)]! + random(64) },
        { length: [0, 1, 511, 1 << 20, 0xffffffff][random(5)]! },
        { flags: random(8) },
        { flags: random(0x10000) },
        { next: random(18) },
      ];
      descriptors[index] = { ...descriptors[index]!, ...wrong[random(wrong.length)] };
    }
    driver.describe(descriptors);
    driver.offer(random(8) === 0 ? random(18) : 0);
    const last = driver.used;
    await driver.notify();
    let hasFailed = false;
    await until(async () => {
      hasFailed = await driver.status() !== UP;
      return hasFailed || driver.used !== last;
    }, `an end of round ${round}`);
    ends[hasFailed ? "refused" : "used"]++;
    // The device may have written to the rings, as it was told to.
    await driver.setUp();
  }
  assert(ends.used > 20 && ends.refused > 20, JSON.stringify(ends));
  assertEquals(await request(driver, Request.FLUSH), [OK, 1]);
});
