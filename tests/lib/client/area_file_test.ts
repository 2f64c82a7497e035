import { assert, assertEquals, assertThrows } from "@std/assert";
import { OwnedFd } from "../../../ffi/fd.ts";
import { libc } from "../../../ffi/libc.ts";
import { createMemfd } from "../../../ffi/memory.ts";
import { examineArea } from "../../../lib/client/area_file.ts";
import type { Region } from "../../../lib/client/region.ts";
import { RegionWriteRequest } from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { withHugePages } from "../../_huge_pages.ts";
import { testFds } from "../../_fds.ts";
import { answerWell, connectScripted } from "../_scripted_server.ts";

const MFD_CLOEXEC = 1;
const MFD_HUGETLB = 4;
const HUGE_PAGE = 2 << 20;
const PAGE = 0x1000;

/** A file that its owner may make shorter, as most servers have it: `resize` does. */
function makeFile(size: number, flags = 0): { fd: OwnedFd; resize(size: number): void } {
  const name = new TextEncoder().encode("test\0");
  const fd = new OwnedFd(libc().memfd_create(name, MFD_CLOEXEC | flags));
  const resize = (size: number) => assertEquals(libc().ftruncate(fd.fd, BigInt(size)), 0);
  resize(size);
  return { fd, resize };
}

/**
 * Region 0 of a device: its page 1 is in a file. By message each byte reads as the low byte of its
 * offset, and `written` keeps the bytes that are written.
 */
async function withRegion(
  fd: OwnedFd,
  body: (region: Region, written: [offset: number, data: number[]][]) => void | Promise<void>,
): Promise<void> {
  const written: [number, number[]][] = [];
  const [device, server] = await connectScripted((peer, request) => {
    if (request.command === Command.REGION_WRITE) {
      const { offset, data } = RegionWriteRequest.decode(request.payload);
      written.push([Number(offset), [...data]]);
      return peer.reply(request, request.payload.subarray(0, 16));
    }
    if (request.command !== Command.DEVICE_GET_REGION_INFO) return false;
    const { payload, fds } = answerWell(request, fd);
    peer.reply(request, payload, fds);
  });
  using _device = device;
  using _server = server;
  await device.regionInfo(0);
  await body(device.region(0), written);
}

testFds("a long read of a file that has become shorter goes on by message", async () => {
  for (const left of [0, 100, PAGE, PAGE + 1, 2 * PAGE - 1]) {
    const { fd, resize } = makeFile(2 * PAGE);
    using _fd = fd;
    await withRegion(fd, async (region) => {
      assertEquals(region.via(PAGE, PAGE), "map");
      fd.writeAt(new Uint8Array(PAGE).fill(0xee), BigInt(PAGE));
      assertEquals(await region.readAsync(PAGE, PAGE), new Uint8Array(PAGE).fill(0xee));
      resize(left);
      const inFile = Math.max(0, left - PAGE);
      const expected = Uint8Array.from(
        { length: 3 * PAGE },
        (_, at) => at >= PAGE && at < PAGE + inFile ? 0xee : at,
      );
      assertEquals(await region.readAsync(0, 3 * PAGE), expected);
      assertEquals(region.via(PAGE, 4), "message");
      assertEquals(region.mappedAreas, []);
      assertThrows(() => region.read32(PAGE, { via: "map" }), TypeError, "has become shorter");
    });
  }
});

testFds("a long write to a file that has become shorter goes on by message", async () => {
  const { fd, resize } = makeFile(2 * PAGE);
  using _fd = fd;
  await withRegion(fd, async (region, written) => {
    const data = Uint8Array.from({ length: 8 }, (_, i) => i + 1);
    await region.writeAsync(PAGE + 4, data);
    const there = new Uint8Array(8);
    fd.readAt(there, BigInt(PAGE + 4));
    assertEquals([there, written.length], [data, 0]);
    resize(PAGE);
    await region.writeAsync(PAGE + 4, data);
    assertEquals(written, [[PAGE + 4, [...data]]]);
    assertEquals(fd.stat().size, BigInt(PAGE)); // not made longer by that
  });
});

