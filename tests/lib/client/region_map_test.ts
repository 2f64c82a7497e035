import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Mapping } from "../../../ffi/memory.ts";
import { RegionReadRequest } from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { RegionFlags } from "../../../lib/wire/region.ts";
import { testFds } from "../../_fds.ts";

import { withRegion } from "./_region_by_hand.ts";

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
