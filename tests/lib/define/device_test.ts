import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  callbacks,
  cap,
  connect,
  defineDevice,
  DefinitionError,
  type DeviceContext,
  DeviceError,
  type DeviceMemoryRegion,
  memory,
  option,
  registers,
  RemoteError,
} from "../../../mod.ts";
import { DmaMapFlags } from "../../../lib/wire/dma.ts";
import { testFds } from "../../_fds.ts";
import { serveDefined } from "./_served.ts";
import { until } from "../../_until.ts";

const MAP = {
  registers: [
    { name: "CTRL", offset: 0, width: 4, reset: 5 },
    { name: "ADDRESS", offset: 8, width: 8 },
    { name: "GO", offset: 16, width: 4, access: "wo" },
  ],
} as const;

/** A device whose hooks the test sets; what was called is in `log`. */
function makeDevice() {
  const log: string[] = [];
  let context: DeviceContext | undefined;
  const bar0 = registers(MAP);
  const definition = defineDevice({
    name: "test",
    title: "A device under test",
    options: { number: option.integer({ default: 3, description: "A number" }) },
    pci: ({ number }) => ({
      vendor: 0x1234,
      device: number,
      interruptPin: "A",
      capabilities: [cap.msix({ vectors: 2, bar: 4 }), cap.express()],
    }),
    create(given) {
      context = given;
      log.push("create");
      return {
        regions: { bar0, bar2: memory({ size: 0x4000, is64Bit: true }) },
        reset: () => void log.push("reset"),
        connected: () => void log.push("connected"),
        disconnected: () => void log.push("disconnected"),
        close: () => void log.push("close"),
      };
    },
  });
  const served = definition.create({ number: 7 });
  return { log, bar0, definition, served, context: context! };
}

testFds("defineDevice() makes devices with their options", () => {
  const { definition, served, context } = makeDevice();
  assertEquals([definition.name, definition.title], ["test", "A device under test"]);
  assertEquals(Object.keys(definition.options), ["number"]);
  assertEquals(context.options, { number: 7 });
  const sizes = served.regions.map((each) => each?.size);
  assertEquals(sizes, [
    32,
    undefined,
    0x4000,
    undefined,
    0x1000,
    undefined,
    undefined,
    4096,
    undefined,
  ]);
  assertEquals(served.irqs.map(({ count }) => count), [1, 0, 2, 1, 1]);
  // @ts-expect-error the types know the options
  assertThrows(() => definition.create({ numbr: 1 }), RangeError, 'did you mean "number"?');
  served.close!();
  served.close!();
});

testFds("a device hears of clients, resets and its end", async () => {
  const { log, bar0, served, context } = makeDevice();
  {
    await using pair = await serveDefined(served);
    const { device } = pair;
    const config = device.region("config");
    await config.write16Async(4, 6);
    bar0.regs.CTRL.value = 9;
    await device.reset();
    assertEquals([bar0.regs.CTRL.value, await config.read16Async(4)], [5, 0]);
    assertEquals(context.signal.aborted, false);
    device.close();
    await until(() => log.includes("disconnected"), "the end of the client");
  }
  assertEquals(log, ["create", "connected", "reset", "disconnected", "close"]);
  assertEquals(context.signal.aborted, true);
});

testFds("Device Control resets the device, and the bit reads as 0", async () => {
  const { log, served, bar0 } = makeDevice();
  await using pair = await serveDefined(served);
  const { device } = pair;
  const config = device.region("config");
  const express = (await device.pci.capability("CAP_EXP"))!;
  bar0.regs.CTRL.value = 9;
  await config.write16Async(express + 8, 0x2810);
  assertEquals([bar0.regs.CTRL.value, log.includes("reset")], [9, false]);
  await config.write16Async(express + 8, 0xa810);
  assertEquals([bar0.regs.CTRL.value, await config.read16Async(express + 8)], [5, 0x2810]);
  assertEquals(log.filter((each) => each === "reset").length, 1);
});

