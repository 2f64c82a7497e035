import { assertEquals, assertThrows } from "@std/assert";
import { humanSize, parseSize, writtenSize } from "../../../cli/shared/size.ts";

Deno.test("humanSize() uses the largest unit that is not above the size", () => {
  const sizes: [bytes: bigint, text: string][] = [
    [0n, "0 B"],
    [1023n, "1023 B"],
    [1024n, "1 KiB"],
    [1536n, "1.5 KiB"],
    [(1n << 20n) - 1n, "1023.9 KiB"],
    [1n << 20n, "1 MiB"],
    [5n << 30n, "5 GiB"],
    [(1n << 64n) - 1n, "15.9 EiB"],
  ];
  assertEquals(sizes.map(([bytes]) => humanSize(bytes)), sizes.map(([, text]) => text));
});

Deno.test("writtenSize() is exact, and what parseSize() reads", () => {
  const sizes: [bytes: bigint, text: string][] = [
    [0n, "0"],
    [512n, "512"],
    [1536n, "1536"],
    [65536n, "64K"],
    [16n << 20n, "16M"],
    [(1n << 30n) + 1024n, "1048577K"],
    [1n << 50n, "1024T"],
  ];
  for (const [bytes, text] of sizes) {
    assertEquals([writtenSize(bytes), parseSize(text)], [text, bytes]);
  }
});

Deno.test("parseSize() takes values with units", () => {
  const cases: [text: string, bytes: bigint][] = [
    ["0", 0n],
    ["4096", 4096n],
    ["0x1000", 4096n],
    ["0xB", 11n],
    ["64K", 65536n],
    ["2MiB", 2n << 20n],
    ["1gib", 1n << 30n],
    ["0x2T", 2n << 40n],
  ];
  for (const [text, bytes] of cases) assertEquals(parseSize(text), bytes, text);
  for (const text of ["", "K", "4KB", "4B", "1.5K", "-1", "4 K", "4iB"]) {
    assertThrows(() => parseSize(text), SyntaxError, "is no size");
  }
});
