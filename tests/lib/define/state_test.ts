import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  cap,
  defineDevice,
  DefinitionError,
  type DeviceTimer,
  memory,
  registers,
  RemoteError,
} from "../../../mod.ts";
import type { PlainData } from "../../../lib/define/plain_data.ts";
import { testFds } from "../../_fds.ts";
import { type Pair, serveDefined } from "./_served.ts";
import { until } from "../../_until.ts";

const SIZE = 3 << 20;

/** A device with one of each kind of state. */
function makeDevice(name = "state", version?: number, inPlace?: boolean) {
  const bar0 = registers({
    registers: [
      { name: "A", offset: 0, width: 4 },
      { name: "B", offset: 8, width: 8 },
      { name: "SECRET", offset: 16, width: 4, access: "wo" },
    ],
  });
  const bar2 = memory({ size: SIZE, is64Bit: true });
  const disk = new Uint8Array(100_000);
  const hidden = {
    queue: [] as bigint[],
    timer: undefined as DeviceTimer | undefined,
    calls: 0,
    refuses: false,
  };
  const definition = defineDevice({
    name,
    pci: {
      vendor: 0x1234,
      device: 2,
      interruptPin: "A",
      capabilities: [cap.msix({ vectors: 2, bar: 4 })],
    },
    create({ timers, irq }) {
      return {
        regions: { bar0, bar2 },
        connected: () => irq.intx.set(irq.intx.isUp),
        state: {
          ...(version !== undefined && { version }),
          ...(inPlace !== undefined && { inPlace }),
          bytes: [disk],
          save: (): PlainData => ({ queue: hidden.queue, left: hidden.timer?.leftMs ?? -1 }),
          restore(state) {
            const { queue, left } = state as { queue: bigint[]; left: number };
            hidden.queue = queue;
            if (hidden.refuses && queue.length > 0) throw new Error("not this one");
            hidden.timer = left < 0 ? undefined : timers.after(left, () => void hidden.calls++);
          },
        },
      };
    },
  });
  return { bar0, bar2, disk, hidden, served: definition.create() };
}

type Made = ReturnType<typeof makeDevice>;

/** Puts something into all of the state. */
async function fill({ bar0, bar2, disk, hidden }: Made, { device }: Pair): Promise<void> {
  const { A, B, SECRET } = bar0.regs;
  [A.value, B.value, SECRET.value] = [1, 2n ** 63n, 3];
  for (let i = 0; i < SIZE; i++) bar2.bytes[i] = i * 7 + (i >> 8);
  disk.fill(0x5a);
  hidden.queue = [5n, 6n];
  await device.region("config").write16Async(4, 0x0406);
  await device.region("bar4").write32Async(16, 0xfee0_0000);
}

/** All of the state that a test can see. */
async function stateOf({ bar0, bar2, disk, hidden }: Made, { device }: Pair) {
  const { A, B, SECRET } = bar0.regs;
  return {
    registers: [A.value, B.value, SECRET.value],
    memory: await crypto.subtle.digest("SHA-256", bar2.bytes),
    disk: disk.every((byte) => byte === 0x5a),
    queue: hidden.queue,
    command: await device.region("config").read16Async(4),
    table: await device.region("bar4").read32Async(16),
  };
}

async function save({ device }: Pair): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of device.migration.save()) chunks.push(chunk.slice());
  return chunks;
}

async function restore(
  { device }: Pair,
  chunks: Uint8Array[],
  after: "RUNNING" | "STOP" = "RUNNING",
): Promise<void> {
  await ReadableStream.from(chunks).pipeTo(device.migration.restore({ after }));
}

testFds("a device goes on elsewhere with all of its state", async () => {
  const [one, other] = [makeDevice(), makeDevice()];
  await using from = await serveDefined(one.served);
  await using to = await serveDefined(other.served);
  await fill(one, from);
  const before = await stateOf(one, from);
  await restore(to, await save(from));
  assertEquals(await stateOf(other, to), before);
  assertEquals(await stateOf(one, from), before);
});

