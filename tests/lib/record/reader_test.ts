import { assertEquals, assertRejects } from "@std/assert";
import {
  MAX_RECORDING_INTERFACES,
  RECORDING_BUFFER,
  RECORDING_FLUSH_MS,
} from "../../../lib/base/limits.ts";
import { readRecording, RecordingError } from "../../../lib/record/reader.ts";
import { RecordingWriter } from "../../../lib/record/writer.ts";
import { plainMessage, readAll, temporaryFile, writeRecording } from "./_events.ts";
import { block, bytesOf, interfaceBlock, join, packet, section, TAGS } from "./_hand.ts";

const MESSAGE = Uint8Array.of(7, 0, 13, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
const DATA = join(TAGS, MESSAGE);
const NANOSECONDS = bytesOf([[9, 2], [1, 2], [9, 1], [0, 1], [0, 2], [0, 4]]);

async function read(bytes: Uint8Array) {
  using file = temporaryFile();
  Deno.writeFileSync(file.path, bytes);
  return await readAll(file.path);
}

/** The events ahead of the error, and its message without the path. */
async function failure(bytes: Uint8Array): Promise<[events: number, message: string]> {
  using file = temporaryFile();
  Deno.writeFileSync(file.path, bytes);
  let events = 0;
  const error = await assertRejects(async () => {
    for await (const _ of readRecording(file.path)) events++;
  }, RecordingError);
  return [events, error.message.replace(`Cannot read ${file.path}: `, "")];
}

Deno.test("files written by hand are read, in both byte orders", async () => {
  for (const isLittleEndian of [true, false]) {
    const name = bytesOf([[2, 2], [13, 2], "client 3 twin\0\0\0"], isLittleEndian);
    const resolution = bytesOf([[9, 2], [1, 2], [9, 1], [0, 1], [0, 2]], isLittleEndian);
    const end = bytesOf([[0, 4]], isLittleEndian);
    const inbound = bytesOf([[2, 2], [4, 2], [1, 4]], isLittleEndian);
    const comment = bytesOf([[1, 2], [3, 2], "why\0"], isLittleEndian);
    const events = await read(join(
      section(isLittleEndian),
      interfaceBlock(252, [name, resolution, end], isLittleEndian),
      packet(DATA, { isLittleEndian }),
      packet(DATA, { isLittleEndian, options: [inbound, comment] }),
    ));
    const plain = plainMessage(MESSAGE, {
      timeNs: 0x1_0000_0002n,
      connection: 3,
      socket: "twin",
    });
    assertEquals(events, [
      { ...plain, index: 0 },
      { ...plain, index: 1, direction: "to-client", comment: "why" },
    ]);
  }
});

Deno.test("times of any resolution become nanoseconds", async () => {
  const stamp = 0x1_0000_0002n;
  const cases: [options: Uint8Array, timeNs: bigint][] = [
    [new Uint8Array(), stamp * 1000n],
    [bytesOf([[9, 2], [1, 2], [3, 1], [0, 1], [0, 2]]), stamp * 1_000_000n],
    [bytesOf([[9, 2], [1, 2], [12, 1], [0, 1], [0, 2]]), stamp / 1000n],
    [bytesOf([[9, 2], [1, 2], [0x8a, 1], [0, 1], [0, 2]]), stamp * 1_000_000_000n / 1024n],
    [
      bytesOf([[14, 2], [8, 2], [2, 4], [0, 4]]),
      stamp * 1000n + 2_000_000_000n,
    ],
  ];
  for (const [options, timeNs] of cases) {
    const [event] = await read(join(section(), interfaceBlock(252, [options]), packet(DATA)));
    assertEquals(event!.timeNs, timeNs);
  }
});

Deno.test("blocks, link types and dissectors of others are passed over", async () => {
  using file = temporaryFile();
  const other = bytesOf([[12, 2], [4, 2], "smb\0", [0, 2], [0, 2]], false);
  Deno.writeFileSync(
    file.path,
    join(
      section(),
      interfaceBlock(1),
      interfaceBlock(252, [NANOSECONDS]),
      block(5, [[0, 4], [0, 4], [0, 4]]),
      block(0x80001234, ["anything"]),
      packet(new Uint8Array(60), { on: 0 }),
      packet(other, { on: 1 }),
      packet(DATA, { on: 1 }),
      section(false),
      interfaceBlock(252, [], false),
      packet(DATA, { isLittleEndian: false }),
    ),
  );
  const recording = readRecording(file.path);
  assertEquals((await Array.fromAsync(recording)).map(({ index }) => index), [0, 1]);
  assertEquals([recording.skipped, recording.cut], [2, undefined]);
});

Deno.test("what is no recording is refused with a sentence", async () => {
  const start = join(section(), interfaceBlock(252, [NANOSECONDS]));
  const at = start.length;
  const whole = join(start, packet(DATA));
  const cases: [what: Uint8Array, events: number, message: string][] = [
    [new Uint8Array(), 0, "it is empty"],
    [Uint8Array.of(0x0a, 0x0d), 0, "it ends within its head"],
    [bytesOf(["GIF89a"]), 0, "it is no pcapng file; vfu record writes one"],
    [
      Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0),
      0,
      "it is a pcap file; editcap makes a pcapng file of it",
    ],
    [Uint8Array.of(0x1f, 0x8b, 8, 0), 0, "it is compressed; unpack it with gunzip"],
    [section(true, 2), 0, "at byte 0 a section is of pcapng version 2; only 1 is known"],
    [
      join(section(), interfaceBlock(1), packet(new Uint8Array(60))),
      0,
      "its packets at byte 48 have link type 1, vfio-user is recorded with 252",
    ],
    [
      join(whole, block(6, [], { size: 0xffff_fff0 })),
      1,
      `at byte ${whole.length} a block claims 4294967280 bytes, which can't be`,
    ],
    [
      join(whole, block(6, [], { size: 13 })),
      1,
      `at byte ${whole.length} a block claims 13 bytes, which can't be`,
    ],
    [
      join(whole, block(6, [], { again: 16 })),
      1,
      `at byte ${whole.length} a block claims 12 bytes ahead and 16 behind`,
    ],
    [join(whole, block(6, [])), 1, `at byte ${whole.length} a packet is cut`],
    [
      join(whole, block(1, [])),
      1,
      `at byte ${whole.length} the description of an interface is cut`,
    ],
    [
      join(start, packet(DATA, { claims: 4000 })),
      0,
      `at byte ${at} a packet claims 4000 bytes, its block has ${DATA.length}`,
    ],
    [
      join(start, packet(DATA, { on: 1 })),
      0,
      `at byte ${at} a packet is of interface 1, which is not described`,
    ],
    [
      join(start, packet(DATA, { options: [[1, 2], [9, 2], "four"] })),
      0,
      `at byte ${at} an option claims 9 bytes, its block has 4`,
    ],
    [
      join(start, packet(TAGS.subarray(0, 16))),
      0,
      `at byte ${at} the tags of a packet do not end`,
    ],
    [
      join(start, packet(DATA, { options: [[0xf600, 2], [2, 2], "{}", [0, 2]] })),
      0,
      `at byte ${at} an event has no "origin"`,
    ],
    [
      join(start, packet(DATA, { options: [[0xf600, 2], [4, 2], "what"] })),
      0,
      `at byte ${at} an event is no JSON`,
    ],
    [
      join(section(), ...Array(MAX_RECORDING_INTERFACES + 1).fill(interfaceBlock(252))),
      0,
      `at byte ${28 + MAX_RECORDING_INTERFACES * 20} a section has more than ` +
      `${MAX_RECORDING_INTERFACES} interfaces`,
    ],
  ];
  for (const [bytes, events, message] of cases) {
    assertEquals(await failure(bytes), [events, message]);
  }
  await assertRejects(() => readAll("/nowhere"), Error, "Cannot read /nowhere: ");
  await assertRejects(
    () => readAll("/tmp"),
    Error,
    "Cannot read /tmp: Is a directory; name a file",
  );
});

