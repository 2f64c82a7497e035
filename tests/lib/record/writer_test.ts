import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  RECORDING_BUFFER,
  RECORDING_SECTION_INTERFACES,
  RECORDING_WAITING,
} from "../../../lib/base/limits.ts";
import { RecordingWriter } from "../../../lib/record/writer.ts";
import { testFds } from "../../_fds.ts";
import { until } from "../../_until.ts";
import {
  anyEvent,
  PipeReader,
  plainMessage,
  readAll,
  temporaryFile,
  temporaryPipe,
  writeRecording,
} from "./_events.ts";

Deno.test("every event is read as it was written", async () => {
  using file = temporaryFile();
  await fc.assert(fc.asyncProperty(fc.array(anyEvent, { maxLength: 20 }), async (events) => {
    writeRecording(file.path, events);
    const read = events.length === 0 ? [] : await readAll(file.path);
    assertEquals(read, events.map((event, index) => ({ ...event, index })) as typeof read);
  }));
});

Deno.test("messages larger than the buffer, and altered ones larger than an option, are whole", async () => {
  using file = temporaryFile();
  const large = Uint8Array.from({ length: 1_000_003 }, (_, i) => i * 7);
  const altered = Uint8Array.from({ length: 200_001 }, (_, i) => i * 11);
  const events = [
    plainMessage(large),
    plainMessage(Uint8Array.of(1, 2, 3)),
    plainMessage(large, { passedOn: altered }),
    plainMessage(large.subarray(0, 999_998), { passedOn: null }),
    plainMessage(large),
    plainMessage(large),
  ];
  writeRecording(file.path, events);
  assertEquals(
    await readAll(file.path),
    events.map((event, index) => ({ ...event, index })),
  );
});

Deno.test("more clients than a section has interfaces are told apart", async () => {
  using file = temporaryFile();
  const count = RECORDING_SECTION_INTERFACES * 2 + 3;
  const events = Array.from(
    { length: count },
    (_, connection) => plainMessage(Uint8Array.of(1), { connection }),
  );
  writeRecording(file.path, [...events, plainMessage(Uint8Array.of(2), { connection: 5 })]);
  const read = await readAll(file.path);
  assertEquals(read.slice(0, count).map(({ connection }) => connection), [...events.keys()]);
  assertEquals(read.at(-1)!.connection, 5);
});

Deno.test("a full disk is reported once, and what was written is whole", async () => {
  using file = temporaryFile();
  // A limit of the process stands in for the disk: what is beyond it fails as on a full one.
  const limited = 'trap "" XFSZ; ulimit -f 1001; exec "$0" run --frozen -A --no-code-cache "$@"';
  const script = new URL("_full_disk.ts", import.meta.url).pathname;
  for (const size of [1000, 300_000]) {
    const args = ["-c", limited, Deno.execPath(), script, file.path, String(size)];
    const { stdout, stderr } = await new Deno.Command("sh", { args }).output();
    assertEquals(new TextDecoder().decode(stderr), "");
    const result = JSON.parse(new TextDecoder().decode(stdout));
    assertEquals(result.reported, 1);
    assertEquals(result.message.startsWith(`Cannot write ${file.path}: `), true);
    assertEquals(result.events > 0 && result.events + result.discarded === 1000, true);
    const read = await readAll(file.path);
    assertEquals(read.length, result.events);
    assertEquals(read.every((each) => each.kind === "message" && each.bytes.length === size), true);
  }
});

