/**
 * Values that were wrong beside lspci's on functions of real machines.
 */

import { assertEquals } from "@std/assert";
import { configSpaceText } from "../../../lib/pci/text.ts";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import { ConfigImage } from "./_images.ts";

const blank = () => new ConfigImage(4096, 0x8086, 1, 0x020000);

/** The lines about a capability, without their indent. */
function linesOf(image: ConfigImage, pattern: RegExp): string[] {
  return configSpaceText(parseConfigSpace(image.bytes)).map((line) => line.trim())
    .filter((line) => pattern.test(line));
}

Deno.test("a subsystem of no vendor is none, in a header and in a bridge's capability", () => {
  for (const vendor of [0, 0xffff]) {
    const normal = blank().u16(0x2c, vendor, vendor);
    assertEquals(parseConfigSpace(normal.bytes).subsystem, undefined);
    const bridge = blank().u8(0x0e, 1).capability(0x40, 0x0d, 0, vendor, vendor);
    assertEquals(parseConfigSpace(bridge.bytes).subsystem, undefined);
  }
});

Deno.test("a target speed of 0 is 2.5GT/s, and 7 is 128GT/s", () => {
  const express = (target: number) => blank().capability(0x40, 0x10, 0x0002).u16(0x70, target);
  assertEquals(linesOf(express(0), /^LnkCtl2: target speed 2\.5GT\/s /).length, 1);
  assertEquals(linesOf(express(7), /^LnkCtl2: target speed 128GT\/s /).length, 1);
});

Deno.test("PhantFunc is the count of functions", () => {
  const express = blank().capability(0x40, 0x10, 0x0002, 3 << 3);
  assertEquals(linesOf(express, /PhantFunc 7,/).length, 1);
});

Deno.test("granularity 0 of PTM is none, and 255 a bound", () => {
  const ptm = (granularity: number) => blank().extended(0x100, 0x1f, 1, granularity << 8);
  assertEquals(linesOf(ptm(0), /granularity unimplemented$/).length, 1);
  assertEquals(linesOf(ptm(9), /granularity 9ns$/).length, 1);
  assertEquals(linesOf(ptm(255), /granularity over 254ns$/).length, 1);
});

Deno.test("a resizable BAR has sizes in the largest unit, and reserved codes none", () => {
  const rebar = (code: number) =>
    blank().extended(0x100, 0x15, 1).u32(0x104, 0x10).u32(0x108, code << 8 | 1 << 5);
  const size = (code: number) => /size: (\w+),/.exec(linesOf(rebar(code), /^BAR 0: cur/)[0]!)![1];
  assertEquals([0, 9, 10, 20, 43, 44, 63].map(size), [
    "1MB",
    "512MB",
    "1GB",
    "1TB",
    "8EB",
    "unknown",
    "unknown",
  ]);
});

Deno.test("a capability that is only named shows its bytes", () => {
  const image = blank().extended(0x100, 0x36, 1, 0xabcd);
  assertEquals(linesOf(image, /MMIO/), [
    "[100 v1] MMIO Register Block Locator: 36 00 01 00 cd ab 00 00 00 00 00 00 00",
  ]);
});

Deno.test("a BAR that is set, and whose region has no bytes, has a note", () => {
  const image = blank().u32(0x10, 0xfe00_0000);
  const { bars } = parseConfigSpace(image.bytes, { regionSizes: () => 0n });
  assertEquals(bars.map(({ notes }) => notes), [[
    "its register is set, and its region has no bytes",
  ]]);
});