Deno.test("a file that is cut anywhere has its whole events, and the cut is known", async () => {
  using file = temporaryFile();
  writeRecording(file.path, [plainMessage(MESSAGE), plainMessage(MESSAGE, { passedOn: null })]);
  const whole = Deno.readFileSync(file.path);
  const counts = new Set<number>();
  for (let length = 4; length < whole.length; length++) {
    Deno.writeFileSync(file.path, whole.subarray(0, length));
    const recording = readRecording(file.path);
    let events = 0;
    try {
      for await (const _ of recording) events++;
      const { offset, bytes } = recording.cut ?? { offset: length, bytes: 0 };
      assertEquals(offset + bytes, length);
    } catch (error) {
      assertEquals((error as Error).message, `Cannot read ${file.path}: it ends within its head`);
    }
    counts.add(events);
  }
  assertEquals([...counts], [0, 1]);
});

Deno.test("a file that grows is followed until the signal", async () => {
  using file = temporaryFile();
  using writer = RecordingWriter.create(file.path);
  const controller = new AbortController();
  const sizes: number[] = [];
  const wanted = [16, 17, 300_000, 18];
  const recording = readRecording(file.path, { follow: true, signal: controller.signal });
  const write = (size: number) => writer.write(plainMessage(new Uint8Array(size)));
  write(wanted[0]!);
  await assertRejects(
    async () => {
      for await (const event of recording) {
        if (event.kind === "message") sizes.push(event.bytes.length);
        const next = wanted[sizes.length];
        if (next === undefined) controller.abort(new Error("enough"));
        else write(next);
      }
    },
    Error,
    "enough",
  );
  assertEquals(sizes, wanted);
});

