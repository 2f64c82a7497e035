/** `vfu record` as a process and in this one: reports, exit codes, servers that it starts. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { permissions } from "../../cli/installed/package.ts";
import { Interrupted } from "../../cli/shared/context.ts";
import { RECORDING_WAITING } from "../../lib/base/limits.ts";
import { connect } from "../../lib/client/connect.ts";
import { readRecording } from "../../lib/record/mod.ts";
import { startDemo } from "../_demo_process.ts";
import { startRecord } from "../_record_process.ts";
import { DENO } from "../_deno.ts";
import { PATIENT, until } from "../_until.ts";
import { PipeReader, temporaryFile, temporaryPipe } from "../lib/record/_events.ts";
import { runHere, temporaryFolder } from "./_cli.ts";

const CLI = new URL("../../cli/main.ts", import.meta.url).pathname;

async function vfu(...args: string[]) {
  const command = new Deno.Command(DENO, { args: ["run", "-A", CLI, ...args], stdin: "null" });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test("record: clients one after another, the side socket, and a whole file", async () => {
  await using demo = await startDemo();
  await using record = await startRecord("--connect", demo.path, "--intercept", "all", "-v");
  for (const value of ["0x00000000", "0x00000000"]) {
    assertEquals((await vfu("read", record.path, "bar0+8.l")).out, `${value}\n`);
  }
  const side = await vfu("read", record.side, "bar0+8.l");
  assertEquals(side.code, 1);
  assertStringIncludes(side.err, "no client is connected to the recorder now");
  const { code, events } = await record.finish();
  assertEquals(code, 0);
  assertEquals(events.filter(({ kind }) => kind === "end").length, 4); // with those of the twin
  const descriptors = events.flatMap((each) => each.kind === "message" ? each.descriptors : []);
  assertEquals(
    descriptors.map(({ kind, fate }) => `${kind} ${fate}`),
    Array(2).fill("socket replaced"),
  );
  assertStringIncludes(record.stderr(), "REGION_READ request bar0+0x8 4 bytes");
  assertMatch(record.stderr(), /\d+ events of 2 clients are in /);
});

Deno.test("record --spawn: starts the server for each client that finds none", async () => {
  const serve = `${DENO} run -A ${CLI} serve demo --socket-path={socket}`;
  await using record = await startRecord("--spawn", serve);
  const { code, out } = await vfu("read", record.path, "bar0.l");
  assertEquals([code, out], [0, "0x64756676\n"]);
  assertEquals((await record.finish()).code, 0);
  // A server for one client is started again for the next.
  const oneShot = `${DENO} run -A ${new URL("_one_shot.ts", import.meta.url).pathname} {socket}`;
  await using again = await startRecord("--spawn", oneShot);
  for (let i = 0; i < 3; i++) {
    assertEquals((await vfu("read", again.path, "bar0.l")).out, "0x64756676\n");
  }
  await using failing = await startRecord("--spawn", "false {socket}");
  assertEquals((await vfu("read", failing.path, "bar0.l")).code, 1);
  assertStringIncludes(failing.stderr(), `"false {socket}" ended with code 1`);
  assertEquals((await failing.finish()).code, 0);
});

Deno.test("record: a full disk is reported once, and the two sides go on talking", async () => {
  await using demo = await startDemo();
  const folder = Deno.makeTempDirSync();
  const [path, file] = [`${folder}/a.sock`, `${folder}/x.pcapng`];
  // A limit of the process stands in for the disk: what is beyond it fails as on a full one.
  const limited = 'ulimit -f 64; exec "$0" run -A --no-code-cache "$@"';
  const args = ["-c", limited, DENO, CLI, "record"];
  const child = new Deno.Command("sh", {
    args: [...args, "--listen", path, "--connect", demo.path, "-o", file],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  let text = "";
  const reading = (async () => {
    for await (const piece of child.stderr.pipeThrough(new TextDecoderStream())) text += piece;
  })();
  while (!text.includes("Recording ")) await new Promise((resolve) => setTimeout(resolve, 5));
  const { code } = await vfu("dump", path, "bar2", "-o", `${folder}/bar2`, "--via", "message");
  assertEquals(code, 0);
  assertEquals((await vfu("read", path, "bar0.l")).out, "0x64756676\n");
  child.kill("SIGINT");
  assertEquals((await child.status).code, 1);
  await reading;
  assertEquals(text.match(/Cannot write /g)?.length, 1);
  for await (const event of readRecording(file)) assert(event.index >= 0);
  Deno.removeSync(folder, { recursive: true });
});

Deno.test("record: writes to standard output in the place of a file that is called -", async () => {
  await using demo = await startDemo();
  for (const line of ['exec "$@" > x', 'mkfifo p; cat p > x & exec > p; rm p; exec "$@"']) {
    await recordToStandardOutput(demo.path, line);
  }
});

/** Records with the permissions of a user, by a line of the shell that has a recording in x. */
async function recordToStandardOutput(server: string, line: string): Promise<void> {
  await using folder = temporaryFolder();
  const [listen, file] = [`${folder.path}/a.sock`, `${folder.path}/x`];
  const run = [DENO, "run", "--no-prompt", ...permissions(), CLI];
  const record = ["record", "--listen", listen, "--connect", server, "-o", "-"];
  const child = new Deno.Command("sh", {
    args: ["-c", line, "sh", ...run, ...record],
    cwd: folder.path,
    stdin: "null",
    stderr: "piped",
  }).spawn();
  let text = "";
  const reading = (async () => {
    for await (const piece of child.stderr.pipeThrough(new TextDecoderStream())) text += piece;
  })();
  await until(() => text.includes("Recording "));
  assertEquals((await vfu("read", listen, "bar0.l")).code, 0);
  child.kill("SIGINT");
  assertEquals((await child.status).code, 0);
  await reading;
  const lastKind = async () => (await Array.fromAsync(readRecording(file))).at(-1)?.kind;
  await until(async () => await lastKind() === "end", "what cat has still to write");
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["x"]);
}

