import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { connect, defineDevice, overlay, registers } from "../../../mod.ts";
import type { DeviceParts, DeviceSpec } from "../../../lib/define/spec.ts";
import { thrownText } from "../../../lib/base/thrown.ts";
import { DeviceState } from "../../../lib/wire/feature.ts";
import type { MemoryRegion } from "../../../lib/server/memory_region.ts";
import { MigrationMachine } from "../../../lib/server/migration.ts";
import { Server, type ServerOptions } from "../../../lib/server/server.ts";
import type { Succession } from "../../../lib/server/succession.ts";
import { testFds } from "../../_fds.ts";
import { PATIENT, until } from "../../_until.ts";
import watchdog from "../define/_watchdog.ts";
import { TestDevice } from "./_client.ts";
import { MigratingDevice } from "./_migration.ts";

const PCI = { vendor: 0x1234, device: 0x5678, interruptPin: "A" } as const;

/** A version of a device with registers, memory and a count that is in neither. */
interface Version {
  /** The value that is added to each write. */
  add?: number;
  pci?: Partial<DeviceSpec<Record<never, never>>["pci"] & object>;
  size?: number;
  parts?: Partial<DeviceParts>;
  heard?: string[];
  registers?: { name: string; offset: number; width: 4 }[];
}

function version(
  { add = 0, pci = {}, size = 0x2000, parts = {}, heard = [], registers: more = [] }: Version = {},
) {
  return defineDevice({
    name: "versioned",
    pci: { ...PCI, ...pci },
    create({ irq, dma, memory }) {
      let count = 0;
      const regs = registers({
        registers: [
          { name: "VALUE", offset: 0, width: 4 },
          { name: "COUNT", offset: 4, width: 4, access: "ro" },
          { name: "DMA", offset: 8, width: 4 },
          { name: "PIN", offset: 12, width: 4 },
          ...more,
        ],
      }, { size: 0x1000, ioeventfds: ["PIN"] }).on({
        VALUE: { write: (value) => void (regs.regs.VALUE.value = value + add) },
        COUNT: { read: () => ++count },
        DMA: { write: (iova) => dma.write(BigInt(iova), new Uint8Array([add])) },
        PIN: {
          write: (value) => {
            heard.push(`pin ${add}`);
            irq.intx.set(value !== 0);
          },
        },
      });
      const below = memory({ size, mappable: [{ offset: 0x1000, size: 0x1000 }] });
      return {
        regions: { bar0: overlay(below, [{ offset: 0, region: regs }]) },
        state: { save: () => count, restore: (saved) => void (count = Number(saved)) },
        connected: () => void heard.push("connected"),
        mapped: ({ iova }) => void heard.push(`mapped ${iova}`),
        unmapped: ({ iova }) => void heard.push(`unmapped ${iova}`),
        disconnected: () => void heard.push("disconnected"),
        masked: (index, vector, isMasked) =>
          void heard.push(`masked ${index} ${vector} ${isMasked}`),
        close: () => void heard.push("closed"),
        ...parts,
      };
    },
  }).create();
}

