import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { UnixSocket } from "../../../ffi/socket.ts";
import { connect } from "../../../lib/client/connect.ts";
import type { Device } from "../../../lib/client/device.ts";
import { crc32 } from "../../../lib/base/crc32.ts";
import { RemoteError } from "../../../lib/base/errors.ts";
import { DemoRegister } from "../../../lib/devices/demo.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { Server } from "../../../lib/server/server.ts";
import { testFds } from "../../_fds.ts";
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
  const length = 32 * MIB; // far more than is copied until the device is stopped
  for (const { device } of [here, there]) {
    await device.dma.mapAsync({ iova: SOURCE, size: length });
    await device.dma.mapAsync({ iova: DESTINATION, size: length });
  }
  const bytes = new Uint32Array(length / 4).map((_, i) => ~i); // no byte at an end is 0
  const assertCopied = ({ dma }: Device) => {
    const copy = new Uint32Array(dma.read(DESTINATION, length).buffer);
    assertEquals(copy.findIndex((word, i) => word !== bytes[i]), -1);
  };
  here.device.dma.write(SOURCE, new Uint8Array(bytes.buffer));
  there.device.dma.write(SOURCE, new Uint8Array(bytes.buffer)); // a VMM moves the memory itself
  const irqs = await there.device.irqs("msix");
  await irqs.enable();
  await here.device.pci.enable();
  const bar0 = here.device.region("bar0");
  await bar0.write32Async(DemoRegister.DMA_SRC_LO, SOURCE);
  await bar0.write32Async(DemoRegister.DMA_DST_LO, DESTINATION);
  await bar0.write32Async(DemoRegister.DMA_LENGTH, length);
  await bar0.write32Async(DemoRegister.DMA_CONTROL, 1 | 3 << 8);
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
      [damaged, /frame \d is corrupt/],
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

/**
 * A state that version 1 of the device saved, gzip in base64. A copy of 3 MiB from 0x1_1000_0000 to
 * 0x2000_0000 is under way, 1 MiB of it done. The memory has 3 * i at each i that is a multiple of
 * 0x100.
 */
const VERSION_1 = [
  "H4sIAAAAAAAA/+zdZ3AUZRzH8d/mqJrAJSBFQA5EERQIGqQISleKEKTZQMTkQCAGOO7oGOkQgiLdgoBdqhWUpoiCWE",
  "HpCKGEJl1BqXF299Akk7cww3yf74u92+dm5+az7/Z/N7shfzCgcEWVvUmTu62xJMXFZETZ+/b7hMSk5JA/GLAU4ey7",
  "q/83cH/qBtHziF0+sSsodpFiV1jsYsTuJrErIXalxO4WsSsndhXErqLYVRa7KmIXK3b3iN29Yldb7OqK3QNi11Dsmo",
  "jdQ2LXQuxaiV0bsWsndh3F7nGx6yR2XcTuGbHzi92zYtdL7JLFrq/YBcVugNgNFrthYveC2I0UuzFiN17s0sTuJbGb",
  "LHbTxG6m2L0mdm+I3Vyxe1vs3hO7eWK3UOw+FLtPxG6J2H0hdivE7kux+1rsvhW778TuB7H7Wew2it0msdsqdjvEbp",
  "fY7RG7/WJ3UOyOiN0xsTspdn+K3VmxOyd2F8UuU+wist8TFldeuL8A3H8j3F8I7o+G+4vC/cXh/pvh/jJwvw/uvxXu",
  "vx3urwT33wX3V4P774b7a8D9teD+++D+++H+BnB/Y7j/Qbi/Odz/MNwfD/e3hfs7wP2Pwf1Pwv1Pwf1d4f5EuL873N",
  "8T7n8O7u8D9/eD+/vD/YPg/qFwfwrcPwLuHw33j4P7J8D9L8L9L8P9U+H+GXD/q3D/LLh/Dtz/Ftz/Ltz/Ady/AO5f",
  "DPd/DPd/Bvd/Dvcvh/tXwf2r4f5v4P51cP/3cP9PcP8GuP83uH8L3L8d7v8d7k+H+/fB/Qfg/sNw/1G4/wTcfxruPw",
  "P3/wP3X4D7L8P9VoTQ5YH788P9N8D9UXC/F+4vAvcXg/tLwv2l4f6ycH95uP82uP8OuP9OuL8q3F8d7o+D+2vC/XXg",
  "/npwf324vxHc3xTubwb3t4T7W8P9j8D97eH+R+H+J+D+znD/03B/AtzfDe7vAfcnwf294f4A3B+C+wfC/UPg/ufh/u",
  "Fw/yi4fyzcnwr3T4T7J8H9U+D+6XD/K3D/63D/bLj/Tbj/Hbj/fbh/Pty/CO7/CO7/FO5fCvcvg/tXwv1fwf1r4P61",
  "cP96uP9HuP8XuP9XuH8z3L8N7t8J9++G+/fC/Rlw/yG4/w+4/zjcfwru/wvu/xvuPw/3X2L7Q/5gwL4DrHMWvNk/y+",
  "iTnhYXkxGVTyVkKaWAu7rqsr2NzOXJAXEx7kr9KwuWZMV7FD7QKbqLR3ns246GF72zI2SlyCufVMRZcbe5VUiSJ8da",
  "QUXaBl9CYlKyrkIeWdGOKugP2S+We6acYn1N3Te+q/HNJpPJZDKZTCaTyWQyXev5gOVcd8fn+GxZm1DbEysX7ArPAb",
  "xWtqvhWGeoUMl+xO6xzMy87jggnD1oiP1vJ+tx7ve5M4Kc84h6gRp1s+67x6U784jcyjmfgD/pxmQymUwmk8lkMplM",
  "Jl0v2fMB+xd4e56Q9X8FdiNbjisW73Ov8v8FAAD//wMAK1ojkSwhAQA=",
].join("");

