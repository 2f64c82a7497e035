/** `vfu fuzz`: what it finds, how it reports that, and that it ends. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { Command } from "../../lib/wire/command.ts";
import { DENO } from "../_deno.ts";
import { runHere, temporaryFolder } from "./_cli.ts";
import { serveOddly } from "./_server.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** A slow machine is no hang. */
const PATIENT = ["--timeout", "60s"];
const CRASHING = `${DENO} run -A ${ROOT}tests/cli/_crashing_server.ts {socket}`;

function linesOf(out: string) {
  return out.trim().split("\n").map((line) => JSON.parse(line));
}

Deno.test("vfu fuzz: the demo device survives, and what was sent is counted", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/s`;
  using _server = Server.listen(path, new DemoDevice());
  const args = ["fuzz", path, "--seed", "5", "--messages", "3000", "-o", `${folder.path}/f`];
  const { code, out, err } = await runHere([...args, "--json", ...PATIENT]);
  const [end] = linesOf(out);
  assertEquals([code, err, end.type, end.findings], [0, "", "end", 0]);
  assertEquals(end.seed, 5);
  assert(end.messages >= 3000);
  const read = end.coverage.find(({ name }: { name: string }) => name === "REGION_READ");
  assert(read.success > 0 && read.error > 0);
  assertEquals([read.fields, read.all_fields], [3, 3]);
  const text = await runHere([...args, ...PATIENT]);
  assertEquals(text.code, 0);
  assertStringIncludes(text.out, "Seed 5");
  assertStringIncludes(text.out, "0 findings");
  assertStringIncludes(text.out, "REGION_WRITE_MULTI");
});

Deno.test("vfu fuzz finds a crash, makes it short, and it happens again", async () => {
  await using folder = temporaryFolder();
  const output = `${folder.path}/found`;
  const { code, out } = await runHere([
    ...["fuzz", "--spawn", CRASHING, "--seed", "1", "--messages", "2000", "-o", output],
    ...["--json", "--minimise", "10m", ...PATIENT],
  ]);
  assertEquals(code, 1);
  const crash = linesOf(out).find(({ kind }) => kind === "crash");
  assert(crash !== undefined, out);
  assertEquals(crash.server_end.signal, "SIGKILL");
  assertEquals(crash.server_end.last_words, ["out of luck"]);
  assert(crash.repeatable && crash.messages <= 2, `${crash.messages} messages`);
  const sent = crash.conversation.filter(({ from }: { from: string }) => from === "us");
  assertStringIncludes(sent.at(-1).text, "DEVICE_RESET request");
  assertStringIncludes(crash.again, `--again ${crash.file}`);
  const again = await runHere(["fuzz", "--spawn", CRASHING, "--again", crash.file, ...PATIENT]);
  assertEquals(again.code, 1);
  assertStringIncludes(again.out, "✘ crash: it was ended by SIGKILL; out of luck");
  const shown = await runHere(["show", crash.file]);
  assertEquals([shown.code, shown.err], [0, ""]);
  assertStringIncludes(shown.out, "DEVICE_RESET");
});

Deno.test("vfu fuzz --again says that nothing is wrong with a server that was mended", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/s`;
  const { out } = await runHere([
    ...["fuzz", "--spawn", CRASHING, "--seed", "1", "--messages", "1500", "--json", ...PATIENT],
    ...["-o", folder.path],
  ]);
  const { file } = linesOf(out).find(({ kind }) => kind === "crash");
  using _server = Server.listen(path, new DemoDevice());
  const again = await runHere(["fuzz", path, "--again", file, ...PATIENT]);
  assertEquals(again.code, 0);
  assertStringIncludes(again.out, "✔ nothing is wrong");
});

Deno.test("vfu fuzz finds a server that answers no more", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/s`;
  using _server = serveOddly(
    path,
    ({ command }) => command === Command.DEVICE_SET_IRQS ? "silence" : "default",
  );
  const { code, out } = await runHere([
    ...["fuzz", path, "--seed", "1", "--messages", "200", "--json", "--timeout", "1s"],
    ...["--minimise", "5m", "-o", folder.path],
  ]);
  assertEquals(code, 1);
  const hang = linesOf(out).find(({ kind, text }) =>
    kind === "hang" || text.includes("without a reply")
  );
  assert(hang !== undefined, out);
  assert(hang.messages <= 3, `${hang.messages} messages`);
  assert(hang.conversation.some(({ text }: { text: string }) => text.includes("DEVICE_SET_IRQS")));
});

Deno.test("vfu fuzz of a socket ends where no server listens any more", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/s`;
  const server = serveOddly(path, ({ command }) => {
    if (command !== Command.DEVICE_RESET) return "default";
    server[Symbol.dispose]();
    return "silence";
  });
  const args = ["fuzz", path, "--seed", "1", "--json", "-o", folder.path, ...PATIENT];
  const { code, out } = await runHere(args);
  assertEquals(code, 1);
  const [crash] = linesOf(out).filter(({ kind }) => kind === "crash");
  assertEquals(crash.text, "the server can't be connected to any more");
  assertEquals(crash.repeatable, false);
  assert(crash.messages > 0, "what was sent is kept");
});

Deno.test("vfu fuzz: wrong usage ends with 2, a server that can't be reached with 1", async () => {
  for (
    const args of [
      [],
      ["/tmp/x.sock", "--spawn", "x {socket}"],
      ["--spawn", "x"],
      ["/tmp/x.sock", "--seed", "-1"],
      ["/tmp/x.sock", "--for", "long"],
    ]
  ) {
    assertEquals((await runHere(["fuzz", ...args])).code, 2, args.join(" "));
  }
  const absent = await runHere(["fuzz", "/tmp/vfu-no-such.sock"]);
  assertEquals(absent.code, 1);
  assertStringIncludes(absent.err, "/tmp/vfu-no-such.sock");
  const ended = await runHere(["fuzz", "--spawn", "sh -c 'echo sorry >&2; exit 3' {socket}"]);
  assertEquals(ended.code, 1);
  assertStringIncludes(ended.err, "ended with code 3");
});