/** A hook `stop` that waits at a gate; `stopped` is settled when it does. */
function slowStop() {
  const [called, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const stop = () => {
    called.resolve();
    return gate.promise;
  };
  return { stop, stopped: called.promise, gate };
}

/** A server with a client that has seen all of the device. */
async function serve(device = version(), options: ServerOptions = {}) {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const errors: unknown[] = [];
  const server = Server.listen(`${folder}/s.sock`, device, {
    onError: (error) => void errors.push(error),
    ...options,
  });
  const open = async () => {
    const client = await connect(server.path!, PATIENT);
    await client.info();
    const { numRegions } = await client.info();
    for (let index = 0; index < numRegions; index++) await client.regionInfo(index);
    return client;
  };
  const done: Succession[] = [];
  return {
    server,
    client: await open(),
    open,
    done,
    errors,
    replace: (make: () => typeof device) =>
      server.replaceDevice(make, (each) => void done.push(each)),
    async [Symbol.asyncDispose]() {
      server.close();
      await server.closed;
      Deno.removeSync(folder, { recursive: true });
    },
  };
}

testFds("a client goes on with a new version: memory, maps, interrupts and eventfds", async () => {
  await using served = await serve();
  const { client } = served;
  const bar0 = client.region("bar0");
  await client.region("config").writeAsync(4, new Uint8Array([6])); // memory, bus master
  await bar0.write32Async(0, 5);
  assertEquals([await bar0.read32Async(4), await bar0.read32Async(4)], [1, 2]);
  using map = await client.dma.mapAsync({ iova: 0x10000n, size: 4096 });
  const intx = await client.irqs("intx");
  await intx.enable();
  using parts = await client.regionIoFds(0);
  assertEquals(bar0.via(0x1000, 4), "map");
  bar0.write32(0x1ffc, 0x1234); // no message: the client's own mapping

  const [old, heard]: string[][] = [[], []];
  await served.replace(() => version({ add: 100, heard: heard! }));
  assertEquals(served.done, [{ when: "now", reason: undefined, lost: [] }]);
  assertEquals(heard, ["connected", "mapped 65536"]);
  assertEquals(old, []);
  assertEquals(await bar0.read32Async(0), 5); // a register
  assertEquals(await bar0.read32Async(4), 3); // what its state has
  await bar0.write32Async(0, 5);
  assertEquals(await bar0.read32Async(0), 105); // it is the new version
  assertEquals(bar0.read32(0x1ffc), 0x1234);
  const memory = served.server.device.regions[0]!.memory as MemoryRegion;
  assertEquals([...memory.bytes.subarray(0x1ffc, 0x2000)], [0x34, 0x12, 0, 0]);
  bar0.write32(0x1ff8, 0x77); // the map that the client made of the old version
  assertEquals(memory.bytes[0x1ff8], 0x77);
  await bar0.write32Async(8, 0x10000); // DMA by the bus master that it still is
  assertEquals(map.bytes[0], 100);
  await bar0.write32Async(12, 1);
  assertEquals((await intx.waitAsync(0, PATIENT)).vector, 0);
  parts.kick(parts.entries[0]!);
  await until(() => heard!.filter((each) => each === "pin 100").length === 2);
  client.close();
  await until(() => heard!.includes("disconnected"));
  assertEquals(served.errors, []);
});

testFds("the version that goes hears that the client is gone, and is closed", async () => {
  const heard: string[] = [];
  await using served = await serve(version({ heard }));
  using map = await served.client.dma.mapAsync({ iova: 0x10000n, size: 4096 });
  await served.replace(() => version());
  assertEquals(heard, ["connected", "mapped 65536", "unmapped 65536", "disconnected", "closed"]);
  assertEquals(map.size, 4096);
  served.client.close();
});

testFds("a new version hears which interrupts its client has masked", async () => {
  const heard: string[] = [];
  await using served = await serve();
  const intx = await served.client.irqs("intx");
  await intx.enable();
  await intx.mask(0);
  await served.replace(() => version({ heard }));
  assertEquals(heard, ["connected", "masked 0 0 true"]);
  await served.client.region("bar0").write32Async(12, 1);
  assertEquals(intx.total(0), 0n);
  await intx.unmask(0);
  assertEquals((await intx.waitAsync(0, PATIENT)).vector, 0);
  served.client.close();
});

testFds("requests that come meanwhile wait, and are the new version's", async () => {
  const { stop, stopped, gate } = slowStop();
  await using served = await serve(version({ parts: { stop } }));
  const { client } = served;
  const replaced = served.replace(() => version({ add: 100 }));
  await stopped;
  const written = client.region("bar0").write32Async(0, 1);
  const value = client.region("bar0").read32Async(0);
  gate.resolve();
  await replaced;
  await written;
  assertEquals(await value, 101);
  client.close();
});

testFds(
  "registers that are new begin with their reset value, what is left out is told",
  async () => {
    const MORE = [{ name: "MORE", offset: 16, width: 4, reset: 7 } as const];
    await using served = await serve();
    const bar0 = served.client.region("bar0");
    await bar0.write32Async(0, 1);
    await served.replace(() => version({ registers: MORE }));
    assertEquals([await bar0.read32Async(0), await bar0.read32Async(16)], [1, 7]);
    await served.replace(() => version());
    assertEquals(served.done.map(({ lost }) => lost), [[], ["part 1 of bar0 from 0x10 on"]]);
    await served.replace(() => version({ parts: { state: false } }));
    assertMatch(thrownText(served.done[2]!.reason), /it does not migrate any more/);
    served.client.close();
  },
);

for (
  const [what, changed, expected] of [
    ["a BAR", { size: 0x4000 }, /bar0 has 16384 bytes, had 8192/],
    ["ids", { pci: { device: 1 } }, /configuration space has another device id/],
    ["interrupts", { pci: { interruptPin: undefined } }, /vectors of intx is 0, was 1/],
  ] as const
) {
  testFds(`another shape is for the next client: ${what}`, async () => {
    await using served = await serve();
    await served.replace(() => version({ ...changed as Version, add: 100 }));
    assertEquals([served.done.length, served.done[0]!.when], [1, "next client"]);
    assertMatch(thrownText(served.done[0]!.reason), expected);
    const bar0 = served.client.region("bar0");
    await bar0.write32Async(0, 1);
    assertEquals(await bar0.read32Async(0), 1); // still the old one
    served.client.close();
    using next = await served.open();
    await next.region("bar0").write32Async(0, 1);
    assertEquals(await next.region("bar0").read32Async(0), 101);
    assertEquals([served.done.length, served.done[1]!.when], [2, "now"]);
  });
}

testFds("a version that can't take the state leaves the old one as it was", async () => {
  await using served = await serve();
  const bar0 = served.client.region("bar0");
  await bar0.write32Async(0, 1);
  const restore = () => {
    throw new Error("not such a state");
  };
  let made = 0;
  const make = () => {
    made++;
    return version({ add: 100, parts: { state: { save: () => 0, restore } } });
  };
  bar0.write32(0x1000, 42);
  await served.replace(make);
  assertMatch(thrownText(served.done[0]!.reason), /not such a state/);
  assertEquals(await bar0.read32Async(4), 1);
  assertEquals([await bar0.read32Async(0), bar0.read32(0x1000)], [1, 42]);
  served.client.close();
  using next = await served.open();
  assertEquals(served.done[1]!.when, "now");
  assertMatch(thrownText(served.done[1]!.reason), /not such a state/);
  assertEquals([await next.region("bar0").read32Async(0), made], [0, 3]); // afresh
});

testFds("another version of the state is told, or taken if it is described", async () => {
  const state = (earlier?: object) => ({
    version: 2,
    save: () => 0,
    restore: () => {},
    ...earlier,
  });
  await using served = await serve();
  await served.replace(() => version({ parts: { state: state() } }));
  assertMatch(thrownText(served.done[0]!.reason), /its state is of version 1, .* state\.earlier/);
  const sections = { 0: 4, 1: 256, 2: 0x2000, 3: 16 };
  const earlier = [{ version: 1, sections: { ...sections, 0: 1 }, regions: { config: 1 } }];
  await served.replace(() => version({ add: 100, parts: { state: state({ earlier }) } }));
  assertEquals(served.done[1], { when: "now", reason: undefined, lost: [] });
  served.client.close();
});

testFds("a device that does not stand still goes on as it was", async () => {
  const never = new Promise<void>(() => {});
  await using served = await serve(version({ parts: { stop: () => never } }), {
    quiesceTimeoutMs: 30,
  });
  await served.replace(() => version());
  assertMatch(thrownText(served.done[0]!.reason), /stopping the old version took more than 30 ms/);
  assertEquals(await served.client.region("bar0").read32Async(4), 1);
  served.client.close();
});

testFds("a client that leaves in the middle is told to the version that stays", async () => {
  const [old, next]: string[][] = [[], []];
  const { stop, stopped, gate } = slowStop();
  await using served = await serve(version({ heard: old!, parts: { stop } }));
  const replaced = served.replace(() => version({ heard: next! }));
  await stopped;
  served.client.close();
  await until(() => old!.includes("disconnected"));
  gate.resolve();
  await replaced;
  await until(() => old!.includes("closed"));
  using again = await served.open();
  assertEquals(await again.region("bar0").read32Async(4), 1);
  assertEquals(old!.filter((each) => each === "disconnected").length, 1);
  assertEquals(served.done.at(-1)!.when, "now");
});

testFds(
  "a failure of make changes nothing, a server that closes meanwhile closes both",
  async () => {
    await using served = await serve();
    const make = () => {
      throw new Error("a mistake");
    };
    await assertRejects(() => served.replace(make), Error, "a mistake");
    assertEquals(served.done, []);
    served.client.close();
    const heard: string[] = [];
    const [making, made] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const replaced = served.server.replaceDevice(async () => {
      making.resolve();
      await made.promise;
      return version({ heard });
    });
    await making.promise;
    served.server.close();
    await served.server.closed;
    made.resolve();
    await replaced;
    assertEquals(heard, ["closed"]);
  },
);

testFds("a server that closes while state is handed on waits for that", async () => {
  for (const isRefused of [false, true]) {
    const { stop, stopped, gate } = slowStop();
    const [old, next] = [[] as string[], [] as string[]];
    const tell = (heard: string[]) => ({
      start: () => void heard.push("start"),
      close: () => void heard.push("close"),
    });
    const left = Promise.withResolvers<void>();
    await using served = await serve(version({ parts: { ...tell(old), stop } }), {
      onDisconnect: () => left.resolve(),
    });
    const { server } = served;
    served.client.close();
    await left.promise;
    const make = () => version({ parts: tell(next), pci: { device: isRefused ? 7 : 0x5678 } });
    const replaced = served.replace(make);
    await stopped;
    server.close();
    gate.resolve();
    await server.closed;
    await replaced;
    assertEquals(old, isRefused ? ["start", "close"] : ["close"]);
    assertEquals(next, isRefused ? ["close"] : ["start", "close"]);
  }
});

testFds("devices by hand hand their state on as they migrate, or not at all", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const done: Succession[] = [];
  using server = Server.listen(`${folder}/s.sock`, new MigratingDevice());
  const first = server.device as MigratingDevice;
  using client = await connect(server.path!, PATIENT);
  await client.info();
  const next = new MigratingDevice();
  await server.replaceDevice(() => next, (each) => void done.push(each));
  assertEquals(done, [{ when: "now", reason: undefined, lost: [] }]);
  assertEquals([first.closes, next.bus !== undefined], [1, true]);
  assertEquals(server.device, next);
  client.close();
  using plain = Server.listen(`${folder}/p.sock`, new TestDevice());
  using other = await connect(plain.path!, PATIENT);
  await other.info();
  await plain.replaceDevice(() => new TestDevice(), (each) => void done.push(each));
  assertEquals(done[1]!.when, "next client");
  assertMatch(thrownText(done[1]!.reason), /no hooks by which it tells its state/);
  Deno.removeSync(folder, { recursive: true });
});

