import { assertEquals } from "@std/assert";
import { bytesOf, hexdumpLines, valuesOf } from "../../../cli/shared/hexdump.ts";

const BYTES = Uint8Array.from({ length: 20 }, (_, i) => 0x5a + 3 * i);

Deno.test("hexdumpLines() shows offset, bytes and ASCII, and aligns a short last line", () => {
  assertEquals(hexdumpLines(BYTES, { start: 0xff8 }), [
    "00000ff8  5a 5d 60 63 66 69 6c 6f 72 75 78 7b 7e 81 84 87  |Z]`cfilorux{~...|",
    "00001008  8a 8d 90 93                                      |....|",
  ]);
});

Deno.test("hexdumpLines() shows little-endian numbers of the width", () => {
  assertEquals(hexdumpLines(BYTES, { start: 0, width: 4 }), [
    "00000000  63605d5a 6f6c6966 7b787572 8784817e  |Z]`cfilorux{~...|",
    "00000010  93908d8a                             |....|",
  ]);
  assertEquals(hexdumpLines(BYTES.subarray(0, 8), { start: 0, width: 8 }), [
    "00000000  6f6c696663605d5a                   |Z]`cfilo|",
  ]);
});

Deno.test("hexdumpLines() shows decimal and binary numbers without ASCII", () => {
  assertEquals(hexdumpLines(BYTES.subarray(0, 6), { start: 0, width: 2, base: "dec" }), [
    "00000000  23898 25440 26982",
  ]);
  assertEquals(hexdumpLines(BYTES.subarray(0, 5), { start: 0, base: "bin" }), [
    "00000000  01011010 01011101 01100000 01100011",
    "00000004  01100110",
  ]);
});

Deno.test("hexdumpLines() stays within 80 columns", () => {
  const bytes = new Uint8Array(64).fill(0xff);
  for (const base of ["hex", "dec", "bin"] as const) {
    for (const width of [1, 2, 4, 8] as const) {
      const lines = hexdumpLines(bytes, { start: 0, width, base });
      assertEquals(lines.filter((line) => line.length > 80), [], `${base} ${width}`);
    }
  }
});

Deno.test("hexdumpLines() gives all offsets the digits of the last one", () => {
  const lines = hexdumpLines(new Uint8Array(32), { start: 0xffff_fff0 });
  assertEquals(lines.map((line) => line.slice(0, 11)), ["0fffffff0  ", "100000000  "]);
  assertEquals(hexdumpLines(new Uint8Array(), { start: 0 }), []);
  const [exact] = hexdumpLines(new Uint8Array(1), { start: 0xffff_ffff_ffff_e008n });
  assertEquals(exact?.split(" ")[0], "ffffffffffffe008");
});

Deno.test("valuesOf() reads what bytesOf() writes, wherever the bytes lie in their buffer", () => {
  const value = 0x8877665544332211n;
  assertEquals(bytesOf(value, 8).toHex(), "1122334455667788");
  for (const width of [1, 2, 4, 8] as const) {
    const expected = BigInt.asUintN(width * 8, value);
    const bytes = new Uint8Array([0xee, ...bytesOf(expected, width)]).subarray(1);
    assertEquals(valuesOf(bytes, width).map(BigInt), [expected]);
  }
});
