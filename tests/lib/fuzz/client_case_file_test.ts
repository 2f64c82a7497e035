/** Changes in files: what is written is read again, and what is none is ignored. */

import { assertEquals, assertRejects } from "@std/assert";
import { readCase } from "../../../lib/fuzz/case_file.ts";
import { readChanges, writeChanges } from "../../../lib/fuzz/client/case_file.ts";
import { type Change, changedBytes, changeOf } from "../../../lib/fuzz/client/change.ts";
import { labelOf } from "../../../lib/fuzz/label.ts";
import { RecordingError } from "../../../lib/record/reader.ts";
import { RecordingWriter } from "../../../lib/record/writer.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";

const REPLY = { messageId: 3, command: Command.DEVICE_GET_REGION_INFO, flags: 1 };
const right = encodeMessage(REPLY, new Uint8Array(32));
const label = labelOf(Command.DEVICE_GET_REGION_INFO);

function change(rest: Partial<Change> = {}): Change {
  return {
    kind: "reply",
    command: Command.DEVICE_GET_REGION_INFO,
    nth: 2,
    length: 48,
    patches: [],
    fds: undefined,
    cuts: [],
    timing: "once",
    label,
    ...rest,
  };
}

const CHANGES: readonly Change[] = [
  change({ patches: [{ at: 16, bytes: Uint8Array.of(0xff, 0) }, { at: 40, bytes: right }] }),
  change({ fds: ["memory", "self"], cuts: [3, 16], timing: "twice" }),
  change({ fds: [], timing: "never" }),
  change({ kind: "before", nth: 1, length: 0, timing: "then end" }),
  change({ kind: "after", nth: 70_000, length: 1 << 20 }),
];

testFds("changes are read as they were written, beside the messages that they made", async () => {
  const path = Deno.makeTempFileSync({ suffix: ".pcapng" });
  writeChanges(path, CHANGES, [
    { from: "peer", bytes: encodeMessage({ ...REPLY, flags: 0 }), fds: 0 },
    { from: "us", bytes: right, fds: 2, names: ["memory", "self"], change: CHANGES[1]! },
    { from: "us", bytes: right.slice(0, 9), fds: 1 },
    { from: "us", bytes: new Uint8Array(), fds: 0, change: CHANGES[2]! },
  ]);
  assertEquals(await readChanges(path), CHANGES);
  assertEquals((await readCase(path)).length, 1, "the client's requests are a case of a server");
  Deno.removeSync(path);
});

testFds("texts that no fuzzer wrote change nothing", async () => {
  const path = Deno.makeTempFileSync({ suffix: ".pcapng" });
  {
    using writer = RecordingWriter.create(path);
    const note = { kind: "note", timeNs: 1n, connection: 0, socket: "main" } as const;
    for (
      const text of [
        "vfu fuzz: client",
        "vfu fuzz: reply 5; length 48",
        "vfu fuzz: reply 5 1; length 1e12",
        "vfu fuzz: reply -1 1; length 4",
        "reply 5 1; length 48",
        "vfu fuzz: reply 5 2; length 48; patches 99 ff 4 xx 5 f 6; descriptors nonsense; cuts x 99",
      ]
    ) writer.write({ ...note, text });
  }
  assertEquals(await readChanges(path), [change({ fds: [] })]);
  Deno.writeTextFileSync(path, "no recording at all\n".repeat(100));
  await assertRejects(() => readChanges(path), RecordingError);
  Deno.removeSync(path);
});

Deno.test("a change makes the bytes that it was made of", () => {
  for (const size of [0, 9, 16, 48, 49, 4000]) {
    const bytes = new Uint8Array(size);
    bytes.set(right.subarray(0, size));
    for (let at = 0; at < size; at += 13) bytes[at] = at ^ 0x5a;
    const draft = { bytes, fds: undefined, cuts: [] };
    const occasion = { command: 5, nth: 1 };
    const edit = changeOf(occasion, "reply", right, draft, "once", label);
    assertEquals(changedBytes(edit, right), bytes);
    const own = changeOf(occasion, "before", new Uint8Array(), draft, "once", label);
    assertEquals(changedBytes(own, new Uint8Array()), bytes);
  }
});
