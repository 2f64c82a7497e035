import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { connect } from "../../../lib/client/connect.ts";
import type { Device } from "../../../lib/client/device.ts";
import { DemoRegister } from "../../../lib/devices/demo.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { RemoteError, TimeoutError } from "../../../lib/base/errors.ts";
import { Region } from "../../../lib/client/region.ts";
import { Server } from "../../../lib/server/server.ts";
import { testFds } from "../../_fds.ts";
import { startDemo } from "../../_demo_process.ts";

const { SCRATCH, COUNTER, OPERAND, STATUS, RESULT, ID } = DemoRegister;

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

/** Connects to the demo device, fresh from a reset. Its process is another one. */
async function withDemo(
  body: (device: Device) => void | Promise<void>,
  options = {},
): Promise<void> {
  using device = await connect(demo.path, options);
  await device.reset();
  await body(device);
}

testFds("read32() and write32() reach a register by message", () =>
  withDemo((device) => {
    const bar0 = device.region("bar0");
    assertEquals(bar0.read32(ID), 0x64756676);
    bar0.write32(SCRATCH, 0xdeadbeef);
    assertEquals(bar0.read32(SCRATCH), 0xdeadbeef);
    assertEquals(bar0.via(SCRATCH, 4), "message");
  }));

testFds(
  "the asynchronous twins do the same, hundreds outstanding, in the order of the calls",
  () =>
    withDemo(async (device) => {
      await device.regionInfo(0);
      const bar0 = device.region("bar0");
      assertEquals(await bar0.read32Async(ID), 0x64756676);
      const writes = [];
      const reads = [];
      for (let i = 0; i < 300; i++) {
        writes.push(bar0.write32Async(SCRATCH, i));
        reads.push(bar0.read32Async(SCRATCH));
      }
      assertEquals(await Promise.all(reads), Array.from({ length: 300 }, (_, i) => i));
      await Promise.all(writes);
    }),
);

testFds(
  "every width reads back what it wrote, by map and by message, in memory",
  () =>
    withDemo(async (device) => {
      const bar2 = device.region("bar2");
      for (const via of ["map", "message"] as const) {
        const options = { via };
        bar2.write8(0x1001, 0x81, options);
        bar2.write16(0x1002, 0x8182, options);
        bar2.write32(0x1004, 0x81828384, options);
        bar2.write64(0x1008, 0x8182838485868788n, options);
        for (const other of ["map", "message"] as const) {
          assertEquals(bar2.read8(0x1001, { via: other }), 0x81);
          assertEquals(bar2.read16(0x1002, { via: other }), 0x8182);
          assertEquals(bar2.read32(0x1004, { via: other }), 0x81828384);
          assertEquals(bar2.read64(0x1008, { via: other }), 0x8182838485868788n);
          assertEquals(await bar2.read64Async(0x1008, { via: other }), 0x8182838485868788n);
        }
        await bar2.write32Async(0x1004, via === "map" ? 1 : 2, options);
        assertEquals(bar2.read32(0x1004), via === "map" ? 1 : 2);
      }
    }),
);

testFds(
  "areas are mapped where the device says, and via() tells how an access is served",
  () =>
    withDemo((device) => {
      const bar2 = device.region("bar2");
      assertEquals(bar2.mappedAreas, [{ offset: 0x1000, size: 0x3000 }, {
        offset: 0x8000,
        size: 0x8000,
      }]);
      assertEquals(
        [0, 0xffc, 0x1000, 0x3ffc, 0x4000, 0x8000, 0xfffc].map((at) => bar2.via(at, 4)),
        [
          "message",
          "message",
          "map",
          "map",
          "message",
          "map",
          "map",
        ],
      );
      assertEquals(bar2.via(0xffc, 8), "message", "an access that straddles the edge of an area");
      assertThrows(() => bar2.read32(0, { via: "map" }), TypeError, "not in one mapped area");
      assertThrows(
        () => device.region("bar0").read32(0, { via: "map" }),
        TypeError,
        "shares no memory",
      );
    }),
);

