import { assertEquals } from "@std/assert";
import { parseBars, parseRomBar } from "../../../lib/pci/bar.ts";
import { ConfigView } from "../../../lib/pci/view.ts";
import { ConfigImage } from "./_images.ts";

const unknownSizes = () => undefined;

function viewOf(...registers: number[]): ConfigView {
  return new ConfigView(new ConfigImage(256, 0, 0, 0).u32(0x10, ...registers).bytes);
}

Deno.test("parseBars() tells I/O from memory and takes the type bits off addresses", () => {
  const bars = parseBars(viewOf(0xc001, 0xfeb0_0008, 0x000a_0002), 6, unknownSizes);
  assertEquals(bars, [
    { index: 0, space: "io", register: 0xc001n, address: 0xc000n, notes: [] },
    {
      index: 1,
      space: "memory",
      type: "32-bit",
      prefetchable: true,
      register: 0xfeb0_0008n,
      address: 0xfeb0_0000n,
      notes: [],
    },
    {
      index: 2,
      space: "memory",
      type: "below 1M",
      prefetchable: false,
      register: 0x000a_0002n,
      address: 0x000a_0000n,
      notes: [],
    },
  ]);
});

Deno.test("parseBars() joins the two registers of a 64-bit BAR", () => {
  const bars = parseBars(viewOf(0xe000_0004, 0xffff_ff80, 0xd001), 6, unknownSizes);
  assertEquals(bars.map(({ index, address }) => [index, address]), [
    [0, 0xffff_ff80_e000_0000n],
    [2, 0xd000n],
  ]);
});

Deno.test("parseBars() finds a BAR without an address by its type bits or its size", () => {
  const sizes = (index: number) => [0x4000n, 0n, 0x100n, 0n, 0n, 0n][index];
  const bars = parseBars(viewOf(0x4, 0, 0), 6, sizes);
  assertEquals(bars.map(({ index, address, size }) => [index, address, size]), [
    [0, 0n, 0x4000n],
    [2, 0n, 0x100n],
  ]);
});

Deno.test("parseBars() notes a 64-bit BAR in the last register and a reserved type", () => {
  const bars = parseBars(viewOf(0x6, 0, 0, 0, 0, 0x4), 6, unknownSizes);
  assertEquals(bars.map(({ index, notes }) => [index, notes.length]), [[0, 1], [5, 1]]);
});

Deno.test("parseBars() sees no BAR in a register of ones", () => {
  assertEquals(parseBars(viewOf(0xffffffff), 6, unknownSizes), []);
});

Deno.test("parseRomBar() takes enable bit, address and size", () => {
  const view = new ConfigView(new ConfigImage(256, 0, 0, 0).u32(0x30, 0xfeb8_0001).bytes);
  assertEquals(parseRomBar(view, 0x30, unknownSizes), {
    register: 0xfeb8_0001,
    enabled: true,
    address: 0xfeb8_0000n,
  });
  const sizes = (index: number) => index === 6 ? 0x10000n : undefined;
  assertEquals(parseRomBar(view, 0x34, sizes)?.size, 0x10000n);
  assertEquals(parseRomBar(view, 0x34, unknownSizes), undefined);
});
