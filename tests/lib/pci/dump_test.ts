import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { lspciDump, parseLspciDump } from "../../../lib/pci/dump.ts";

Deno.test("lspciDump() writes a slot, a description and lines of 16 bytes", () => {
  const config = Uint8Array.from({ length: 0x120 }, (_, index) => index);
  const lines = lspciDump(config, { slot: "0000:00:04.0", description: "a\nb" }).split("\n");
  assertEquals(lines[0], "0000:00:04.0 a b");
  assertEquals(lines[1], "00: 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f");
  assertEquals(lines[17], "100: 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f");
  assertEquals(lines.slice(-2), ["", ""]);
});

Deno.test("lspciDump() refuses a slot of another form and a space that is too large", () => {
  assertThrows(() => lspciDump(new Uint8Array(64), { slot: "4" }), RangeError);
  assertThrows(() => lspciDump(new Uint8Array(4097)), RangeError);
});

Deno.test("parseLspciDump() reads what lspciDump() writes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), (config) => {
    assertEquals(parseLspciDump(lspciDump(config)), [
      { slot: "00:00.0", description: "PCI device", config },
    ]);
  }));
});

Deno.test("parseLspciDump() passes over the text of lspci -v and takes several functions", () => {
  const text = [
    "00:00.0 Host bridge: Somebody",
    "\tControl: I/O+ Mem+",
    "\tRegion 0: Memory at fe000000",
    "00: 86 80",
    "",
    "0001:02:1f.7 Other",
    "10: 0a",
  ].join("\r\n");
  assertEquals(parseLspciDump(text), [
    { slot: "00:00.0", description: "Host bridge: Somebody", config: Uint8Array.of(0x86, 0x80) },
    {
      slot: "0001:02:1f.7",
      description: "Other",
      config: Uint8Array.from([...new Array(16).fill(0), 0x0a]),
    },
  ]);
});

Deno.test("parseLspciDump() refuses bytes without a slot and past the end", () => {
  assertThrows(() => parseLspciDump("00: 01 02"), SyntaxError, "Line 1");
  assertThrows(() => parseLspciDump("00:00.0 x\n1000: 01"), SyntaxError, "Line 2");
  assertThrows(() => parseLspciDump("00:00.0 x\nffffffffffff: 01"), SyntaxError, "Line 2");
});

Deno.test("parseLspciDump() takes the functions of a large machine, and no million of them", () => {
  const many = "00:00.0 x\nff0: 01\n".repeat(10_000);
  assertEquals(parseLspciDump(many).length, 10_000);
  assertThrows(() => parseLspciDump(`${many}00:00.0 x`), SyntaxError, "Line 20001");
});