testFds(
  "a timer goes on with the time that it had left, which stands still with the device",
  async () => {
    const [source, one, other] = [makeDevice(), makeDevice(), makeDevice()];
    await using first = await serveDefined(source.served);
    await using from = await serveDefined(one.served);
    await using to = await serveDefined(other.served);
    source.hidden.timer = { leftMs: 30, isActive: true, cancel: () => {} };
    await restore(first, await save(first), "STOP"); // now it is a real one, which stands still
    const saved = first.device.migration.save({ after: "STOP" });
    const chunks: Uint8Array[] = [];
    for await (const chunk of saved) chunks.push(chunk.slice());
    await new Promise((resolve) => setTimeout(resolve, 60));
    assertEquals(source.hidden.calls, 0); // it is stopped
    await restore(from, chunks);
    await until(() => one.hidden.calls === 1, "the timer");
    await first.device.migration.setState("RUNNING");
    await until(() => source.hidden.calls === 1, "the timer of the first");
    assertEquals(other.hidden.calls, 0);
    assertEquals(await to.device.migration.state(), "RUNNING");
  },
);

testFds(
  "a state that is cut off, changed or of another device is refused, and nothing is changed",
  async () => {
    const [one, other, stranger] = [makeDevice(), makeDevice(), makeDevice("stranger")];
    const newer = makeDevice("state", 2);
    await using from = await serveDefined(one.served);
    await using to = await serveDefined(other.served);
    await using away = await serveDefined(stranger.served);
    await using ahead = await serveDefined(newer.served);
    await fill(one, from);
    const chunks = await save(from);
    const before = await stateOf(other, to);
    const changed = chunks.map((chunk) => chunk.slice());
    changed[1]![1000]! ^= 1;
    const bad = [chunks.slice(0, -1), chunks.slice(1), changed, [chunks[0]!, ...chunks], [
      ...chunks,
      chunks[0]!,
    ]];
    for (const each of bad) await assertRejects(() => restore(to, each));
    for (const pair of [away, ahead]) await assertRejects(() => restore(pair, chunks));
    assertEquals(await stateOf(other, to), before);
    await restore(to, chunks); // it can still take a good one
    assertEquals(other.hidden.queue, [5n, 6n]);
  },
);

testFds("a device that refuses its part keeps what it had", async () => {
  const [one, other] = [makeDevice(), makeDevice()];
  await using from = await serveDefined(one.served);
  await using to = await serveDefined(other.served);
  await fill(one, from);
  other.bar0.regs.A.value = 77;
  const before = await stateOf(other, to);
  other.hidden.refuses = true;
  const chunks = await save(from);
  await assertRejects(() => restore(to, chunks));
  assertEquals(await stateOf(other, to), before);
});

testFds(
  "memory that is restored in place takes a state as it comes, and holds it once",
  async () => {
    const [one, other] = [makeDevice(), makeDevice("state", undefined, true)];
    await using from = await serveDefined(one.served);
    await using to = await serveDefined(other.served);
    await fill(one, from);
    const before = await stateOf(one, from);
    const writer = to.device.migration.restore().getWriter();
    for (const chunk of await save(from)) await writer.write(chunk);
    // The memory has all of it, but the device has not taken it on.
    await until(() => other.bar2.bytes.every((byte, i) => byte === one.bar2.bytes[i]));
    await until(() => other.disk.every((byte) => byte === 0x5a));
    assertEquals([other.bar0.regs.A.value, other.hidden.queue], [0, []]);
    await writer.close();
    assertEquals(await stateOf(other, to), before);
    assertEquals(await to.device.migration.state(), "RUNNING");
  },
);

testFds(
  "a device with memory in place that does not get all of a state is to be reset",
  async () => {
    const [one, other] = [makeDevice(), makeDevice("state", undefined, true)];
    await using from = await serveDefined(one.served);
    await using to = await serveDefined(other.served);
    const { device, errors } = to;
    await fill(one, from);
    const chunks = await save(from);
    const broken: readonly [() => Promise<void>, what: string][] = [
      [() => restore(to, chunks.slice(0, -1)), "cut off"],
      [() => restore(to, [...chunks, new Uint8Array([1])]), "with something behind it"],
      [async () => {
        const writer = device.migration.restore().getWriter();
        writer.closed.catch(() => {});
        for (const chunk of chunks) await writer.write(chunk);
        await writer.abort(new Error("enough"));
        throw new Error("enough");
      }, "aborted"],
      [async () => {
        other.hidden.refuses = true;
        await restore(to, chunks).finally(() => other.hidden.refuses = false);
      }, "refused by the device"],
    ];
    for (const [act, what] of broken) {
      other.bar0.regs.A.value = 77;
      await assertRejects(act);
      assertEquals(await device.migration.state(), "ERROR", what);
      assertEquals(other.bar0.regs.A.value, 77, what);
      await device.reset();
      assertEquals(await device.migration.state(), "RUNNING", what);
    }
    assertEquals(errors.length, 4);
    assert(errors.every((error) => /has changed: it is in ERROR until a reset/.test(`${error}`)));
    // What is refused at its beginning has changed nothing.
    await using stranger = await serveDefined(makeDevice("another").served);
    const others = await save(stranger);
    await assertRejects(() => restore(to, others), RemoteError);
    assertEquals(await device.migration.state(), "RUNNING");
    await restore(to, chunks);
    assertEquals(await stateOf(other, to), await stateOf(one, from));
  },
);

