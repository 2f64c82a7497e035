import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { progressText } from "../../cli/commands/show.ts";
import { RecordingWriter } from "../../lib/record/writer.ts";
import { encodeMessage } from "../../lib/wire/header.ts";
import { plainMessage, temporaryFile, writeRecording } from "../lib/record/_events.ts";
import { block, interfaceBlock, join, section, TAGS } from "../lib/record/_hand.ts";
import { Talk } from "../lib/record/_talk.ts";
import { assertGolden, runHere, runThere, spawn, temporaryFolder } from "./_cli.ts";

/** A driver that enables an NVMe controller, polls, and gets an error and an interrupt. */
function nvmeTalk(): Talk {
  const talk = new Talk();
  talk.add({ kind: "open", client: "qemu (4711)", server: "/tmp/nvme.sock" });
  talk.add({ kind: "note", text: "regions can't be mapped: --intercept mmap\u001b[2J" });
  talk.write(0x14n, 0x460001);
  for (let i = 0; i < 1043; i++) talk.read(0x1cn, 0);
  talk.read(0x1cn, 1);
  for (let i = 0; i < 5; i++) {
    talk.read(0x1cn, 1);
    talk.read(0x8n, 0x10400);
  }
  talk.write(0x1000n, 1);
  const id = talk.ask("DMA_READ", { address: 0x1000n, count: 64n });
  talk.answer("DMA_READ", id, { address: 0x1000n, data: new Uint8Array(64) });
  const map = { argsz: 32, flags: 3, offset: 0n, address: 0x1000n, size: 0x1000n };
  const memfd = { kind: "memfd", size: 1n << 29n, seals: ["shrink"], access: "rw" } as const;
  const descriptors = [{ ...memfd, identity: "1:7", fate: "withheld" } as const];
  const passedOn = encodeMessage({ messageId: 1058, command: 2 });
  talk.answer("DMA_MAP", talk.ask("DMA_MAP", map, { descriptors, passedOn }), undefined);
  const read = { region: 0, offset: 0x2001n, count: 1 };
  talk.refuse("REGION_READ", talk.ask("REGION_READ", read, { origin: "side" }), 22, {
    origin: "side",
    passedOn: null,
    comment: "for the side socket",
  });
  talk.add({ kind: "interrupt", irq: 2, vector: 0, count: 3n, action: "trigger" });
  talk.add({ kind: "ioeventfd", region: 0, offset: 0x1000n, size: 4, count: 1n });
  talk.ask("DEVICE_RESET", undefined);
  talk.add({ kind: "garbage", direction: "to-server", bytes: new Uint8Array(5), descriptors: [] });
  talk.add({ kind: "end", side: "client", reason: "cut", text: "5 bytes of a header" });
  return talk;
}

async function shown(talk: Talk, ...options: string[]) {
  return await shownIn(80, talk, ...options);
}

async function shownIn(columns: number, talk: Talk, ...options: string[]) {
  using file = temporaryFile();
  writeRecording(file.path, talk.events);
  return await runHere(["show", file.path, ...options], { columns });
}

Deno.test("vfu show has a line for each event, and one for a loop", async () => {
  const { code, out, err } = await shown(nvmeTalk(), "--map", "nvme");
  assertEquals([code, err], [0, ""]);
  assertGolden("show.txt", out);
  const wide = await shownIn(120, nvmeTalk(), "--map", "nvme");
  assertGolden("show-120.txt", wide.out);
});

Deno.test("vfu show folds loops of several reads, and only loops", async () => {
  const talk = new Talk();
  const values = [1, 2, 1, 2, 3, 3, 1, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 5];
  for (const value of values) talk.read(0x1cn, value);
  const { out } = await shown(talk);
  const lines = out.split("\n").map((line) => line.slice(15));
  // 1 2 1 2 3 3, then three rounds of 1 1 2, then 1 1 5
  assertEquals(lines.filter((line) => line.includes("reply")).length, 6 + 3);
  assertEquals(lines.filter((line) => line.startsWith("<> 3 reads, 3 times over")).length, 1);
  const { out: plain } = await shown(talk, "--no-fold");
  assertEquals(plain.split("\n").length - 1, 2 * values.length);
});

