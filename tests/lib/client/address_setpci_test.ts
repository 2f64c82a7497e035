import { assertEquals, assertThrows } from "@std/assert";
import { parseAddress } from "../../../lib/client/address.ts";

Deno.test("parseAddress() takes offsets that setpci reads in the same way", () => {
  for (
    const [text, offset] of [
      ["CAP_EXP+8.w", 8],
      ["CAP_EXP+0x10.w", 0x10],
      ["COMMAND+2.b", 6],
      ["ECAP_AER+0X1c", 0x1c],
      ["CAP11+9", 9],
      // Regions are none of setpci's, and their offsets decimal.
      ["bar0+10", 10],
      ["config+16.l", 16],
      ["7+100", 100],
    ] as const
  ) {
    assertEquals(parseAddress(text).offset, offset, text);
  }
});

Deno.test("parseAddress() refuses offsets that setpci reads as another number", () => {
  const ambiguous = (text: string, remedy: string) =>
    assertThrows(
      () => parseAddress(text),
      SyntaxError,
      `The offset of "${text}" is ambiguous: setpci reads it as hexadecimal; write ${remedy}`,
    );
  ambiguous("CAP_EXP+10.w", "+0x10 for that, or +0xa for the decimal number");
  ambiguous("CAP_EXP+1c.l", "+0x1c for that");
  ambiguous("CAP_EXP+a", "+0xa for that");
  ambiguous("COMMAND+10", "+0x10 for that, or +0xa for the decimal number");
  ambiguous("ECAP0001@1+010", "+0x010 for that, or +0xa for the decimal number");
  assertThrows(() => parseAddress("bar0+1c"), SyntaxError, '"bar0+1c" is no address');
});
