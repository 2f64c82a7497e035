/** `vfu check`: our own servers keep every rule; reports, choices and exit codes. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { SERVER_CHECKS } from "../../lib/conformance/server/groups.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { DENO } from "../_deno.ts";
import { Command } from "../../lib/wire/command.ts";
import { until } from "../_until.ts";
import { assertGolden, runHere, runThere, spawn, temporaryFolder } from "./_cli.ts";
import { serveOddly } from "./_server.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** A slow machine is no deviation. */
const PATIENT = ["--timeout", "60s"];

/** A command that serves a device. */
const serve = (device: string) =>
  `${DENO} run -A ${ROOT}cli/main.ts serve ${device} --socket-path {socket}`;

for (const device of ["demo", `${ROOT}examples/nvme.ts`]) {
  Deno.test(`vfu check: ${device.split("/").at(-1)} keeps each rule`, async () => {
    const { code, out } = await runHere([
      ...["check", "--json", "--strict", ...PATIENT, "--spawn", serve(device)],
    ]);
    const lines = out.trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(lines.filter(({ outcome }) => outcome === "failed"), []);
    assertEquals(code, 0);
    assertEquals(lines.length, SERVER_CHECKS.length + 1);
    assert(lines.at(-1).passed > 100);
  });
}

Deno.test("vfu check counts a server's descriptors with the permissions of an installation", async () => {
  const { code, out } = await runThere(
    ["check", "--json", ...PATIENT, "--only", "descriptors/1", "--spawn", serve("demo")],
    { permissions: ["--allow-ffi", "--allow-read", "--allow-write", "--allow-run"] },
  );
  const [check] = out.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals([code, check.outcome], [0, "passed"], out);
});

Deno.test("vfu check --list shows each check, and --explain its rule", async () => {
  const { code, out } = await runHere(["check", "--list", "--json"]);
  assertEquals(code, 0);
  assertEquals(JSON.parse(out).map(({ id }: { id: string }) => id), SERVER_CHECKS.map((c) => c.id));
  const told = await runHere(["check", "--explain", "server/framing/11"]);
  assertStringIncludes(told.out, "MUST: An unknown command with a payload");
  assertStringIncludes(told.out, "Section: Header");
});

Deno.test("vfu check --explain takes what --only takes", async () => {
  const whole = await runHere(["check", "--explain", "server/framing/11"]);
  assertEquals((await runHere(["check", "--explain", "framing/11"])).out, whole.out);
  const group = await runHere(["check", "--explain", "framing"]);
  assertStringIncludes(group.out, `\n\n${whole.out}\n`);
  const some = await runHere(["check", "--explain", "framing/1*", "--json"]);
  const ids = JSON.parse(some.out).map(({ id }: { id: string }) => id);
  assertEquals(ids.slice(0, 2), ["server/framing/1", "server/framing/10"]);
});

Deno.test("vfu check: wrong usage ends with 2", async () => {
  for (
    const args of [
      [],
      ["/tmp/x.sock", "--spawn", "x {socket}"],
      ["--spawn", "x"],
      ["--only", "nonsense", "/tmp/x.sock"],
      ["--only", "framing/1", "--skip", "framing", "/tmp/x.sock"],
      ["--only", "reset", "--level", "MAY", "/tmp/x.sock"],
      ["--explain", "server/none/1"],
      ["--fresh", "/tmp/x.sock"],
    ]
  ) {
    assertEquals((await runHere(["check", ...args])).code, 2, args.join(" "));
  }
});

const COPY = `${ROOT}examples/sessions/dma_engine_copy.yaml`;

Deno.test("vfu check --copy does the checks of DMA with a device that a session has copy", async () => {
  const { code, out } = await runHere([
    ...["check", "--json", "--only", "dma_messages", "--copy", COPY, ...PATIENT],
    ...["--spawn", serve(`${ROOT}examples/dma_engine.ts`)],
  ]);
  const lines = out.trim().split("\n").map((line) => JSON.parse(line));
  const summary = lines.pop();
  assertEquals(lines.filter(({ verdict }) => verdict !== "passed"), []);
  assertEquals([code, summary.passed], [0, SERVER_CHECKS.filter((c) => c.needsCopy).length]);
});

