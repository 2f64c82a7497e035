import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { layout, ProtocolError, u16, u32, u64, u8 } from "../../../lib/wire/mod.ts";
import { u16 as anyU16, u32 as anyU32, u64 as anyU64 } from "./_arbitraries.ts";
import { hex } from "./_golden.ts";

/** Every width, a gap after `a`, and padding at the end. */
const Sample = layout("sample", 20, { a: u8(0), b: u16(2), c: u32(4), d: u64(8) });
const VALUE = { a: 0x11, b: 0x2233, c: 0x44556677, d: 0x8899aabbccddeeffn };
const WIRE = hex("11 00 33 22 77 66 55 44 ff ee dd cc bb aa 99 88 00 00 00 00");

Deno.test("layout() puts every width where the table says, little-endian", () => {
  assertEquals(Sample.encode(VALUE), WIRE);
  assertEquals(Sample.decode(WIRE), VALUE);
});

Deno.test("layout() exposes name, size and offsets", () => {
  assertEquals(Sample.name, "sample");
  assertEquals(Sample.size, 20);
  assertEquals(Sample.offsets, { a: 0, b: 2, c: 4, d: 8 });
});

Deno.test("layout() writes padding as 0 over a dirty buffer and leaves its surroundings", () => {
  fc.assert(fc.property(
    fc.nat({ max: 255 }),
    anyU16,
    anyU32,
    anyU64,
    fc.uint8Array({ minLength: 30, maxLength: 30 }),
    fc.nat({ max: 10 }),
    (a, b, c, d, dirty, at) => {
      const into = dirty.slice();
      Sample.write({ a, b, c, d }, into, at);
      assertEquals(into.subarray(at, at + 20), Sample.encode({ a, b, c, d }));
      assertEquals(into.subarray(0, at), dirty.subarray(0, at));
      assertEquals(into.subarray(at + 20), dirty.subarray(at + 20));
      assertEquals(Sample.decode(into, at), { a, b, c, d });
    },
  ));
});

Deno.test("layout() decodes a view that does not start its buffer", () => {
  const buffer = new Uint8Array(40).fill(0xee);
  buffer.set(WIRE, 13);
  assertEquals(Sample.decode(buffer.subarray(13)), VALUE);
});

Deno.test("layout() refuses every truncation", () => {
  for (let length = 0; length < 20; length++) {
    assertThrows(
      () => Sample.decode(WIRE.subarray(0, length)),
      ProtocolError,
      `Cannot decode sample: ${length} bytes came, 20 are needed`,
    );
  }
  assertThrows(() => Sample.decode(WIRE, 1), ProtocolError, "19 bytes came");
  assertThrows(() => Sample.decode(WIRE, 99), ProtocolError, "0 bytes came");
});

Deno.test("layout() takes the largest value of each field and refuses what is beyond", () => {
  const largest = { a: 0xff, b: 0xffff, c: 0xffff_ffff, d: 0xffff_ffff_ffff_ffffn };
  assertEquals(Sample.decode(Sample.encode(largest)), largest);
  const bad = [
    [{ ...VALUE, a: 0x100 }, "a is 256, not an unsigned 8-bit integer"],
    [{ ...VALUE, b: -1 }, "b is -1, not an unsigned 16-bit integer"],
    [{ ...VALUE, c: 0.5 }, "c is 0.5, not an unsigned 32-bit integer"],
    [{ ...VALUE, c: NaN }, "c is NaN"],
    [{ ...VALUE, d: -1n }, "d is -1n, not an unsigned 64-bit bigint"],
    [{ ...VALUE, d: 1n << 64n }, "d is 18446744073709551616n"],
    [{ ...VALUE, d: 5 as unknown as bigint }, "d is 5, not an unsigned 64-bit bigint"],
    [{ ...VALUE, b: undefined as unknown as number }, "b is undefined"],
  ] as const;
  for (const [value, message] of bad) {
    assertThrows(() => Sample.encode(value), RangeError, `Cannot encode sample: ${message}`);
  }
});

Deno.test("layout() leaves the buffer as it was when a value does not fit", () => {
  const into = new Uint8Array(20).fill(0xee);
  assertThrows(() => Sample.write({ ...VALUE, d: -1n }, into), RangeError);
  assertEquals(into, new Uint8Array(20).fill(0xee));
});

Deno.test("layout() refuses to write outside the buffer", () => {
  for (const at of [-1, 1, 20, 21]) {
    assertThrows(() => Sample.write(VALUE, new Uint8Array(20), at), RangeError, `at byte ${at}`);
  }
});

Deno.test("layout() refuses a table with an overlap or a field beyond the end", () => {
  assertThrows(() => layout("bad", 8, { a: u32(0), b: u16(3) }), RangeError, "b overlaps");
  assertThrows(() => layout("bad", 8, { a: u64(1) }), RangeError, "a ends after byte 8");
});
