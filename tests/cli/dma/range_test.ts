import { assertEquals, assertThrows } from "@std/assert";
import { parseDump, parseFill, parseMap } from "../../../cli/dma/range.ts";

Deno.test("parseMap() reads address, size, access and source", () => {
  const range = { iova: 0x100000n, size: 0x10000 };
  assertEquals(parseMap("1M:64K"), { ...range, access: "rw", share: "memfd" });
  assertEquals(parseMap("0x100000:0x10000:ro"), { ...range, access: "ro", share: "memfd" });
  assertEquals(parseMap("1MiB:64KiB:wo:message"), { ...range, access: "wo", share: "message" });
  assertEquals(parseMap("1m:64k:file=a:b=c"), { ...range, access: "rw", share: { file: "a:b=c" } });
  for (
    const text of ["", "1M", "1M:", "1M:4K:x", "1M:4K:message:ro", "1M:4K:file=", "1M:-1", "K:4"]
  ) {
    assertThrows(() => parseMap(text), SyntaxError);
  }
});

Deno.test("parseFill() tells a byte from a file", () => {
  const range = { iova: 0n, size: 16 };
  assertEquals(parseFill("0:16=0x5a"), { ...range, source: 0x5a });
  assertEquals(parseFill("0:16=./5"), { ...range, source: "./5" });
  assertThrows(() => parseFill("0:16=256"), RangeError, "256 is no byte");
  assertThrows(() => parseFill("0:16"), SyntaxError);
  assertThrows(() => parseFill("0:16=5x"), SyntaxError);
});

Deno.test("parseDump() takes what follows the range for the path", () => {
  assertEquals(parseDump("4K:16=a=b:c"), { iova: 4096n, size: 16, path: "a=b:c" });
  assertThrows(() => parseDump("4K:16="), SyntaxError);
});
