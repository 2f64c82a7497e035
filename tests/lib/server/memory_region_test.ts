import { assert, assertEquals, assertThrows } from "@std/assert";
import { Mapping } from "../../../ffi/memory.ts";
import { MemoryRegion } from "../../../lib/server/memory_region.ts";
import { testFds } from "../../_fds.ts";

testFds("read() and write() copy out of and into the memory", () => {
  using region = new MemoryRegion("test", 0x2000);
  region.write(0xffe, new Uint8Array([1, 2, 3]));
  const bytes = new Uint8Array(5);
  region.read(0xffd, bytes);
  assertEquals(bytes, new Uint8Array([0, 1, 2, 3, 0]));
  assertEquals(region.bytes[0xfff], 2);
  assertEquals([region.size, region.bytes.length, region.flags], [0x2000, 0x2000, 7]);
});

testFds("the descriptor is of the same memory, which nobody can shrink", () => {
  using region = new MemoryRegion("test", 0x1000);
  using mapping = Mapping.create(region.fds[0]!, { length: 0x1000 });
  mapping.bytes[5] = 9;
  assertEquals(region.bytes[5], 9);
  region.bytes[6] = 8;
  assertEquals(mapping.bytes[6], 8);
  assertThrows(() => Deno.truncateSync(`/proc/self/fd/${region.fds[0]!.fd}`, 0));
});

testFds("areas become one sparse mmap capability; without them there is none", () => {
  const areas = [{ offset: 0n, size: 0x1000n }, { offset: 0x1000n, size: 0x1000n }];
  using some = new MemoryRegion("test", 0x2000, areas);
  assertEquals(some.capabilities, [{ kind: "sparse_mmap", version: 1, areas }]);
  using none = new MemoryRegion("test", 0x2000, []);
  assertEquals(none.capabilities, [{ kind: "sparse_mmap", version: 1, areas: [] }]);
  using all = new MemoryRegion("test", 0x2000);
  assertEquals(all.capabilities, []);
});

testFds("an area outside the region is refused, and nothing stays open", () => {
  for (const area of [{ offset: 0x1000n, size: 0x1001n }, { offset: 1n << 64n, size: 0n }]) {
    assertThrows(
      () => new MemoryRegion("test", 0x2000, [area]),
      RangeError,
      "ends after the region",
    );
  }
  for (const size of [0, -1, 0.5]) {
    assertThrows(() => new MemoryRegion("test", size));
  }
});

testFds("close() frees memory and descriptor, once; a client's mapping lives on", () => {
  const region = new MemoryRegion("test", 0x1000);
  using mapping = Mapping.create(region.fds[0]!, { length: 0x1000 });
  region.write(0, new Uint8Array([7]));
  region.close();
  region.close();
  assertEquals([region.bytes.length, region.fds[0]!.isOpen], [0, false]);
  assert(mapping.bytes[0] === 7);
});