async function version1(): Promise<Uint8Array<ArrayBuffer>> {
  const packed = new Blob([Uint8Array.fromBase64(VERSION_1)]);
  const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Restores a state whole; what the server reported is thrown. */
async function restoreInto(
  there: { device: Device; errors: unknown[] },
  state: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const writer = there.device.migration.restore({ after: "STOP" }).getWriter();
  writer.closed.catch(() => {});
  await writer.write(state);
  await writer.close();
}

testFds("a state that version 1 saved restores, with the copy that was under way", async () => {
  using there = await serveDemo();
  const { device } = there;
  const length = 3 * MIB;
  await device.dma.mapAsync({ iova: 0x1_1000_0000n, size: length });
  await device.dma.mapAsync({ iova: DESTINATION, size: length });
  device.dma.write(0x1_1000_0000n, new Uint8Array(length).fill(7));
  const irqs = await device.irqs("msix");
  await irqs.enable();
  await change(device); // of which nothing is to stay
  await restoreInto(there, await version1());
  await device.migration.setState("RUNNING");
  assertEquals(await irqs.waitAsync(2, PATIENT), { vector: 2, count: 1n });
  const copied = device.dma.read(DESTINATION, length);
  assertEquals([copied[MIB - 1], copied[MIB], copied[length - 1]], [0, 7, 7]);
  const bar0 = device.region("bar0");
  const read = (register: number) => bar0.read32Async(register);
  assertEquals(await read(DemoRegister.SCRATCH), 0xdead_beef);
  assertEquals(await read(DemoRegister.COUNTER), 42);
  assertEquals(await read(DemoRegister.INTX_LEVEL), 1);
  assertEquals(await read(DemoRegister.DMA_CONTROL), 2 << 8);
  assertEquals(await read(DemoRegister.DMA_STATUS), 1);
  const statuses: number[] = [];
  for (let i = 0; i < 6; i++) statuses.push(await read(DemoRegister.STATUS));
  assertEquals(statuses, [2, 2, 2, 2, 2, 1]);
  assertEquals(await read(DemoRegister.RESULT), ~0x1234 >>> 0);
  const memory = new DataView((await device.region("bar2").readAsync(0, 0x10000)).buffer);
  for (let i = 0; i < 0x10000; i += 0x100) assertEquals(memory.getUint32(i, true), i * 3);
  const msix = device.region("bar4");
  assertEquals([await msix.read32Async(0x10), await msix.read32Async(0x1c)], [0xfee0_0000, 0]);
  const config = new DataView((await device.readConfigSpace()).buffer);
  assertEquals(config.getUint32(0x04, true), 0x0018_0006); // INTx is up
  assertEquals(config.getUint32(0x10, true), 0xfebf_0000);
  assertEquals(config.getBigUint64(0x18, true), 0x1_e000_000cn);
  assertEquals(there.errors, []);
});

testFds("a state of version 1 that can't be leaves the device as it was", async () => {
  using there = await serveDemo();
  await change(there.device);
  const before = await stateOf(there.device);
  const bytes = await version1();
  const view = new DataView(bytes.buffer);
  // The frame of the registers: more bytes of the copy are done than there are.
  const at = frameOf(view, 1);
  view.setUint32(at + 32 + 52, (3 << 20) + 1, true);
  const payload = bytes.subarray(at + 32, at + 32 + 80);
  view.setUint32(at + 28, crc32(payload, crc32(bytes.subarray(at, at + 28))), true);
  await assertRejects(() => restoreInto(there, bytes), RemoteError, "it does not take this state");
  assertMatch(String(there.errors[0]), /a copy of which 3145729 of 3145728 are done/);
  const after = await stateOf(there.device);
  assertEquals([after["memory"], after["msix"], after["config"]], [
    before["memory"],
    before["msix"],
    before["config"],
  ]);
  const scratch = await there.device.region("bar0").read32Async(DemoRegister.SCRATCH);
  assertEquals(scratch, 0xdead_beef);
});

/** The offset of the DATA frame of a section. */
function frameOf(view: DataView, section: number): number {
  for (let at = 0; at < view.byteLength; at += 32 + view.getUint32(at + 12, true)) {
    if (view.getUint16(at + 4, true) === 1 && view.getUint16(at + 6, true) === section) return at;
  }
  throw new Error(`There is no section ${section}`);
}
