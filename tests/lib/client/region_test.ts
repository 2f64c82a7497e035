import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { createMemfd, Mapping } from "../../../ffi/memory.ts";
import { connect } from "../../../lib/client/connect.ts";
import type { Device } from "../../../lib/client/device.ts";
import { DemoDevice, DemoRegister } from "../../../lib/devices/demo.ts";
import { ProtocolError, RemoteError, TimeoutError } from "../../../lib/base/errors.ts";
import { Region } from "../../../lib/client/region.ts";
import { Server } from "../../../lib/server/server.ts";
import { RegionReadRequest } from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { RegionFlags, RegionInfoReply } from "../../../lib/wire/region.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { startDemo } from "../../_demo_process.ts";

const { SCRATCH, COUNTER, OPERAND, STATUS, RESULT, ID } = DemoRegister;

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

/** The demo device, fresh from a reset. It is in another process: synchronous calls block this one. */
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
        "Cannot read 1 bytes of bar0 at 0x0: the server answered EINVAL (Invalid argument)",
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
      assertEquals(device.region("config").read16(4) & 7, 7);
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
    // The collector takes its time to find its size: flat is what does not grow in one of the later rounds.
    let grown = Infinity;
    for (let round = 0; round < 4; round++) {
      const before = Deno.memoryUsage().rss;
      await readMany(250_000);
      grown = Math.min(grown, Deno.memoryUsage().rss - before);
    }
    assert(grown < 8 << 20, `memory grew by ${grown} bytes`);
  }));

// ---- Servers that do not do as they should

interface FakeRegion {
  size?: bigint;
  flags?: number;
  offset?: bigint;
  capabilities?: RegionInfoReply["capabilities"];
}

/** A device whose server is driven by hand, with one region known. */
async function withRegion(
  region: FakeRegion,
  body: (region: Region, peer: RawPeer, device: Device) => Promise<void>,
  fdSize?: number,
): Promise<void> {
  const [peer, socket] = RawPeer.pair();
  const connecting = connect(socket.release());
  await peer.acceptVersion();
  using device = await connecting;
  const info = device.regionInfo(0);
  const {
    size = 0x4000n,
    flags = RegionFlags.READ | RegionFlags.WRITE,
    offset = 0n,
    capabilities = [],
  } = region;
  // The first request's argsz has room for no capabilities: this server sends them all the same, as some do.
  const request = await peer.expect(Command.DEVICE_GET_REGION_INFO);
  using fd = fdSize === undefined ? undefined : createMemfd("test", fdSize);
  const reply = RegionInfoReply.encode({ argsz: 32, flags, index: 0, size, offset, capabilities });
  peer.reply(request, reply, fd && [fd]);
  await info;
  await body(device.region(0), peer, device);
  peer.close();
}

const READ_WRITE_MMAP = RegionFlags.READ | RegionFlags.WRITE | RegionFlags.MMAP;

testFds(
  "a region without READ or WRITE is not read or written",
  () =>
    withRegion({ flags: RegionFlags.READ }, async (region) => {
      assertThrows(
        () => region.write32(0, 1),
        TypeError,
        "Cannot access bar0: the device says that it can't be written",
      );
      await assertRejects(
        () => region.writeAsync(0, new Uint8Array(8)),
        TypeError,
        "can't be written",
      );
    }),
);

testFds(
  "a file shorter than the area is refused, and messages serve instead",
  () =>
    withRegion({ flags: READ_WRITE_MMAP }, async (region, peer) => {
      assertEquals(region.via(0, 4), "message");
      assertThrows(() => region.read32(0, { via: "map" }), TypeError, "the file has 8192 bytes");
      const read = region.read32Async(0);
      const request = await peer.expect(Command.REGION_READ);
      peer.reply(request, new Uint8Array([...request.payload, 1, 0, 0, 0]));
      assertEquals(await read, 1);
    }, 0x2000),
);

testFds(
  "MMAP without a descriptor means messages",
  () =>
    withRegion({ flags: READ_WRITE_MMAP }, (region) => {
      assertEquals(region.via(0, 4), "message");
      assertThrows(() => region.read32(0, { via: "map" }), TypeError, "passed no file descriptor");
      return Promise.resolve();
    }),
);

