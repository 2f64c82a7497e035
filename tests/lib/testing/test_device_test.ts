import { assert, assertEquals, assertRejects } from "@std/assert";
import timer from "../../../examples/timer.ts";
import gpio from "../../../examples/gpio.ts";
import { defineDevice } from "../../../lib/define/device.ts";
import { registers } from "../../../lib/define/registers.ts";
import { RemoteError } from "../../../lib/base/errors.ts";
import { testDevice, VirtualClock } from "../../../lib/testing/mod.ts";
import { Command } from "../../../lib/wire/command.ts";
import { testFds } from "../../_fds.ts";

const PERIOD = 0x04;
const COUNT = 0x08;
const HOUR_MS = 3_600_000;

testFds("hours of a timer take no time, and its interrupts come", async () => {
  await using test = await testDevice(timer);
  const bar0 = test.client.region("bar0");
  assertEquals(test.irq!.name, "msi");
  await bar0.write32Async(PERIOD, HOUR_MS);
  await bar0.write32Async(0, 3); // EN, PERIODIC
  await test.advance(HOUR_MS - 1);
  assertEquals(await bar0.read32Async(COUNT), 0);
  await test.advance(1);
  assertEquals(await bar0.read32Async(COUNT), 1);
  await test.irq!.waitAsync(0);
  await test.advance(24 * HOUR_MS);
  assertEquals(await bar0.read32Async(COUNT), 25);
});

testFds("a device is warm, unless a test wants it cold", async () => {
  const command = async (isCold: boolean) => {
    await using test = await testDevice(timer, { isCold });
    const config = test.client.region("config");
    return [await config.read16Async(4), test.irq?.name];
  };
  const [warm, irq] = await command(false);
  assertEquals([Number(warm) & 6, irq], [6, "msi"]);
  assertEquals(await command(true), [0, undefined]);
  await using pin = await testDevice(timer, { interrupts: "intx" });
  assertEquals(pin.irq!.name, "intx");
});

testFds("messages are a test's own, the same each time", async () => {
  const traces: string[][] = [];
  for (let i = 0; i < 2; i++) {
    await using test = await testDevice(gpio);
    await test.client.region("bar2").read8Async(0);
    traces.push(test.trace());
    assertEquals(test.trace(), []);
  }
  assertEquals(traces[0], traces[1]);
  assertEquals(traces[0]!.map((line) => line.slice(0, 14)), ["-> REGION_READ", "<- REGION_READ"]);
});

testFds("faults and offers of the server are a test's to choose", async () => {
  const rules = [{ command: Command.REGION_READ, fault: { kind: "error", errno: 5 } }] as const;
  await using test = await testDevice(gpio, {
    isCold: true,
    server: { faults: { rules, seed: 1 }, maxDataXferSize: 4096 },
  });
  assertEquals(test.client.negotiated.maxDataXferSize, 4096);
  await assertRejects(() => test.client.region("bar2").read8Async(0), RemoteError);
});

/** A device whose register's hook fails. */
const failing = defineDevice({
  name: "failing",
  pci: { vendor: 0x1234, device: 1 },
  create({ log, timers }) {
    const bar0 = registers({ name: "failing", registers: [{ name: "A", offset: 0, width: 4 }] });
    bar0.on({
      A: {
        write() {
          log("written");
          timers.after(5, () => Promise.reject(new Error("late")));
          throw new Error("at once");
        },
      },
    });
    return { regions: { bar0 } };
  },
});

testFds("errors of a device fail the test, unless it takes them", async () => {
  const error = await assertRejects(async () => {
    await using test = await testDevice(failing);
    await assertRejects(() => test.client.region("bar0").write32Async(0, 1), RemoteError);
    await test.advance(5);
    assertEquals(test.log, ["written"]);
    assertEquals(test.errors.map(({ doing }) => doing), ["REGION_WRITE", "timer"]);
  }, AggregateError);
  assertEquals(error.errors.map((each) => (each as Error).message), ["at once", "late"]);
  await using test = await testDevice(failing);
  await assertRejects(() => test.client.region("bar0").write32Async(0, 1), RemoteError);
  assertEquals(test.errors.splice(0).length, 1);
});

testFds("a test that can't begin says why, and closes the device", async () => {
  const closed: string[] = [];
  const refusing = (connected: () => void) =>
    defineDevice({
      name: "refusing",
      pci: { vendor: 0x1234, device: 1 },
      create: () => ({ regions: {}, connected, close: () => void closed.push("closed") }),
    });
  const refused = refusing(() => {
    throw new Error("not today");
  });
  await assertRejects(() => testDevice(refused), AggregateError, "VERSION: Error: not today");
  const server = { maxDataXferSize: -1 };
  await assertRejects(() => testDevice(refusing(() => {}), { server }), RangeError);
  await assertRejects(() => testDevice(refusing(() => {}), { interrupts: 99 }));
  assertEquals(closed.length, 3);
});

Deno.test("a virtual clock calls in order, each at its time, also what calls set", async () => {
  const clock = new VirtualClock();
  const calls: [string, number][] = [];
  const note = (name: string) => calls.push([name, clock.now()]);
  clock.after(20, () => void note("c"));
  clock.after(10, async () => {
    note("a");
    await Promise.resolve();
    clock.after(5, () => void note("b"));
  });
  const cancel = clock.after(1, () => void note("never"));
  clock.after(20, () => void note("d"));
  cancel();
  await clock.advance(20);
  assertEquals(calls, [["a", 10], ["b", 15], ["c", 20], ["d", 20]]);
  clock.soon(() => void note("e"));
  await clock.advance(0);
  assertEquals(calls.at(-1), ["e", 20]);
  for (const ms of [-1, Infinity, NaN]) {
    assert(await assertRejects(() => clock.advance(ms), RangeError));
  }
});

Deno.test("a virtual clock whose time does not go on says so", async () => {
  const clock = new VirtualClock();
  const again = () => void clock.after(0, again);
  clock.after(7, again);
  await assertRejects(() => clock.advance(10), Error, "100000 timers were due at 7 ms");
});