testFds("a device that can't say its state is not saved, and goes on", () => {
  const one = makeDevice();
  one.hidden.queue = [Symbol() as unknown as bigint];
  const { migration } = one.served;
  assertThrows(
    () => [...migration!.stopCopy(false) as Iterable<Uint8Array>],
    TypeError,
    "state.queue[0]",
  );
  one.served.close!();
});

testFds("a device may take its time to take its part, or to refuse it", async () => {
  let given: unknown;
  const make = () =>
    defineDevice({
      name: "slow",
      pci: { vendor: 1, device: 1 },
      create: () => ({
        regions: {},
        state: {
          save: () => 7,
          async restore(state) {
            await new Promise((resolve) => setTimeout(resolve, 1));
            if (given === "refuse") throw new Error("not this one");
            given = state;
          },
        },
      }),
    }).create();
  await using from = await serveDefined(make());
  await using to = await serveDefined(make());
  const chunks = await save(from);
  await restore(to, chunks);
  assertEquals(given, 7);
  given = "refuse";
  await assertRejects(() => restore(to, chunks), RemoteError, "EIO");
});

testFds("a state that is a promise is told to be one, and is not saved", async () => {
  const served = defineDevice({
    name: "late",
    pci: { vendor: 1, device: 1 },
    create: () => ({
      regions: {},
      state: { save: () => Promise.reject(new Error("late")) as never, restore: () => {} },
    }),
  }).create();
  const { migration } = served;
  assertThrows(() => [...migration!.stopCopy(false) as Iterable<Uint8Array>], TypeError, "promise");
  await new Promise((resolve) => setTimeout(resolve, 1)); // and it ends nothing
  served.close!();
});

testFds("a state of a device whose configuration space is another is refused", async () => {
  const make = (marks: number[], masking = true) =>
    defineDevice({
      name: "like",
      pci: {
        vendor: 1,
        device: 1,
        interruptPin: "A",
        interruptMasking: "device",
        capabilities: [cap.vendor(marks), cap.msi({ masking })],
      },
      create: ({ irq }) => ({
        regions: {},
        connected() {
          irq.intx.set(true);
          irq.msi(0).raise();
        },
      }),
    }).create();
  await using from = await serveDefined(make([1, 2]));
  const msi = (await from.device.pci.capability("CAP_MSI"))!;
  const config = from.device.region("config");
  await config.write32Async(msi + 16, 1); // masked
  await config.write16Async(msi + 2, 1);
  await using again = await serveDefined(make([1, 2]));
  await using other = await serveDefined(make([1, 3]));
  const chunks = await save(from);
  await restore(again, chunks);
  assertEquals(await again.device.region("config").read32Async(msi + 16), 1);
  assertEquals(await again.device.region("config").read16Async(6), 0x18);
  await assertRejects(() => restore(other, chunks), RemoteError, "EINVAL");
  assertEquals(await other.device.region("config").read32Async(msi + 16), 0);
});

testFds("restore() that is aborted when all has come leaves the device its state", async () => {
  const [one, other] = [makeDevice(), makeDevice()];
  await using from = await serveDefined(one.served);
  await using to = await serveDefined(other.served);
  await fill(one, from);
  const before = await stateOf(other, to);
  const chunks = await save(from);
  for (const bySignal of [false, true]) {
    const off = new AbortController();
    const writer = to.device.migration.restore({ signal: off.signal }).getWriter();
    writer.closed.catch(() => {});
    for (const chunk of chunks) await writer.write(chunk);
    if (bySignal) off.abort(new Error("called off"));
    else await writer.abort(new Error("called off"));
    await assertRejects(() => writer.close());
    while (await to.device.migration.state() !== "RUNNING");
    assertEquals(await stateOf(other, to), before);
  }
  await restore(to, chunks);
  assertEquals(other.hidden.queue, [5n, 6n]);
});

