import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { callbacks } from "../../../lib/define/callbacks.ts";
import { memory } from "../../../lib/define/memory.ts";
import { overlay } from "../../../lib/define/overlay.ts";
import { registers } from "../../../lib/define/registers.ts";
import { RegionFlags } from "../../../lib/wire/region.ts";
import { testFds } from "../../_fds.ts";

const BOTH = RegionFlags.READ | RegionFlags.WRITE;

testFds("memory() is bytes, all of which may be mapped, some, or none", () => {
  using all = memory({ size: 5000 });
  using some = memory({ size: 0x4000, mappable: [{ offset: 0x1000, size: 0x2000 }] });
  using none = memory({ size: 0x1000, mappable: false });
  using empty = memory({ size: 0x1000, mappable: [] });
  assertEquals([all.size, all.flags, all.fds.length], [8192, BOTH | RegionFlags.MMAP, 1]);
  assertEquals(all.capabilities, []);
  assertEquals(some.capabilities, [
    { kind: "sparse_mmap", version: 1, areas: [{ offset: 0x1000n, size: 0x2000n }] },
  ]);
  for (const each of [none, empty]) assertEquals([each.flags, each.fds.length], [BOTH, 0]);
  all.bytes[4999] = 7;
  const into = new Uint8Array(2);
  all.read(4998, into);
  assertEquals(into.join(), "0,7");
});

testFds("memory() refuses areas that are no pages of it", () => {
  for (const area of [{ offset: 1, size: 4096 }, { offset: 0, size: 1 }, { offset: 0, size: 0 }]) {
    assertThrows(() => memory({ size: 8192, mappable: [area] }), RangeError, "whole pages");
  }
  const beyond = [{ offset: 4096, size: 8192 }];
  assertThrows(() => memory({ size: 8192, mappable: beyond }), RangeError, "ends after");
});

testFds("regions refuse sizes and kinds that there are not", () => {
  for (const size of [0, -5, NaN, 1.5, Infinity, 2 ** 60]) {
    assertThrows(() => memory({ size }), RangeError, `can't have ${size} bytes`);
    assertThrows(() => callbacks({ size }), RangeError, `can't have ${size} bytes`);
  }
  assertEquals([1, 4, 5].map((size) => callbacks({ size, io: true }).size), [4, 4, 8]);
  assertEquals([1, 4, 17].map((size) => callbacks({ size }).size), [16, 16, 32]);
  assertThrows(() => memory({ size: 2 ** 44 }), RangeError, "Cannot map 17592186044416 bytes");
  for (const kind of [{ is64Bit: true }, { prefetchable: true }]) {
    assertThrows(() => callbacks({ size: 4, io: true, ...kind }), RangeError, "I/O ports");
  }
});

testFds("memory() of 8 GiB is one piece, also where addresses need more than 32 bits", () => {
  using region = memory({ size: 2 ** 33, is64Bit: true });
  const at = 2 ** 32 - 2;
  region.write(at, new Uint8Array([1, 2, 3, 4]));
  const into = new Uint8Array(6);
  region.read(at - 1, into);
  assertEquals([...into], [0, 1, 2, 3, 4, 0]);
  assertEquals([...region.view(at, 4)], [1, 2, 3, 4]);
  region.write(2 ** 33 - 1, new Uint8Array([9]));
  assertEquals([region.size, region.bytes.length, region.bytes.at(-1)], [2 ** 33, 2 ** 33, 9]);
});

testFds("memory() tells of what was written by message", async () => {
  const calls: number[][] = [];
  using region = memory({ size: 4096, written: (...args) => void calls.push(args) });
  await region.write(5, new Uint8Array([1, 2]));
  assertEquals(calls, [[5, 2]]);
  assertEquals(region.bytes[6], 2);
});

Deno.test("callbacks() has a size that is a power of two; they never see what is behind theirs", async () => {
  const seen: [number, number][] = [];
  const region = callbacks({
    size: 20,
    read(offset, into) {
      seen.push([offset, into.length]);
      into.fill(1);
    },
    write: (offset, data) => void seen.push([offset, data.length]),
  });
  assertEquals(region.size, 32);
  const into = new Uint8Array(8).fill(0xaa);
  await region.read(16, into);
  assertEquals(into.join(), "1,1,1,1,0,0,0,0");
  await region.read(20, into);
  assertEquals(into.join(), "0,0,0,0,0,0,0,0");
  await region.write(18, into);
  await region.write(24, into);
  assertEquals(seen, [[16, 4], [18, 2]]);
  const none = callbacks({ size: 16 });
  await none.read(0, into.fill(3));
  await none.write(0, into);
  assertEquals(into.join(), "0,0,0,0,0,0,0,0");
});

