import { assert, assertEquals, assertRejects } from "@std/assert";
import { UnixSocket } from "../../../ffi/socket.ts";
import { connect } from "../../../lib/client/connect.ts";
import type { Device } from "../../../lib/client/device.ts";
import { RemoteError } from "../../../lib/base/errors.ts";
import { DemoDevice, DemoRegister } from "../../../lib/devices/demo.ts";
import { Server } from "../../../lib/server/server.ts";
import { testFds } from "../../_fds.ts";
import { IS_EMULATED } from "../../_deno.ts";
import { PATIENT } from "../../_until.ts";

const MIB = 1 << 20;
const SOURCE = 0x1000_0000;
const DESTINATION = 0x2000_0000;

/** A demo device of its own, and its client. */
async function serveDemo(): Promise<{ device: Device; errors: unknown[] } & Disposable> {
  const [a, b] = UnixSocket.pair();
  const errors: unknown[] = [];
  const server = Server.serve(a.release(), new DemoDevice(), {
    onError: (error) => errors.push(error),
  });
  const device = await connect(b.release());
  for (const index of [0, 2, 4, 7]) await device.regionInfo(index);
  return {
    device,
    errors,
    [Symbol.dispose]() {
      device.close();
      server.close();
    },
  };
}

/** All of what a client can see. */
async function stateOf(device: Device): Promise<Record<string, string>> {
  const registers: string[] = [];
  for (const register of Object.values(DemoRegister)) {
    if (register === DemoRegister.COUNTER) continue; // counts the looks
    registers.push(`${register}=${await device.region("bar0").read32Async(register)}`);
  }
  const [memory, msix, config] = await Promise.all([
    device.region("bar2").readAsync(0, 0x10000, { via: "message" }),
    device.region("bar4").readAsync(0, 0x1000),
    device.readConfigSpace(),
  ]);
  return {
    registers: registers.join(),
    memory: memory.toHex(),
    msix: msix.toHex(),
    config: config.toHex(),
  };
}

/** Gives a device a state that is none of the first. */
async function change(device: Device): Promise<void> {
  const bar0 = device.region("bar0");
  await device.pci.enable();
  await bar0.write32Async(DemoRegister.SCRATCH, 0xdead_beef);
  await bar0.write32Async(DemoRegister.COUNTER, 41);
  await bar0.write32Async(DemoRegister.OPERAND, 0x1234);
  await bar0.write32Async(DemoRegister.DMA_CONTROL, 2 << 8);
  for (let i = 0; i < 5; i++) await bar0.read32Async(DemoRegister.STATUS); // still busy
  const bytes = crypto.getRandomValues(new Uint8Array(0x10000));
  await device.region("bar2").writeAsync(0, bytes, { via: "message" });
  await device.region("bar4").write32Async(0x10, 0xfee0_0000);
}

for (const preCopy of [false, true]) {
  testFds(`a demo device that moves is the same there, with preCopy ${preCopy}`, async () => {
    using here = await serveDemo();
    using there = await serveDemo();
    await change(here.device);
    const counter = (device: Device) => device.region("bar0").read32Async(DemoRegister.COUNTER);
    const options = { preCopy, after: "STOP" } as const;
    await here.device.migration.save(options).pipeTo(there.device.migration.restore());
    await here.device.migration.setState("RUNNING"); // to look at it
    assertEquals(await counter(there.device), await counter(here.device));
    assertEquals(await stateOf(there.device), await stateOf(here.device));
    assertEquals(await counter(there.device), 43);
    assertEquals([here.errors, there.errors], [[], []]);
  });
}

testFds("memory that changes during PRE_COPY arrives as it is at the end", async () => {
  using here = await serveDemo();
  using there = await serveDemo();
  const bar2 = here.device.region("bar2");
  await bar2.writeAsync(0, new Uint8Array(0x10000).fill(1), { via: "message" });
  let changes = 0;
  const stream = here.device.migration.save({
    preCopy: true,
    onProgress: ({ state }) => {
      if (state !== "PRE_COPY") return;
      changes++;
      // As a driver does it, behind the device's back
      bar2.write32(0x8004, 0x0202_0202, { via: "map" });
      bar2.write32(0x3ffc, 0x0303_0303, { via: "map" });
    },
  });
  await stream.pipeTo(there.device.migration.restore());
  assertEquals(changes, 1);
  const memory = await there.device.region("bar2").readAsync(0, 0x10000);
  const expected = new Uint8Array(0x10000).fill(1);
  expected.fill(2, 0x8004, 0x8008).fill(3, 0x3ffc, 0x4000);
  assertEquals(memory.toHex(), expected.toHex());
});

