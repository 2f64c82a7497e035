import { assertEquals, assertThrows } from "@std/assert";
import { parseDuration } from "../../../lib/text/duration.ts";

Deno.test("parseDuration() reads a number and a unit, and takes seconds for granted", () => {
  assertEquals(
    ["1ms", "500ms", "2s", "2", "0.5", "1.5m", "24h"].map(parseDuration),
    [1, 500, 2000, 2000, 500, 90_000, 86_400_000],
  );
});

Deno.test("parseDuration() throws when the text is no duration", () => {
  for (const text of ["", "s", "-1s", "1 s", "1d", "1e3", ".5", "1.", "NaN", "Infinity", "0x1"]) {
    assertThrows(() => parseDuration(text), SyntaxError, "a number and a unit");
  }
});

Deno.test("parseDuration() throws when timers can't count it", () => {
  for (const text of ["0", "0ms", "0.5ms", "24.1h", "9".repeat(400)]) {
    assertThrows(() => parseDuration(text), RangeError, "24h at most");
  }
});