testFds(
  "a hook that throws is an errno to the client; the device lives, and the server hears of it",
  async () => {
    const { served, bar0 } = makeDevice();
    await using pair = await serveDefined(served);
    const { device, errors } = pair;
    const client = device.region("bar0");
    const failure = new Error("a mistake");
    const hooks: [() => void | Promise<void>, string][] = [
      [() => {
        throw failure;
      }, "EIO"],
      [() => Promise.reject(failure), "EIO"],
      [() => {
        throw new DeviceError(16);
      }, "EBUSY"],
      [() => Promise.reject(new DeviceError(16)), "EBUSY"],
    ];
    for (const [hook, code] of hooks) {
      bar0.on({ CTRL: { write: hook, read: () => hook() as undefined } });
      const writing = await assertRejects(() => client.write32Async(0, 1), RemoteError);
      const reading = await assertRejects(() => client.read32Async(0), RemoteError);
      assertEquals([writing.code, reading.code, bar0.regs.CTRL.value], [code, code, 5]);
    }
    assertEquals(errors.map(([error]) => error), Array(4).fill(failure)); // a refusal is none
    assert(errors[0]![0] instanceof Error && errors[0]![0].stack?.includes("device_test"));
    bar0.on({ CTRL: {} });
    assertEquals(await client.read32Async(0), 5);
  },
);

testFds(
  "hooks that nobody waits for may fail, at once or later, and the server goes on",
  async () => {
    for (const isLate of [false, true]) {
      const fail = (hook: string) => {
        const error = new Error(`${hook} fails`);
        if (isLate) return Promise.reject(error);
        throw error;
      };
      let mayConnect = true;
      let region: ReturnType<typeof memory> | undefined;
      const definition = defineDevice({
        name: "fails",
        pci: { vendor: 1, device: 1 },
        create: () => ({
          regions: { bar0: region = memory({ size: 0x1000 }) },
          connected: () => isLate || !mayConnect ? fail("connected") : undefined,
          disconnected: () => fail("disconnected"),
          close: () => fail("close"),
        }),
      });
      const pair = await serveDefined(definition.create());
      {
        await using _ = pair;
        const { device, errors, path } = pair;
        device.close();
        await until(
          () => errors.some(([, doing]) => doing === "disconnect"),
          "the end of the client",
        );
        mayConnect = false;
        if (isLate) (await connect(path)).close();
        else await assertRejects(() => connect(path), RemoteError, "EIO");
      }
      const told = new Map(pair.errors.map(([error, doing]) => [(error as Error).message, doing]));
      assertEquals([...told].sort(), [
        ["close fails", "close"],
        ["connected fails", isLate ? "connect" : "VERSION"],
        ["disconnected fails", "disconnect"],
      ]);
      assertEquals(region?.bytes.length, 0); // it is freed all the same
    }
  },
);

testFds("a slow hook keeps nobody waiting but its own client", async () => {
  const [slow, quick] = [makeDevice(), makeDevice()];
  const gate = Promise.withResolvers<void>();
  slow.bar0.on({ CTRL: { read: () => gate.promise.then(() => 1) } });
  await using one = await serveDefined(slow.served);
  await using other = await serveDefined(quick.served);
  let isDone = false;
  const reading = one.device.region("bar0").read32Async(0).then((value) => {
    isDone = true;
    return value;
  });
  for (let i = 0; i < 10; i++) assertEquals(await other.device.region("bar0").read32Async(0), 5);
  assertEquals(isDone, false);
  gate.resolve();
  assertEquals(await reading, 1);
});