Deno.test("vfu check --copy: a session that does not copy is told once, in each report", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/s`;
  using _server = Server.listen(path, new DemoDevice());
  const words = `Cannot have the device copy by ${COPY}: device is 0x0de5, not 0x0de7`;
  const junit = `${folder.path}/j.xml`;
  for (const form of [["--json"], ["--tap"], ["--markdown"], ["--junit", junit]]) {
    const own = ["check", path, "--copy", COPY, "--only", "dma_messages", ...PATIENT];
    const { code, out, err } = await runHere([...own, ...form]);
    assertEquals([code, err], [1, `vfu: ${words}\n`]);
    if (form[0] !== "--junit") assertStringIncludes(out, "0x0de7");
  }
  assertStringIncludes(Deno.readTextFileSync(junit), "0x0de7");
});

Deno.test("vfu check --copy: a wrong session is wrong usage, ahead of the server", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/c.yaml`;
  for (
    const [text, words] of [
      ["variables: { source: 0 }\nsteps: [{ log: '${sorce}' }]", `${file}:2:16: `],
      ["variables: { source: 0 }\nsteps: [{ log: a }]", "no variables destination, length"],
      ["variables: { source: 0, destination: 0, length: 8 }\nsteps: []", "has 8 for length"],
    ] as const
  ) {
    Deno.writeTextFileSync(file, text);
    const { code, err } = await runHere(["check", "/tmp/vfu-no-such.sock", "--copy", file]);
    assertEquals(code, 2, err);
    assertStringIncludes(err, words);
  }
  for (
    const [args, words] of [
      [["--copy", `${folder.path}/none`], "no such file"],
      [["--copy", COPY, "--only", "region_read"], "--copy is for checks of dma_messages"],
      [["--copy", COPY, "--skip", "dma_messages"], "--copy is for checks of dma_messages"],
    ] as const
  ) {
    const { code, err } = await runHere(["check", "/tmp/vfu-no-such.sock", ...args]);
    assertEquals(code, 2, err);
    assertStringIncludes(err.toLowerCase(), words);
  }
});

Deno.test("vfu check --list and --explain say which checks need --copy", async () => {
  const { out } = await runHere(["check", "--list", "--json", "--only", "dma_messages/1"]);
  assertEquals(JSON.parse(out)[0].needs_copy, true);
  const told = await runHere(["check", "--explain", "dma_messages/22"]);
  assertStringIncludes(told.out, "The device has to copy memory: --copy says how.");
});

Deno.test("vfu check: a file that can't be written is reported ahead of the run", async () => {
  const path = "/tmp/vfu-no-such-folder/known";
  for (const option of ["--save-expect", "--junit"]) {
    const { code, out, err } = await runHere(["check", "/tmp/vfu-no-such.sock", option, path]);
    assertEquals([code, out], [1, ""]);
    assertStringIncludes(err, path);
    assertStringIncludes(err, "No such file or directory; make its folder");
  }
});

Deno.test("vfu check: a server that can't be reached, or started, is reported", async () => {
  const absent = await runHere(["check", "/tmp/vfu-no-such.sock"]);
  assertEquals(absent.code, 1);
  assertStringIncludes(absent.err, "/tmp/vfu-no-such.sock");
  const ended = await runHere(["check", "--spawn", "sh -c 'echo sorry >&2; exit 3' {socket}"]);
  assertEquals(ended.code, 1);
  assertStringIncludes(ended.err, "ended with code 3");
  assertStringIncludes(ended.err, "sorry");
});

Deno.test("vfu check: a server that listens no more, and stays, is one for one client", async () => {
  const spawn = `${DENO} run -A ${ROOT}tests/cli/_one_shot.ts {socket} stay`;
  const only = ["1", "2", "3", "4", "6"].flatMap((n) => ["--only", `negotiation/${n}`]);
  const { code, out } = await runHere(["check", ...only, ...PATIENT, "--spawn", spawn]);
  assertStringIncludes(out, "5 passed, 0 failed");
  assertEquals(code, 0);
});

Deno.test("vfu check: a signal that ends a server fails a check of any level", async () => {
  const command = `${DENO} run -A ${ROOT}tests/cli/_crashing_server.ts {socket} ${Command.DMA_MAP}`;
  const own = ["--only", "dma/13", "--json", "--spawn", command];
  const { code, out } = await runHere(["check", ...own, ...PATIENT]);
  const [result] = out.split("\n").map((line) => line && JSON.parse(line));
  assertEquals([code, result.outcome, result.server_end.signal], [1, "failed", "SIGKILL"]);
});