Deno.test("record: a pipe whose reader stops holds up neither side, and says what it lacks", async () => {
  await using demo = await startDemo();
  using pipe = temporaryPipe();
  using file = temporaryFile();
  using reader = new PipeReader(pipe.path);
  await using record = await startRecord("--connect", demo.path, "-o", pipe.path);
  {
    using device = await connect(record.path, PATIENT);
    const size = Number((await device.regionInfo(2)).size);
    // Each message is answered, although far more of them come than are kept.
    const rounds = Math.ceil((RECORDING_WAITING + (4 << 20)) / size);
    for (let i = 0; i < rounds; i++) {
      const { length } = await device.region(2).readAsync(0, size, { via: "message" });
      assertEquals(length, size);
    }
    await until(() => record.stderr().includes("does not go on"), "the report");
    const status = Deno.readTextFileSync(`/proc/${record.pid}/status`);
    assert(Number(/VmRSS:\s+(\d+)/.exec(status)![1]) < 400_000, status);
    using out = Deno.openSync(file.path, { write: true });
    const latin1 = new TextDecoder("latin1");
    let tail = "";
    const copy = () => {
      const bytes = reader.read();
      out.writeSync(bytes);
      tail = (tail + latin1.decode(bytes)).slice(-bytes.length - 100);
      return bytes.length;
    };
    // The note is the last of what waited: the rest then fits in the pipe.
    await until(() => copy() === 0 ? false : tail.includes("missing here"), "the note");
    assertStringIncludes(record.stderr(), "goes on;");
    await device.region(0).read32Async(0);
    await record.end();
    while (copy() > 0);
  }
  const notes = [];
  for await (const event of readRecording(file.path)) {
    if (event.kind === "note") notes.push(event.text);
  }
  assertEquals(notes.length, 1);
  assertMatch(notes[0]!, /^\d+ events of the recording are missing here: /);
  assertMatch(record.stderr(), /; \d+ are not/);
  assertEquals(await record.ended, 1);
});

