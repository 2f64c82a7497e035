import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { addressSpace, mappings } from "../../ffi/budget.ts";
import { SystemError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { createMemfd, MappedFile, Mapping, MAX_MAPPING, PAGE_SIZE } from "../../ffi/memory.ts";
import { testFds } from "../_fds.ts";
import { withHugePages } from "../_huge_pages.ts";
import { runJson } from "./_subprocess.ts";

testFds("createMemfd() makes a file of a size that nobody changes", () => {
  using fd = createMemfd("test", 2 * PAGE_SIZE);
  const c = libc();
  assertEquals([fd.stat().isFile, fd.stat().size], [true, 8192n]);
  const attempts = [4096n, 0n, 16384n].map((size) => [c.ftruncate(fd.fd, size), c.errno[0]]);
  assertEquals(attempts, [[-1, 1], [-1, 1], [-1, 1]]); // EPERM
  const F_ADD_SEALS = 1033, F_GET_SEALS = 1034, F_SEAL_WRITE = 8;
  assertEquals(c.fcntl(fd.fd, F_GET_SEALS, 0), 1 | 2 | 4);
  assertEquals([c.fcntl(fd.fd, F_ADD_SEALS, F_SEAL_WRITE), c.errno[0]], [-1, 1]);
  assertEquals(c.fcntl(fd.fd, 1, 0), 1); // not inherited
});

testFds("createMemfd() refuses impossible sizes and names, and leaves nothing open", () => {
  for (const size of [0, -1, 1.5, NaN, Infinity, 2 ** 53]) {
    assertThrows(() => createMemfd("test", size), RangeError, "memfd of");
  }
  assertThrows(() => createMemfd("a\0b", 1), RangeError);
  const error = assertThrows(() => createMemfd("x".repeat(250), 1), SystemError);
  assertEquals([error.code, error.syscall], ["EINVAL", "memfd_create"]);
});

testFds("two mappings of one memfd show the same bytes", () => {
  using fd = createMemfd("test", 2 * PAGE_SIZE);
  using a = Mapping.create(fd, { length: 2 * PAGE_SIZE });
  using b = Mapping.create(fd, { length: 100, offset: BigInt(PAGE_SIZE) });
  assertEquals([a.length, a.bytes.length, b.bytes.length], [8192, 8192, 100]);
  assertEquals(a.bytes[8191], 0);
  a.bytes[PAGE_SIZE + 99] = 7;
  b.bytes[0] = 8;
  assertEquals([b.bytes[99], a.bytes[PAGE_SIZE]], [7, 8]);
  assert(a.buffer === a.buffer && a.bytes.buffer === a.buffer);
});

testFds("a mapping outlives its descriptor", () => {
  const fd = createMemfd("test", PAGE_SIZE);
  using mapping = Mapping.create(fd, { length: PAGE_SIZE });
  fd.close();
  mapping.bytes[0] = 1;
  assertEquals(mapping.bytes[0], 1);
});

testFds("Mapping.create() refuses a file that is too short", () => {
  using fd = createMemfd("test", PAGE_SIZE + 10);
  Mapping.create(fd, { length: PAGE_SIZE + 10 }).close();
  Mapping.create(fd, { length: 10, offset: 4096n }).close();
  for (
    const options of [
      { length: PAGE_SIZE + 11 },
      { length: 11, offset: 4096n },
      { length: 1, offset: 8192n },
      { length: PAGE_SIZE, offset: 2n ** 63n },
      { length: PAGE_SIZE, offset: 2n ** 64n - 4096n },
    ]
  ) {
    assertThrows(() => Mapping.create(fd, options), RangeError, "the file has 4106 bytes");
  }
});

testFds("Mapping.create() refuses lengths and offsets that can't be", () => {
  using fd = createMemfd("test", 2 * PAGE_SIZE);
  for (const length of [0, -1, 1.5, NaN, Infinity, MAX_MAPPING + 1]) {
    assertThrows(() => Mapping.create(fd, { length }), RangeError, `Cannot map ${length} bytes`);
  }
  for (const offset of [1n, 4095n, 2048n, -4096n]) {
    assertThrows(() => Mapping.create(fd, { length: 1, offset }), RangeError, "offset 0x");
  }
});

testFds("Mapping.create() says why the kernel refused", () => {
  using fd = new OwnedFd(libc().eventfd(0, 0));
  assertEquals(
    assertThrows(() => Mapping.create(fd, { length: 1 }), SystemError, "Cannot map 1 bytes").code,
    "ENODEV",
  );
  using readOnly = OwnedFd.open(Deno.execPath(), 0);
  assertEquals(
    assertThrows(() => Mapping.create(readOnly, { length: 1 }), SystemError).code,
    "EACCES",
  );
});

testFds("a mapping of 4 GiB is possible, to the last byte", () => {
  using fd = createMemfd("test", MAX_MAPPING);
  using mapping = Mapping.create(fd, { length: MAX_MAPPING });
  mapping.bytes[MAX_MAPPING - 1] = 9;
  assertEquals([mapping.bytes.length, mapping.bytes[MAX_MAPPING - 1]], [MAX_MAPPING, 9]);
});

testFds("close() detaches every view; a second one does nothing", () => {
  using fd = createMemfd("test", PAGE_SIZE);
  const mapping = Mapping.create(fd, { length: PAGE_SIZE });
  const views = [mapping.bytes, mapping.bytes.subarray(8), new Uint32Array(mapping.buffer, 16, 4)];
  const fields = new DataView(mapping.buffer);
  assert(mapping.isOpen);
  mapping.close();
  mapping.close();
  mapping[Symbol.dispose]();
  assert(!mapping.isOpen);
  assertEquals(mapping.buffer.byteLength, 0);
  for (const view of views) {
    view[0] = 1;
    assertEquals([view.length, view.byteLength, view[0]], [0, 0, undefined]);
  }
  assertThrows(() => fields.getUint8(0), TypeError);
  assertThrows(() => mapping.bytes, TypeError);
  assertThrows(() => Atomics.load(views[0]!, 0), TypeError);
  assertEquals(mapping.length, PAGE_SIZE);
});

testFds("a mapping that is not writable follows the file, and keeps writes to itself", () => {
  using fd = createMemfd("test", 2 * PAGE_SIZE);
  using theirs = Mapping.create(fd, { length: 2 * PAGE_SIZE });
  using ours = Mapping.create(fd, { length: 2 * PAGE_SIZE, writable: false });
  theirs.bytes[0] = 1;
  assertEquals(ours.bytes[0], 1);
  theirs.bytes[0] = 2;
  assertEquals(ours.bytes[0], 2);
  ours.bytes[1] = 99; // does not fault, and does not reach them
  assertEquals([ours.bytes[1], theirs.bytes[1]], [99, 0]);
  theirs.bytes[PAGE_SIZE] = 3; // other pages still follow
  assertEquals(ours.bytes[PAGE_SIZE], 3);
});

testFds("a file opened for reading only can be mapped not writable", () => {
  using fd = OwnedFd.open(Deno.execPath(), 0);
  using mapping = Mapping.create(fd, { length: PAGE_SIZE, writable: false });
  assertEquals(mapping.bytes.slice(0, 4), new Uint8Array([0x7f, 0x45, 0x4c, 0x46]));
  mapping.bytes[0] = 0;
});

testFds("a memfd sealed against writing can be mapped not writable", () => {
  const c = libc();
  using fd = new OwnedFd(c.memfd_create(new Uint8Array([120, 0]), 3));
  assertEquals([c.ftruncate(fd.fd, 4096n), c.fcntl(fd.fd, 1033, 8)], [0, 0]);
  using mapping = Mapping.create(fd, { length: PAGE_SIZE, writable: false });
  assertEquals(mapping.bytes[0], 0);
  assertEquals(
    assertThrows(() => Mapping.create(fd, { length: PAGE_SIZE }), SystemError).code,
    "EPERM",
  );
});

testFds("a buffer transferred elsewhere keeps the memory, and the mapping has another", () => {
  using fd = createMemfd("test", PAGE_SIZE);
  const before = mappings.used;
  const mapping = Mapping.create(fd, { length: PAGE_SIZE });
  const view = mapping.bytes;
  const elsewhere = new Uint8Array(mapping.buffer.transfer());
  assertEquals(view.length, 0);
  const again = mapping.bytes;
  again[1] = 2;
  assertEquals(elsewhere[1], 2);
  mapping.close();
  mapping.close();
  assertEquals([mapping.isOpen, again.length], [false, 0]);
  elsewhere[0] = 1; // still mapped
  assertEquals(elsewhere[0], 1);
  assertEquals(mappings.used, before + 1, "it counts as long as it is there, which is for ever");
});

testFds("a mapping of 8 TiB has one buffer, made when it is first used", () => {
  using fd = createMemfd("test", MAX_MAPPING);
  const mapping = Mapping.create(fd, { length: MAX_MAPPING });
  const { bytes } = mapping;
  bytes.set([1, 2, 3, 4], 2 ** 32 - 2);
  bytes[MAX_MAPPING - 1] = 9;
  using part = Mapping.create(fd, { length: PAGE_SIZE, offset: 2n ** 32n });
  assertEquals([...part.bytes.subarray(0, 3)], [3, 4, 0]);
  assertEquals(new Uint8Array(mapping.buffer, 2 ** 32 - 3, 6), new Uint8Array([0, 1, 2, 3, 4, 0]));
  assertEquals(bytes.subarray(-1)[0], 9);
  mapping.close();
  assertEquals(bytes.length, 0);
});

/** Lines of /proc/self/maps that name a memfd. */
function mapsOf(name: string): number {
  return Deno.readTextFileSync("/proc/self/maps").split(`/memfd:${name} `).length - 1;
}

testFds("parts of a mapped file share one mmap, which goes with the last of them", () => {
  using fd = createMemfd("vfu-parts", 4 * PAGE_SIZE);
  const before = [mappings.used, addressSpace.used];
  let ends = 0;
  const file = MappedFile.create(fd, { length: 4 * PAGE_SIZE }, {
    mappings,
    addressSpace,
    ended: () => ends++,
  });
  const parts = [[0, 1], [1, 2], [0, 4]].map(([start, pages]) =>
    file.part(start! * PAGE_SIZE, pages! * PAGE_SIZE)
  );
  assertEquals(mapsOf("vfu-parts"), 1);
  assertEquals([mappings.used, addressSpace.used], [before[0]! + 1, before[1]! + 4 * PAGE_SIZE]);
  const [first, second, all] = parts.map((part) => part.bytes);
  all![PAGE_SIZE] = 7;
  assertEquals([first!.length, second!.length, second![0]], [PAGE_SIZE, 2 * PAGE_SIZE, 7]);
  parts[1]!.close();
  assertEquals([first!.length, second!.length, all!.length], [PAGE_SIZE, 0, 4 * PAGE_SIZE]);
  assertEquals(all![PAGE_SIZE], 7);
  parts[0]!.close();
  assertEquals([ends, file.isOpen, mapsOf("vfu-parts")], [0, true, 1]);
  parts[2]!.close();
  assertEquals([ends, file.isOpen, mapsOf("vfu-parts")], [1, false, 0]);
  assertEquals([mappings.used, addressSpace.used], before);
  assertThrows(() => file.part(0, 1), RangeError, "Cannot use 1 bytes");
});

testFds("a part lies inside what is mapped", () => {
  using fd = createMemfd("test", 2 * PAGE_SIZE);
  const file = MappedFile.create(fd, { length: PAGE_SIZE });
  using _part = file.part(0, PAGE_SIZE);
  const cases = [[0, PAGE_SIZE + 1], [PAGE_SIZE, 1], [-1, 2], [0, 0], [0.5, 1], [0, NaN], [
    2 ** 53,
    1,
  ]];
  for (const [start, length] of cases) {
    assertThrows(() => file.part(start!, length!), RangeError, "Cannot use");
  }
});

testFds("what was written to a part that is not writable is forgotten with it", () => {
  using fd = createMemfd("test", 2 * PAGE_SIZE);
  const file = MappedFile.create(fd, { length: 2 * PAGE_SIZE, writable: false });
  using other = file.part(PAGE_SIZE, PAGE_SIZE);
  other.bytes[0] = 5;
  const part = file.part(0, PAGE_SIZE);
  part.bytes[0] = 99;
  part.close();
  using again = file.part(0, PAGE_SIZE);
  assertEquals([again.bytes[0], other.bytes[0]], [0, 5]);
});

Deno.test("a process maps no more than its budget, and lives", async () => {
  const result = await runJson(`
    import { createMemfd, Mapping } from "ffi/memory.ts";
    import { addressSpace, mappings } from "ffi/budget.ts";
    const failure = (body) => {
      try { body(); return "done"; } catch (e) { return e.code + e.message; }
    };
    // Pieces for which there is room: V8 and the loader have cut the address space.
    const huge = createMemfd("huge", 2 ** 40), large = [];
    const space = failure(() => {
      for (;;) large.push(Mapping.create(huge, { length: 2 ** 40 }));
    });
    const count = large.length;
    for (const each of large.splice(0)) each.bytes[0] = 1, each.close();
    const left = [mappings.used, addressSpace.used];
    const small = [];
    const maps = failure(() => {
      for (;;) {
        const fd = createMemfd("small", 4096); // files of their own: the kernel merges none
        try { small.push(Mapping.create(fd, { length: 4096 })); } finally { fd.close(); }
      }
    });
    const buffers = Array.from({ length: 64 }, () => new Uint8Array(4 << 20).fill(1)); // V8 maps
    const [a, b] = [small.length, mappings.limit];
    small.pop().close();
    small.push(Mapping.create(huge, { length: 4096 }));
    console.log(JSON.stringify({ space, count, left, maps, a, b, buffers: buffers.length }));
  `) as Record<string, unknown>;
  assertMatch(String(result.space), /^ENOSPCCannot map 1099511627776 bytes, as .* address space/);
  assertMatch(String(result.maps), /^ENOSPCCannot map 4096 bytes, as (\d+) of \1 mappings of this/);
  assertEquals([result.count, result.left, result.buffers], [64, [0, 0], 64]);
  assertEquals(result.a, result.b);
  assert(Number(result.a) >= 1000);
});

// ---- Huge pages

const MFD_HUGETLB = 4, MFD_ALLOW_SEALING = 2, HUGE = 2 << 20;

function hugeMemfd(size: number): OwnedFd {
  const c = libc();
  const flags = MFD_HUGETLB | MFD_ALLOW_SEALING;
  const fd = new OwnedFd(c.memfd_create(new TextEncoder().encode("huge\0"), flags));
  assertEquals(c.ftruncate(fd.fd, BigInt(size)), 0);
  return fd;
}

testFds(
  "huge pages that are not there can't be mapped, rather than fault later",
  () =>
    withHugePages(0, () => {
      using fd = hugeMemfd(HUGE);
      const before = [mappings.used, addressSpace.used];
      for (const writable of [true, false]) {
        const error = assertThrows(
          () => Mapping.create(fd, { length: HUGE, writable }),
          SystemError,
        );
        assertEquals(error.code, "ENOMEM");
      }
      assertEquals([mappings.used, addressSpace.used], before);
    }),
);

testFds("of a file of huge pages any pages are mapped", () =>
  withHugePages(2, () => {
    using fd = hugeMemfd(2 * HUGE);
    using all = Mapping.create(fd, { length: 2 * HUGE });
    for (
      const [at, length] of [[PAGE_SIZE, PAGE_SIZE], [HUGE - PAGE_SIZE, 2 * PAGE_SIZE], [
        0,
        HUGE + 5,
      ]]
    ) {
      using mapping = Mapping.create(fd, { length: length!, offset: BigInt(at!) });
      mapping.bytes[0] = at! / PAGE_SIZE + 1;
      mapping.bytes[length! - 1] = 77;
      assertEquals([all.bytes[at!], all.bytes[at! + length! - 1]], [
        (at! / PAGE_SIZE + 1) & 255,
        77,
      ]);
    }
  }));

Deno.test("optimised code that reads and writes a closed mapping does not crash", async () => {
  const result = await runJson(`
    import { createMemfd, Mapping } from "ffi/memory.ts";
    function sum(view) {
      let sum = 0;
      for (let i = 0; i < 1024; i++) { sum += view[i] | 0; view[i] = 1; }
      return sum;
    }
    using fd = createMemfd("test", 4096);
    const mapping = Mapping.create(fd, { length: 4096 });
    const bytes = mapping.bytes, words = new Uint32Array(mapping.buffer);
    for (let i = 0; i < 5000; i++) { sum(bytes); sum(words); }
    const before = sum(words) > 0;
    mapping.close();
    console.log(JSON.stringify([before, sum(bytes), sum(words), bytes.length, words.length]));
  `);
  assertEquals(result, [true, 0, 0, 0, 0]);
});