Deno.test("vfu show --filter chooses; a wrong one is wrong usage", async () => {
  const { out } = await shown(nvmeTalk(), "--map", "nvme", "--filter", "CSTS.RDY == 0");
  assertEquals(out.split("\n").length - 1, 1043); // replies alone are no loop
  const wrong = await shown(nvmeTalk(), "--filter", "comand == REGION_WRITE");
  assertEquals([wrong.code, wrong.out], [2, ""]);
  assertStringIncludes(wrong.err, "Cannot use 'comand == REGION_WRITE' for --filter: ");
  const none = await shown(nvmeTalk(), "--filter", "index > 99999");
  assertEquals([none.code, none.out, none.err], [0, "", "vfu: No events match\n"]);
  assertStringIncludes(wrong.err, "did you mean command?");
});

Deno.test("vfu show --stats counts", async () => {
  const { code, out } = await shown(nvmeTalk(), "--map", "nvme", "--stats");
  assertEquals(code, 0);
  assertGolden("show-stats.txt", out);
  const { out: json } = await shown(nvmeTalk(), "--stats", "--json");
  const { commands, interrupts, errors, registers, dma_read } = JSON.parse(json);
  assertEquals(interrupts, { "msix[0]": 3 });
  assertEquals(errors, { "REGION_READ EINVAL (Invalid argument)": 1 });
  assertEquals(registers[0], {
    region: 0,
    region_name: "bar0",
    offset: 0x1c,
    reads: 1049,
    writes: 0,
  });
  assertEquals(dma_read, { requests: 1, bytes: 64 });
  const reset = commands.find(({ command }: { command: string }) => command === "DEVICE_RESET");
  assertEquals([reset.requests, reset.replies, reset.unanswered], [1, 0, 1]);
});

Deno.test("vfu show --json has an object for each event", async () => {
  const talk = nvmeTalk();
  const { out } = await shown(talk, "--map", "nvme", "--json");
  const objects = out.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(objects.map(({ index }) => index), [...talk.events.keys()]);
  assertEquals(objects[3], {
    index: 3,
    time_ns: "1000004000",
    connection: 0,
    socket: "main",
    kind: "message",
    origin: "peer",
    direction: "to-client",
    bytes: "01000a0020000000010000000000000014000000000000000000000004000000",
    descriptors: [],
    command: "REGION_WRITE",
    id: 1,
    type: "reply",
    fields: { offset: 0x14, region: 0, count: 4 },
    accesses: [{
      space: "region",
      action: "write",
      region: 0,
      region_name: "bar0",
      offset: 0x14,
      count: 4,
      register: "CC",
    }],
    request: 2,
    latency_ns: 1000,
  });
  const csts = objects.find(({ accesses }) => accesses?.[0].fields !== undefined);
  assertEquals(csts.accesses[0].fields[0].name, "EN");
});

Deno.test("vfu show --chrome-trace writes spans that do not overlap in a lane", async () => {
  const talk = new Talk();
  const ids = Array.from({ length: 3 }, () => talk.ask("DEVICE_RESET", undefined));
  for (const id of ids) talk.answer("DEVICE_RESET", id, undefined);
  talk.add({ kind: "interrupt", irq: 2, vector: 0, count: 1n, action: "trigger" });
  using trace = temporaryFile();
  assertEquals((await shown(talk, "--chrome-trace", trace.path)).code, 0);
  const { traceEvents } = JSON.parse(Deno.readTextFileSync(trace.path));
  const spans = traceEvents.filter(({ ph }: { ph: string }) => ph === "X");
  assertEquals(
    spans.map(({ ts, dur, tid }: { ts: number; dur: number; tid: number }) => [ts, dur, tid]),
    [[0, 3, 100], [1, 3, 101], [2, 3, 102]],
  );
  const moments = traceEvents.filter(({ ph }: { ph: string }) => ph === "i");
  assertEquals(moments.map(({ name }: { name: string }) => name), ["msix[0]"]);
});

