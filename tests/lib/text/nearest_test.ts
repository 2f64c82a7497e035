import { assertEquals } from "@std/assert";
import { nearest } from "../../../lib/text/nearest.ts";

Deno.test("nearest() finds the word that was meant", () => {
  const words = ["offset", "width", "access", "fields"];
  for (
    const [typed, meant] of [
      ["ofset", "offset"],
      ["WIDHT", "width"],
      ["acess", "access"],
      ["field", "fields"],
      ["width", "width"],
    ] as const
  ) assertEquals(nearest(typed, words), meant);
});

Deno.test("nearest() finds nothing when all are too different", () => {
  assertEquals(nearest("x", ["offset", "width"]), undefined);
  assertEquals(nearest("colour", ["offset", "width"]), undefined);
  assertEquals(nearest("a".repeat(1000), ["a".repeat(1001)]), undefined);
  assertEquals(nearest("", []), undefined);
  assertEquals([nearest("k", ["z"]), nearest("k", ["K"])], [undefined, "K"]);
});