Deno.test("a file that is followed and made shorter is refused, unless its end was cut", async () => {
  using file = temporaryFile();
  const head = join(section(), interfaceBlock(252));
  const [first, second] = [packet(DATA), packet(DATA)];
  Deno.writeFileSync(file.path, join(head, first, second.subarray(0, 20)));
  const recording = readRecording(file.path, { follow: true });
  const iterator = recording[Symbol.asyncIterator]();
  assertEquals((await iterator.next()).value?.index, 0);
  // The part of the second block is read with the first; its writer removes the part.
  const next = iterator.next();
  await new Promise((resolve) => setTimeout(resolve, 10)); // too short or long: all is well, too
  Deno.truncateSync(file.path, head.length + first.length);
  await new Promise((resolve) => setTimeout(resolve, 3 * RECORDING_FLUSH_MS));
  Deno.writeFileSync(file.path, second, { append: true });
  assertEquals((await next).value?.index, 1);
  // Another recording begins in the same file.
  Deno.writeFileSync(file.path, head);
  await assertRejects(() => iterator.next(), RecordingError, "it was made shorter");
});

Deno.test("a loop that is left early closes the file", async () => {
  using file = temporaryFile();
  writeRecording(file.path, [plainMessage(MESSAGE), plainMessage(MESSAGE)]);
  for await (const _ of readRecording(file.path)) break;
  // The sanitizer of resources sees to the rest.
});

/** The buffers of the large messages of a recording. */
async function buffersOf(path: string, reuse: boolean): Promise<Set<ArrayBufferLike>> {
  const buffers = new Set<ArrayBufferLike>();
  let count = 0;
  for await (const event of readRecording(path, { reuse })) {
    if (event.kind !== "message") continue;
    assertEquals(event.bytes, new Uint8Array(event.bytes.length).fill(count));
    if (event.bytes.length > RECORDING_BUFFER) buffers.add(event.bytes.buffer);
    count++;
  }
  return buffers;
}

Deno.test("large messages are read into the same memory, if their reader wants that", async () => {
  using file = temporaryFile();
  const sizes = [2 << 20, 10, 1 << 20, 2 << 20, 300_000, 2 << 20, 11];
  writeRecording(
    file.path,
    sizes.map((size, i) => plainMessage(new Uint8Array(size).fill(i))),
  );
  assertEquals((await buffersOf(file.path, false)).size, 5);
  assertEquals((await buffersOf(file.path, true)).size, 1);
});

Deno.test("a pipe whose writer is silent is waited for until the signal", async () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/pipe`;
  await new Deno.Command("mkfifo", { args: [path] }).output();
  const reading = (signal: AbortSignal) => Array.fromAsync(readRecording(path, { signal }));
  const stop = () => {
    const controller = new AbortController();
    const ended = assertRejects(() => reading(controller.signal), Error, "enough");
    return { ended, abort: () => controller.abort(new Error("enough")) };
  };
  // Without a writer, the pipe does not even open.
  const first = stop();
  first.abort();
  await first.ended;
  const writer = await Deno.open(path, { write: true });
  const second = stop();
  await writer.write(section());
  second.abort();
  await second.ended;
  writer.close();
  Deno.removeSync(folder, { recursive: true });
});
