/** Replies of a server, as a fuzzer judges them. */

import { assertEquals } from "@std/assert";
import { answersTo } from "../../../lib/fuzz/answers.ts";
import { Judge } from "../../../lib/fuzz/judge.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";

Deno.test("a server may answer a command in the place of an answer, once", () => {
  const judge = new Judge(() => {});
  const request = { messageId: 1, command: Command.DMA_READ, payload: new Uint8Array(16) };
  const flags = MessageFlags.REPLY | MessageFlags.ERROR;
  const refusal = encodeMessage({ ...request, flags, error: 22 });
  const taken = () => judge.reply(refusal, new DataView(refusal.buffer))?.text;
  const stray = "a reply to DMA_READ with an id that no request has";
  for (const bytes of answersTo("right", request)) judge.answered(bytes);
  assertEquals(taken(), stray);
  for (const bytes of answersTo("as a command", request)) judge.answered(bytes);
  assertEquals([taken(), taken()], [undefined, stray]);
});
