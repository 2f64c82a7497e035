/** `vfu replay`: recordings of real peers, played to fresh devices. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { idle } from "../../ffi/poller.ts";
import { testFds } from "../_fds.ts";
import { startDemo, startServe } from "../_demo_process.ts";
import { startRecord } from "../_record_process.ts";
import { startReplay } from "../_replay_process.ts";
import { accessesOf, decodeMessage } from "../../lib/record/decode.ts";
import { temporaryFile } from "../lib/record/_events.ts";
import { type GoldenName, readGolden, writeGolden } from "../lib/record/_golden.ts";
import { RecordingWriter } from "../../lib/record/writer.ts";
import { Talk } from "../lib/record/_talk.ts";
import { runHere } from "./_cli.ts";

/** The serial number that the controller of the recording told its driver. */
function serialOfNvme(): string {
  for (const event of readGolden("nvme")) {
    if (event.kind !== "message") continue;
    const [access] = accessesOf(decodeMessage(event.bytes)?.payload);
    if (access?.space === "memory" && access.action === "write" && access.count === 4096n) {
      return new TextDecoder().decode(access.data!.subarray(4, 24)).trimEnd();
    }
  }
  throw new Error("No driver has asked for the serial number");
}

async function replay(name: GoldenName, socket: string, ...options: string[]) {
  using file = temporaryFile();
  writeGolden(name, file.path);
  return await runHere(["replay", file.path, socket, ...options]);
}

testFds("gpio does to the recorded client what it did", async () => {
  await using served = await startServe("examples/gpio.ts");
  const { code, out, err } = await replay("gpio", served.path);
  assertEquals([code, err], [0, ""]);
  assertEquals(
    out,
    `181 requests to ${served.path}; compared: 181 replies, 0 DMA, 1 interrupt: no difference\n`,
  );
});

Deno.test("nvme does to the recorded driver what it did", async () => {
  const options = ["--option", "size=64M", "--option", `serial=${serialOfNvme()}`];
  await using served = await startServe("examples/nvme.ts", ...options);
  const { code, out, err } = await replay("nvme", served.path, "--map", "nvme");
  assertEquals([code, err], [0, ""]);
  assertStringIncludes(out, "50 DMA, 13 interrupts: no difference\n");
});

Deno.test("another serial number is named with its step, in all three forms", async () => {
  const options = ["--option", "size=64M", "--option", "serial=other"];
  await using served = await startServe("examples/nvme.ts", ...options);
  const text = await replay("nvme", served.path, "--map", "nvme");
  assertEquals(text.code, 1);
  const [title, ...lines] = text.out.split("\n");
  assertEquals(title, "different  event 209 at 88.735 ms: the device writes other data");
  const pick = (word: string) => lines.find((line) => line.startsWith(`  ${word} `));
  assertStringIncludes(pick("expected")!, "<- #2 DMA_WRITE request iova 0x16fdd000 4096 bytes");
  assertStringIncludes(pick("found")!, "<-    DMA_WRITE request iova 0x16fdd000 4096 bytes");
  assertStringIncludes(text.out, ": 3 differences\n");
  assertEquals(lines.filter((line) => line.startsWith("  before ")).length, 6);
  for (const line of lines) {
    if (/^ {2}(before|expected|found)/.test(line)) assert(line.length <= 80);
  }

  await using again = await startServe("examples/nvme.ts", ...options);
  using report = temporaryFile();
  const json = await replay("nvme", again.path, "--json", "--junit", report.path);
  const events = json.out.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(json.code, 1);
  assertEquals(events.map(({ event }) => event), [
    "difference",
    "difference",
    "difference",
    "hint",
    "result",
  ]);
  assertEquals([events[0].kind, events[0].index], ["dma", 209]);
  assertEquals([events[4].differences, events[4].ended], [3, undefined]);
  const xml = Deno.readTextFileSync(report.path);
  assertStringIncludes(xml, '<testcase name="event 209"');
  assertStringIncludes(xml, 'failures="3" errors="0"');
});

Deno.test("a replay ends after as many differences as are wanted", async () => {
  await using served = await startServe("examples/nvme.ts", "--option", "size=64M");
  const { code, out } = await replay("nvme", served.path, "--differences", "1");
  assertEquals(code, 1);
  assertStringIncludes(
    out,
    ": 1 difference\nEnded before the recording, at event 209: 1 difference is the limit\n",
  );
});

