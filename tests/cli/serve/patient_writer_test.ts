import { assertEquals } from "@std/assert";
import { type LogStream, MAX_WAITING, PatientWriter } from "../../../cli/serve/patient_writer.ts";

/** A stream that takes what it is told to. */
class Stream implements LogStream {
  text = "";
  /** The outcomes of the next writes, one after another; later writes take all bytes. */
  meets: (number | Error | Promise<void>)[] = [];

  async write(bytes: Uint8Array): Promise<number> {
    const next = this.meets.shift();
    if (next instanceof Error) throw next;
    await next;
    const count = typeof next === "number" ? next : bytes.length;
    this.text += new TextDecoder().decode(bytes.subarray(0, count));
    return count;
  }
}

const FULL = new Error("No space left on device");

function writerTo(stream: LogStream) {
  const failures: string[] = [];
  let left = 0;
  const writer = new PatientWriter(stream, {
    notice: (lines) => `(${lines})\n`,
    onFailure: ({ message }) => failures.push(message),
    onLeave: (units) => left += units,
    retryMs: 1,
  });
  return { writer, failures, left: () => left };
}

Deno.test("PatientWriter writes lines in order, in as many pieces as the stream takes", async () => {
  const stream = new Stream();
  stream.meets = [1, 0, new Deno.errors.WouldBlock("full"), 2];
  const { writer, failures, left } = writerTo(stream);
  writer.add("first\n");
  writer.add("second\nthird\n");
  await writer.idle;
  assertEquals(stream.text, "first\nsecond\nthird\n");
  assertEquals([failures, left()], [[], 19]);
  assertEquals(writer.idle, undefined);
});

Deno.test("PatientWriter counts what a stream refuses, and reports it once it can", async () => {
  const stream = new Stream();
  stream.meets = [FULL, FULL, FULL];
  const { writer, failures } = writerTo(stream);
  writer.add("first\n");
  writer.add("second\nthird\n");
  await writer.idle;
  assertEquals(stream.text, "(3)\n");
  assertEquals(failures, [FULL.message]); // once for all three
  stream.meets = [FULL];
  writer.add("fourth\n");
  await writer.idle;
  assertEquals(stream.text, "(3)\n(1)\n");
  assertEquals(failures.length, 2);
});

Deno.test("PatientWriter ends a line that was cut before it goes on", async () => {
  const stream = new Stream();
  stream.meets = [3, FULL];
  const { writer } = writerTo(stream);
  writer.add("first\n");
  await writer.idle;
  assertEquals(stream.text, "fir\n(1)\n");
});

Deno.test("PatientWriter discards what is too much while the stream is full, and says where", async () => {
  const stream = new Stream();
  const read = Promise.withResolvers<void>();
  stream.meets = [read.promise];
  const { writer, left } = writerTo(stream);
  const line = "x".repeat(MAX_WAITING / 4 - 1) + "\n";
  for (let i = 0; i < 10; i++) writer.add(line);
  assertEquals(left(), 6 * line.length);
  writer.add("short\n"); // no room for that either
  read.resolve();
  while (stream.text.length < line.length) await new Promise((resolve) => setTimeout(resolve, 1));
  writer.add("later\n");
  await writer.idle;
  assertEquals(stream.text.replaceAll(line, "#"), "####(7)\nlater\n");
  assertEquals(left(), 10 * line.length + 12);
});

Deno.test("PatientWriter reports what was discarded elsewhere", async () => {
  const stream = new Stream();
  const { writer } = writerTo(stream);
  writer.addLost(0);
  assertEquals(writer.idle, undefined);
  writer.addLost(5);
  await writer.idle;
  assertEquals(stream.text, "(5)\n");
});

Deno.test("PatientWriter forgets no line that comes just when it has finished", async () => {
  for (let turns = 0; turns < 30; turns++) {
    const stream = new Stream();
    const { writer } = writerTo(stream);
    writer.add("first\n");
    for (let i = 0; i < turns; i++) await undefined;
    writer.add("second\n");
    for (let i = 0; i < 100; i++) await undefined;
    assertEquals(stream.text, "first\nsecond\n", `after ${turns} turns`);
  }
});
