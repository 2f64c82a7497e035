import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { crc32 } from "../../../lib/base/crc32.ts";

crc32(new Uint8Array()); // loads what it takes, once

/** As it is defined: a division, bit by bit. */
function byDefinition(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

Deno.test("crc32() is the checksum that is defined, in one piece or two", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(300), (bytes, cut) => {
      const expected = byDefinition(bytes);
      assertEquals(crc32(bytes), expected);
      assertEquals(crc32(bytes.subarray(cut), crc32(bytes.subarray(0, cut))), expected);
    }),
  );
});