testFds(
  "a hook that does not end when its client is gone is told of, and the next waits for it",
  async () => {
    const { served, bar0 } = makeDevice();
    const gate = Promise.withResolvers<void>();
    bar0.on({ CTRL: { read: () => gate.promise.then(() => 1) } });
    await using pair = await serveDefined(served);
    const { device, errors, path } = pair;
    const reading = assertRejects(() => device.region("bar0").read32Async(0, { timeoutMs: 50 }));
    await reading;
    device.close();
    const next = connect(path, { timeoutMs: 30_000 });
    await until(() => errors.length === 1, "what is told");
    assertEquals(errors[0]![1], "disconnect");
    assert((errors[0]![0] as Error).message.includes("no other client is served before it ends"));
    gate.resolve();
    using other = await next;
    assertEquals(other.state, "CONNECTED");
  },
);

testFds("a reset waits for regions that take their time, and fails with them", async () => {
  let act = () => Promise.resolve();
  let hasEnded = false;
  const definition = defineDevice({
    name: "slow",
    pci: { vendor: 1, device: 1, capabilities: [cap.msix({ vectors: 1, bar: 0 })] },
    create: () => ({
      regions: { bar0: callbacks({ size: 0x1000, reset: () => act() }) },
      reset: () => void (hasEnded = true),
    }),
  });
  await using pair = await serveDefined(definition.create());
  const gate = Promise.withResolvers<void>();
  act = () => gate.promise;
  const resetting = pair.device.reset();
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(hasEnded, false);
  gate.resolve();
  await resetting;
  assertEquals(hasEnded, true);
  act = () => Promise.reject(new Error("no"));
  await assertRejects(() => pair.device.reset(), RemoteError, "EIO");
  assertEquals(pair.errors.map(([, doing]) => doing), ["DEVICE_RESET"]);
});

testFds("DMA needs a client, and bus master enable", async () => {
  const { served, bar0, context: { dma } } = makeDevice();
  await assertRejects(() => dma.read(0n, 1), DeviceError, "no client is connected");
  assertThrows(() => dma.readSync(0n, 1), DeviceError, "no client is connected");
  await using pair = await serveDefined(served);
  const { device } = pair;
  for (const share of ["memfd", "message"] as const) {
    const iova = share === "memfd" ? 0x1000n : 0x9000n;
    const map = await device.dma.mapAsync({ iova, size: 0x1000, share });
    map.bytes.set([1, 2, 3]);
    await device.region("config").write16Async(4, 0);
    await assertRejects(() => dma.write(iova, new Uint8Array(1)), DeviceError, "bus master enable");
    assertEquals(dma.view(iova, 3), undefined);
    bar0.on({ GO: { write: () => dma.write(iova, Uint8Array.of(9)) } });
    const refused = await assertRejects(
      () => device.region("bar0").write32Async(16, 1),
      RemoteError,
    );
    assertEquals(refused.code, "EPERM");
    await device.region("config").write16Async(4, 4);
    await device.region("bar0").write32Async(16, 1);
    assertEquals((await dma.read(iova, 3)).join(), "9,2,3");
    const view = dma.view(iova, 2, DmaMapFlags.WRITE);
    assertEquals(view?.join(), share === "memfd" ? "9,2" : undefined);
    const [bytes, word] = [new Uint8Array(3), Uint32Array.of(0x4030209)];
    const copies = [dma.copyTo(iova, bytes), dma.copyFrom(iova, word)];
    assertEquals(
      copies.map((each) => each instanceof Promise),
      copies.map(() => share !== "memfd"),
    );
    await Promise.all(copies);
    assertEquals([bytes.join(), map.bytes.subarray(0, 5).join()], ["9,2,3", "9,2,3,4,0"]);
    const window = dma.window(iova, 3);
    assertEquals(window?.getUint16(iova), share === "memfd" ? 0x209 : undefined);
    if (window !== undefined) {
      await device.region("config").write16Async(4, 0);
      const refused = assertThrows(() => window.setUint8(iova, 1), DeviceError, "bus master");
      assertEquals([refused.errno, dma.window(iova, 3)], [1, undefined]);
      await device.region("config").write16Async(4, 4);
      window.setUint8(iova, 9);
      await device.reset(); // bus master enable is off again
      assertThrows(() => window.getUint8(iova), DeviceError, "bus master");
      await device.region("config").write16Async(4, 4);
      assertEquals(window.getUint8(iova), 9);
    }
    await map.unmapAsync();
  }
});