testFds("registers of a file that has become shorter are reached by message", async () => {
  const accesses: ((region: Region) => unknown)[] = [
    (region) => region.read32Async(PAGE + 4),
    (region) => region.readWidthPatiently(PAGE + 4, 4),
    (region) => region.pollAsync(PAGE + 4, 4, () => true),
  ];
  for (const access of accesses) {
    const { fd, resize } = makeFile(2 * PAGE);
    using _fd = fd;
    await withRegion(fd, async (region, written) => {
      await region.write32Async(PAGE + 4, 0x12345678);
      assertEquals([await access(region), written], [0x12345678, []]);
      resize(PAGE);
      assertEquals(await access(region), 0x07060504);
      await region.write32Async(PAGE + 4, 1);
      assertEquals(written, [[PAGE + 4, [1, 0, 0, 0]]]);
      // What blocks is not looked at again for each access: now it goes by message as well.
      assertEquals(region.via(PAGE + 4, 4), "message");
    });
  }
});

testFds("what goes on by message is cut into chunks, and progress is told after each", async () => {
  const { fd, resize } = makeFile(2 * PAGE);
  using _fd = fd;
  await withRegion(fd, async (region) => {
    region.via(0, 1);
    resize(PAGE + 16);
    const seen: number[] = [];
    const into = new Uint8Array(64);
    const options = { into, chunkSize: 8, onProgress: (done: number) => seen.push(done) };
    assertEquals(await region.readAsync(PAGE, 64, options), into);
    assertEquals(into.subarray(14, 18), new Uint8Array([0, 0, 16, 17]));
    assertEquals(seen, [16, 24, 32, 40, 48, 56, 64]); // what was left, then message by message
  });
});

testFds("what is mapped is examined before, and only what can change is looked at again", () => {
  using sealed = createMemfd("sealed", 2 * PAGE);
  assertEquals(examineArea(sealed, 0n, BigInt(PAGE)), undefined);
  assertThrows(() => examineArea(sealed, BigInt(PAGE), BigInt(2 * PAGE)), RangeError, "8192 bytes");
  const { fd, resize } = makeFile(2 * PAGE);
  using _fd = fd;
  const file = examineArea(fd, BigInt(PAGE), BigInt(PAGE))!;
  assertEquals([file.isWhole, file.canWrite], [true, true]);
  resize(2 * PAGE - 1);
  assertEquals(file.isWhole, false);
  using process = OwnedFd.open("/proc/self/mem", 0);
  assertThrows(() => examineArea(process, 0n, 0n), RangeError, "may keep this process waiting");
});

testFds("a file with more holes than its file system has room for is not mapped", () => {
  const path = Deno.makeTempFileSync({ prefix: "vfu-test-" });
  try {
    using fd = OwnedFd.open(path);
    const { available, blockSize } = fd.fileSystem();
    const size = available * BigInt(blockSize) + (1n << 30n);
    if (libc().ftruncate(fd.fd, size) < 0) return; // no file can be so large there
    assertThrows(() => examineArea(fd, 0n, BigInt(PAGE)), RangeError, "holes");
    assertEquals(libc().ftruncate(fd.fd, BigInt(PAGE)), 0);
    assert(examineArea(fd, 0n, BigInt(PAGE)) !== undefined);
  } finally {
    Deno.removeSync(path);
  }
});

testFds(
  "a region in huge pages is mapped from any page on, and by message where there are none",
  () =>
    withHugePages(1, async () => {
      const { fd } = makeFile(HUGE_PAGE, MFD_HUGETLB);
      using _fd = fd;
      await withRegion(fd, async (region, written) => {
        assertEquals(region.via(PAGE, 4), "map"); // page 1 of it begins no huge page
        await region.write32Async(PAGE, 0x12345678);
        await region.writeAsync(PAGE + 8, new Uint8Array([1, 2, 3]));
        assertEquals(written, []);
        const bytes = new Uint8Array(12);
        fd.readAt(bytes, BigInt(PAGE));
        assertEquals(bytes.toHex(), "785634120000000001020300");
        assertEquals(await region.readAsync(PAGE, 12), bytes);
      });
      const { fd: second } = makeFile(HUGE_PAGE, MFD_HUGETLB); // the one page is the other's
      using _second = second;
      await withRegion(second, async (region) => {
        assertEquals(region.via(PAGE, 4), "message");
        assertEquals(await region.read32Async(PAGE + 4), 0x07060504);
      });
    }),
);
