/** Cases in files: what is written is read again, and garbage is reported. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { readCase, writeCase } from "../../../lib/fuzz/case_file.ts";
import { Corpus } from "../../../lib/fuzz/corpus.ts";
import { labelOf } from "../../../lib/fuzz/label.ts";
import type { FuzzConnection, FuzzMessage } from "../../../lib/fuzz/message.ts";
import { RecordingError } from "../../../lib/record/reader.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import { plainMessage } from "../record/_events.ts";
import { RecordingWriter } from "../../../lib/record/writer.ts";

const { signal } = new AbortController();

function message(bytes: Uint8Array, rest: Partial<FuzzMessage> = {}): FuzzMessage {
  const label = labelOf(bytes.length < 16 ? 0 : bytes[2]!);
  return { bytes, fds: [], cuts: [], reply: "one", isLast: false, label, ...rest };
}

const map = encodeMessage({ messageId: 3, command: Command.DMA_MAP }, new Uint8Array(32));
const reply = encodeMessage({ messageId: 4, command: Command.REGION_READ, flags: 1 });
const CASE: readonly FuzzConnection[] = [
  {
    messages: [
      message(map, { fds: ["memory", "self", "full-eventfd"], cuts: [3, 16] }),
      message(reply, { reply: "any" }),
      message(map.slice(0, 20), { reply: "any", isLast: true }),
    ],
    answers: ["right", "wrong id", "error without errno"],
    window: 1,
  },
  { messages: [], answers: [], window: 512 },
];

testFds("a case is read as it was written, without what came in between", async () => {
  const path = Deno.makeTempFileSync({ suffix: ".pcapng" });
  const [first, second] = CASE as [FuzzConnection, FuzzConnection];
  const answer = { from: "us", bytes: reply } as const;
  const came = { from: "peer", bytes: reply } as const;
  writeCase(path, CASE, [
    [...first.messages.slice(0, 1), came, answer, ...first.messages.slice(1)],
    [
      ...second.messages,
    ],
  ]);
  assertEquals(await readCase(path), CASE);
  Deno.removeSync(path);
});

testFds("requests of a recorded client are a case, its answers are not", async () => {
  const path = Deno.makeTempFileSync({ suffix: ".pcapng" });
  {
    using writer = RecordingWriter.create(path);
    writer.write(plainMessage(map));
    writer.write(plainMessage(reply));
  }
  const [connection] = await readCase(path);
  assertEquals(connection!.messages.map(({ bytes }) => bytes), [map]);
  Deno.removeSync(path);
});

testFds("garbage in a folder is reported, and the rest is used", async () => {
  const folder = Deno.makeTempDirSync();
  const problems: string[] = [];
  writeCase(`${folder}/right.pcapng`, CASE);
  const right = Deno.readFileSync(`${folder}/right.pcapng`);
  Deno.writeFileSync(`${folder}/cut.pcapng`, right.subarray(0, right.length - 7));
  Deno.writeTextFileSync(`${folder}/text.pcapng`, "no recording at all\n".repeat(100));
  Deno.writeFileSync(`${folder}/empty.pcapng`, new Uint8Array());
  Deno.writeFileSync(`${folder}/flipped.pcapng`, right.map((b, at) => at % 40 === 39 ? ~b : b));
  Deno.writeTextFileSync(`${folder}/readme.txt`, "no recording");
  const corpus = new Corpus(folder, (text) => problems.push(text));
  await corpus.read(signal);
  assert(corpus.connections.length >= 4, "the right one, and the cut one");
  assert(problems.some((text) => text.includes("text.pcapng")), problems.join("\n"));
  await assertRejects(() => corpus.readFile(`${folder}/text.pcapng`, signal), RecordingError);
  Deno.removeSync(folder, { recursive: true });
});

testFds("comments that no fuzzer wrote say nothing", async () => {
  const path = Deno.makeTempFileSync({ suffix: ".pcapng" });
  {
    using writer = RecordingWriter.create(path);
    const note = { kind: "note", timeNs: 1n, connection: 0, socket: "main" } as const;
    writer.write({ ...note, text: 'vfu fuzz: window 99999999; answers "nonsense" "right"' });
    const comment = "vfu fuzz: descriptors nonsense memory; cuts -1 x 1e9 5";
    writer.write({ ...plainMessage(map), comment });
  }
  const [connection] = await readCase(path);
  assertEquals(connection!.window, 512);
  assertEquals(connection!.answers, ["right"]);
  assertEquals(connection!.messages[0]!.fds, ["memory"]);
  assertEquals(connection!.messages[0]!.cuts, [5]);
  Deno.removeSync(path);
});

Deno.test("a case that can't be written is an error with its path", () => {
  assertThrows(() => writeCase("/proc/none/x.pcapng", CASE), Error, "/proc/none/x.pcapng");
});

testFds("a corpus that can't be written is told once, and goes on", async () => {
  const folder = Deno.makeTempDirSync();
  const problems: string[] = [];
  const corpus = new Corpus(folder, (text) => problems.push(text));
  await corpus.read(signal);
  Deno.removeSync(folder);
  for (const each of CASE) corpus.add(each);
  assertEquals([corpus.added, corpus.connections.length, problems.length], [2, 2, 1]);
});
