import { assertEquals } from "@std/assert";
import { Conversation } from "../../../lib/record/conversation.ts";
import { RecordingStatistics } from "../../../lib/record/statistics.ts";
import type { RecordedEvent } from "../../../lib/record/event.ts";
import { Talk } from "./_talk.ts";

Deno.test("errors of too many reasons are counted together, and none is lost", () => {
  const total = 65_536 + 10;
  const conversation = new Conversation();
  const statistics = new RecordingStatistics();
  for (let i = 0; i < total; i++) {
    const talk = new Talk();
    const id = talk.ask("DEVICE_RESET", undefined as never);
    talk.refuse("DEVICE_RESET", id, 1000 + i);
    for (const event of talk.events) {
      const recorded = { ...event, index: i } as RecordedEvent;
      statistics.add(recorded, conversation.take(recorded));
    }
  }
  const { errors } = statistics;
  assertEquals(errors.get("others"), 10);
  assertEquals([...errors.values()].reduce((sum, each) => sum + each), total);
});
