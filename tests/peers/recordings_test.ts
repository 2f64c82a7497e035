import { assertEquals } from "@std/assert";
import type { NewEvent } from "../../lib/record/event.ts";
import { readGolden } from "../lib/record/_golden.ts";
import { plainEvents, RECORDINGS } from "./recordings.ts";

/** The messages of one way, as hexadecimal digits. */
function sent(events: readonly NewEvent[], direction: "to-server" | "to-client"): string[] {
  return events.flatMap((event) =>
    event.kind === "message" && event.direction === direction ? [event.bytes.toHex()] : []
  );
}

Deno.test("the recording of edu is what its peers say today", async () => {
  const golden = readGolden("edu");
  const today = plainEvents("edu", await RECORDINGS.edu.make());
  assertEquals(sent(today, "to-server"), sent(golden, "to-server"));
  assertEquals(sent(today, "to-client"), sent(golden, "to-client"));
  const others = (events: readonly NewEvent[]) =>
    events.flatMap(({ kind }) => kind === "message" ? [] : [kind]);
  assertEquals(others(today), others(golden));
});
