import { assertEquals, assertThrows } from "@std/assert";
import { parseRegion } from "../../../cli/shared/target.ts";

Deno.test("parseRegion() reads a region, and a width after it", () => {
  assertEquals(parseRegion("bar2").base, { kind: "region", index: 2 });
  assertEquals(parseRegion("config.w").width, 2);
  assertEquals(parseRegion("9.Q").base, { kind: "region", index: 9 });
});

Deno.test("parseRegion() throws when it is no whole region", () => {
  for (const text of ["", "bar6", "bar0+0", "VENDOR_ID", "CAP_PM", "bar0.x", "-1"]) {
    assertThrows(() => parseRegion(text), SyntaxError, "is no region; write bar0 to bar5");
  }
});
