import { assertEquals } from "@std/assert";
import { printable } from "../../../cli/shared/printable.ts";

Deno.test("printable() writes what a terminal would act upon as text", () => {
  assertEquals(
    printable("a\x1b[31m\r\n\t\x7f\x9b\u2028\u202e\u2066\u200f\u{e0001}\ud800"),
    "a\\u001b[31m\\u000d\\u000a\\u0009\\u007f\\u009b\\u2028" +
      "\\u202e\\u2066\\u200f\\udb40\\udc01\\ud800",
  );
});

Deno.test("printable() leaves other text as it is", () => {
  assertEquals(printable("Grüße, 世界 🙂"), "Grüße, 世界 🙂");
});