Deno.test("vfu fuzz: findings are shown even if they can't be written", async () => {
  await using folder = temporaryFolder();
  const output = `${folder.path}/file`;
  Deno.writeTextFileSync(output, "no folder");
  const { code, out, err } = await runHere([
    ...["fuzz", "--spawn", CRASHING, "--seed", "1", "--messages", "1500", "-o", output],
    ...PATIENT,
  ]);
  assertEquals(code, 1);
  assertStringIncludes(out, "✘ crash 1: it was ended by SIGKILL; out of luck");
  assertStringIncludes(out, "none: it can't be written");
  assertStringIncludes(err, output);
});

Deno.test("vfu fuzz --corpus grows, is used again, and garbage in it is reported", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/s`;
  using _server = Server.listen(path, new DemoDevice());
  const corpus = `${folder.path}/corpus`;
  const args = ["fuzz", path, "--corpus", corpus, "--messages", "1500", "--seed", "3", ...PATIENT];
  assertEquals((await runHere(args)).code, 0);
  const files = [...Deno.readDirSync(corpus)].map(({ name }) => name);
  assert(files.length > 3 && files.every((name) => name.endsWith(".pcapng")));
  Deno.writeTextFileSync(`${corpus}/garbage.pcapng`, "garbage");
  const again = await runHere([...args, "--from", `${corpus}/${files[0]}`]);
  assertEquals(again.code, 0);
  assertStringIncludes(again.err, "garbage.pcapng");
  const wrong = await runHere([...args, "--from", `${corpus}/garbage.pcapng`]);
  assertEquals(wrong.code, 1);
});

Deno.test("vfu fuzz: Ctrl-C tells what was done, and ends the server", async () => {
  await using folder = temporaryFolder();
  const note = `${folder.path}/pid`;
  const serve = `${DENO} run -A ${ROOT}cli/main.ts serve demo --socket-path {socket}`;
  const command = `sh -c 'echo $$ > ${note}; exec ${serve}'`;
  const { code, out } = await runHere(["fuzz", "--spawn", command, "-o", folder.path, ...PATIENT], {
    endWhen: ({ out }) => out.includes("Seed"),
  });
  assertEquals(code, 130);
  assertStringIncludes(out, "ended early");
  const pid = Deno.readTextFileSync(note).trim();
  let isThere = true;
  try {
    Deno.lstatSync(`/proc/${pid}`);
  } catch {
    isThere = false;
  }
  assertEquals(isThere, false);
});

/** A command that starts a server which means no good. */
const hostile = (way: string) =>
  `${DENO} run -A ${ROOT}tests/cli/_hostile_server.ts ${way} {socket}`;

Deno.test("vfu fuzz: a server that answers nothing is an error, not a hang of ours", async () => {
  const args = ["fuzz", "--spawn", hostile("mute"), "--timeout", "500ms", "--messages", "100"];
  const { code, err } = await runHere(args);
  assertEquals(code, 1);
  assertStringIncludes(err, "does not answer the first requests");
});

Deno.test("vfu fuzz: a server that floods is found, and ends nothing of ours", async () => {
  await using folder = temporaryFolder();
  const { code, out } = await runHere([
    ...["fuzz", "--spawn", hostile("flood"), "--seed", "1", "--messages", "6000", "--json"],
    ...["--minimise", "1s", "-o", folder.path, ...PATIENT],
  ]);
  assertEquals(code, 1);
  assert(linesOf(out).some(({ text }) => text?.includes("bytes that are no message")), out);
});

Deno.test("vfu fuzz: descriptors of a server are closed", async () => {
  await using folder = temporaryFolder();
  const open = () => [...Deno.readDirSync("/proc/self/fd")].length;
  const before = open();
  const { code } = await runHere([
    ...["fuzz", "--spawn", hostile("gifts"), "--seed", "1", "--messages", "2000"],
    ...["-o", folder.path, "--minimise", "1s", "--timeout", "2s"],
  ]);
  assert(code === 0 || code === 1);
  assert(open() <= before + 4, `${open()} descriptors, ${before} before`);
});

Deno.test("vfu fuzz finds a descriptor that is kept of each client", async () => {
  await using folder = temporaryFolder();
  const { code, out } = await runHere([
    ...["fuzz", "--spawn", hostile("leak"), "--seed", "1", "--messages", "1000000", "--json"],
    ...["-o", folder.path, "--minimise", "5s", ...PATIENT],
  ], { endWhen: ({ out }) => out.includes('"kind":"leak"') });
  assert(code === 1 || code === 130);
  const leak = linesOf(out).find(({ kind }) => kind === "leak");
  assertEquals(leak.text, "the server's descriptors grow with each connection");
});

Deno.test("vfu fuzz recognises the report of a sanitizer whose program goes on", async () => {
  await using folder = temporaryFolder();
  const { out } = await runHere([
    ...["fuzz", "--spawn", hostile("report"), "--seed", "1", "--messages", "20000", "--json"],
    ...["-o", folder.path, "--minimise", "10s", ...PATIENT],
  ], { endWhen: ({ out }) => out.includes('"kind":"report"') });
  const report = linesOf(out).find(({ kind }) => kind === "report");
  assert(report !== undefined, out);
  assertStringIncludes(report.text, "UndefinedBehaviorSanitizer: reset.c:5:9: runtime error");
});