Deno.test("vfu check: a command that leaves its server behind is refused", async () => {
  await using folder = temporaryFolder();
  const pidFile = `${folder.path}/pid`;
  const server = `echo $$ > ${pidFile}; exec ${serve("demo")}`;
  const spawn = `setsid sh -c '${server}' & until test -S {socket}; do sleep 0.01; done`;
  const { code, err } = await runHere([
    "check",
    "--only",
    "framing/1",
    ...PATIENT,
    "--spawn",
    spawn,
  ]);
  const pid = Number(Deno.readTextFileSync(pidFile));
  Deno.kill(pid, "SIGKILL");
  assertEquals(code, 1);
  assertStringIncludes(err, `goes on as process ${pid}; have the command stay in the foreground`);
});

Deno.test("vfu check: no report of a run that ended early obeys the server's words", async () => {
  await using folder = temporaryFolder();
  const junit = `${folder.path}/j.xml`;
  const spawn = "sh -c 'printf \"\\033[31m<b>|_*x*_\" >&2; exit 3' {socket}";
  for (const form of ["--markdown", "--tap", "--json"]) {
    const { code, out } = await runHere(["check", form, "--junit", junit, "--spawn", spawn]);
    assertEquals(code, 1);
    for (const text of [out, Deno.readTextFileSync(junit)]) {
      assert(!text.includes("\x1b"), text);
      assertStringIncludes(text, "u001b[31m");
    }
    if (form === "--markdown") assertStringIncludes(out, "The run ended early: `Cannot start");
  }
});

Deno.test("vfu check of a socket leaves out what may break the server, unless told", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  const careful = await runHere(["check", path, "--only", "region_read", "--json", ...PATIENT]);
  const lines = careful.out.trim().split("\n").map((line) => JSON.parse(line));
  const odd = lines.find(({ id }) => id === "server/region_read/21");
  assertEquals([careful.code, odd.verdict], [0, "left out"]);
  assertStringIncludes(odd.reason, "--spawn");
  const bold = await runHere([
    "check",
    path,
    "--destructive",
    "--strict",
    "--skip",
    "connection/17",
    ...PATIENT,
  ]);
  assertEquals([bold.code, bold.err], [0, ""]);
  assertStringIncludes(bold.out, "✔ server/region_read/21");
});

Deno.test("vfu check of a socket ends where the server serves no client any more", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/s`;
  const server = serveOddly(path, ({ command }) => { // closed by the reset
    if (command !== Command.DEVICE_RESET) return "default";
    server[Symbol.dispose]();
    return "silence";
  });
  const { code, out, err } = await runHere(["check", path, "--only", "reset"]);
  assertEquals(code, 1);
  assertStringIncludes(out, "✘ server/reset/3");
  assertStringIncludes(out, "afterwards not usable");
  assertStringIncludes(out, "ended early");
  assertStringIncludes(err, `Cannot go on: ${path} serves no client since server/reset/3`);
});

Deno.test("vfu check fails if no check applies because of wrong answers", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/s`;
  using _server = serveOddly(
    path,
    ({ command }) => command === Command.DEVICE_GET_REGION_INFO ? "silence" : "default",
  );
  const args = ["check", path, "--only", "region_read/1", "--timeout", "600ms"];
  const { code, out, err } = await runHere(args);
  assertEquals(code, 1);
  assertStringIncludes(out, "1 not tried, ended early");
  assertStringIncludes(err, "expected a reply to DEVICE_GET_REGION_INFO");
});