testFds(
  "read() and write() put ranges together that are partly mapped",
  () =>
    withDemo(async (device) => {
      const bar2 = device.region("bar2");
      const data = new Uint8Array(0x10000).map((_, i) => i * 7 + (i >> 8));
      bar2.write(0, data);
      assertEquals(bar2.read(0, 0x10000, { via: "message" }), data);
      assertEquals(await bar2.readAsync(0, 0x10000), data);
      assertEquals(bar2.read(0xff9, 0x2017), data.slice(0xff9, 0xff9 + 0x2017));
      const reversed = data.toReversed();
      await bar2.writeAsync(0, reversed, { via: "message", chunkSize: 1000 });
      assertEquals(await bar2.readAsync(0, 0x10000, { via: "message", chunkSize: 777 }), reversed);
      const progress: number[] = [];
      bar2.write(3, new Uint8Array(100_00), {
        via: "message",
        chunkSize: 4096,
        onProgress: (done) => progress.push(done),
      });
      assertEquals(progress, [4096, 8192, 10000]);
    }),
);

testFds("posted writes and batches are seen by a following read", () =>
  withDemo((device) => {
    const bar0 = device.region("bar0");
    for (let i = 0; i < 1000; i++) bar0.write32(SCRATCH, i, { posted: true });
    assertEquals(bar0.read32(SCRATCH), 999);
    const writes = Array.from(
      { length: 450 },
      (_, i) => ({ offset: SCRATCH, data: new Uint8Array([i, i >> 8, 0, 0]) }),
    );
    bar0.writeBatch(writes);
    assertEquals(bar0.read32(SCRATCH), 449);
  }));

testFds(
  "writeBatch() falls back to posted writes where REGION_WRITE_MULTI was not agreed on",
  () =>
    withDemo((device) => {
      assertEquals(device.negotiated.writeMultiple, false);
      const bar0 = device.region("bar0");
      bar0.writeBatch(
        [1, 2, 3].map((i) => ({ offset: SCRATCH, data: new Uint8Array([i, 0, 0, 0]) })),
      );
      assertEquals(bar0.read32(SCRATCH), 3);
    }, { capabilities: { writeMultiple: false } }),
);

testFds("writeBatch() tells of a write that failed", () =>
  withDemo((device) => {
    const bar0 = device.region("bar0");
    const writes = [[SCRATCH, 4], [SCRATCH, 2], [SCRATCH, 4]].map(([offset, size]) => ({
      offset: offset!,
      data: new Uint8Array(size!).fill(9),
    }));
    assertThrows(
      () => bar0.writeBatch(writes),
      RemoteError,
      "Only 1 of 3 values of bar0 were written",
    );
  }));

testFds("modify() changes the bits of the mask only", () =>
  withDemo(async (device) => {
    const bar0 = device.region("bar0");
    bar0.write32(SCRATCH, 0xffff0000);
    assertEquals(bar0.modify(SCRATCH, 4, 0x00ff00ff, 0x12345678), 0xff340078);
    assertEquals(bar0.read32(SCRATCH), 0xff340078);
    assertEquals(await bar0.modifyAsync(SCRATCH, 4, 0x1, 0x1, { posted: true }), 0xff340079);
    assertEquals(bar0.read32(SCRATCH), 0xff340079);
    const bar2 = device.region("bar2");
    bar2.write64(0x1000, 0xffff_ffff_ffff_ffffn);
    assertEquals(bar2.modify(0x1000, 8, 0xffn, 0n), 0xffff_ffff_ffff_ff00n);
  }));

testFds(
  "poll() returns the value that was wanted, each look a read",
  () =>
    withDemo(async (device) => {
      const bar0 = device.region("bar0");
      bar0.write32(OPERAND, 5);
      assertEquals(bar0.poll(STATUS, 4, (value) => value === 1), 1);
      assertEquals(bar0.read32(RESULT), 0xfffffffa);
      bar0.write32(OPERAND, 6);
      assertEquals(await bar0.pollAsync(STATUS, 4, (value) => value === 1, { intervalMs: 0 }), 1);
      const before = bar0.read32(COUNTER);
      bar0.poll(COUNTER, 4, (value) => Number(value) >= before + 5);
      assertEquals(bar0.read32(COUNTER), before + 6);
    }),
);