Deno.test("a text without end is cut in a line, and whole in JSON", async () => {
  const talk = new Talk();
  talk.add({ kind: "note", text: "n".repeat(50_000), comment: "c".repeat(50_000) });
  const { out } = await shown(talk);
  assertEquals(out, `      0.000 ms -- ${"n".repeat(2000)} …  # ${"c".repeat(2000)} …\n`);
  const json = JSON.parse((await shown(talk, "--json")).out);
  assertEquals([json.text.length, json.comment.length], [50_000, 50_000]);
});

Deno.test("packets of other programs are counted", async () => {
  using file = temporaryFile();
  const simple = block(3, [[TAGS.length, 4], TAGS]);
  Deno.writeFileSync(file.path, join(section(), interfaceBlock(252), simple, simple));
  assertEquals(await runHere(["show", file.path]), {
    code: 0,
    out: "",
    err: "vfu: 2 packets of other programs, or of later versions, are left out\n",
  });
});

Deno.test("a clock that goes back makes times below zero, and no span of a trace", async () => {
  const talk = new Talk();
  const id = talk.ask("DEVICE_RESET", undefined);
  talk.pass(-3_000_000n);
  talk.answer("DEVICE_RESET", id, undefined);
  assertStringIncludes((await shown(talk)).out, " ms <- #1 DEVICE_RESET reply  -3.00 ms\n");
  using trace = temporaryFile();
  assertEquals((await shown(talk, "--chrome-trace", trace.path)).code, 0);
  const { traceEvents } = JSON.parse(Deno.readTextFileSync(trace.path));
  assertEquals(traceEvents.find(({ ph }: { ph: string }) => ph === "X").dur, 0);
});

Deno.test("vfu show reports damage after what is whole, and a cut end", async () => {
  using file = temporaryFile();
  writeRecording(file.path, [...nvmeTalk().events]);
  const whole = Deno.readFileSync(file.path);
  Deno.writeFileSync(file.path, whole.subarray(0, whole.length - 3));
  const cut = await runHere(["show", file.path]);
  assertEquals(cut.code, 0);
  assertMatch(cut.err, /^vfu: .* ends in the middle of an event: its last \d+ bytes, from byte /);
  const lines = cut.out.split("\n").length;
  Deno.writeFileSync(file.path, new Uint8Array([...whole, ...new Uint8Array(12)]));
  const damaged = await runHere(["show", file.path]);
  assertEquals(damaged.code, 1);
  assertEquals(
    damaged.err,
    `vfu: Cannot read ${file.path}: at byte ${whole.length} ` +
      "a block claims 0 bytes, which can't be\n",
  );
  assertEquals(damaged.out.split("\n").length, lines + 1);
  const missing = await runHere(["show", "/nowhere.pcapng"]);
  assertEquals(missing.code, 1);
  assertStringIncludes(missing.err, "Cannot read /nowhere.pcapng: ");
});

Deno.test("vfu show --follow shows what is written, until Ctrl-C", async () => {
  using file = temporaryFile();
  using writer = RecordingWriter.create(file.path);
  const process = spawn(["show", file.path, "--follow"], { permissions: ["--allow-read"] });
  const chunks = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let out = "";
  for (const messageId of [1, 2, 3]) {
    const bytes = encodeMessage({ messageId, command: 13 });
    writer.write(plainMessage(bytes, { timeNs: BigInt(messageId) * 1000n }));
    while (!out.includes(`#${messageId} DEVICE_RESET`)) out += (await chunks.read()).value ?? "";
  }
  process.kill("SIGINT");
  while (!(await chunks.read()).done);
  await process.stderr.cancel();
  assertEquals((await process.status).code, 130);
  assertEquals(
    out,
    [1, 2, 3].map((id) => `      0.00${id - 1} ms -> #${id} DEVICE_RESET request\n`).join(""),
  );
});

Deno.test("vfu show has help", async () => {
  assertGolden("show-help.txt", (await runHere(["show", "--help"])).out);
});

