import { assertEquals } from "@std/assert";
import { Conversation } from "../../../lib/record/conversation.ts";
import { RecordingStatistics } from "../../../lib/record/statistics.ts";
import type { RecordedEvent } from "../../../lib/record/event.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { plainMessage } from "./_events.ts";
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

Deno.test("traffic that bypassed the recorder is named, and intercepted traffic is not", () => {
  const descriptor = {
    kind: "memfd",
    size: 4096n,
    seals: [],
    access: "rw",
    identity: "1:2",
  } as const;
  const commands = { mmap: [5, 1], dma: [2, 0], irq: [8, 0], ioeventfd: [6, 1] } as const;
  for (const fate of ["passed", "replaced", "withheld"] as const) {
    const statistics = new RecordingStatistics();
    const conversation = new Conversation();
    for (const [command, flags] of Object.values(commands)) {
      const event = plainMessage(encodeMessage({ messageId: 1, command, flags }), {
        direction: flags === 1 ? "to-client" : "to-server",
        descriptors: [{ ...descriptor, fate }],
      });
      statistics.add({ ...event, index: 0 }, conversation.take({ ...event, index: 0 }));
    }
    assertEquals([...statistics.hidden], fate === "passed" ? Object.keys(commands) : []);
  }
});

Deno.test("a reply that the recorder kept is none without a request", () => {
  const statistics = new RecordingStatistics();
  const conversation = new Conversation();
  const reply = encodeMessage({ messageId: 1, command: 10, flags: 1 });
  for (const passedOn of [null, undefined]) {
    const event = plainMessage(reply, {
      direction: "to-client",
      ...(passedOn === null && { passedOn }),
    });
    statistics.add({ ...event, index: 0 }, conversation.take({ ...event, index: 0 }));
  }
  assertEquals(statistics.strays, 1);
});