testFds("the reader of a pipe stops: what waits is bounded, and the rest is counted", async () => {
  using pipe = temporaryPipe();
  const reader = new PipeReader(pipe.path);
  const calls: (string | number)[] = [];
  const writer = RecordingWriter.create(pipe.path, {
    onStall: () => calls.push("stalled"),
    onResume: (discarded) => calls.push(discarded),
    onFailure: ({ message }) => calls.push(message),
  });
  const event = plainMessage(Uint8Array.from({ length: 100_000 }, (_, i) => i));
  let written = 0;
  for (let i = 0; i < 1000; i++) if (writer.write(event)) written++;
  assertEquals(calls, ["stalled"]);
  assertEquals([writer.events, writer.discarded], [written, 1000 - written]);
  const most = RECORDING_WAITING + 2 * RECORDING_BUFFER;
  assert(written * 100_000 <= most && written * 100_000 > RECORDING_WAITING / 2, `${written}`);
  // The reader goes on: it finds what is missing, and then what follows.
  const file = temporaryFile();
  using out = Deno.openSync(file.path, { write: true });
  let copied = 0;
  const copy = () => {
    const bytes = reader.read();
    out.writeSync(bytes);
    copied += bytes.length;
    return bytes.length;
  };
  await until(() => copy() > 0 && calls.length > 1, "room");
  assertEquals(calls, ["stalled", 1000 - written]);
  assertEquals(writer.write(plainMessage(Uint8Array.of(9))), true);
  // What is left then fits in the pipe.
  await until(() => copy() === 0 && copied > written * 100_000, "the rest");
  await writer.close();
  while (copy() > 0);
  const read = await readAll(file.path);
  assertEquals(read.map(({ kind }) => kind), [
    ...Array(written).fill("message"),
    "note",
    "message",
  ]);
  const note = read[written]!;
  assertStringIncludes(note.kind === "note" ? note.text : "", `${1000 - written} events`);
  assertEquals([writer.events, writer.discarded], [written + 2, 1000 - written]);
  reader[Symbol.dispose]();
  file[Symbol.dispose]();
});

testFds("a pipe whose reader never goes on, or leaves, ends the recording", async () => {
  using pipe = temporaryPipe();
  assertThrows(() => RecordingWriter.create(pipe.path), Error, "no process reads this pipe");
  const event = plainMessage(new Uint8Array(1 << 20));
  for (const leaves of [false, true]) {
    const reader = new PipeReader(pipe.path);
    const failures: string[] = [];
    const writer = RecordingWriter.create(pipe.path, {
      onFailure: ({ message }) => failures.push(message),
    });
    for (let i = 0; i < 5; i++) assertEquals(writer.write(event), true);
    if (leaves) {
      reader[Symbol.dispose]();
      await until(() => failures.length > 0, "the failure");
      assertStringIncludes(failures[0]!, `Cannot write ${pipe.path}: Broken pipe`);
      assertEquals(writer.write(event), false);
      assertEquals([writer.events, writer.discarded], [0, 6]);
    }
    await writer.close();
    if (!leaves) {
      assertEquals([writer.events, writer.discarded, failures.length], [0, 5, 0]);
      reader[Symbol.dispose]();
    }
  }
});

Deno.test("what can't be a file, a time or a message is refused with a sentence", () => {
  assertThrows(() => RecordingWriter.create("/nowhere/a.pcapng"), Error, "make its folder");
  using file = temporaryFile();
  using writer = RecordingWriter.create(file.path);
  const event = plainMessage(new Uint8Array(), { timeNs: -1n });
  assertThrows(() => writer.write(event), RangeError, "0 to 2^64-1");
  const base = { timeNs: 1n, connection: 0, socket: "main" } as const;
  const interrupt = { kind: "interrupt", ...base, irq: 2, count: 1n, action: "trigger" } as const;
  for (
    const [fields, reason] of [
      [{ vector: 2 ** 32 }, 'it has a "vector" that is not an integer of 32 bits'],
      [{ vector: 0, count: 1n << 64n }, 'it has a "count" that is not an integer of 64 bits'],
    ] as const
  ) {
    assertThrows(() => writer.write({ ...interrupt, ...fields }), RangeError, reason);
  }
  const large = plainMessage(new Uint8Array(70 << 20));
  assertThrows(() => writer.write(large), RangeError, "the limit is");
});