testFds("needsBusMaster: false does without it", async () => {
  let dma: DeviceContext["dma"] | undefined;
  const definition = defineDevice({
    name: "free",
    pci: { vendor: 1, device: 1, needsBusMaster: false },
    create(context) {
      dma = context.dma;
      return { regions: {} };
    },
  });
  await using pair = await serveDefined(definition.create());
  const map = await pair.device.dma.mapAsync({ iova: 0n, size: 0x1000 });
  map.bytes[0] = 7;
  assertEquals(dma!.readSync(0n, 1).join(), "7");
});

testFds(
  "what a timer or a background task throws goes to the server; a reset waits for them",
  async () => {
    const { served, bar0, context: { run, timers } } = makeDevice();
    await using pair = await serveDefined(served);
    const { device, errors } = pair;
    timers.after(0, () => {
      throw new Error("in a timer");
    });
    run(() => Promise.reject(new Error("in the background")));
    await until(() => errors.length === 2, "the errors");
    assertEquals(errors.map(([error, doing]) => [(error as Error).message, doing]).sort(), [
      ["in a timer", "timer"],
      ["in the background", "background task"],
    ]);
    const gate = Promise.withResolvers<void>();
    let hasCalled = false;
    const timer = timers.after(3_600_000, () => void (hasCalled = true));
    run(async () => {
      await gate.promise;
      bar0.regs.CTRL.value = 77;
    });
    const resetting = device.reset();
    await until(async () => {
      const { leftMs } = timer;
      await new Promise((resolve) => setTimeout(resolve, 5));
      return timer.leftMs === leftMs;
    }, "the timer to stand still");
    gate.resolve();
    await resetting;
    assertEquals([bar0.regs.CTRL.value, hasCalled, timer.isActive], [5, false, false]);
  },
);

testFds("MSI-X lies on top of the device's region, or has one of its own", async () => {
  const seen: number[] = [];
  const definition = defineDevice({
    name: "msix",
    pci: {
      vendor: 1,
      device: 1,
      capabilities: [cap.msix({ vectors: 2, bar: 0, table: 0x40, pba: 0x80 })],
    },
    create: () => ({
      regions: { bar0: callbacks({ size: 0x100, write: (offset) => void seen.push(offset) }) },
    }),
  });
  await using pair = await serveDefined(definition.create());
  const bar0 = pair.device.region("bar0");
  for (const at of [0x3c, 0x40, 0x5c, 0x60, 0x80, 0x88]) await bar0.write32Async(at, 0xffff_ffff);
  assertEquals(seen, [0x3c, 0x60, 0x88]);
  assertEquals([await bar0.read32Async(0x40), await bar0.read32Async(0x5c)], [0xffff_ffff, 1]);
});

testFds("create() closes what was made if the device can't be", () => {
  let closes = 0;
  const definition = defineDevice({
    name: "bad",
    pci: { vendor: 1, device: 1 },
    create: () => ({
      regions: { bar0: memory({ size: 4096, is64Bit: true }), bar1: memory({ size: 4096 }) },
      close: () => void closes++,
    }),
  });
  assertThrows(() => definition.create(), RangeError, "BAR0 is 64 bits wide");
  assertEquals(closes, 1);
});

testFds("create() closes memory that was made before it threw", () => {
  const made: DeviceMemoryRegion[] = [];
  const inner = defineDevice({
    name: "inner",
    pci: { vendor: 1, device: 1 },
    create: () => ({ regions: { bar0: memory({ size: 4096 }) } }),
  });
  const outside = memory({ size: 4096 });
  const definition = defineDevice({
    name: "bad",
    pci: { vendor: 1, device: 1 },
    create({ memory }) {
      made.push(memory({ size: 4096 }));
      inner.create().close!(); // a device of its own
      made.push(memory({ size: 4096 }));
      throw new Error("no");
    },
  });
  assertThrows(() => definition.create(), Error, "no");
  assertEquals(made.map(({ bytes }) => bytes.length), [0, 0]);
  assertEquals(outside.bytes.length, 4096);
  outside.close();
});