testFds("poll() says the last value when it gives up", () =>
  withDemo(async (device) => {
    const bar0 = device.region("bar0");
    bar0.write32(SCRATCH, 0x17);
    assertThrows(
      () => bar0.poll(SCRATCH, 4, (value) => value === 1, { timeoutMs: 20 }),
      TimeoutError,
      "bar0 at 0x8 did not become as wanted within 20 ms; its last value was 0x00000017",
    );
    await assertRejects(
      () => bar0.pollAsync(SCRATCH, 4, () => false, { timeoutMs: 20 }),
      TimeoutError,
      "its last value was 0x00000017",
    );
    const reason = new Error("enough");
    const signal = AbortSignal.abort(reason);
    assertEquals(
      await assertRejects(() => bar0.pollAsync(SCRATCH, 4, () => false, { signal })),
      reason,
    );
  }));

testFds("poll() through the map sees what the device writes", () =>
  withDemo(async (device) => {
    const bar2 = device.region("bar2");
    bar2.write32(0x1000, 0);
    setTimeout(() => bar2.write32(0x1000, 7, { via: "message", posted: true }), 5);
    assertEquals(await bar2.pollAsync(0x1000, 4, (value) => value === 7, { via: "map" }), 7);
  }));

testFds("nothing is sent for an access that can't be", () =>
  withDemo((device) => {
    const bar0 = device.region("bar0");
    const cases: [() => unknown, string][] = [
      [() => bar0.read32(0x1000), "Cannot access 4 bytes of bar0 at 0x1000: it has 0x1000 bytes"],
      [() => bar0.read32(0xffe), "0xffe"],
      [() => bar0.read32(-4), "at -0x4"],
      [() => bar0.read32(2), "the offset is not a multiple of 4"],
      [() => bar0.read16(1), "the offset is not a multiple of 2"],
      [() => bar0.read64(4), "the offset is not a multiple of 8"],
      [() => bar0.read(0xff0, 0x11), "Cannot access 17 bytes"],
      [() => bar0.read32(2n ** 64n), "0x10000000000000000"],
      [() => bar0.write8(0, 0x100), "0x100 is no unsigned value of 8 bits"],
      [() => bar0.write32(0, -1), "-0x1 is no unsigned value of 32 bits"],
      [() => bar0.write32(0, 1.5), "1.5 is no unsigned value of 32 bits"],
      [() => bar0.write64(0, 1n << 64n), "is no unsigned value of 64 bits"],
      [() => bar0.modify(0, 2, 0x10000, 0), "0x10000 is no unsigned value of 16 bits"],
      [() => bar0.writeBatch([{ offset: 0, data: new Uint8Array(9) }]), "1 to 8 bytes, not 9"],
    ];
    for (const [act, part] of cases) assertThrows(act, RangeError, part);
    assertThrows(() => device.region("bar1").read32(0), TypeError, "the device does not have it");
    assertThrows(() => device.region("bar9" as "bar0"), RangeError, 'There is no region "bar9"');
  }));

testFds(
  "a width that the device refuses is named with its errno",
  () =>
    withDemo(async (device) => {
      const bar0 = device.region("bar0");
      assertThrows(
        () => bar0.read8(0),
        RemoteError,
        "Cannot read 1 byte of bar0 at 0x0: the server answered EINVAL (Invalid argument)",
      );
      await assertRejects(
        () => bar0.write16Async(0x8, 1),
        RemoteError,
        "Cannot write 2 bytes of bar0 at 0x8",
      );
    }),
);

testFds(
  "a refusal says which width is answered, or that the BAR was not enabled",
  () =>
    withDemo((device) => {
      const bar0 = device.region("bar0");
      const read = assertThrows(() => bar0.read8(0), RemoteError);
      assertStringIncludes(read.message, "; a read of 4 bytes is answered there: name the width");
      const write = assertThrows(() => bar0.write8(0, 1), RemoteError);
      assertStringIncludes(
        write.message,
        "the BAR has no address yet: if that is why, enable the device first (--pci-enable, " +
          "device.pci.enable(), or pci enable in a session)",
      );
    }),
);