Deno.test("vfu show tells how far it is while a person waits", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/pipe`;
  await new Deno.Command("mkfifo", { args: [path] }).output();
  using file = temporaryFile();
  writeRecording(file.path, [plainMessage(new Uint8Array(2000))]);
  const bytes = Deno.readFileSync(file.path);
  const seen = "\r⠋ 2.1 KiB\r";
  const isSeen = ({ err }: { err: string }) => /\r\S 2\.\d KiB\r$/.test(err);
  const shows = runHere(["show", path, "--stats"], { isWatched: true, endWhen: isSeen });
  const pipe = await Deno.open(path, { write: true });
  await pipe.write(bytes);
  const { code, out, err } = await shows;
  pipe.close();
  assertEquals([code, out.split("\n")[0]], [130, "1 message in 0 ns"]);
  // The line is gone at the end.
  assertEquals(err.endsWith(`\r${" ".repeat(seen.length - 2)}\r`), true);
  // A file has an end, and so a bar.
  const half = progressText({ bytesRead: 1 << 20, size: 2 << 20 }, 2000, 80);
  assertMatch(half, /^█+░+ {2}50% {2}1 MiB of 2 MiB /);
});

Deno.test("Ctrl-C ends vfu show on a pipe whose writer is silent", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/pipe`;
  await new Deno.Command("mkfifo", { args: [path] }).output();
  using file = temporaryFile();
  writeRecording(file.path, [plainMessage(encodeMessage({ messageId: 7, command: 13 }))]);
  const process = spawn(["show", path], { permissions: ["--allow-read"] });
  // This waits for the reader.
  const pipe = await Deno.open(path, { write: true });
  await pipe.write(Deno.readFileSync(file.path));
  const chunks = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assertEquals((await chunks.read()).value, "      0.000 ms -> #7 DEVICE_RESET request\n");
  process.kill("SIGINT");
  while (!(await chunks.read()).done);
  await process.stderr.cancel();
  assertEquals((await process.status).code, 130);
  pipe.close();
});

Deno.test("vfu show --json writes large messages, and folds no large reads", async () => {
  const talk = new Talk();
  const data = new Uint8Array(100_000).fill(0xab);
  for (let i = 0; i < 4; i++) {
    const id = talk.ask("DMA_READ", { address: 0n, count: BigInt(data.length) });
    talk.answer("DMA_READ", id, { address: 0n, data });
  }
  const { out: json } = await shown(talk, "--json");
  const replies = json.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(replies[7].fields.data, data.toHex());
  assertEquals(replies[7].bytes.length, 2 * (16 + 16 + data.length));
  assertEquals(replies[7].accesses, [{
    space: "memory",
    action: "read",
    offset: 0,
    count: data.length,
  }]);
  assertEquals((await shown(talk)).out.split("\n").length - 1, 8);
});

Deno.test("vfu show loads no FFI", async () => {
  using file = temporaryFile();
  writeRecording(file.path, nvmeTalk().events);
  const { code, err } = await runThere(["show", file.path], { permissions: ["--allow-read"] });
  assertEquals([code, err], [0, ""]);
});

Deno.test("vfu show --dissector writes a script, and takes no file", async () => {
  const { code, out } = await runHere(["show", "--dissector"]);
  assertEquals(code, 0);
  assertStringIncludes(out, '"vfio_user.region_read.offset"');
  assertEquals(out.includes("undefined"), false);
  const both = await runHere(["show", "a.pcapng", "--dissector"]);
  assertEquals([both.code, both.err], [2, "vfu: --dissector takes no file\n"]);
  const none = await runHere(["show"]);
  assertEquals([none.code, none.err], [
    2,
    "vfu: Missing required argument 'file'; see vfu show --help\n",
  ]);
});

