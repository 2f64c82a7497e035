import { assertEquals } from "@std/assert";
import { AccessedMemory, type AccessedRange } from "../../../lib/replay/accessed.ts";
import { Relocation, type UnmappedRange } from "../../../lib/replay/relocation.ts";

const NOW = { turn: 1, scene: 1 };

function u64(...values: bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}

function u32(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

function access(
  offset: bigint,
  count: bigint,
  action: AccessedRange["action"] = "read",
): AccessedRange {
  return { action, offset, count };
}

/** A relocation for a device that did these accesses, each after a request of its own. */
function after(accesses: readonly AccessedRange[], unmapped: UnmappedRange[] = []) {
  const accessed = new AccessedMemory();
  for (const each of accesses) accessed.add(each, {});
  const byScene = Map.groupBy(unmapped, ({ scene }) => scene);
  return new Relocation(accessed, (address) => address < 1n << 48n, byScene);
}

/** Tells what is alike. */
function tell(relocation: Relocation, recorded: Uint8Array, found: Uint8Array, turn = 1): boolean {
  const names = relocation.compare(recorded, found);
  if (names !== undefined) relocation.tell(names, { turn, scene: turn });
  return names !== undefined;
}

Deno.test("a page that a driver tells elsewhere is elsewhere, with all that is in it", () => {
  const relocation = after([access(0x5040n, 64n)]);
  assertEquals(tell(relocation, u64(7n, 0x5000n), u64(7n, 0x9000n)), true);
  assertEquals(relocation.address(access(0x5040n, 64n), NOW), 0x9040n);
});

Deno.test("an address that the driver never told has no place, wherever it is", () => {
  const relocation = after([access(0x5040n, 64n), access(0x6040n, 64n)]);
  assertEquals(tell(relocation, u64(0x5000n), u64(0x5000n)), true);
  assertEquals(relocation.address(access(0x6040n, 64n), NOW), undefined);
  // What is below the name is not behind it.
  assertEquals(tell(relocation, u64(0x6080n), u64(0x6080n)), true);
  assertEquals(relocation.address(access(0x6040n, 64n), NOW), undefined);
});

Deno.test("two pieces of memory in one page move by themselves", () => {
  const relocation = after([access(0x5200n, 16n), access(0x5400n, 16n)]);
  tell(relocation, u64(0x5200n, 0x5400n), u64(0x9200n, 0xa400n));
  assertEquals(relocation.address(access(0x5200n, 16n), NOW), 0x9200n);
  assertEquals(relocation.address(access(0x5210n, 16n), NOW), 0x9210n);
  assertEquals(relocation.address(access(0x5400n, 16n), NOW), 0xa400n);
});

Deno.test("memory that is told no longer is not behind other memory in its page", () => {
  const endings: [string, (relocation: Relocation) => void][] = [
    ["another command", (relocation) => relocation.revokeAll(u64(0x5400n))],
    ["an unmap", (relocation) => relocation.unmap(0xa000n, 0xb000n, { turn: 9, scene: 9 })],
    ["a reset", (relocation) => {
      relocation.clear();
      tell(relocation, u64(0x5200n), u64(0x9200n));
    }],
  ];
  for (const [title, end] of endings) {
    const relocation = after([access(0x5200n, 16n), access(0x5400n, 16n)]);
    tell(relocation, u64(0x5200n, 0x5400n), u64(0x9200n, 0xa400n));
    end(relocation);
    assertEquals(relocation.address(access(0x5400n, 16n), NOW), undefined, title);
    assertEquals(relocation.address(access(0x5200n, 16n), NOW), 0x9200n, title);
  }
});

Deno.test("more addresses than are kept are not taken for one another", () => {
  const accesses = Array.from({ length: 2000 }, (_, i) => access(0x5000n + BigInt(i), 1n));
  const relocation = after(accesses);
  for (const { offset } of accesses) tell(relocation, u64(offset), u64(offset * 16n));
  for (const each of accesses) {
    const found = relocation.address(each, NOW);
    assertEquals(found ?? each.offset * 16n, each.offset * 16n);
  }
});

Deno.test("an access that begins elsewhere in a page is found by its start", () => {
  const relocation = after([access(0x5010n, 512n)]);
  assertEquals(tell(relocation, u64(0x5010n), u64(0x9a40n)), true);
  assertEquals(relocation.address(access(0x5010n, 512n), NOW), 0x9a40n);
});

Deno.test("memory elsewhere in its page says nothing of the client's next page", () => {
  const relocation = after([access(0x5010n, 16n), access(0x5800n, 16n, "write")]);
  tell(relocation, u64(0x5010n), u64(0x9ff0n));
  assertEquals(relocation.address(access(0x5010n, 16n), NOW), 0x9ff0n);
  assertEquals(relocation.address(access(0x5800n, 16n), NOW), undefined);
  // An access that goes on where the one before had ended is of the same piece.
  const accessed = new AccessedMemory();
  for (const offset of [0x5010n, 0x5020n]) accessed.add(access(offset, 16n), "the same scene");
  const pieces = new Relocation(accessed, () => true);
  tell(pieces, u64(0x5010n), u64(0x9ff0n));
  assertEquals(pieces.address(access(0x5020n, 16n), NOW), 0xa000n);
});

Deno.test("memory beyond what is kept is not taken for memory below", () => {
  const pages = Array.from({ length: 65_535 }, (_, i) => 0x2000_0000n + BigInt(i) * 0x1000n);
  const piece = [0x1000_0000n, 0x1000_1000n] as const;
  const accessed = new AccessedMemory();
  for (const page of pages) accessed.add(access(page, 1n), {});
  for (const page of piece) accessed.add(access(page, 4096n), "the same scene");
  const relocation = new Relocation(accessed, () => true);
  tell(relocation, u64(...piece), u64(0x9000_0000n, piece[1]));
  assertEquals(relocation.address(access(piece[1], 4096n), NOW), undefined);
});

Deno.test("addresses beyond what is kept are not taken for addresses below", () => {
  const pages = Array.from({ length: 1024 }, (_, i) => 0x2000_0000n + BigInt(i) * 0x1000n);
  const relocation = after([access(0x1000_0000n, 8192n), ...pages.map((page) => access(page, 1n))]);
  tell(relocation, u64(0x1000_0000n), u64(0x9000_0000n));
  assertEquals(relocation.address(access(0x1000_1000n, 64n), NOW), 0x9000_1000n);
  for (const page of pages) {
    const names = u64(...Array.from({ length: 64 }, (_, i) => page + BigInt(16 * i)));
    tell(relocation, names, names);
  }
  tell(relocation, u64(0x1000_1000n), u64(0xa000_0000n));
  assertEquals(relocation.address(access(0x1000_1000n, 64n), NOW), undefined);
});

Deno.test("an access of all memory is not walked through", () => {
  const accessed = new AccessedMemory();
  for (let i = 0n; i < 100n; i++) accessed.add(access(0n, 1n << 63n), {});
  assertEquals(accessed.isFull, true);
});

Deno.test("a large write with numbers that are no addresses tells none", () => {
  const accessed = new AccessedMemory();
  accessed.add(access(0x5000n, 64n), {});
  const data = new Uint8Array(
    BigUint64Array.from({ length: 1 << 17 }, (_, i) => BigInt(i) * 8n).buffer,
  );
  accessed.see("2+0.1048576", data);
  assertEquals(accessed.isFull, false);
  assertEquals(accessed.isAddress(0x5000n, 64, "2+0.1048576", 0x5000), false);
  assertEquals(accessed.isAddress(0x5000n, 64, "0+40.8"), true);
});

Deno.test("a ring goes on in its next page, and memory beside it does not", () => {
  const ring = [0x5000n, 0x5fc0n, 0x6000n].map((address) => access(address, 64n));
  const relocation = after([...ring, access(0x7000n, 4096n)]);
  tell(relocation, u64(0x5000n), u64(0x9000n));
  assertEquals(relocation.address(ring[2]!, NOW), 0xa000n);
  assertEquals(relocation.address(access(0x7000n, 4096n), NOW), undefined);
});

Deno.test("a length that looks like an accessed page is a length", () => {
  // 8 KiB at 0x1000, told as two numbers: the page 0x2000 is in the middle of the piece.
  const relocation = after([access(0x1000n, 0x2000n, "write")]);
  assertEquals(tell(relocation, u64(0x1000n, 0x2000n), u64(0x9000n, 0x1000n)), false);
  assertEquals(tell(relocation, u32(0x1000, 0x2000), u32(0x9000, 0x1000)), false);
  assertEquals(tell(relocation, u64(0x1000n, 0x2000n), u64(0x9000n, 0x2000n)), true);
});

Deno.test("a place that also has numbers that are no addresses tells none", () => {
  const accessed = new AccessedMemory();
  accessed.add(access(0x2000n, 64n), {});
  for (const value of [0x2000n, 0x123n]) accessed.see("length", u64(value));
  const relocation = new Relocation(accessed, () => true);
  const compare = (where: string) => relocation.compare(u64(0x2000n), u64(0x3000n), { where });
  assertEquals(compare("length"), undefined);
  assertEquals(compare("address"), new Map([[0x2000n, 0x3000n]]));
});

Deno.test("numbers that are no addresses of the device are compared", () => {
  const relocation = after([access(0x5040n, 64n)]);
  assertEquals(tell(relocation, u64(0x7000n), u64(0x8000n)), false);
  assertEquals(tell(relocation, u64(0x5000n), u64(0n)), false);
  assertEquals(tell(relocation, u64(0x5000n), u64(1n << 50n)), false); // not mapped
  assertEquals(tell(relocation, u64(0x5000n, 0x5000n), u64(0x8000n, 0x9000n)), false);
  assertEquals(tell(relocation, Uint8Array.of(1, 2, 3), Uint8Array.of(1, 2, 4)), false);
  assertEquals(tell(relocation, Uint8Array.of(1), Uint8Array.of(1, 2)), false);
  assertEquals(relocation.address(access(0x5040n, 64n), NOW), undefined);
});

Deno.test("an address that is told again is where it was told last, and not before", () => {
  const relocation = after([access(0x5000n, 64n)]);
  tell(relocation, u64(0x5000n), u64(0x9000n), 1);
  tell(relocation, u64(0x5000n), u64(0x5000n), 2);
  assertEquals(relocation.address(access(0x5020n, 8n), { turn: 2, scene: 2 }), 0x5020n);
  assertEquals(relocation.address(access(0x5020n, 8n), NOW), undefined);
  relocation.revokeAll(u64(0x5000n));
  assertEquals(relocation.address(access(0x5020n, 8n), { turn: 2, scene: 2 }), undefined);
});

Deno.test("memory that is taken back is no place, unless both clients do so at once", () => {
  const told = u64(0x5000n);
  const fetch = access(0x5000n, 64n);
  const unmapped = [{ scene: 5, from: 0n, end: 1n << 32n }, { scene: 0, from: 0n, end: 1n << 32n }];
  const after5 = { turn: 9, scene: 9 };
  const cases = [[[], 1, false], [unmapped, 5, true], [unmapped, 6, true], [unmapped, 8, false], [
    unmapped,
    1,
    false,
  ]] as const;
  for (const [ranges, scene, isKept] of cases) {
    const relocation = after([fetch], [...ranges]);
    tell(relocation, told, u64(0x9000n));
    relocation.unmap(0x8000n, 0x9000n, { turn: 2, scene: 2 });
    assertEquals(relocation.address(fetch, after5), 0x9000n);
    relocation.unmap(0x9000n, 0xa000n, { turn: 2, scene });
    assertEquals(relocation.address(fetch, after5), isKept ? 0x9000n : undefined);
    assertEquals(tell(relocation, told, u64(0xa000n), 2), true);
    assertEquals(relocation.address(fetch, after5), 0xa000n);
  }
});
