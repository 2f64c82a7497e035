import { assert, assertEquals, assertThrows } from "@std/assert";
import { canShrink } from "../../../ffi/memory.ts";
import { KnownMemory, MAX_PAGES, MemoryFiles, PageBudget } from "../../../lib/replay/memory.ts";
import type { RecordedDescriptor } from "../../../lib/record/event.ts";
import { testFds } from "../../_fds.ts";

function descriptor(identity: string | null, size: bigint | null): RecordedDescriptor {
  return { kind: "file", size, seals: [], access: "rw", identity, fate: "passed" };
}

function sizeOf({ fd }: { readonly fd: number }): number {
  return Deno.statSync(`/proc/self/fd/${fd}`).size;
}

Deno.test("what is known of memory is known by the byte, up to a bound that is noticed", () => {
  const memory = new KnownMemory();
  memory.write(0xffen, Uint8Array.of(1, 2, 3));
  assertEquals([memory.isKnown(0xffen, 3), memory.isKnown(0xffdn, 2)], [true, false]);
  assertEquals(memory.copy().isKnown(0x1000n, 1), true);
  assertEquals(memory.isKnown(0x1000n, 2), false);
  memory.write(0x1000n, new Uint8Array(4096));
  assertEquals([memory.isKnown(0x1000n, 4096), memory.hasForgotten], [true, false]);
  for (let page = 2n; page <= MAX_PAGES; page++) memory.write(page << 12n, Uint8Array.of(1));
  assertEquals([memory.isKnown(0xffen, 1), memory.hasForgotten], [false, true]);
});

Deno.test("memories of one budget have no more pages together than one alone", () => {
  const budget = new PageBudget();
  const [first, second] = [new KnownMemory(budget), new KnownMemory(budget)];
  for (let page = 0n; page < MAX_PAGES; page++) first.write(page << 12n, Uint8Array.of(1));
  second.write(0n, Uint8Array.of(2));
  assertEquals([second.isKnown(0n, 1), second.hasForgotten, budget.left], [false, true, 0]);
  assertEquals(second.read(0n, 1), Uint8Array.of(0));
  first.write(-1n << 12n, Uint8Array.of(3)); // in the place of its own oldest page
  assertEquals([first.isKnown(0n, 1), first.isKnown(-1n << 12n, 1)], [false, true]);
  const others = new PageBudget();
  others.left = 1;
  const copy = first.copy(others);
  assertEquals([copy.isKnown(1n << 12n, 1), copy.isKnown(2n << 12n, 1)], [true, false]);
});

testFds("a recorded file that grows is one file all the while", () => {
  using files = new MemoryFiles();
  const sizes = [4096n, 8192n, 8192n, 4096n, 16384n];
  const fds = sizes.map((size) => files.file(descriptor("1:2", size), 0n));
  assertEquals(new Set(fds).size, 1);
  assertEquals(sizeOf(fds[0]!), 16384);
  assert(!canShrink(fds[0]!));
  // What a map needs counts as well.
  assertEquals(files.file(descriptor("1:2", null), 32768n), fds[0]);
  assertEquals(sizeOf(fds[0]!), 32768);
});

testFds("files without an identity are not the same, whatever others are named", () => {
  using files = new MemoryFiles();
  const fds = ["none 1", null, null, "none 0"].map((id) => files.file(descriptor(id, 4096n), 0n));
  assertEquals(new Set(fds).size, 4);
});

testFds("a map of nothing has a file all the same", () => {
  using files = new MemoryFiles();
  assertEquals(sizeOf(files.file(descriptor("1:2", 0n), 0n)), 1);
});

testFds("sizes that a recording claims are bounded, of one file and of all", () => {
  using files = new MemoryFiles();
  for (const size of [1n << 40n, 1n << 62n, (1n << 64n) - 1n]) {
    for (const [claimed, least] of [[size, 0n], [null, size]] as const) {
      const error = assertThrows(() => files.file(descriptor("a", claimed), least), RangeError);
      assert(
        error.message.includes(`Cannot give the server memory: the recording claims a file of`),
      );
      assert(error.message.includes(`${size} bytes`) && error.message.includes("; record"));
    }
  }
  const half = 1n << 37n;
  const first = files.file(descriptor("a", half), 0n);
  files.file(descriptor("b", half), 0n);
  assertThrows(() => files.file(descriptor("c", 1n), 0n), RangeError, "a file of 1 bytes");
  assertThrows(() => files.file(descriptor("a", half + 1n), 0n), RangeError);
  assertEquals(sizeOf(first), Number(half));
});

testFds("too many files are refused, with a remedy", () => {
  using files = new MemoryFiles();
  for (let i = 0; i < 64; i++) files.file(descriptor(`${i}`, 4096n), 0n);
  const text = "in fewer files";
  assertThrows(() => files.file(descriptor("64", 4096n), 0n), RangeError, text);
  files.file(descriptor("7", 8192n), 0n);
});
