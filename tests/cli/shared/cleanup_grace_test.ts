import { assertEquals } from "@std/assert";
import { Grace } from "../../../cli/shared/cleanup_grace.ts";

Deno.test("Grace follows at once until there is something to take back", () => {
  const controller = new AbortController();
  using grace = new Grace(controller.signal);
  controller.abort("why");
  assertEquals([grace.signal.aborted, grace.signal.reason], [true, "why"]);
});

Deno.test("Grace follows a signal that was aborted before", () => {
  using grace = new Grace(AbortSignal.abort("why"));
  assertEquals(grace.signal.reason, "why");
});

Deno.test("Grace follows later after begin(), and not at all when disposed of", async () => {
  const controller = new AbortController();
  {
    using grace = new Grace(controller.signal);
    grace.begin();
    controller.abort("why");
    await new Promise((resolve) => setTimeout(resolve, 20));
    assertEquals(grace.signal.aborted, false);
  } // its timer is gone, which the test's sanitizer holds
});