testFds("create() frees what an asynchronous create makes before, during and after", async () => {
  const made: DeviceMemoryRegion[] = [];
  const late: unknown[] = [];
  const { promise: goesOn, resolve: goOn } = Promise.withResolvers<void>();
  const make = (returns: boolean) => async ({ memory: own }: DeviceContext) => {
    made.push(own({ size: 4096 }));
    await goesOn;
    try {
      made.push(own({ size: 4096 }));
    } catch (error) {
      late.push(error);
    }
    if (!returns) throw new Error("no");
    const bar0 = memory({ size: 4096 }); // not of the context: freed as a region
    made.push(bar0);
    return { regions: { bar0 } };
  };
  for (const returns of [false, true]) {
    const definition = defineDevice({
      name: "late",
      pci: { vendor: 1, device: 1 },
      create: make(returns) as never,
    });
    assertThrows(() => definition.create(), DefinitionError, "create: is asynchronous");
  }
  assertEquals(made.map(({ bytes }) => bytes.length), [0, 0]);
  // Another device is made meanwhile: its memory is its own.
  const other = defineDevice({
    name: "other",
    pci: { vendor: 1, device: 1 },
    create: ({ memory }) => ({ regions: { bar0: memory({ size: 4096 }) } }),
  }).create();
  goOn();
  await until(() => late.length === 2 && made.length === 3 && made[2]!.bytes.length === 0);
  assertEquals((late[0] as Error).message.startsWith("Cannot make a region of memory"), true);
  const region = other.regions[0]! as DeviceMemoryRegion;
  assertEquals(region.bytes.length, 4096);
  other.close!();
  assertEquals(region.bytes.length, 0);
});

testFds("create() frees memory whose region is wrong in another way", () => {
  let bar0: DeviceMemoryRegion | undefined;
  const definition = defineDevice({
    name: "bad",
    pci: { vendor: 1, device: 1 },
    create: () => ({ regions: { bar0: bar0 = memory({ size: 4096 }) }, conected() {} }) as never,
  });
  assertThrows(() => definition.create(), DefinitionError, "conected");
  assertEquals(bar0?.bytes.length, 0);
});

testFds("close() frees memory that is in no region", () => {
  let below: DeviceMemoryRegion | undefined;
  const definition = defineDevice({
    name: "hidden",
    pci: { vendor: 1, device: 1 },
    create({ memory }) {
      below = memory({ size: 4096 });
      return { regions: { bar0: callbacks({ size: 16 }) } };
    },
  });
  definition.create().close!();
  assertEquals(below?.bytes.length, 0);
});