function layered() {
  const log: string[] = [];
  const part = (name: string, fill: number) =>
    callbacks({
      size: 16,
      read(offset, into) {
        log.push(`${name} ${offset}+${into.length}`);
        into.fill(fill);
      },
      async write(offset, data) {
        await Promise.resolve();
        log.push(`${name} ${offset}=${data.join()}`);
      },
      reset: () => void log.push(`${name} reset`),
    });
  const below = callbacks({
    size: 64,
    read(offset, into) {
      log.push(`below ${offset}+${into.length}`);
      into.fill(9);
    },
    write: (offset, data) => void log.push(`below ${offset}=${data.join()}`),
  });
  const region = overlay(below, [
    { offset: 32, region: part("b", 2) },
    { offset: 8, size: 4, region: part("a", 1) },
  ]);
  return { region, log };
}

Deno.test("overlay() gives each region its part of an access, in order", async () => {
  const { region, log } = layered();
  const into = new Uint8Array(16);
  await region.read(4, into);
  assertEquals(into.join(), "9,9,9,9,1,1,1,1,9,9,9,9,9,9,9,9");
  await region.write(6, Uint8Array.of(1, 2, 3, 4, 5, 6, 7));
  await region.read(40, new Uint8Array(16));
  assertEquals(log, [
    "below 4+4",
    "a 0+4",
    "below 12+8",
    "below 6=1,2",
    "a 0=3,4,5,6",
    "below 12=7",
    "b 8+8",
    "below 48+8",
  ]);
  log.length = 0;
  region.reset!();
  assertEquals(log, ["a reset", "b reset"]);
});

testFds("overlay() refuses what can't be on top", () => {
  using below = memory({ size: 0x2000, mappable: [{ offset: 0x1000, size: 0x1000 }] });
  using other = memory({ size: 0x1000 });
  const regs = registers({ registers: [{ name: "A", offset: 0, width: 4 }] });
  const refuse = (message: string, ...parts: Parameters<typeof overlay>[1]) =>
    assertThrows(() => overlay(below, parts), RangeError, message);
  refuse("it does not fit the region below", { offset: 0x1ff8, region: regs });
  refuse("it does not fit", { offset: -1, region: regs });
  refuse("it does not fit", { offset: 0, size: 32, region: regs });
  refuse("a region is at 0x0 to 0xf", { offset: 0, region: regs }, { offset: 8, region: regs });
  refuse("a client may map that part", { offset: 0x0ff8, region: regs });
  refuse("only the region below may be mapped", { offset: 0, region: other });
  const region = overlay(below, [{ offset: 0xff0, region: regs }]);
  assertEquals(region.contents?.map(({ length }) => length), [0x2000, 4]);
  assertEquals(
    overlay(below, [{ offset: 0, region: callbacks({ size: 16 }) }]).contents,
    undefined,
  );
});

Deno.test("a part of overlay() with a condition has accesses while it holds", async () => {
  const below = registers({
    registers: [
      { name: "DATA", offset: 0, width: 1 },
      { name: "NEXT", offset: 1, width: 1 },
      { name: "BANK", offset: 2, width: 1 },
    ],
  });
  const bank = (count: number, reset: number) =>
    registers({ registers: [{ name: "X", offset: 0, width: 1, count, reset }] });
  const when = (value: number) => () => below.regs.BANK.value === value;
  const region = overlay(below, [
    { offset: 1, size: 1, region: bank(1, 0x77), when: when(2) },
    { offset: 0, size: 2, region: bank(2, 0x55), when: when(1) },
    { offset: 0, size: 2, region: bank(2, 0x66), when: when(2) },
  ]);
  const read = async () => {
    const into = new Uint8Array(3);
    await region.read(0, into);
    return [...into];
  };
  const seen = [];
  for (const value of [0, 1, 2, 0]) {
    await region.write(2, Uint8Array.of(value));
    seen.push(await read());
    await region.write(0, Uint8Array.of(value, value + 1));
  }
  assertEquals(seen, [[0, 0, 0], [0x55, 0x55, 1], [0x66, 0x66, 2], [0, 1, 0]]);
  assertEquals([below.regs.DATA.value, below.regs.NEXT.value], [0, 1]);
  // What is below a condition can be reached.
  assertEquals(region.review!().unreachable, []);
  assertThrows(
    () =>
      overlay(below, [{ offset: 0, region: bank(1, 0) }, {
        offset: 0,
        region: bank(1, 0),
        when: when(1),
      }]),
    RangeError,
    "a region is at 0x0 to 0xf",
  );
});

Deno.test("overlay() shifts the eventfds of its parts", () => {
  const below = callbacks({ size: 64 });
  const map = { registers: [{ name: "BELL", offset: 4, width: 4 }] } as const;
  const bells = registers(map, { ioeventfds: ["BELL"] });
  assertEquals(overlay(below, [{ offset: 16, region: bells }]).ioFds?.[0]?.offset, 20);
});

Deno.test("overlay() ends an access at the part that fails", async () => {
  const { log } = layered();
  const failing = callbacks({ size: 16, write: () => Promise.reject(new Error("no")) });
  const below = callbacks({ size: 64, write: (offset) => void log.push(`below ${offset}`) });
  const region = overlay(below, [{ offset: 4, size: 4, region: failing }]);
  await assertRejects(async () => await region.write(0, new Uint8Array(16)), Error, "no");
  assertEquals(log, ["below 0"]);
  assert(region.size === 64);
});
