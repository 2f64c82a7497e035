import { assertEquals } from "@std/assert";
import { humanSize } from "../../cli/size.ts";

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