testFds(
  "what a client begins while a device is restored ends with the state that goes",
  async () => {
    const done: string[] = [];
    const finish = (what: string) => Promise.resolve(void done.push(what));
    const make = () => {
      const bar0 = registers({ registers: [{ name: "GO", offset: 0, width: 4 }] });
      return defineDevice({
        name: "busy",
        pci: { vendor: 1, device: 1 },
        create({ run }) {
          bar0.on({ GO: { write: (value) => run(() => finish(`write ${value}`)) } });
          return {
            regions: { bar0 },
            state: { save: () => null, restore: () => run(() => finish("restore")) },
          };
        },
      }).create();
    };
    await using from = await serveDefined(make());
    await using to = await serveDefined(make());
    const chunks = await save(from);
    const { migration } = to.device;
    const bar0 = to.device.region("bar0");
    const writer = migration.restore().getWriter();
    for (const chunk of chunks) await writer.write(chunk);
    await bar0.write32Async(0, 1);
    await writer.close();
    await until(() => done.length > 0, "what the restored state has to do");
    assertEquals(done.splice(0), ["restore"]);

    await migration.setState("RESUMING");
    await bar0.write32Async(0, 2);
    await to.device.reset();
    assertEquals(await migration.state(), "RUNNING");
    assertEquals(done.splice(0), []);

    await migration.setState("RESUMING");
    for (let i = 0; i < 1024; i++) await bar0.write32Async(0, 3);
    const refused = await assertRejects(() => bar0.write32Async(0, 4), RemoteError);
    assertEquals(refused.code, "EAGAIN");
    await migration.setState("RUNNING");
    await until(() => done.length === 1024, "what was to be done");
    assertEquals(done.at(-1), "write 3");
  },
);

testFds("what changes while a device is saved at work goes along", async () => {
  const [one, other] = [makeDevice(), makeDevice()];
  await using from = await serveDefined(one.served);
  await using to = await serveDefined(other.served);
  await fill(one, from);
  const sizes = { PRE_COPY: 0, STOP_COPY: 0 };
  let last = 0;
  const stream = from.device.migration.save({
    preCopy: true,
    onProgress({ bytes, state }) {
      sizes[state as keyof typeof sizes] += bytes - last;
      last = bytes;
      if (state !== "PRE_COPY") return;
      one.bar2.bytes[bytes % SIZE]! ^= 0xff; // ahead of what was read, or behind it
      one.bar2.bytes[0]! ^= 1;
      one.disk[99_999]! = 0x5b;
      one.bar0.regs.A.value++;
    },
  });
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk.slice());
  await restore(to, chunks);
  assertEquals(await stateOf(other, to), await stateOf(one, from));
  assertEquals([other.disk[99_999], other.disk[99_998]], [0x5b, 0x5a]);
  assert(sizes.PRE_COPY > SIZE && sizes.STOP_COPY < 100_000, JSON.stringify(sizes));
});

testFds("a state is whole wherever the part that is saved at work ends", async () => {
  const [one, other] = [makeDevice(), makeDevice()];
  await using from = await serveDefined(one.served);
  await using to = await serveDefined(other.served);
  await fill(one, from);
  const { migration } = one.served;
  for (const count of [0, 1, 2, 3, 4]) {
    const chunks: Uint8Array[] = [];
    const begun = migration!.preCopy!() as Generator<Uint8Array>;
    for (let i = 0; i < count; i++) {
      const { done, value } = begun.next();
      if (!done) chunks.push(value.slice());
    }
    begun.return(undefined);
    one.bar2.bytes[count * 1000]! ^= 1;
    for await (const chunk of migration!.stopCopy(count > 0)) chunks.push(chunk.slice());
    migration!.saveEnded!();
    await restore(to, chunks);
    assertEquals(await stateOf(other, to), await stateOf(one, from));
  }
});

