import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { relative } from "node:path";
import { PLAIN } from "../../cli/shared/style.ts";
import { InterruptCounts, promptText } from "../../cli/shell/prompt.ts";
import { SessionInterrupts } from "../../lib/session/run/interrupts.ts";
import { startDemo } from "../_demo_process.ts";
import { onDevice } from "../lib/session/_run.ts";
import { assertGolden, type Outcome, runHere, runThere, temporaryFolder } from "./_cli.ts";
import { DENO } from "../_deno.ts";

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

const ROOT = new URL("../../", import.meta.url).pathname;

/** Runs `vfu shell` on the demo device, with these lines on standard input. */
async function shell(lines: string[], ...args: string[]): Promise<Outcome> {
  const child = start(lines, ...args);
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  const out = decoder.decode(stdout).replaceAll(/ +\d+\.\d+ ms/g, "  _ ms");
  return { code, out, err: decoder.decode(stderr) };
}

function start(lines: string[], ...args: string[]): Deno.ChildProcess {
  const child = new Deno.Command(DENO, {
    args: [
      ...["run", "--no-prompt", "--frozen", `--config=${ROOT}deno.json`],
      ...["--allow-ffi", "--allow-read", "--allow-write"],
      ...[`${ROOT}cli/main.ts`, "shell", demo.path, ...args],
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1", FORCE_COLOR: "" },
  }).spawn();
  const writer = child.stdin.getWriter();
  void (async () => {
    await writer.write(new TextEncoder().encode(lines.map((line) => `${line}\n`).join("")));
    await writer.close();
  })().catch(() => {}); // a shell that has ended reads no more
  return child;
}

Deno.test("vfu shell ends quietly when no process reads what it says", async () => {
  const child = start(["read bar0.l", "read bar0.l"]);
  await child.stdout.cancel();
  const [{ code }, err] = await Promise.all([child.status, new Response(child.stderr).text()]);
  assertEquals([code, err], [0, ""]);
});

Deno.test("vfu shell does the lines of a pipe, and saves them as a session that does the same", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/typed.yaml`;
  const { code, out, err } = await shell([
    "# a comment, and an empty line",
    "",
    "bar0+8.l=0x1234",
    "bar0+8",
    "read bar0+8.l into x",
    "dma map page iova 0x10000 size 4K",
    "dma fill page bytes 5a",
    "expect page bytes '5a 5a'",
    "irq enable msix",
    "write bar0+0x20 1",
    "irq wait msix[1] timeout 5s",
    'log "x is ${x:x}"',
    "read bar0+8.w expect error EINVAL",
    "show",
    `save ${file}`,
  ]);
  assertEquals([code, err], [0, ""], out);
  assertGolden("shell.txt", out.replaceAll(`${folder.path}/`, ""));
  assertGolden("shell-saved.txt", await Deno.readTextFile(file));
  const again = await runHere(["run", file, demo.path]);
  assertEquals([again.code, again.err], [0, ""], again.out);
});

Deno.test("vfu shell ends a script at the first line that fails", async () => {
  const { code, out, err } = await shell(["expect bar0.l 1", "log never"]);
  assertEquals([code, err], [1, "vfu: Line 1: Expected bar0.l == 0x00000001, found 0x64756676\n"]);
  assertEquals(out.includes("never"), false);
});

Deno.test("vfu shell says which file is missing", async () => {
  const { code, out, err } = await shell([
    "dma map b iova 1M size 4K",
    "dma load b file none.bin",
  ]);
  const reason = "Cannot use none.bin: No such file or directory; check the path";
  assertEquals([code, err], [1, `vfu: Line 2: ${reason}\n`]);
  assertStringIncludes(out, `\n      error     ${reason}\n`);
});

Deno.test("vfu shell ends a script at the first line that is no step, with a hint", async () => {
  const { code, err } = await shell(["read bar0.l", "raed bar0.l", "log never"]);
  assertEquals([code, err], [1, 'vfu: Line 2: "raed" is no step; did you mean "read"?\n']);
});

Deno.test("vfu shell --json writes an object a step", async () => {
  const { code, out } = await shell(["read bar0.l", "quit", "log never"], "--json");
  assertEquals(code, 0);
  const [step, ...others] = out.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals([step.type, step.value, others], ["step", 0x64756676, []]);
});

Deno.test("vfu shell names registers by a map, and says so in what it saves", async () => {
  await using folder = temporaryFolder();
  const map = `${folder.path}/demo.yaml`;
  await Deno.writeTextFile(
    map,
    "{name: demo, registers: [{name: SCRATCH, offset: 8, width: 4, fields: [{name: LOW, bits: " +
      "7:0}]}]}",
  );
  const file = `${folder.path}/typed.yaml`;
  const lines = [
    "SCRATCH=0x1200",
    "demo.SCRATCH.LOW=0x34",
    "expect SCRATCH 0x1234",
    `save ${file}`,
  ];
  const { code, err, out } = await shell(lines, "--map", map);
  assertEquals([code, err], [0, ""], out);
  assertMatch(await Deno.readTextFile(file), /include: .*\.\/demo\.yaml/);
  assertEquals((await runHere(["run", file, demo.path])).code, 0);
});

Deno.test("vfu shell help lists the words, and the arguments of one", async () => {
  const { code, out } = await shell(["help", "help irq wait"]);
  assertEquals(code, 0);
  assertGolden("shell-words.txt", out);
  const unknown = await shell(["help irq wiat"]);
  assertStringIncludes(unknown.err, 'There is no step "irq wiat"; did you mean "irq wait"?');
});

Deno.test("vfu shell --pci-enable saves that, too", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/typed.yaml`;
  const { code, err } = await shell(["read bar0.l", `save ${file}`], "--pci-enable");
  assertEquals([code, err], [0, ""]);
  assertStringIncludes(await Deno.readTextFile(file), "steps:\n  - pci enable\n  - read: bar0.l\n");
});

