import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { COLOURED } from "../../cli/shared/style.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { startDemo, startServe } from "../_demo_process.ts";
import { testFds } from "../_fds.ts";
import {
  assertGolden,
  type Outcome,
  runHere,
  runServing,
  runThere,
  spawn,
  temporaryFolder,
} from "./_cli.ts";

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

const SESSION = new URL("../../examples/sessions/demo.yaml", import.meta.url).pathname;

/** Runs `vfu run` on files of these texts, which are called a.yaml, b.yaml and so on. */
async function run(texts: string[], ...args: string[]): Promise<Outcome> {
  await using folder = temporaryFolder();
  const files = texts.map((text, i) => {
    const file = `${folder.path}/${"abc"[i]}.yaml`;
    Deno.writeTextFileSync(file, text);
    return file;
  });
  const outcome = await runServing(["run", ...files, ...args]);
  const shorten = (text: string) => text.replaceAll(`${folder.path}/`, "");
  return { ...outcome, out: timeless(shorten(outcome.out)), err: shorten(outcome.err) };
}

/** The text without how long anything took. */
function timeless(text: string): string {
  return text.replaceAll(/ +\d+\.\d+ ms/g, "  _ ms")
    .replaceAll(/"time_ms":[\d.]+/g, '"time_ms":0')
    .replaceAll(/time="[\d.]+"/g, 'time="0"')
    .replaceAll(/time_ms: [\d.]+/g, "time_ms: 0");
}

/** A session with one of each kind of result. */
const MIXED = `
title: One of each
registers:
  name: demo
  registers:
    - { name: ID, offset: 0, width: 4, access: ro }
    - name: STATUS
      offset: 0x14
      width: 4
      fields: [{ name: READY, bits: 0, enum: { 0: not yet, 1: ready } }, { name: BUSY, bits: 1 }]
variables: { never: 0 }
steps:
  - name: Who is there
    read: ID
  - poll: { STATUS.READY: ready }
  - read: bar2
    count: 16
  - log: nothing is wrong yet
    when: \${never}
  - repeat: 3
    as: i
    steps: [{ write: { bar0+8.l: "\${i}" } }]
  - name: It is another device
    expect: ID
    equals: 0x5678
    mask: 0xffff
  - log: never reached
`;

Deno.test("vfu run shows a line a step, and of a failure all that there is to see", async () => {
  const { code, out, err } = await run([MIXED]);
  assertEquals(code, 1);
  assertGolden("run-failed.txt", out + err);
});

Deno.test("vfu run --json writes an object a line", async () => {
  const { code, out } = await run([MIXED], "--json");
  assertEquals(code, 1);
  assertGolden("run.jsonl", out);
  assertEquals(out.trimEnd().split("\n").map((line) => JSON.parse(line).type), [
    "session",
    ...Array.from({ length: 9 }, () => "step"),
    "end",
  ]);
});

Deno.test("vfu run --tap writes TAP", async () => {
  const { code, out } = await run([MIXED], "--tap");
  assertEquals(code, 1);
  assertGolden("run.tap", out);
});