Deno.test("events, times and the closing hint are those of vfu show", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "it's " });
  try {
    const file = `${folder}/a recording.pcapng`;
    writeGolden("nvme", file);
    await using served = await startServe("examples/nvme.ts", "--option", "size=64M");
    const options = ["--map", "nvme", "--differences", "1"];
    const { out } = await runHere(["replay", file, served.path, ...options]);
    const [, index, time] = /^different {2}event (\d+) at ([\d.]+ ms): /m.exec(out)!;
    const [, line] = /^To see what came before: vfu (show .*)$/m.exec(out)!;
    const { stdout } = await new Deno.Command("sh", {
      args: ["-c", `for word in ${line}; do printf '%s\\n' "$word"; done`],
    }).output();
    const words = new TextDecoder().decode(stdout).trimEnd().split("\n");
    assertEquals(words.slice(0, 4), ["show", file, "--map", "nvme"]);
    const shown = await runHere(words);
    assertEquals([shown.code, shown.err], [0, ""]);
    const events = shown.out.trimEnd().split("\n").filter((line) => /^ +[\d.]+ ms /.test(line));
    assertEquals(events.length, 11);
    assert(events.at(-1)!.trimStart().startsWith(`${time} <- `), events.at(-1));
    assertStringIncludes(words.at(-1)!, `index <= ${index}`);
    const before = /^ {2}before {4}([\d.]+ ms) /m.exec(out)![1]!;
    assert(events.some((line) => line.trimStart().startsWith(before)));
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("a device that was in use is said to be so, a fresh one is not", async () => {
  using file = temporaryFile();
  await recordDemo(file.path);
  await using served = await startDemo();
  const hint = /^config\+0x[0-9a-f]+ differs, which the recording has not written: was the device/m;
  const fresh = await runHere(["replay", file.path, served.path]);
  assertEquals([fresh.code, hint.test(fresh.out)], [0, false]);
  const used = await runHere(["replay", file.path, served.path]);
  assertEquals([used.code, hint.test(used.out)], [1, true], used.out);
  assertStringIncludes(used.out, `To reset it: vfu reset ${served.path}; or start it anew with`);
  assertEquals((await runHere(["reset", served.path])).code, 0);
  const reset = await runHere(["replay", file.path, served.path]);
  assertEquals(reset.code, 0, reset.out);
});

Deno.test("a server that leaves is the reason of an early end", async () => {
  using file = temporaryFile();
  writeGolden("gpio", file.path);
  const options = ["--fault", "REGION_READ:close@3"];
  await using served = await startServe("examples/gpio.ts", ...options);
  using report = temporaryFile();
  const { out } = await runHere(["replay", file.path, served.path, "--junit", report.path]);
  assert(
    /^Ended before the recording, at event \d+: the connection to the server is lost$/m.test(out),
    out,
  );
  assertStringIncludes(Deno.readTextFileSync(report.path), 'tests="1" failures="1" errors="0"');
});

testFds("the mock of gpio does to the recorded client what the device did", async () => {
  using file = temporaryFile();
  writeGolden("gpio", file.path);
  await using mock = await startReplay(file.path, "--once");
  const { code, out, err } = await replay("gpio", mock.path);
  assertEquals([code, err], [0, ""]);
  assertStringIncludes(out, "181 replies, 0 DMA, 1 interrupt: no difference\n");
  assertEquals(await mock.ended, 0);
  assertStringIncludes(mock.stdout(), "it did 66 of 66 recorded requests that may change");
});

Deno.test("the mock of nvme differs by its mapping alone, which it does not have", async () => {
  using file = temporaryFile();
  writeGolden("nvme", file.path);
  await using mock = await startReplay(file.path, "--once", "--json");
  const { out } = await replay("nvme", mock.path, "--json");
  const events = out.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(events.flatMap(({ kind, index }) => kind === undefined ? [] : [[kind, index]]), [
    ["reply", 10],
    ["reply", 12],
  ]);
  assertEquals([events.at(-1).dma, events.at(-1).interrupts], [50, 13]);
  assertEquals(await mock.ended, 0);
});

Deno.test("a mock says once where its client leaves the recorded path, and goes on", async () => {
  using file = temporaryFile();
  writeGolden("gpio", file.path);
  await using mock = await startReplay(file.path, "--once", "--json");
  const { code } = await runHere(["write", mock.path, "bar2+0.b=0x55"]);
  assertEquals(code, 0);
  assertEquals(await mock.ended, 1);
  const events = mock.stdout().trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(events.map(({ event }) => event), ["ready", "connect", "deviation", "disconnect"]);
  assertStringIncludes(events[2].found.text, "REGION_WRITE request bar2+0x0 1 byte");
});

Deno.test("a mock says how many reads it answered with zeros, and of which region", async () => {
  using file = temporaryFile();
  await recordDemo(file.path);
  for (const json of [[], ["--json"]]) {
    await using mock = await startReplay(file.path, "--once", ...json);
    // The recording has the first one.
    const { code, out } = await runHere([
      "read",
      mock.path,
      "bar0.l",
      "bar0+0x80.l",
      "bar0+0x84.l",
    ]);
    assertEquals(code, 0, out);
    assertEquals(out.match(/0x[0-9a-f]{8}$/gm), ["0x64756676", "0x00000000", "0x00000000"]);
    await mock.ended;
    const last = mock.stdout().trimEnd().split("\n").at(-1)!;
    const zeros = json.length > 0
      ? JSON.stringify(JSON.parse(last).zeros)
      : /^\d+ reads answered with zeros where the recording has no contents: .*/.exec(last)?.[0];
    assert(/bar0"?[ :]2/.test(zeros ?? ""), last);
  }
});

/** Runs the session that a recording becomes on a device of ours. */
async function runRecorded(name: GoldenName, show: string[], run: string[]): Promise<string> {
  const folder = Deno.makeTempDirSync();
  try {
    const [file, session] = [`${folder}/${name}.pcapng`, `${folder}/${name}.yaml`];
    writeGolden(name, file);
    assertEquals(await runHere(["show", file, "--session", session, ...show]), {
      code: 0,
      out: "",
      err: "",
    });
    const { code, out, err } = await runHere(["run", session, ...run]);
    assertEquals([code, err], [0, ""], out);
    return Deno.readTextFileSync(session);
  } finally {
    Deno.removeSync(folder, { recursive: true });
    await idle();
  }
}

Deno.test("vfu show --session of gpio runs on gpio, with reads that interrupt", async () => {
  const text = await runRecorded("gpio", [], ["--serve", "examples/gpio.ts"]);
  assertStringIncludes(text, '  - repeat: 3\n    steps:\n      - expect: { "bar2+0x0.b": 0x00 }\n');
  assertStringIncludes(text, "  - irq wait: intx[0]\n");
  assertStringIncludes(text, "  # Not expressed: a read of 256 bytes at config+0x0.\n");
});

Deno.test("vfu show --session of nvme runs on nvme, with memory and names", async () => {
  const device = ["--serve", "examples/nvme.ts", "--option", "size=64M"];
  const options = [...device, "--option", `serial=${serialOfNvme()}`];
  const text = await runRecorded("nvme", ["--map", "nvme"], options);
  assertStringIncludes(text, 'include: ["nvme"]\n');
  assertStringIncludes(text, '  - write: { "nvme.SQTDBL[1]": 0x00000002 }  # event 763\n');
  assertStringIncludes(text, "  - dma put: dma+0x1bc0080\n");
  assertStringIncludes(text, "  - expect: dma+0x1bb4010\n");
});

/** The kinds of differences of gpio with faults, and how many there are. */
async function differencesWith(fault: string, ...options: string[]): Promise<string[]> {
  await using served = await startServe("examples/gpio.ts", "--fault", fault, "--seed", "7");
  const { out } = await replay("gpio", served.path, "--json", ...options);
  return out.trimEnd().split("\n").map((line) => JSON.parse(line))
    .flatMap(({ kind, index }) => kind === undefined ? [] : [`${kind} ${index}`]);
}

Deno.test("a device that is slow is no difference, one that fails is", async () => {
  assertEquals(await differencesWith("*:delay=20ms%20"), []);
  const [index, ...others] = await differencesWith("REGION_WRITE:error=EIO@2");
  assertEquals([index?.replace(/\d+/, "N"), others], ["reply N", []]);
  const [dropped] = await differencesWith("REGION_READ:drop@3", "--timeout", "500ms");
  assert(dropped?.startsWith("no reply "), dropped);
  const closed = await differencesWith("REGION_READ:close@3");
  assertEquals(closed.map((each) => each.replace(/\d+/, "N")), ["connection N"]);
});

/** Records a session on demo, with all that is said. */
async function recordDemo(file: string): Promise<void> {
  await using served = await startDemo();
  await using record = await startRecord("--connect", served.path, "--intercept", "all");
  const session = new URL("../../examples/sessions/demo.yaml", import.meta.url).pathname;
  assertEquals((await runHere(["run", session, record.path])).code, 0);
  await record.finish();
  Deno.copyFileSync(record.file, file);
}

Deno.test("a read that fails, or has other contents, is a difference each time", async () => {
  using file = temporaryFile();
  await recordDemo(file.path);
  {
    await using served = await startDemo();
    assertEquals((await runHere(["replay", file.path, served.path])).code, 0);
  }
  for (const kind of ["error=EIO", "garbage", "truncate"]) {
    for (const time of ["@1", "@9", "/2", "/4"]) {
      const fault = `REGION_READ:${kind}${time}`;
      await using served = await startServe("demo", "--fault", fault, "--seed", "7");
      const { code, out } = await runHere(["replay", file.path, served.path]);
      assertEquals(code, 1, `${fault}: ${out}`);
      if (time.startsWith("@")) assertStringIncludes(out, ": 1 difference\n", fault);
    }
  }
});

Deno.test("a recording that is cut is replayed up to there, and garbage is refused", async () => {
  await using served = await startServe("examples/gpio.ts");
  using file = temporaryFile();
  writeGolden("gpio", file.path);
  const bytes = Deno.readFileSync(file.path);
  Deno.writeFileSync(file.path, bytes.subarray(0, bytes.length / 2 - 3));
  const cut = await runHere(["replay", file.path, served.path]);
  assertEquals(cut.code, 0);
  assertStringIncludes(cut.out, ": no difference\n");
  assertStringIncludes(cut.err, "The recording ends in the middle of an event\n");
  Deno.writeTextFileSync(file.path, "no recording, but some text that is long enough");
  const garbage = await runHere(["replay", file.path, served.path]);
  assertEquals([garbage.code, garbage.out], [1, ""]);
  assertStringIncludes(garbage.err, `Cannot read ${file.path}: `);
  const mock = await runHere(["replay", file.path, "--serve", `${served.folder}/mock.sock`]);
  assertEquals([mock.code, mock.out], [1, ""]);
});

Deno.test("a replay of nothing is no success, and says what there is", async () => {
  using file = temporaryFile();
  writeGolden("gpio", file.path);
  using report = temporaryFile();
  const options = ["x.sock", "--client", "7", "--junit", report.path];
  const other = await runHere(["replay", file.path, ...options]);
  assertEquals([other.code, other.out], [1, ""]);
  assertStringIncludes(other.err, "the recording has no client 7; name another one: it has 0\n");
  assertStringIncludes(Deno.readTextFileSync(report.path), 'failures="0" errors="1"');
  {
    using _writer = RecordingWriter.create(file.path);
  }
  const empty = await runHere(["replay", file.path, "x.sock"]);
  assertEquals(empty.code, 1);
  assertStringIncludes(empty.err, "asks anything; record a client that uses the device");
});

Deno.test("vfu replay says what is wrong with its arguments", async () => {
  const cases: [string[], string][] = [
    [["x"], "The path of a socket has to follow the file, or --spawn <command> or --serve <path>"],
    [["x", "y", "--serve", "z"], "--serve <path> takes the server's part"],
    [["x", "--spawn", "true"], "The command of --spawn has no {socket}"],
    [["x", "y", "--ignore", "bar9"], "Cannot use 'bar9' for --ignore: "],
    [["x", "y", "--ignore", "CAP_MSIX+2"], "has no fixed place; write it as config+0x40"],
    [["x", "y", "--once"], "'--once' needs '--serve <path>'"],
  ];
  for (const [args, message] of cases) {
    const { code, err } = await runHere(["replay", ...args]);
    assertEquals(code, 2, err);
    assertStringIncludes(err, message);
  }
});

/** The remarks about a recording in which nothing was intercepted. */
async function recordPlain(): Promise<string> {
  await using served = await startDemo();
  await using record = await startRecord("--connect", served.path);
  const session = new URL("../../examples/sessions/demo.yaml", import.meta.url).pathname;
  assertEquals((await runHere(["run", session, record.path])).code, 0);
  await record.finish();
  return (await runHere(["replay", record.file, served.path, "--timeout", "500ms"])).err;
}

Deno.test("two clients with second sockets are replayed to demo, and by a mock", async () => {
  using file = temporaryFile();
  {
    await using served = await startDemo();
    await using record = await startRecord("--connect", served.path, "--intercept", "all");
    const session = new URL("../../examples/sessions/demo.yaml", import.meta.url).pathname;
    assertEquals((await runHere(["run", session, record.path])).code, 0);
    assertEquals((await runHere(["read", record.path, "bar0.l"])).code, 0);
    await record.finish();
    Deno.copyFileSync(record.file, file.path);
  }
  await using served = await startDemo();
  const both = await runHere(["replay", file.path, served.path]);
  assertEquals([both.code, both.err], [0, ""], both.out);
  assertStringIncludes(both.out, "2 DMA, 2 interrupts: no difference");
  const plain = await recordPlain();
  assertStringIncludes(plain, "accesses there are not in the recording");
  assertStringIncludes(plain, "Interrupts are not compared");
  const second = await runHere(["replay", file.path, served.path, "--client", "1", "--timing"]);
  assertEquals([second.code, second.err], [0, ""], second.out);
  assertStringIncludes(second.out, "0 DMA, 0 interrupts: no difference");

  await using mock = await startReplay(file.path, "--once");
  const session = new URL("../../examples/sessions/demo.yaml", import.meta.url).pathname;
  const run = await runHere(["run", session, mock.path]);
  assertEquals([run.code, run.err], [0, ""], run.out);
  assertEquals(await mock.ended, 0, mock.stdout());
});

Deno.test("vfu show --session says what it leaves out, and finds maps elsewhere", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    const [file, session, map] = [`${folder}/x.pcapng`, `${folder}/to/x.yaml`, `${folder}/m.yaml`];
    Deno.mkdirSync(`${folder}/to`);
    Deno.writeTextFileSync(
      map,
      "name: m\nregion: bar0\nregisters:\n  - { name: ID, offset: 0, width: 4 }\n",
    );
    const talk = new Talk();
    talk.read(0n, 5);
    talk.add({ kind: "ioeventfd", region: 0, offset: 0n, size: 4, count: 1n });
    const other = { ...talk.events[0]!, connection: 1 };
    {
      using writer = RecordingWriter.create(file);
      for (const event of [...talk.events, other]) writer.write(event);
    }
    const bytes = Deno.readFileSync(file);
    Deno.writeFileSync(file, Uint8Array.of(...bytes, 6, 0, 0));
    const { code, err } = await runHere(["show", file, "--session", session, "--map", map]);
    assertEquals([code, err], [0, "vfu: The recording ends in the middle of an event\n"]);
    const text = Deno.readTextFileSync(session);
    assertStringIncludes(text, "# Not expressed: 1 other client of the recording.\n");
    assertStringIncludes(text, "# Not expressed: 1 signal on descriptors of regions.\n");
    assertStringIncludes(text, '  - expect: { "m.ID": 0x00000005 }\n');
    assertEquals((await runHere(["run", "--check", session])).code, 0);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("the session of a long recording ends early, says so, and can be read", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    const [file, session] = [`${folder}/x.pcapng`, `${folder}/x.yaml`];
    {
      using writer = RecordingWriter.create(file);
      for (let round = 0; round < 25; round++) {
        const talk = new Talk();
        for (let i = 0; i < 1000; i++) talk.write(BigInt(i * 4), i);
        for (const event of talk.events) writer.write(event);
      }
    }
    assertEquals((await runHere(["show", file, "--session", session])).code, 0);
    assertStringIncludes(
      Deno.readTextFileSync(session),
      "# The session ends here: 4999 requests more that may change the device",
    );
    const { code, out } = await runHere(["run", "--check", session]);
    assertEquals([code, out], [0, `${session}: no mistakes, 20001 steps\n`]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