Deno.test("vfu shell saves names of files so that they are found from the folder of the session", async () => {
  await using folder = temporaryFolder();
  await Deno.mkdir(`${folder.path}/sub`);
  const [data, file] = [`${folder.path}/data.bin`, `${folder.path}/sub/typed.yaml`];
  await Deno.writeTextFile(data, "abc");
  const here = relative(Deno.cwd(), data);
  const { code, err } = await shell([
    "dma map page iova 0x10000 size 4K",
    `dma load page ${here}`,
    `dma put page+8 file ${here}`,
    `save ${file}`,
  ]);
  assertEquals([code, err], [0, ""]);
  const again = await runHere(["run", file, demo.path]);
  assertEquals([again.code, again.err], [0, ""], again.out);
});

Deno.test("vfu shell writes over no file", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/there.yaml`;
  await Deno.writeTextFile(file, "mine");
  const { code, err } = await shell(["reset", `save ${file}`]);
  assertEquals(code, 1);
  assertStringIncludes(
    err,
    "it exists already; name another file, or replace it with save --force",
  );
  assertEquals(await Deno.readTextFile(file), "mine");
});

Deno.test("vfu shell save --force replaces a file", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/x.yaml`;
  for (const line of [`save --force ${file}`, `save ${file} --force`]) {
    Deno.writeTextFileSync(file, "mine");
    const { code } = await shell(["read bar0", line]);
    assertEquals(code, 0);
    assertStringIncludes(Deno.readTextFileSync(file), "steps:");
  }
});

Deno.test("vfu shell save takes no option for a file, and waits for no pipe", async () => {
  await using folder = temporaryFolder();
  const pipe = `${folder.path}/pipe`;
  await new Deno.Command("mkfifo", { args: [pipe] }).output();
  for (
    const [words, message] of [
      ["--force", "Write save FILE"],
      ["--forc x", "--forc x is no option"],
      [`--force ${pipe}`, "no process reads this pipe"],
      [`--force ${folder.path}`, "it is a folder"],
    ] as const
  ) {
    const { code, err } = await shell(["reset", `save ${words}`]);
    assertEquals(code, 1, words);
    assertStringIncludes(err, message);
  }
});