/** A server that fails to reset, and the checks that find out. */
const BROKEN = [
  "--spawn",
  serve("demo --fault DEVICE_RESET:error=EIO"),
  "--only",
  "reset",
  ...PATIENT,
];
/** Numbers of milliseconds and seconds, which differ from run to run. */
const TIMES = /(?<=time="|time_ms: | in )\d[\d.]*/g;

Deno.test("vfu check reports a deviation in each form", async () => {
  await using folder = temporaryFolder();
  const junit = `${folder.path}/junit.xml`;
  const forms = [[""], ["-tap", "--tap"], ["-markdown", "--markdown", "--junit", junit]];
  const stable = (text: string) =>
    text.replaceAll(TIMES, "0.0").replaceAll(DENO, "deno").replaceAll(ROOT, "");
  for (const [form, ...options] of forms) {
    const { code, out, err } = await runHere(["check", ...BROKEN, ...options]);
    assertEquals([code, err], [1, ""]);
    assertGolden(`check-failed${form}.txt`, stable(out));
    if (form === "") assertEquals(out.split("\n").filter((line) => line.length > 80), []);
  }
  const wide = await runHere(["check", ...BROKEN], { columns: 120 });
  assertGolden("check-failed-120.txt", stable(wide.out));
  assertGolden("check-failed-junit.txt", stable(Deno.readTextFileSync(junit)));
});

Deno.test("vfu check --expect: only changes fail", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/known`;
  const failing = [1, 2, 4, 6].map((n) => `server/reset/${n}`);
  const expect = async (ids: string[]) => {
    Deno.writeTextFileSync(path, `# resets fail\n\n${ids.join("  since 1.0 # EIO\n")}\n`);
    return await runHere(["check", ...BROKEN, "--expect", path]);
  };
  const saved = `${folder.path}/saved`;
  await runHere(["check", ...BROKEN, "--save-expect", saved]);
  const ids = Deno.readTextFileSync(saved).split("\n").map((line) => line.split(" ")[0]);
  assertEquals(ids, ["#", ...failing, ""]);
  assertEquals((await runHere(["check", ...BROKEN, "--expect", saved])).code, 0);
  const same = await expect(failing);
  assertEquals([same.code, same.err], [0, ""]);
  assertStringIncludes(same.out, "~ server/reset/1");
  const more = await expect(failing.slice(1));
  assertEquals(more.code, 1);
  assertStringIncludes(more.out, "✘ server/reset/1");
  Deno.writeTextFileSync(path, "server/info/1\n");
  const fewer = await runHere([
    ...["check", "--spawn", serve("demo"), "--only", "info/1", "--expect", path],
  ]);
  assertEquals(fewer.code, 1);
  assertStringIncludes(fewer.out, "kept now; remove it");
  const typo = await expect(["server/rest/1"]);
  assertEquals(typo.code, 1);
  assertStringIncludes(typo.err, "known:3: there is no check server/rest/1");
  const endless = await runHere(["check", ...BROKEN, "--expect", "/dev/zero"]);
  assertEquals(endless.code, 1);
  assertStringIncludes(endless.err, "/dev/zero:1:1: The file is larger than 4 MiB");
});

Deno.test("vfu check: Ctrl-C ends the server, and its folder goes", async () => {
  await using folder = temporaryFolder();
  const note = `${folder.path}/pid`;
  const command = `sh -c 'echo $$ {socket} > ${note}; exec ${serve("demo")}'`;
  const { code, out } = await runHere(["check", "--spawn", command], {
    endWhen: ({ out }) => out.includes("server/framing/3"),
  });
  assertEquals(code, 130);
  assertStringIncludes(out, "ended early");
  const [pid, socket] = Deno.readTextFileSync(note).trim().split(" ");
  const isThere = (path: string) => {
    try {
      return Deno.lstatSync(path) !== undefined;
    } catch {
      return false;
    }
  };
  assertEquals([isThere(`/proc/${pid}`), isThere(socket!)], [false, false]);
});

Deno.test("vfu check reports a crash with the signal and the last words of the server", async () => {
  const command = `${DENO} run -A ${ROOT}tests/cli/_crashing_server.ts {socket}`;
  const args = ["check", "--json", "--spawn", command, "--only", "reset"];
  const { code, out } = await runHere(args);
  assertEquals(code, 1);
  const lines = out.trim().split("\n").map((line) => JSON.parse(line));
  for (const { usable, server_end: end } of lines.filter(({ verdict }) => verdict === "failed")) {
    assertEquals([usable, end.signal, end.last_words], ["no", "SIGKILL", ["out of luck"]]);
  }
  assertEquals(lines.at(-1).failed, 1);
});

Deno.test("vfu check: a server that was started ends with a check that is killed", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/pid`;
  // It never listens, so that the check waits for it when it is killed.
  const command = `sh -c 'echo $$ > ${file}; exec sleep 600' {socket}`;
  const check = spawn(["check", "--spawn", command], { permissions: ["-A"] });
  const output = check.output();
  const pidOf = () => {
    try {
      return Deno.readTextFileSync(file).trim();
    } catch {
      return "";
    }
  };
  await until(() => pidOf() !== "", "the server");
  const isThere = () => {
    try {
      // A process without memory has ended; its parent has not looked yet.
      return /^VmRSS/m.test(Deno.readTextFileSync(`/proc/${pidOf()}/status`));
    } catch {
      return false;
    }
  };
  assert(isThere());
  Deno.kill(check.pid, "SIGKILL");
  await until(() => !isThere(), "the server's end");
  await output;
});
