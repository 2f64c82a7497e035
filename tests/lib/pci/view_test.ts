import { assertEquals } from "@std/assert";
import { bit, bits, ConfigView } from "../../../lib/pci/view.ts";

Deno.test("ConfigView reads little-endian values of every width", () => {
  const view = new ConfigView(Uint8Array.of(0x01, 0x82, 0x03, 0x84, 0x05, 0x06, 0x07, 0x88));
  assertEquals(view.u8(1), 0x82);
  assertEquals(view.u16(0), 0x8201);
  assertEquals(view.u32(0), 0x84038201);
  assertEquals(view.u64(0), 0x8807060584038201n);
  assertEquals(view.overrun, false);
});

Deno.test("ConfigView reads zeros past its end, and remembers it", () => {
  const view = new ConfigView(Uint8Array.of(1, 2, 3));
  assertEquals(view.u32(0), 0x00030201);
  assertEquals(view.overrun, true);
  assertEquals(view.bytes(2, 100), Uint8Array.of(3));
});

Deno.test("bits() and bit() take unsigned fields, the highest one too", () => {
  assertEquals(bits(0xf0000000, 28, 4), 0xf);
  assertEquals(bits(0x00000ab0, 4, 8), 0xab);
  assertEquals(bit(0x80000000, 31), true);
  assertEquals(bit(0x80000000, 30), false);
});