Deno.test("a device with little memory has no PRE_COPY", () => {
  const definition = defineDevice({
    name: "small",
    pci: { vendor: 1, device: 1 },
    create: () => ({ regions: { bar0: registers({ registers: [] }) } }),
  });
  assertEquals(definition.create().migration?.preCopy, undefined);
});

/** A device of two versions: the second keeps half of what the first did in memory of its own. */
function versioned(version: 1 | 2, refuses = false) {
  const log: string[] = [];
  const bar0 = registers({ registers: [{ name: "A", offset: 0, width: 4 }] });
  const disk = new Uint8Array(4);
  const definition = defineDevice({
    name: "versioned",
    pci: {
      vendor: 0x1234,
      device: 3,
      ...(version === 2 && { subsystem: { vendor: 1, device: 2 } }),
    },
    create: ({ memory }) => ({
      regions: { bar0, bar2: memory({ size: 4096 }) },
      stop: () => void log.push("stop"),
      start: () => void log.push("start"),
      state: {
        version,
        ...(version === 2 && {
          bytes: [disk],
          earlier: [{
            version: 1,
            subsystem: { vendor: 0, device: 0 },
            sections: { 0: 0, 1: 256, 2: 4, 3: 4096 },
            regions: { config: 1, bar0: 2, bar2: 3 },
            restore(section: (number: number) => Uint8Array) {
              disk.set(section(2));
              if (refuses) throw new Error("not this one");
            },
          }],
        }),
        save: (): PlainData => undefined,
        restore: () => {},
      },
    }),
  });
  return { log, bar0, disk, served: definition.create() };
}

testFds("a state of an earlier version is taken by what says how", async () => {
  const [one, two, refusing] = [versioned(1), versioned(2), versioned(2, true)];
  await using from = await serveDefined(one.served);
  await using to = await serveDefined(two.served);
  await using wrong = await serveDefined(refusing.served);
  await from.device.region("config").write16Async(4, 0x0006);
  one.bar0.regs.A.value = 0x01020304;
  await from.device.region("bar2").write32Async(8, 77);
  const chunks = await save(from);
  assertEquals(one.log, ["stop", "start"]);
  const seen = async ({ device }: Pair, made: ReturnType<typeof versioned>) => [
    made.bar0.regs.A.value,
    [...made.disk],
    await device.region("bar2").read32Async(8),
    await device.region("config").read16Async(4),
    await device.region("config").read32Async(0x2c),
  ];
  await restore(to, chunks);
  assertEquals(await seen(to, two), [0x01020304, [4, 3, 2, 1], 77, 6, 0x0002_0001]);
  refusing.bar0.regs.A.value = 9;
  await assertRejects(() => restore(wrong, chunks), RemoteError);
  assertEquals(await seen(wrong, refusing), [9, [0, 0, 0, 0], 0, 0, 0x0002_0001]);
  // The other way round, it is refused by its version.
  await assertRejects(() => save(to).then((later) => restore(from, later)), RemoteError);
  assert(from.errors.some(([error]) => String(error).includes("version 2, not")));
});

Deno.test("earlier forms of a state are checked as they are written", () => {
  const made = (earlier: unknown) => () =>
    defineDevice({
      name: "x",
      pci: { vendor: 1, device: 1 },
      create: () => ({
        regions: {},
        state: { earlier, save: () => undefined, restore: () => {} } as never,
      }),
    }).create();
  assertThrows(made(1), DefinitionError, "state.earlier: 1, not a list");
  assertThrows(made([1]), DefinitionError, "state.earlier[0]: 1, not { version");
  assertThrows(made([{ sections: {} }]), DefinitionError, "state.earlier[0].version: missing");
  const regions = { bar9: 0 };
  assertThrows(made([{ version: 1, sections: {}, regions }]), DefinitionError, "bar9: unknown");
});

testFds("isBusMaster() says what COMMAND says", async () => {
  let ask: (() => boolean) | undefined;
  const definition = defineDevice({
    name: "master",
    pci: { vendor: 1, device: 1 },
    create({ isBusMaster }) {
      ask = isBusMaster;
      return { regions: {} };
    },
  });
  await using pair = await serveDefined(definition.create());
  assertEquals(ask!(), false);
  await pair.device.region("config").write16Async(4, 4);
  assertEquals(ask!(), true);
});