testFds("defineDevice() and create() say what is wrong with a device", () => {
  const pci = { vendor: 1, device: 1 };
  const bar0 = callbacks({ size: 4 });
  const wrong: [unknown, string][] = [
    [undefined, "Cannot define the device: undefined, not { name, pci, create }"],
    [{ name: "" }, 'name: "", not a word'],
    [{ name: "x", create: () => ({ regions: {} }) }, "the device x: pci: missing; it takes { ven"],
    [{ name: "x", pci }, "create: missing; it takes the function that makes a device"],
    [
      { name: "x", pci, create: () => ({}), option: {} },
      'option: unknown; did you mean "options"?',
    ],
    [{ name: "x", pci, create: () => {} }, "Cannot make the device x: create: returned undefined"],
    [{ name: "x", pci, create: () => ({}) }, "regions: missing; it takes { bar0 }"],
    [{ name: "x", pci, create: () => Promise.reject(new Error("late")) }, "is asynchronous"],
    [{ name: "x", pci, create: () => ({ regions: { Bar0: bar0 } }) }, 'did you mean "bar0"?'],
    [{ name: "x", pci, create: () => ({ regions: { config: bar0 } }) }, "there are bar0, bar1"],
    [{ name: "x", pci, create: () => ({ regions: { bar0: [] } }) }, "bar0: a list, not a region;"],
    [
      { name: "x", pci, create: () => ({ regions: {}, conected() {} }) },
      'conected: unknown; did you mean "connected"?',
    ],
    [{ name: "x", pci, create: () => ({ regions: {}, reset: 1 }) }, "reset: 1, not a function"],
    [
      { name: "x", pci, create: () => ({ regions: {}, state: {} }) },
      "2 mistakes\n  state.save: missing; it takes a function\n  state.restore: missing",
    ],
    [{ name: "x", pci, create: () => ({ regions: {}, state: true }) }, "state: true, not { save"],
    [
      { name: "x", pci, create: () => ({ regions: { bar0: { ...bar0, raed() {} } } }) },
      'regions.bar0.raed: unknown; did you mean "read"?',
    ],
    [{ name: "x", pci: () => 5, create: () => ({}) }, "pci: its function returned 5, not { ven"],
    [
      { name: "x", pci: () => ({ ...pci, clas: 1 }), create: () => ({}) },
      'pci.clas: unknown; did you mean "class"?',
    ],
    [
      { name: "x", options: { size: 4096 }, pci, create: () => ({}) },
      "options.size: 4096, not an option; write it as option.integer(",
    ],
  ];
  for (const [spec, message] of wrong) {
    assertThrows(() => defineDevice(spec as never).create(), DefinitionError, message);
  }
  defineDevice({ name: "x", pci, create: () => ({ regions: { bar0, bar1: undefined! } }) })
    .create();
});

Deno.test("a device with callbacks migrates only if it says its state", () => {
  const migrates = (state: false | undefined | { save(): null; restore(): void }) =>
    defineDevice({
      name: "m",
      pci: { vendor: 1, device: 1 },
      create: () => ({
        regions: { bar0: callbacks({ size: 16 }) },
        ...(state !== undefined && { state }),
      }),
    }).create().migration !== undefined;
  assertEquals([migrates(undefined), migrates(false)], [false, false]);
  assertEquals(migrates({ save: () => null, restore: () => {} }), true);
});

testFds("a client writes by an eventfd, and reads the ROM", async () => {
  const rung: number[] = [];
  const definition = defineDevice({
    name: "bells",
    pci: { vendor: 1, device: 1 },
    create() {
      const map = { registers: [{ name: "BELL", offset: 4, width: 4, access: "wo" }] } as const;
      const bar0 = registers(map, { ioeventfds: ["BELL"] });
      bar0.on({ BELL: { write: (value) => void rung.push(value) } });
      const rom = callbacks({ size: 0x800, read: (_offset, into) => void into.fill(0x55) });
      return { regions: { bar0, rom } };
    },
  });
  await using pair = await serveDefined(definition.create());
  const { device } = pair;
  using parts = await device.regionIoFds(0);
  parts.kick(parts.entries[0]!);
  await until(() => rung.length === 1, "the bell");
  await device.region("bar0").write32Async(4, 7);
  assertEquals(rung, [0, 7]);
  assertEquals(await device.region("rom").read32Async(0x7fc), 0x55555555);
});

testFds("DMA without end keeps nobody waiting, and ends with a reset", async () => {
  const { served, bar0, context: { dma, run } } = makeDevice();
  await using pair = await serveDefined(served);
  const { device } = pair;
  await device.region("config").write16Async(4, 4);
  await device.dma.mapAsync({ iova: 0, size: 0x1000 });
  let errno = 0;
  let count = 0;
  run(async () => {
    try {
      for (;;) {
        await dma.read(0n, 4);
        count++;
      }
    } catch (error) {
      if (error instanceof DeviceError) errno = error.errno;
    }
  });
  assertEquals(await device.region("bar0").read32Async(0), 5);
  await until(() => count > 1000, "accesses");
  bar0.regs.CTRL.value = 9;
  await device.reset();
  assertEquals([errno, bar0.regs.CTRL.value], [125, 5]);
});

