/** The generator: the same messages after the same seed, and all that the tables have. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { NO_FACTS } from "../../../lib/conformance/facts.ts";
import { allFieldsOf, fieldsOf } from "../../../lib/fuzz/fields.ts";
import { Generator } from "../../../lib/fuzz/generator.ts";
import type { FuzzConnection } from "../../../lib/fuzz/message.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { messages } from "../../../lib/wire/messages.ts";

const facts = { ...NO_FACTS, isPci: true, migration: 5n };

function connections(seed: number, count: number, corpus: FuzzConnection[] = []) {
  const generator = new Generator({ seed, facts, corpus });
  return Array.from({ length: count }, () => generator.next());
}

Deno.test("the same seed makes the same connections, another one makes others", () => {
  const some = connections(7, 50);
  assertEquals(connections(7, 50), some);
  assertNotEquals(connections(8, 50), some);
});

Deno.test("each message is sent rightly, and with each field of its request altered", () => {
  const seen = new Set<string>();
  for (const { messages } of connections(1, 600)) {
    for (const { label } of messages) seen.add(`${label.message} ${label.field}`);
  }
  for (const { name, command } of Object.values(messages)) {
    assert(seen.has(`${name} `), `a right ${name}`);
    for (const field of allFieldsOf(command)) assert(seen.has(`${name} ${field}`), field);
    for (const part of ["length", "flags", "descriptors", "id"]) {
      assert(seen.has(`${name} ${part}`), `${name}: ${part}`);
    }
  }
});

Deno.test("nothing follows bytes that can't be told apart", () => {
  let count = 0;
  for (const { messages } of connections(3, 400)) {
    assert(messages.slice(0, -1).every(({ isLast }) => !isLast));
    if (messages.at(-1)!.isLast) count++;
  }
  assert(count > 10);
});

Deno.test("muted alterations are not made", () => {
  const generator = new Generator({ seed: 1, facts, isMuted: ({ field }) => field === "length" });
  for (let i = 0; i < 100; i++) {
    for (const { label } of generator.next().messages) assert(label.field !== "length");
  }
});

Deno.test("connections of the corpus are varied, with ids of their own", () => {
  const bytes = encodeMessage({ messageId: 7, command: 0x1234 }, new Uint8Array(40).fill(0xab));
  const [{ messages }] = connections(1, 1) as [FuzzConnection];
  const message = { ...messages[0]!, bytes, label: messages[0]!.label };
  const seeds = [{ messages: [message], answers: [], window: 1 }];
  const found = connections(5, 100, seeds).flatMap((each) => each.messages)
    .filter((each) => each.bytes.length === bytes.length && each.bytes[30] === 0xab);
  assert(found.length > 5);
  assert(found.some((each) => each.bytes[0] !== 7));
  assertEquals(message.bytes, bytes); // the corpus stays as it is
});

Deno.test("fieldsOf() finds fields of structs, entries and variants in their places", () => {
  const multi = encodeMessage(
    { messageId: 1, command: Command.REGION_WRITE_MULTI },
    new Uint8Array(56),
  );
  const names = fieldsOf(Command.REGION_WRITE_MULTI, multi).map(({ name, at }) => `${name}@${at}`);
  assertEquals(names.slice(0, 5), [
    "count@16",
    "writes[0].offset@24",
    "writes[0].region@32",
    "writes[0].count@36",
    "writes[1].offset@48",
  ]);
  const state = new Uint8Array(16);
  state[4] = 2; // MIG_DEVICE_STATE
  const feature = encodeMessage({ messageId: 1, command: Command.DEVICE_FEATURE }, state);
  const inside = fieldsOf(Command.DEVICE_FEATURE, feature).map(({ name }) => name);
  assertEquals(inside, ["argsz", "flags", "MIG_DEVICE_STATE.state", "MIG_DEVICE_STATE.dataFd"]);
});