testFds("a device that can't go on holds nobody up", async () => {
  const old = new MigratingDevice();
  const next = new MigratingDevice();
  next.faults.add("resume");
  await using served = await serve(old as never, { quiesceTimeoutMs: 20 });
  for (const start of [() => new Promise<void>(() => {}), () => Promise.reject(new Error("no"))]) {
    Object.assign(old.migration, { start });
    await served.replace(() => next as never);
    assertMatch(thrownText(served.done.at(-1)!.reason), /The test has resume fail/);
    await served.client.info(PATIENT); // is answered
  }
  const errors = served.errors.map((each) => (each as Error).message);
  assertEquals(errors, ["having the old version go on took more than 20 ms", "no"]);
  served.client.close();
});

testFds(
  "a device that is not on the PCI bus is replaced, with the levels of its pins",
  async () => {
    await using served = await serve(watchdog.create() as ReturnType<typeof version>);
    const { client } = served;
    await client.region("region0").write32Async(8, 1); // up
    await served.replace(() => watchdog.create() as ReturnType<typeof version>);
    assertEquals(served.done, [{ when: "now", reason: undefined, lost: [] }]);
    const pin = await client.irqs(0);
    await pin.enable(); // fires, for it is up
    assertEquals((await pin.waitAsync(0, PATIENT)).vector, 0);
    client.close();
  },
);

testFds("a client that migrates the device keeps it", async () => {
  await using served = await serve();
  const { client } = served;
  await MigrationMachine.of(served.server.device)!.setState(DeviceState.STOP);
  await served.replace(() => version());
  assertMatch(thrownText(served.done[0]!.reason), /migration state STOP/);
  assert(served.done[0]!.when === "next client");
  client.close();
});