Deno.test("no report replaces a file that is read, through links as well", async () => {
  await using folder = temporaryFolder();
  const [file, link, hard] = ["one.pcapng", "link", "hard"].map((name) => `${folder.path}/${name}`);
  writeRecording(file!, nvmeTalk().events);
  const map = `${folder.path}/own.yaml`;
  Deno.copyFileSync(new URL("../../lib/registers/maps/demo.yaml", import.meta.url), map);
  const session = `${folder.path}/one.yaml`;
  Deno.writeTextFileSync(session, "steps: []\n");
  Deno.symlinkSync(file!, link!);
  Deno.linkSync(file!, hard!);
  Deno.copyFileSync(file!, `${folder.path}/two.partial`);
  const before = Deno.readFileSync(file!);
  const lines = [
    ...["--html", "--chrome-trace", "--session"].map((option) => ["show", file!, option, file!]),
    ["show", file!, "--html", link!],
    ["show", link!, "--chrome-trace", hard!],
    ["show", `${folder.path}/two.partial`, "--html", `${folder.path}/two`],
    ["show", file!, "--map", map, "--html", map],
    ["replay", file!, `${folder.path}/none.sock`, "--junit", file!],
    ["replay", hard!, `${folder.path}/none.sock`, "--junit", link!],
    ["run", session, `${folder.path}/none.sock`, "--junit", session],
  ];
  for (const line of lines) {
    const { code, err } = await runHere(line);
    assertEquals([code, line], [2, line]);
    assertStringIncludes(err, "which is read; name another file");
  }
  for (const path of [file!, link!, hard!, `${folder.path}/two.partial`]) {
    assertEquals(Deno.readFileSync(path), before);
  }
});

Deno.test("a socket in the place of a recording is named as one", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using _listener = Deno.listen({ transport: "unix", path });
  for (const line of [["show", path], ["replay", path, `${folder.path}/x.pcapng`]]) {
    const { code, err } = await runHere(line);
    assertEquals(code, 1);
    assertStringIncludes(err, `Cannot read ${path}: it is a socket; name a recording, and sockets`);
  }
});

Deno.test("vfu show has the value of a register without fields", async () => {
  const talk = new Talk();
  talk.write(0x50n, 0x1000);
  const { out } = await shown(talk, "--map", "demo");
  assertStringIncludes(out, "  DMA_LENGTH=0x1000");
});

Deno.test("vfu show writes nothing of a file that it can't read, and keeps what was there", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    const [none, target] = [`${folder}/none.pcapng`, `${folder}/old`];
    Deno.writeTextFileSync(`${folder}/text.pcapng`, "a text, which is no recording");
    Deno.writeTextFileSync(target, "old");
    for (const file of [none, `${folder}/text.pcapng`, "/dev/null"]) {
      for (const option of ["--html", "--chrome-trace", "--session"]) {
        const { code, out } = await runHere(["show", file, option, target, "--force"]);
        assertEquals([code, out, Deno.readTextFileSync(target)], [1, "", "old"], option);
      }
      const { code, out } = await runHere(["show", file, "--stats"]);
      assertEquals([code, out], [1, ""], file);
    }
    assertEquals([...Deno.readDirSync(folder)].length, 2);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("what is there once is told in the singular, by each view of a recording", async () => {
  using file = temporaryFile();
  const one = Uint8Array.of(7);
  const talk = new Talk();
  const place = { region: 0, offset: 1n };
  talk.answer("REGION_READ", talk.ask("REGION_READ", { ...place, count: 1 }), {
    ...place,
    data: one,
  });
  talk.answer("REGION_WRITE", talk.ask("REGION_WRITE", { ...place, data: one }), {
    ...place,
    count: 1,
  });
  const address = 0x1000n;
  talk.answer("DMA_READ", talk.ask("DMA_READ", { address, count: 1n }), { address, data: one });
  talk.answer("DMA_WRITE", talk.ask("DMA_WRITE", { address, data: one }), { address, count: 1n });
  talk.add({ kind: "interrupt", irq: 2, vector: 0, count: 1n, action: "trigger" });
  talk.add({ kind: "ioeventfd", region: 0, offset: 1n, size: 1, count: 1n });
  talk.add({ kind: "garbage", direction: "to-server", bytes: one, descriptors: [] });
  for (const events of [talk.events, talk.events.slice(0, 1), talk.events.slice(-1)]) {
    writeRecording(file.path, events);
    for (const options of [[], ["--no-fold"], ["--stats"], ["--session", "-"]]) {
      const { out, err } = await runHere(["show", file.path, ...options]);
      assertEquals(`${out}${err}`.match(/(?<![\w.,^])1 [a-z]+s\b.*/g), null, options.join());
    }
  }
});