testFds(
  "areas that begin no page, are empty or too large are not mapped; others are",
  () =>
    withRegion({
      flags: READ_WRITE_MMAP,
      size: 1n << 40n,
      capabilities: [{
        kind: "sparse_mmap",
        version: 1,
        areas: [
          { offset: 0x10n, size: 0x1000n },
          { offset: 0x2000n, size: 0n },
          { offset: 0x0n, size: 1n << 40n },
          { offset: 0x3000n, size: 0x1000n },
        ],
      }],
    }, (region) => {
      assertEquals(region.mappedAreas, [{ offset: 0x3000, size: 0x1000 }]);
      return Promise.resolve();
    }, 0x4000),
);

testFds(
  "the region's offset counts where its areas are mapped",
  () =>
    withRegion({ flags: READ_WRITE_MMAP, size: 0x1000n, offset: 0x2000n }, (region) => {
      region.write32(4, 0x1234);
      assertEquals(region.via(4, 4), "map");
      using mapping = Mapping.create(region.info.fds[0]!, { length: 0x1000, offset: 0x2000n });
      assertEquals(new Uint32Array(mapping.buffer)[1], 0x1234);
      return Promise.resolve();
    }, 0x4000),
);

testFds("a mapped area of 6 GiB in a region of 8 GiB is reached at every offset", () => {
  const GIB = 2 ** 30;
  const areas = [{ offset: 0n, size: BigInt(6 * GIB) }];
  return withRegion({
    flags: READ_WRITE_MMAP,
    size: BigInt(8 * GIB),
    capabilities: [{ kind: "sparse_mmap", version: 1, areas }],
  }, async (region, peer) => {
    assertEquals(region.mappedAreas, [{ offset: 0, size: 6 * GIB }]);
    using mapping = Mapping.create(region.info.fds[0]!, { length: 6 * GIB });
    for (const at of [0, 2 * GIB, 4 * GIB - 8, 4 * GIB, 5 * GIB + 4096, 6 * GIB - 8]) {
      region.write64(at, 0x1122334455667788n);
      assertEquals(region.read32(at), 0x55667788);
      assertEquals(region.read16(at + 2), 0x5566);
      assertEquals(region.read8(at + 7), 0x11);
      assertEquals(await region.read64Async(at), 0x1122334455667788n);
      assertEquals(await region.pollAsync(at + 4, 4, () => true), 0x11223344);
      assertEquals(mapping.bytes.subarray(at, at + 8).toHex(), "8877665544332211");
    }
    const across = Uint8Array.from({ length: 64 }, (_, i) => i);
    region.write(4 * GIB - 32, across);
    assertEquals(await region.readAsync(4 * GIB - 32, 64), across);
    const tail = region.readAsync(6 * GIB - 8, 16);
    const request = await peer.expect(Command.REGION_READ);
    assertEquals(RegionReadRequest.decode(request.payload), {
      offset: BigInt(6 * GIB),
      region: 0,
      count: 8,
    });
    peer.reply(request, new Uint8Array([...request.payload, 1, 2, 3, 4, 5, 6, 7, 8]));
    assertEquals((await tail).toHex(), "88776655443322110102030405060708");
    const far = region.read32Async(7 * GIB);
    const farRequest = await peer.expect(Command.REGION_READ);
    assertEquals(RegionReadRequest.decode(farRequest.payload).offset, BigInt(7 * GIB));
    peer.reply(farRequest, new Uint8Array([...farRequest.payload, 1, 0, 0, 0]));
    assertEquals(await far, 1);
    assertThrows(() => region.read32(8 * GIB), RangeError, "it has 0x200000000 bytes");
  }, 6 * GIB);
});

testFds("a device that answers for another place ends the connection", async () => {
  for (const [at, value] of [[0, 8], [4, 1], [8, 1]] as const) { // offset, and region
    for (const isWrite of [false, true]) {
      await withRegion({}, async (region, peer, device) => {
        const access = isWrite ? region.write32Async(4, 1) : region.read32Async(4);
        const { REGION_READ, REGION_WRITE } = Command;
        const request = await peer.expect(isWrite ? REGION_WRITE : REGION_READ);
        const answer = new Uint8Array(isWrite ? 16 : 20);
        answer.set(request.payload.subarray(0, 16));
        new DataView(answer.buffer).setUint32(at, value, true);
        peer.reply(request, answer);
        await assertRejects(() => access, ProtocolError, "The server answered for ");
        assertEquals(device.state, "CLOSED");
      });
    }
  }
});

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