Deno.test("record: a reader of -v that stops reading stops nothing else", async () => {
  await using demo = await startDemo();
  const folder = Deno.makeTempDirSync();
  const [path, file] = [`${folder}/a.sock`, `${folder}/x.pcapng`];
  const child = new Deno.Command(DENO, {
    args: ["run", "-A", CLI, "record", "-v", "--listen", path, "--connect", demo.path, "-o", file],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const reader = child.stderr.getReader();
  assertMatch(new TextDecoder().decode((await reader.read()).value), /^Recording /);
  // Far more lines than a pipe holds.
  const dump = ["bar2", "-o", `${folder}/bar2`, "--via", "message"];
  for (let i = 0; i < 3; i++) assertEquals((await vfu("dump", path, ...dump)).code, 0);
  const reads = Array.from({ length: 1500 }, () => "bar0+8.l");
  assertEquals((await vfu("read", path, ...reads)).code, 0);
  child.kill("SIGINT");
  assertEquals((await child.status).code, 0);
  await reader.cancel();
  let messages = 0;
  for await (const { kind } of readRecording(file)) if (kind === "message") messages++;
  assert(messages > 3000);
  Deno.removeSync(folder, { recursive: true });
});

Deno.test("record: wrong usage ends with 2, what can't be had with 1", async () => {
  const usages: [string[], string][] = [
    [["-o", "x"], "Required"],
    [["--listen", "a", "-o", "x"], "One of '--connect <path>'"],
    [["--connect", "a", "-o", "x"], "One of '--listen <path>'"],
    [["--listen", "a", "--spawn", "true", "-o", "x"], "has no {socket}"],
    [["--listen", "a", "--connect", "", "-o", "x"], "One of '--connect <path>'"],
    [
      ["--listen", "a", "--connect", "b", "-o", "-", "--json"],
      "'--json' writes to standard output",
    ],
    [["--listen", "a", "--spawn", "b {socket}", "-o", "-"], "'--spawn <command>' writes to stand"],
    [["--listen", "a", "--connect", "b", "-o", ""], "'-o <file>' is needed"],
    [["--listen", "a", "--connect", "a", "-o", "x"], "name the same socket"],
    [["--listen", "a", "--connect", "b", "-o", "x", "--side-writes"], "needs '--side <path>'"],
    [["--listen", "a", "--connect", "b", "-o", "x", "--intercept", "foo"], '"foo" is none of mmap'],
  ];
  for (const [args, words] of usages) {
    const { code, err } = await runHere(["record", ...args]);
    assertEquals(code, 2, err);
    if (words !== "Required") assertStringIncludes(err, words);
  }
  const folder = Deno.makeTempDirSync();
  const there = ["--connect", `${folder}/b`];
  const nowhere = await runHere(["record", "--listen", `${folder}/a`, ...there, "-o", folder]);
  assertEquals(nowhere.code, 1);
  const listen = `${folder}/a`;
  const itself = ["--listen", listen, "--connect", `${folder}/./a`, "-o", `${folder}/y`];
  const own = await runHere(["record", ...itself]);
  const reason = "it is the socket of --listen; name another";
  assertEquals(own, {
    code: 1,
    out: "",
    err: `vfu: Cannot connect to ${folder}/./a: ${reason}\n`,
  });
  const far = ["--listen", `${folder}/none/a`, ...there, "-o", `${folder}/x`];
  const { code, err } = await runHere(["record", ...far]);
  assertEquals(code, 1);
  assertStringIncludes(err, "its folder does not exist");
  Deno.removeSync(folder, { recursive: true });
});

Deno.test({
  name: "record: a pipe without a reader is waited for until Ctrl-C",
  // The pipe opens when this test is over.
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using folder = temporaryFolder();
    const [listen, connect, pipe] = ["a", "b", "pipe"].map((name) => `${folder.path}/${name}`) as [
      string,
      string,
      string,
    ];
    await new Deno.Command("mkfifo", { args: [pipe] }).output();
    const controller = new AbortController();
    const args = ["record", "--listen", listen, "--connect", connect, "-o", pipe];
    const running = runHere(args, { signal: controller.signal });
    await new Promise((resolve) => setTimeout(resolve, 20)); // too short is well, too
    controller.abort(new Interrupted("SIGINT"));
    const { code, out, err } = await running;
    assertEquals([code, out, err], [130, "", ""]);
    (await Deno.open(pipe)).close();
  },
});

Deno.test("record: keeps a file with contents, unless --force replaces it", async () => {
  await using demo = await startDemo();
  await using folder = temporaryFolder();
  const file = `${folder.path}/x.pcapng`;
  Deno.writeTextFileSync(file, "an earlier recording");
  const line = ["record", "--listen", `${folder.path}/a.sock`, "--connect", demo.path, "-o", file];
  const refused = await runHere(line);
  assertEquals(refused.code, 1);
  assertStringIncludes(refused.err, "it exists already; name another file, or replace it with");
  assertEquals(Deno.readTextFileSync(file), "an earlier recording");
  const forced = await runHere([...line, "--force"], {
    endWhen: ({ err }) => err.includes("Recording "),
  });
  assertStringIncludes(forced.err, "0 events of 0 clients");
  assertEquals((await Array.fromAsync(readRecording(file))).length, 0);
});

Deno.test("record: names all options that are missing, and a server that is not there", async () => {
  await using folder = temporaryFolder();
  const bare = await runHere(["record"]);
  assertEquals(bare.code, 2);
  for (const option of ["--listen <path>", "--connect <path>", "-o <file>"]) {
    assertStringIncludes(bare.err, `'${option}'`);
  }
  const [listen, connect, file] = ["a.sock", "none.sock", "x.pcapng"].map((name) =>
    `${folder.path}/${name}`
  ) as [string, string, string];
  const { err } = await runHere(
    ["record", "--listen", listen, "--connect", connect, "-o", file],
    { endWhen: ({ err }) => err.includes("does not exist yet") },
  );
  assertStringIncludes(err, `${connect} does not exist yet; clients are disconnected until`);
});