testFds(
  "pci.enable() assigns addresses, each aligned to its size, and sets COMMAND",
  () =>
    withDemo(async (device) => {
      const assigned = await device.pci.enable();
      assertEquals(assigned, [
        { index: 0, address: 0x80000000n },
        { index: 2, address: 0x80010000n },
        { index: 4, address: 0x80020000n },
      ]);
      const space = await device.pci.configSpace();
      assertEquals(device.region("config").read16(4) & 7, 6); // there is no BAR of I/O ports
      assertEquals(space.bars.map((bar) => bar.address), [0x80000000n, 0x80010000n, 0x80020000n]);
      assertEquals(await device.pci.enable(), [], "nothing is changed that is set");
      assertEquals(await device.pci.capability("CAP_MSIX"), 0x50);
      assertEquals(await device.pci.capability("ECAP_AER"), 0x110);
      assertEquals(await device.pci.capability("CAP_HT"), undefined);
    }),
);

testFds(
  "an access after close throws, never crashes, and views are empty",
  () =>
    withDemo((device) => {
      const bar2 = device.region("bar2");
      bar2.write32(0x1000, 5);
      assertEquals(bar2.read32(0x1000), 5);
      bar2.close();
      assertThrows(() => bar2.read32(0x1000), TypeError, "it is closed");
      assertThrows(() => bar2.write32(0x1000, 1), TypeError, "it is closed");
      device.close();
      assertThrows(() => bar2.read32(0), TypeError, "it is closed");
    }),
);

testFds("a transfer by message ends when its region is closed", () =>
  withDemo(async (device) => {
    const info = await device.regionInfo(2);
    const closing = () => {
      const region = new Region(info, device);
      const options = { chunkSize: 1, via: "message", onProgress: () => region.close() } as const;
      return { region, options };
    };
    const blocking = closing();
    assertThrows(
      () => blocking.region.read(0, 16, blocking.options),
      TypeError,
      "it is closed",
    );
    const pipelined = closing(); // 16 pieces are more than are in flight together
    await assertRejects(
      () => pipelined.region.readAsync(0, 16, pipelined.options),
      TypeError,
      "it is closed",
    );
  }));

testFds("a million reads leave memory flat", () =>
  withDemo(async (device) => {
    await device.regionInfo(0);
    const bar0 = device.region("bar0");
    const readMany = async (count: number) => {
      for (let done = 0; done < count; done += 500) {
        const reads = Array.from({ length: 490 }, () => bar0.read32Async(ID));
        for (let i = 0; i < 10; i++) bar0.read32(ID);
        await Promise.all(reads);
      }
    };
    // The collector takes its time to find its size: flat memory does not grow in one of the later
    // rounds.
    let grown = Infinity;
    for (let round = 0; round < 4; round++) {
      const before = Deno.memoryUsage().rss;
      await readMany(250_000);
      grown = Math.min(grown, Deno.memoryUsage().rss - before);
    }
    assert(grown < 8 << 20, `memory grew by ${grown} bytes`);
  }));

testFds("what no message carries as a whole is refused, with the reason", async () => {
  await withDemo((device) => {
    const bar0 = device.region("bar0");
    const refused = "a message carries 3 at most, as was agreed on (max_data_xfer_size)";
    assertThrows(() => bar0.read32(SCRATCH), RangeError, refused);
    assertThrows(() => bar0.write32(SCRATCH, 1), RangeError, refused);
    assertThrows(() => bar0.write32(SCRATCH, 1, { posted: true }), RangeError, refused);
    const batch = [{ offset: SCRATCH, data: new Uint8Array(4) }];
    assertThrows(() => bar0.writeBatch(batch), RangeError, refused);
    const bar2 = device.region("bar2");
    bar2.write32(0x1000, 0x01020304); // through the map
    const bytes = new Uint8Array([1, 2, 3, 4, 5, 6, 7]);
    bar2.write(0, bytes, { via: "message" });
    assertEquals(bar2.read(0, 7, { via: "message" }), bytes);
    assertThrows(() => bar2.read64(0, { via: "message" }), RangeError, refused);
  }, { capabilities: { maxDataXferSize: 3 } });
});

Deno.test("Region is closed with its server in this process, too", async () => {
  const path = `${Deno.makeTempDirSync()}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  using device = await connect(path);
  await device.regionInfo(0);
  assertEquals(await device.region("bar0").read32Async(ID), 0x64756676);
  assertInstanceOf(device.region(0), Object);
});