testFds("a reset says what it is for", async () => {
  for (const resetsWithClient of [true, false]) {
    const reasons: string[] = [];
    const release = Promise.withResolvers<void>();
    const bar0 = registers({ registers: [{ name: "SCRATCH", offset: 0, width: 4, reset: 7 }] });
    const definition = defineDevice({
      name: "reasons",
      pci: { vendor: 1, device: 1, capabilities: [cap.express({ flr: true })] },
      resetsWithClient,
      create: () => ({
        regions: { bar0 },
        disconnected: () => void reasons.push("gone"),
        reset: (reason) => {
          reasons.push(reason);
          if (reason === "disconnected") return release.promise;
        },
      }),
    });
    await using pair = await serveDefined(definition.create());
    const { device, path } = pair;
    await device.reset();
    const config = device.region("config");
    await config.write16Async(0x48, 0x8000);
    await device.region("bar0").write32Async(0, 1);
    assertEquals(reasons, ["device", "flr"]);
    device.close();
    const next = connect(path); // waits for the end of the reset
    await until(() => reasons.length === (resetsWithClient ? 4 : 3), "the end of the client");
    assertEquals(reasons.slice(2), resetsWithClient ? ["gone", "disconnected"] : ["gone"]);
    release.resolve();
    using other = await next;
    await other.regionInfo(0);
    assertEquals(await other.region("bar0").read32Async(0), resetsWithClient ? 7 : 1);
    assertEquals(pair.errors, []);
  }
});

testFds("a device that starts anew for each client works, whatever the last one left", async () => {
  const calls: string[] = [];
  const bar0 = registers({ registers: [{ name: "GO", offset: 0, width: 4 }] });
  const bar2 = memory({ size: 0x1_0000 }); // so much that there is PRE_COPY
  const definition = defineDevice({
    name: "anew",
    pci: { vendor: 1, device: 1 },
    resetsWithClient: true,
    create({ run }) {
      bar0.on({ GO: { write: () => run(() => Promise.resolve(void calls.push("task"))) } });
      return { regions: { bar0, bar2 }, reset: (reason) => void calls.push(reason) };
    },
  });
  await using pair = await serveDefined(definition.create());
  pair.device.close();
  for (const state of ["STOP", "STOP_COPY", "PRE_COPY", "RESUMING"] as const) {
    {
      using client = await connect(pair.path);
      await client.migration.setState(state);
    }
    calls.length = 0;
    using next = await connect(pair.path);
    await next.regionInfo(0);
    assertEquals(await next.migration.state(), "RUNNING", state);
    await next.region("bar0").write32Async(0, 1);
    await until(() => calls.includes("task"), `work after ${state}`);
    await next.migration.setState("STOP_COPY"); // of which nothing is under way any more
    assertEquals(pair.errors, []);
  }
});

testFds("a client that a device refuses is not connected to it", async () => {
  let context: DeviceContext | undefined;
  let mayConnect = true;
  const definition = defineDevice({
    name: "refuses",
    pci: { vendor: 1, device: 1, needsBusMaster: false },
    create(given) {
      context = given;
      return {
        regions: { bar0: registers(MAP) },
        connected() {
          if (!mayConnect) throw new DeviceError(16, "busy");
        },
      };
    },
  });
  await using pair = await serveDefined(definition.create());
  pair.device.close();
  mayConnect = false;
  await assertRejects(() => connect(pair.path), RemoteError, "EBUSY");
  await assertRejects(() => context!.dma.read(0n, 1), DeviceError, "no client is connected");
});
