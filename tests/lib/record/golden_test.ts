import { assert, assertEquals } from "@std/assert";
import { Conversation } from "../../../lib/record/conversation.ts";
import { readRecording } from "../../../lib/record/reader.ts";
import { Command } from "../../../lib/wire/command.ts";
import { readAll, temporaryFile } from "./_events.ts";
import { GOLDEN_RECORDINGS, goldenPath, goldenText, readGolden, writeGolden } from "./_golden.ts";

Deno.test("recordings of real peers are the same in a file and as text", async () => {
  for (const name of GOLDEN_RECORDINGS) {
    using file = temporaryFile();
    writeGolden(name, file.path);
    const events = await readAll(file.path);
    assertEquals(events.map(({ index: _, ...event }) => event), readGolden(name));
    const text = Deno.readTextFileSync(goldenPath(name));
    assertEquals(goldenText(text.slice(2, text.indexOf("\n")), events), text);
    assert(text.length < 100_000);
  }
});

Deno.test("each reply of real peers has its request, and each message is understood", async () => {
  for (const name of GOLDEN_RECORDINGS) {
    using file = temporaryFile();
    writeGolden(name, file.path);
    const conversation = new Conversation();
    for await (const event of readRecording(file.path)) {
      const heard = conversation.take(event);
      if (heard === undefined) continue;
      const { type, header, payload, problem } = heard.decoded!;
      assertEquals([name, event.index, problem], [name, event.index, undefined]);
      assertEquals(type === "reply", heard.request !== undefined);
      assert(payload !== undefined || header.command === Command.DEVICE_RESET);
    }
    assertEquals(conversation.unanswered(), new Map());
  }
});