testFds("a device that answers with fewer or more bytes ends the connection", async () => {
  for (const size of [0, 3, 5, 100]) {
    await withRegion({}, async (region, peer, device) => {
      const read = region.read32Async(0);
      const request = await peer.expect(Command.REGION_READ);
      peer.reply(request, new Uint8Array([...request.payload, ...new Uint8Array(size)]));
      await assertRejects(
        () => read,
        ProtocolError,
        `answered ${16 + size} bytes to a read of 4 bytes of bar0 at 0x0`,
      );
      assertEquals(device.state, "CLOSED");
    });
  }
});

testFds(
  "a write that was taken in part ends the connection",
  () =>
    withRegion({}, async (region, peer) => {
      const write = region.write32Async(8, 1);
      const request = await peer.expect(Command.REGION_WRITE);
      const reply = request.payload.slice(0, 16);
      reply[12] = 3;
      peer.reply(request, reply);
      await assertRejects(() => write, ProtocolError, "says that it wrote 3 of 4 bytes");
    }),
);

testFds(
  "a large write leaves in pieces of 32 KiB at most, several under way",
  () =>
    withRegion({ size: 1n << 20n }, async (region, peer) => {
      const write = region.writeAsync(0, new Uint8Array(100_000));
      const sizes: number[] = [];
      for (let i = 0; i < 4; i++) {
        const request = await peer.expect(Command.REGION_WRITE);
        sizes.push(request.payload.length - 16);
        peer.reply(request, request.payload.subarray(0, 16));
      }
      await write;
      assertEquals(sizes, [32768, 32768, 32768, 1696]);
    }),
);

testFds(
  "a server that dies in the middle of a large read fails it",
  () =>
    withRegion({ size: 1n << 24n }, async (region, peer) => {
      const read = region.readAsync(0, 1 << 24);
      const failed = assertRejects(() => read, Error, "closed the connection");
      await peer.expect(Command.REGION_READ);
      peer.close();
      await failed;
    }),
);

Deno.test("Region is closed with its server in this process, too", async () => {
  const path = `${Deno.makeTempDirSync()}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  using device = await connect(path);
  await device.regionInfo(0);
  assertEquals(await device.region("bar0").read32Async(ID), 0x64756676);
  assertInstanceOf(device.region(0), Object);
});

testFds(
  "read() puts large data right where they are wanted, and no more once it has given up",
  () =>
    withRegion({ size: 1n << 24n }, async (region, peer) => {
      const answer = async (fill: number, cut = 0) => {
        const request = await peer.expect(Command.REGION_READ);
        const { buffer, byteOffset } = request.payload;
        const count = new DataView(buffer, byteOffset).getUint32(12, true);
        const payload = new Uint8Array(16 + count).fill(fill);
        payload.set(request.payload);
        const message = encodeMessage(
          { messageId: request.messageId, command: request.command, flags: MessageFlags.REPLY },
          payload,
        );
        const end = cut === 0 ? message.length : cut;
        for (let at = 0; at < end; at += 50_000) {
          peer.send(message.subarray(at, Math.min(at + 50_000, end)));
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        return message.subarray(end);
      };
      const into = new Uint8Array(200_000);
      const first = region.readAsync(0x1000, into.length, { into });
      await answer(7);
      assert(await first === into);
      assert(into.every((byte) => byte === 7));

      const given = new Uint8Array(200_000);
      const late = region.readAsync(0, given.length, { into: given, timeoutMs: 40 });
      const failed = assertRejects(() => late, TimeoutError);
      const rest = await answer(9, 120_000);
      await failed;
      given.fill(1);
      peer.send(rest); // the reply is completed after its request has ended
      const next = region.read32Async(0);
      await answer(5);
      assertEquals(await next, 0x05050505);
      assert(
        given.every((byte) => byte === 1),
        "a reply that came late was put where nobody wanted it",
      );
      await assertRejects(
        () => region.readAsync(0, 10, { into: given }),
        RangeError,
        "Cannot read 10 bytes into 200000",
      );
    }),
);