Deno.test("vfu shell quotes the name of a file where a shell would take it apart", async () => {
  await using folder = temporaryFolder();
  const { out } = await shell(["read bar0", `save ${folder.path}/it's mine.yaml`]);
  assertStringIncludes(out, `vfu run '${folder.path}/it'\\''s mine.yaml' SOCKET`);
});

Deno.test("vfu shell says that standard input is a folder", async () => {
  const vfu = `"$0" run --no-prompt --frozen --config="$1deno.json" --allow-ffi --allow-read`;
  const { code, stderr } = await new Deno.Command("sh", {
    args: ["-c", `${vfu} "$1cli/main.ts" shell "$2" < /`, DENO, ROOT, demo.path],
    env: { NO_COLOR: "1" },
  }).output();
  const err = "vfu: Cannot read standard input: Is a directory; name a file\n";
  assertEquals([code, new TextDecoder().decode(stderr)], [1, err]);
});

Deno.test("vfu shell save takes the name of a file in quotes, as steps do", async () => {
  await using folder = temporaryFolder();
  const { code, err } = await shell(["read bar0", `save "${folder.path}/a b.yaml"`]);
  assertEquals([code, err], [0, ""]);
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["a b.yaml"]);
});

Deno.test("a session with the names of a device's module runs once its map is exported", async () => {
  await using folder = temporaryFolder();
  const module = `${folder.path}/timer.ts`;
  const example = await Deno.readTextFile(`${ROOT}examples/timer.ts`);
  await Deno.writeTextFile(module, example.replace("../mod.ts", `${ROOT}mod.ts`));
  const file = `${folder.path}/typed.yaml`;
  const map = `${folder.path}/timer.yaml`;
  const device = ["--serve", module];
  const lines = `read PERIOD\nsave ${file}\n`;
  const options = { input: lines, permissions: ["-A"], cwd: folder.path };
  const { code, out, err } = await runThere(["shell", ...device, "--map", module], options);
  assertEquals([code, err], [0, ""]);
  assertStringIncludes(out, `It includes ${map}, which vfu serve ${module} --export-map ${map} `);
  assertEquals((await runHere(["serve", module, "--export-map", map])).code, 0);
  const session = await runThere(["run", file, ...device], { permissions: ["-A"] });
  assertEquals([session.code, session.err], [0, ""]);
});

Deno.test("vfu shell --json writes JSON alone, and words to standard error", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/x.yaml`;
  const lines = ["read bar0.l\r", "!!\r", "show", "help save", `save ${file}`];
  const { code, out, err } = await shell(lines, "--json");
  assertEquals(code, 0);
  assertEquals(out.trimEnd().split("\n").map((line) => JSON.parse(line).text), [
    "read bar0.l",
    "read bar0.l",
  ]);
  assertMatch(err, /^read bar0\.l\nNo variables.*\nsave \[--force\] FILE [^]*\n2 steps in .*\n$/);
});

Deno.test("vfu shell is wrong usage without a device", async () => {
  const { code, err } = await runHere(["shell"]);
  assertEquals(code, 2);
  assertStringIncludes(err, "One of the path of a socket and '--serve <device>' is needed");
});

Deno.test("promptText() shows interrupts that came, and a connection that is gone", async () => {
  await onDevice(async (device) => {
    const interrupts = new SessionInterrupts(device);
    const scope = { number: () => 0n };
    const msix = { text: "msix", index: 2 };
    await interrupts.act("enable", msix, scope, {});
    const counts = new InterruptCounts(interrupts);
    assertEquals(promptText(counts.news, true, PLAIN), "vfu> ");
    await interrupts.act("trigger", { ...msix, first: { kind: "number", value: 1n } }, scope, {});
    assertEquals(promptText(counts.news, true, PLAIN), "msix[1] 1 vfu> ");
    counts.forget();
    assertEquals(counts.news, "");
    assertEquals(promptText("", false, PLAIN), "not connected vfu> ");
  });
});

Deno.test("vfu shell --help is as it was", async () => {
  assertGolden("shell-help.txt", (await runHere(["shell", "--help"])).out);
});
