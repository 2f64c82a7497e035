import { assertEquals, assertMatch } from "@std/assert";
import { failureLines } from "../../../cli/shared/failure.ts";

Deno.test("failureLines() is the message on one line", () => {
  const error = new Error("Cannot do\nit\x1b[2J", { cause: new Error("why") });
  assertEquals(failureLines(error, false), ["Cannot do\\u000ait\\u001b[2J"]);
  assertEquals(failureLines("text", true), ["text"]);
});

Deno.test("failureLines() has stack and causes when it is verbose", () => {
  const cause = new RangeError("the cause", { cause: new Error("the root") });
  const lines = failureLines(new Error("Cannot do it", { cause }), true);
  assertEquals(lines[0], "Cannot do it");
  assertMatch(lines[1]!, /^ +at .*failure_test\.ts/);
  const causes = lines.filter((line) => line.startsWith("  caused by"));
  assertEquals(causes, ["  caused by RangeError: the cause", "  caused by Error: the root"]);
});
