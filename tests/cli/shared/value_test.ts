import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  checkFits,
  formatMasked,
  formatValue,
  matches,
  parseCount,
  parseMaskedValue,
  parseValue,
} from "../../../cli/shared/value.ts";

Deno.test("parseValue() reads the four bases, and underscores between digits", () => {
  assertEquals(
    ["0", "26", "007", "0x1a", "0X1A", "0b1_1010", "0B1", "0o32", "1_000", "0xdead_beef"]
      .map(parseValue),
    [0n, 26n, 7n, 26n, 26n, 26n, 1n, 26n, 1000n, 0xdeadbeefn],
  );
});

Deno.test("parseValue() reads what formatValue() writes, in each base", () => {
  fc.assert(fc.property(fc.bigInt(0n, (1n << 64n) - 1n), (value) => {
    for (const base of ["hex", "dec", "bin"] as const) {
      assertEquals(parseValue(formatValue(value, 8, base)), value);
    }
  }));
});

Deno.test("parseValue() throws when the text is no value", () => {
  const wrong = ["", "-1", "+1", "1.5", "1e3", "ff", "0x", "0b2", "0o8", "0xg", "_1", "1_", "1__0"];
  for (const text of [...wrong, "0_x1", " 1", "0x_1"]) {
    assertThrows(() => parseValue(text), SyntaxError, "is no value; write it as 26");
  }
});

Deno.test("parseMaskedValue() reads a value and, after a colon, a mask", () => {
  assertEquals(parseMaskedValue("5"), { value: 5n });
  assertEquals(parseMaskedValue("0b100:0b110"), { value: 4n, mask: 6n });
  for (const text of [":1", "1:", "1:2:3", ":"]) {
    assertThrows(() => parseMaskedValue(text), SyntaxError, "is no value");
  }
});

Deno.test("parseMaskedValue() throws when the mask hides bits of the value", () => {
  const message = "0x5 has bits outside its mask 0x4";
  assertThrows(() => parseMaskedValue("5:4"), RangeError, message);
});

Deno.test("checkFits() throws when value or mask has more bits than the register", () => {
  for (const width of [1, 2, 4, 8] as const) {
    const largest = (1n << BigInt(width * 8)) - 1n;
    checkFits({ value: largest, mask: largest }, width);
    const message = `does not fit ${width * 8} bits`;
    assertThrows(() => checkFits({ value: largest + 1n }, width), RangeError, message);
    assertThrows(() => checkFits({ value: 0n, mask: largest + 1n }, width), RangeError, message);
  }
});

Deno.test("matches() looks at the bits of the mask only", () => {
  assertEquals(matches(0xff, { value: 0xffn }), true);
  assertEquals(matches(0xff, { value: 0x0fn }), false);
  assertEquals(matches(0xf1n, { value: 1n, mask: 0xfn }), true);
  assertEquals(matches(0xf1n, { value: 0n, mask: 0xfn }), false);
});

Deno.test("parseCount() throws when there would be none, or too many", () => {
  assertEquals(["1", "0x10", "16_777_216"].map(parseCount), [1, 16, 1 << 24]);
  for (const text of ["0", "16777217", "9".repeat(40)]) {
    assertThrows(() => parseCount(text), RangeError, "1 at least and 16777216 at most");
  }
});

Deno.test("formatValue() writes all digits of the width, but in decimal", () => {
  assertEquals(formatValue(1, 4), "0x00000001");
  assertEquals(formatValue(1n, 8, "hex"), "0x0000000000000001");
  assertEquals(formatValue(5, 1, "bin"), "0b00000101");
  assertEquals(formatValue(5, 4, "dec"), "5");
  assertEquals(formatMasked({ value: 1n, mask: 3n }, 1), "0x01 under the mask 0x03");
});