Deno.test("vfu run --junit writes a report beside what it shows", async () => {
  await using folder = temporaryFolder();
  const report = `${folder.path}/report.xml`;
  const { code, out } = await run([MIXED, "title: <&>\nsteps: [reset]"], "--junit", report);
  assertEquals(code, 1);
  assertStringIncludes(out, "One of each");
  const text = await Deno.readTextFile(report);
  assertGolden("run-junit.txt", timeless(text.replaceAll(/\/[^\s"<]*\/vfu-cli-\w+\//g, "")));
});

const FAILURES: Record<string, string> = {
  "a value": "steps: [{ expect: { bar0.l: 1 } }]",
  "a range": "steps: [{ expect: bar0.l, at least: 5, at most: 7 }]",
  "one of several": "steps: [{ expect: bar0.l, one of: [1, 2] }]",
  "bytes": "steps: [{ expect: bar2, bytes: 00 01 }]",
  "text":
    "buffers: { b: { iova: 4K, size: 4K, put: { text: abc } } }\nsteps: [{ expect: b, text: abd }]",
  "a poll": "steps: [{ poll: { bar0+8.l: 1 }, timeout: 5ms }]",
  "a refusal": "steps: [{ read: bar0+8.w }]",
  "an error that did not come": "steps: [{ read: bar0.l, expect error: EINVAL }]",
  "an interrupt": "interrupts: msix\nsteps: [{ irq wait: 'msix[3]', timeout: 5ms }]",
  "no interrupt":
    "interrupts: msix\nsteps: [{ irq trigger: 'msix[3]' }, { irq expect none: msix, for: 5s }]",
  "verification": "steps: [{ write: { bar0.l: 1 }, verify: true }]",
  "a vector that is not enabled": "steps: [{ irq wait: 'msix[0]', timeout: 5ms }]",
  "a missing file":
    "buffers: { b: { iova: 4K, size: 4K } }\nsteps: [{ dma load: b, file: ./none.bin }]",
  "a missing file in a repeat": "buffers: { b: { iova: 4K, size: 4K } }\nsteps:\n  - repeat: 2\n" +
    "    steps: [{ dma load: b, file: ./none.bin }]",
  "a missing folder":
    "buffers: { b: { iova: 4K, size: 4K } }\nsteps: [{ dma dump: b, file: ./none/x.bin }]",
};

for (const [what, text] of Object.entries(FAILURES)) {
  Deno.test(`vfu run says what was expected and found: ${what}`, async () => {
    const { code, out, err } = await run([text]);
    assertEquals(code, 1);
    const steps = out.slice(0, out.indexOf("the last messages"));
    assertGolden(`run-failure-${what.replaceAll(" ", "-")}.txt`, `${steps.trimEnd()}\n${err}`);
  });
}

Deno.test("vfu run says in which step the server was killed, and what it waited for", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/a.yaml`;
  Deno.writeTextFileSync(
    file,
    "interrupts: msix\nsteps: [{ read: bar0 }, { irq wait: msix, timeout: 60s }]",
  );
  await using server = await startServe("demo");
  const child = spawn(["run", file, server.path], {
    permissions: ["--allow-ffi", "--allow-read"],
  });
  let out = "";
  let isKilled = false;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    out += text;
    if (isKilled || !out.includes("ok      1")) continue;
    isKilled = true;
    Deno.kill(server.pid, "SIGKILL");
  }
  const err = await new Response(child.stderr).text();
  assertEquals((await child.status).code, 1);
  assertMatch(
    out,
    /FAIL {4}2 .*\n {6}error {5}Cannot wait for an interrupt of msix: (the server closed|lost) the/,
  );
  assertMatch(out, /the last messages\n(.*\n)+ +the device\n {8}connection {2}CLOSED/);
  assertMatch(err, /a\.yaml failed at step 2, irq wait msix\n$/);
});

Deno.test("vfu run notes by the device what keeps it from DMA and interrupts", async () => {
  const { out } = await run([
    "interrupts: msix\nbuffers: { b: { iova: 4K, size: 4K } }\nsteps: [{ expect: { bar0.l: 1 } }]",
  ]);
  assertGolden("run-failure-device.txt", `${out.slice(out.indexOf("the device")).trimEnd()}\n`);
  // Of what the step says itself there is no note, and looking for it is not among the messages.
  const waited = await run(["interrupts: msix\nsteps: [{ irq wait: 'msix[3]', timeout: 5ms }]"]);
  assertStringIncludes(
    waited.out,
    "found     none\n      why       MSI-X is off (CAP_MSIX+2.w is 0x0003)",
  );
  assertEquals(waited.out.includes("note        MSI-X is off"), false);
  const messages = waited.out.slice(waited.out.indexOf("the last messages"));
  assertEquals(messages.includes("REGION_READ"), false, messages);
});

Deno.test("vfu run passes the shipped session of the demo device", async () => {
  const { code, out, err } = await runServing(["run", SESSION]);
  assertEquals([code, err], [0, ""]);
  assertGolden("run-demo.txt", timeless(out).replace(/ \/.*\/examples/, " examples"));
});

for (const where of ["in this process", "of another"]) {
  Deno.test(`vfu run passes the shipped session of NVMe on examples/nvme.ts ${where}`, async () => {
    const file = SESSION.replace("demo.yaml", "nvme.yaml");
    const device = new URL("../../examples/nvme.ts", import.meta.url).pathname;
    if (where === "of another") {
      await using served = await startServe(device);
      const { code, out, err } = await runHere(["run", file, served.path]);
      assertEquals([code, err], [0, ""], out);
    } else {
      const { code, out, err } = await runThere(["run", "--serve", device, file]);
      assertEquals([code, err], [0, ""], out);
    }
  });
}

Deno.test("vfu run --serve says what is wrong with a device", async () => {
  const { code, err } = await runHere(["run", "--serve", "dmeo", SESSION]);
  assertEquals(code, 2);
  assertStringIncludes(err, 'did you mean "demo"?');
});

testFds("vfu run runs on a server in another process, blocking", async () => {
  const { code, out, err } = await runHere(["run", SESSION, demo.path]);
  assertEquals([code, err], [0, ""]);
  assertMatch(out, /\n22 passed in .* ms\n$/);
});

Deno.test("vfu run --serve takes options of the device, and only then", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/read.yaml`;
  Deno.writeTextFileSync(file, "title: read\nsteps:\n  - read: config+0x0.l\n");
  const nvme = new URL("../../examples/nvme.ts", import.meta.url).pathname;
  const served = await runHere(["run", file, "--serve", nvme, "--option", "size=8M"]);
  assertEquals([served.code, served.err], [0, ""]);
  const unknown = await runHere(["run", file, "--serve", nvme, "--option", "sise=8M"]);
  assertEquals(unknown.code, 2);
  assertStringIncludes(unknown.err, "sise");
  const without = await runHere(["run", file, "--option", "size=8M", "/nonexistent"]);
  assertEquals(without.code, 2);
  assertStringIncludes(without.err, "'--option' is an option of a device");
});

Deno.test("vfu run takes the socket first as well, as other commands do", async () => {
  const { code } = await runHere(["run", demo.path, SESSION]);
  assertEquals(code, 0);
});

Deno.test("vfu run --check finds the mistakes of all files in one run, without a device", async () => {
  await using folder = temporaryFolder();
  const [good, bad] = ["good", "bad"].map((name) => `${folder.path}/${name}.yaml`);
  Deno.writeTextFileSync(good!, "steps: [reset]");
  Deno.writeTextFileSync(bad!, "steps:\n  - raed: bar0.l\n  - write: { bar9.l: 1 }\n");
  const { code, out, err } = await runHere(["run", "--check", good!, bad!]);
  assertEquals([code, out], [2, `${good}: no mistakes, 1 step\n`]);
  const lines = err.replaceAll(`${folder.path}/`, "").trimEnd().split("\n");
  assertMatch(lines[0]!, /^bad\.yaml:2:5: .*raed.*did you mean "read"\?$/);
  assertMatch(lines[1]!, /^bad\.yaml:3:\d+: .*bar9/);
  assertEquals(lines[2], "vfu: There are 2 mistakes in bad.yaml");
  const json = await runHere(["run", "--check", "--json", good!, bad!]);
  assertEquals(
    json.out.trimEnd().split("\n").map((line) => JSON.parse(line).problems.length),
    [0, 2],
  );
});

Deno.test("vfu run does nothing on a device that the session is not for", async () => {
  const { code, out, err } = await run([
    "requires: { vendor: 0x8086, class: '02', regions: { bar1: 4K }, irqs: { msix: 9 } " +
    "}\nsteps: [reset]",
  ]);
  assertEquals([code, out], [1, ""]);
  assertEquals(
    err,
    "vfu: This is not the device for a.yaml: vendor: expected 0x8086, found 0x1234; " +
      "class: expected 0x02, found 0x088000; bar1: expected 0x1000 bytes at least, found 0x0; " +
      "msix: expected 9 vectors at least, found 4\n",
  );
});

Deno.test("vfu run does nothing on a device that a session which is called is not for", async () => {
  const { code, out, err } = await run([
    "steps: [reset, { call: b.yaml }]",
    "requires: { vendor: 0x8086 }\nsteps: [reset]",
  ]);
  assertEquals([code, out], [1, ""]);
  assertEquals(
    err,
    "vfu: This is not the device for b.yaml: vendor: expected 0x8086, found 0x1234\n",
  );
});

Deno.test("vfu run --dry-run lists no end of steps", async () => {
  const level = (next: string) => `steps: [${Array(400).fill(`{ call: ${next} }`).join(", ")}]`;
  const { code, err } = await run(
    [level("b.yaml"), level("c.yaml"), "steps: [reset]"],
    "--dry-run",
    "--json",
  );
  assertEquals([code, err], [1, "vfu: More than 100000 steps are not listed\n"]);
});

Deno.test("vfu run does nothing when steps are outside the regions of the device", async () => {
  const { code, out, err } = await run([
    "variables: { far: 8K }\nsteps:\n  - reset\n  - read: bar0+${far}.l\n  - read: bar1.l\n  - " +
    "read: CAP_MSI+4\n  - irq wait: msix[9]\n" +
    "  - read: bar0+4092\n    count: 8\n  - expect: bar0\n    same as: bar2+0xfff8\n    " +
    "length: 16\n" +
    "buffers: { b: { iova: 4K, size: 4K, put: { file: none.bin } } }\n",
  ]);
  assertEquals([code, out], [2, ""]);
  assertGolden("run-misfit.txt", err);
});

Deno.test("vfu run says where an interrupt is written that the device does not have", async () => {
  const { code, err } = await run([
    "title: t\ninterrupts:\n  - msix[0]\n  - msix[9]\nsteps: [reset]\n",
  ]);
  assertEquals(code, 2);
  assertEquals(
    err,
    "a.yaml:4:5: msix[9] is not there: the device has msix[0-3]\n" +
      "vfu: The session a.yaml does not fit the device; nothing was done\n",
  );
});

Deno.test("vfu run --dry-run lists the steps and does none", async () => {
  const { code, out } = await run([MIXED], "--dry-run");
  assertEquals(code, 0);
  assertGolden("run-plan.txt", out);
});

Deno.test("vfu run --set, --from, --until and --repeat choose what is done", async () => {
  const text = `
variables: { x: 1 }
steps:
  - log: first
  - name: Middle
    log: "x is \${x}"
  - log: last
`;
  const { code, out } = await run(
    [text],
    "--set",
    "x=4K",
    "--from",
    "middle",
    "--until",
    "2",
    "--repeat",
    "2",
  );
  assertEquals(code, 0);
  assertEquals(out.split("\n").filter((line) => line.startsWith("ok")), [
    "ok      2  _ ms  Middle: x is 4096",
    "ok      2  _ ms  Middle: x is 4096",
  ]);
  const usage = async (...args: string[]) => {
    const { code, err } = await run([text], ...args);
    assertEquals(code, 2);
    return err;
  };
  assertStringIncludes(await usage("--set", "y=1"), "there is no variable y");
  assertStringIncludes(await usage("--set", "x"), "Write NAME=VALUE");
  assertStringIncludes(await usage("--from", "Midle"), 'did you mean "Middle"?');
  assertStringIncludes(
    await usage("--from", "3", "--until", "2"),
    "in a.yaml step 2 is before step 3",
  );
  assertStringIncludes(await usage("--until", "4"), "a.yaml has the steps 1 to 3, not 4");
});

Deno.test("vfu run goes on with the next file after one that failed", async () => {
  const { code, out, err } = await run(["steps: [{ expect: { bar0.l: 1 } }]", "steps: [reset]"]);
  assertEquals(code, 1);
  assertStringIncludes(out, "b.yaml\nok      1");
  assertMatch(err, /^vfu: a\.yaml failed at step 1, expect bar0\.l 1\n$/);
});

Deno.test("vfu run is wrong usage without a socket", async () => {
  const { code, err } = await runHere(["run", SESSION]);
  assertEquals(code, 2);
  assertStringIncludes(err, "--serve demo does without one");
});

/** True if the first step of the sessions below is done. */
const hasBegun = ({ out }: { out: string }) => out.includes("begun");

testFds(
  "vfu run takes back what it set up after Ctrl-C, and says in which step it was",
  async () => {
    await using folder = temporaryFolder();
    const file = `${folder.path}/wait.yaml`;
    await Deno.writeTextFile(
      file,
      "buffers: { b: { iova: 0x10000, size: 4K } }\nsteps:\n  - log: begun\n  - name: Wait\n   " +
        " sleep: 1m\n",
    );
    const path = `${folder.path}/demo.sock`;
    const messages: string[] = [];
    const { describeMessage } = await import("../../lib/wire/describe.ts");
    using _server = Server.listen(path, new DemoDevice(), {
      trace: (direction, bytes) =>
        void (direction === "received" && messages.push(describeMessage(bytes))),
    });
    const { code, err } = await runHere(["run", file, path], { endWhen: hasBegun });
    assertEquals(code, 130);
    assertEquals(err, "vfu: Interrupted by SIGINT; it was stopped in step 2: Wait\n");
    assertStringIncludes(messages.at(-1)!, "DMA_UNMAP");
  },
);

for (const format of ["--tap", "--json"]) {
  testFds(`vfu run ${format} and --junit tell of a run that was stopped`, async () => {
    await using folder = temporaryFolder();
    const [file, report] = [`${folder.path}/wait.yaml`, `${folder.path}/report.xml`];
    await Deno.writeTextFile(file, "steps:\n  - log: begun\n  - name: Wait\n    sleep: 1m\n");
    const { code, out } = await runHere(
      ["run", "--serve", "demo", file, format, "--junit", report],
      { endWhen: hasBegun },
    );
    assertEquals(code, 130);
    const why = "Interrupted by SIGINT; it was stopped in step 2: Wait";
    const lines = out.trimEnd().split("\n");
    if (format === "--tap") assertEquals(lines.at(-1), `Bail out! ${why}`);
    else assertEquals(JSON.parse(lines.at(-2)!), { type: "abort", message: why });
    const xml = await Deno.readTextFile(report);
    assertStringIncludes(xml, 'tests="2" failures="0" errors="1"');
    assertStringIncludes(xml, `<error message="${why}"/>`);
  });
}

Deno.test("vfu run --junit that can't be written does nothing", async () => {
  const { code, out, err } = await run(["steps: [reset]"], "--junit", "/none/report.xml");
  assertEquals([code, out], [1, ""]);
  assertMatch(err, /^vfu: Cannot write the report \/none\/report\.xml: /);
});

Deno.test("vfu run waits for a file that is a pipe until Ctrl-C", async () => {
  await using folder = temporaryFolder();
  const pipe = `${folder.path}/pipe.yaml`;
  await new Deno.Command("mkfifo", { args: [pipe] }).output();
  const child = spawn(["run", "--check", pipe], { permissions: ["--allow-ffi", "--allow-read"] });
  using _writer = await Deno.open(pipe, { write: true }); // once it is being read
  child.kill("SIGINT");
  const { code } = await child.output();
  assertEquals(code, 130);
});

Deno.test("vfu run needs no more permissions than the documentation asks for", async () => {
  const { code, err } = await runThere(["run", SESSION, demo.path]);
  assertEquals([code, err], [0, ""]);
});

Deno.test("vfu run colours what it shows", async () => {
  const { out } = await runServing(["run", SESSION], { style: COLOURED });
  assertStringIncludes(out, "\x1b[32mok  \x1b[39m");
});

Deno.test("vfu run --help is as it was", async () => {
  assertGolden("run-help.txt", (await runHere(["run", "--help"])).out);
});