testFds("a copy that is under way goes on where it is restored", async () => {
  using here = await serveDemo();
  using there = await serveDemo();
  const length = (IS_EMULATED ? 2 : 8) * MIB;
  for (const { device } of [here, there]) {
    await device.dma.mapAsync({ iova: SOURCE, size: length });
    await device.dma.mapAsync({ iova: DESTINATION, size: length });
  }
  const bytes = new Uint32Array(length / 4).map((_, i) => i);
  const assertCopied = ({ dma }: Device) => {
    const copy = new Uint32Array(dma.read(DESTINATION, length).buffer);
    assertEquals(copy.findIndex((word, i) => word !== bytes[i]), -1);
  };
  here.device.dma.write(SOURCE, new Uint8Array(bytes.buffer));
  there.device.dma.write(SOURCE, new Uint8Array(bytes.buffer)); // a VMM moves the memory itself
  await here.device.pci.enable();
  const bar0 = here.device.region("bar0");
  await bar0.write32Async(DemoRegister.DMA_SRC_LO, SOURCE);
  await bar0.write32Async(DemoRegister.DMA_DST_LO, DESTINATION);
  await bar0.write32Async(DemoRegister.DMA_LENGTH, length);
  await bar0.write32Async(DemoRegister.DMA_CONTROL, 1 | 3 << 8);
  const irqs = await there.device.irqs("msix");
  await irqs.enable();
  const options = { after: "STOP" } as const;
  await here.device.migration.save(options).pipeTo(there.device.migration.restore(options));
  const copied = here.device.dma.read(DESTINATION, length);
  const done = copied.findLastIndex((byte) => byte !== 0) + 1;
  assert(done < length, "it is to be under way");
  there.device.dma.write(DESTINATION, copied.subarray(0, done));
  await there.device.migration.setState("RUNNING");
  assertEquals(await irqs.waitAsync(3, PATIENT), { vector: 3, count: 1n });
  const region = there.device.region("bar0");
  assertEquals(await region.read32Async(DemoRegister.DMA_STATUS), 1);
  assertCopied(there.device);
  // Here it stands still, and goes on when it may.
  await here.device.migration.setState("RUNNING");
  await bar0.pollAsync(DemoRegister.DMA_STATUS, 4, (status) => status === 1, PATIENT);
  assertCopied(here.device);
});

testFds(
  "a stream that is no state of a demo device leaves it as it was, and the log says why",
  async () => {
    using here = await serveDemo();
    using there = await serveDemo();
    await change(here.device);
    await change(there.device);
    const before = await stateOf(there.device);
    const good: number[] = [];
    for await (const chunk of here.device.migration.save()) good.push(...chunk);
    const bytes = new Uint8Array(good);
    const damaged = bytes.with(40_000, bytes[40_000]! ^ 1);
    const CASES: [stream: Uint8Array, reason: RegExp][] = [
      [bytes.subarray(0, bytes.length - 1), /cut off/],
      [bytes.subarray(0, 1), /cut off/],
      [damaged, /frame 1 is corrupt/],
      [new Uint8Array(100), /no state of a device/],
      [new Uint8Array([...bytes, 0]), /follows its end/],
      [bytes.subarray(52), /frame 1 comes where 0 belongs|no state/],
    ];
    for (const [stream, reason] of CASES) {
      there.errors.length = 0;
      const writer = there.device.migration.restore().getWriter();
      writer.closed.catch(() => {});
      await assertRejects(
        async () => {
          await writer.write(stream);
          await writer.close();
        },
        RemoteError,
        "it does not take this state",
      );
      assert(reason.test((there.errors[0] as Error).message), String(there.errors[0]));
      assertEquals(await there.device.migration.state(), "RUNNING");
      assertEquals((await stateOf(there.device)).memory, before["memory"]);
      assertEquals((await stateOf(there.device)).config, before["config"]);
    }
    const writer = there.device.migration.restore().getWriter();
    await writer.write(bytes);
    await writer.close();
    assertEquals((await stateOf(there.device)).memory, (await stateOf(here.device)).memory);
  },
);
