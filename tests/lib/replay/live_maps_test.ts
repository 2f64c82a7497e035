import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { EEXIST, EINVAL } from "../../../ffi/errno.ts";
import { LiveMaps } from "../../../lib/replay/live_maps.ts";

const END = (1n << 64n) - 1n;

function map(maps: LiveMaps, address: bigint, size: bigint, flags = 3): number {
  return maps.map({ argsz: 32, flags, offset: 0n, address, size });
}

function unmap(maps: LiveMaps, address: bigint, size: bigint, flags = 0) {
  return maps.unmap({ argsz: 24, flags, address, size });
}

function allows(maps: LiveMaps, offset: bigint, count: bigint): [read: boolean, write: boolean] {
  return [
    maps.allows({ action: "read", offset, count }),
    maps.allows({ action: "write", offset, count }),
  ];
}

Deno.test("an access is in one map, or in maps side by side, with the rights of each", () => {
  const maps = new LiveMaps();
  assertEquals([map(maps, 0x1000n, 0x1000n), map(maps, 0x2000n, 0x1000n, 1)], [0, 0]);
  assertEquals(allows(maps, 0x1000n, 0x1000n), [true, true]);
  assertEquals(allows(maps, 0x1800n, 0x1000n), [true, false]);
  assertEquals(allows(maps, 0x2800n, 0x801n), [false, false]);
  assertEquals(allows(maps, 0xfffn, 2n), [false, false]);
  assertEquals(allows(maps, 0x3000n, 1n), [false, false]);
  assertEquals(allows(maps, 0x1000n, 1n << 64n), [false, false]);
});

Deno.test("maps that are none, or overlap, are refused", () => {
  const maps = new LiveMaps();
  assertEquals([map(maps, 0n, 0n), map(maps, 0x1000n, (1n << 64n) - 1n)], [EINVAL, EINVAL]);
  assertEquals([map(maps, 0x1000n, 0x1000n), map(maps, 0x1000n, 0x1000n)], [0, 0]);
  assertEquals(map(maps, 0x1000n, 0x1000n, 1), EEXIST);
  assertEquals([map(maps, 0x1fffn, 2n), map(maps, 0xfffn, 2n)], [EEXIST, EEXIST]);
});

Deno.test("a part that is taken back takes all of its map along", () => {
  const maps = new LiveMaps();
  map(maps, 0x1000n, 0x2000n);
  assertEquals(unmap(maps, 0x2000n, 0x10n), [0x1000n, 0x3000n]);
  assertEquals(maps.has(0x1000n), false);
  map(maps, 0x1000n, 0x2000n);
  unmap(maps, 0n, 0n, 2);
  assertEquals(maps.has(0x1000n), false);
});

Deno.test("an unmap of nothing, or beyond all addresses, takes no map back", () => {
  const maps = new LiveMaps();
  map(maps, 0x1000n, 0x2000n);
  for (const [address, size] of [[0x1000n, 0n], [0x2000n, 0n], [0x2000n, END]] as const) {
    assertEquals(unmap(maps, address, size), undefined);
  }
  assertEquals(allows(maps, 0x1000n, 0x2000n), [true, true]);
});

Deno.test("maps at random are those of a set of pages", () => {
  const page = fc.nat(15);
  const action = fc.record({ isMap: fc.boolean(), page, pages: fc.integer({ min: 1, max: 4 }) });
  fc.assert(fc.property(fc.array(action, { maxLength: 30 }), (actions) => {
    const maps = new LiveMaps();
    let model: [from: number, end: number][] = [];
    for (const { isMap, page, pages } of actions) {
      const [from, end] = [page, page + pages];
      const touching = model.filter(([a, b]) => a < end && from < b);
      if (!isMap) {
        unmap(maps, BigInt(from), BigInt(pages));
        model = model.filter((each) => !touching.includes(each));
      } else {
        const isSame = touching.length === 1 && touching[0]![0] === from && touching[0]![1] === end;
        assertEquals(
          map(maps, BigInt(from), BigInt(pages)),
          isSame || touching.length === 0 ? 0 : EEXIST,
        );
        if (touching.length === 0) model.push([from, end]);
      }
      for (let at = 0; at < 20; at++) {
        assertEquals(maps.has(BigInt(at)), model.some(([a, b]) => a <= at && at < b));
      }
    }
  }));
});
