/** Forms that all commands keep: a table of their definitions, and the same words on a device. */

import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { wholeProgram } from "../../cli/completion/program.ts";
import { PLAIN } from "../../cli/shared/style.ts";
import { startDemo } from "../_demo_process.ts";
import { type Outcome, runHere, temporaryFolder } from "./_cli.ts";

const QUIET = { isTerminal: false, columns: 80, style: PLAIN, write() {}, writeBytes() {} };
const program = await wholeProgram({
  out: QUIET,
  err: QUIET,
  signal: new AbortController().signal,
});

interface Leaf {
  readonly name: string;
  readonly command: CommandUnknownOpts;
}

function leavesOf(command: CommandUnknownOpts, path: string): Leaf[] {
  if (command.commands.length === 0) return [{ name: path, command }];
  return command.commands.flatMap((each) => leavesOf(each, `${path} ${each.name()}`.trim()));
}

const LEAVES = leavesOf(program, "");

/** All options, with the name of their value. */
const OPTIONS = LEAVES.flatMap(({ name, command }) =>
  command.options.map((option) => ({
    name,
    option,
    value: /<(.+)>/.exec(option.flags)?.[1],
    title: `vfu ${name} ${option.long}`,
  }))
);

function takesSocket({ registeredArguments }: CommandUnknownOpts): boolean {
  return registeredArguments.some((each) => /socket/.test(each.name()));
}

/** Texts that values of a kind are, and are not, whatever option they belong to. */
const KINDS = {
  duration: { good: ["200ms", "2s", "1.5m", "1h"], bad: ["soon", "5x", "0", ""] },
  size: { good: ["64K", "2MiB", "0x1000", "4096"], bad: ["64X", "big", ""] },
  number: { good: ["7"], bad: ["-1", "x", "1.5", ""] },
} as const;

for (const { option, value, title } of OPTIONS) {
  if (value === undefined || !Object.hasOwn(KINDS, value)) continue;
  const { good, bad } = KINDS[value as keyof typeof KINDS];
  Deno.test(`${title} takes a ${value} in all its forms`, () => {
    const parse = option.parseArg;
    assert(parse !== undefined, "it takes any text");
    for (const text of good) parse(text, undefined);
    for (const text of bad) assertThrows(() => parse(text, undefined));
  });
}

Deno.test("--timeout is the time for one answer, in each command", () => {
  const found = OPTIONS.filter(({ option }) => option.long === "--timeout");
  assert(found.length > 15);
  for (const { option, title } of found) {
    const { description, defaultValue, flags } = option;
    assertEquals(
      [flags, description, defaultValue],
      ["--timeout <duration>", "wait so long for each answer, as 500ms", 5000],
      title,
    );
  }
});

Deno.test("each command that connects to a socket has --timeout", () => {
  for (const { name, command } of LEAVES) {
    if (!takesSocket(command)) continue;
    assert(command.options.some(({ long }) => long === "--timeout"), name);
  }
});

Deno.test("a time that something may take in all is --for", () => {
  const names = OPTIONS.filter(({ value }) => value === "duration").map(({ option }) =>
    option.long!
  );
  // Pauses, and waits for other things than answers, have names of their own.
  assertEquals(
    [...new Set(names)].sort(),
    ["--for", "--interval", "--minimise", "--timeout", "--wait", "--watch"],
  );
  const having = OPTIONS.filter(({ option }) => option.long === "--for").map(({ name }) => name);
  assertEquals(having, ["poll", "dma", "irq", "dirty", "fuzz"]);
});

Deno.test("each command that takes places takes maps of registers", () => {
  const PLACES = /^(address|address=value|condition|region|place|register)$/;
  for (const { name, command } of LEAVES) {
    if (!takesSocket(command)) continue; // it is about files alone
    const values = [
      ...command.registeredArguments.map((each) => each.name()),
      ...OPTIONS.filter((each) => each.name === name).map(({ value }) => value ?? ""),
    ];
    if (!values.some((each) => PLACES.test(each))) continue;
    const map = command.options.find(({ long }) => long === "--map");
    assertMatch(map?.flags ?? "", /name\|file/, name);
  }
});

Deno.test("each command that serves a device takes its options", () => {
  for (const { name, command } of LEAVES) {
    const serves = command.options.some(({ flags }) => flags === "--serve <device>");
    if (!serves) continue;
    assert(command.options.some(({ flags }) => flags === "--option <name=value>"), name);
  }
});

const demo = await startDemo(); // a process of its own: bench blocks this one
Deno.test.afterAll(() => demo.stop());

/** Runs a command on the demo device; SOCKET and FOLDER stand for paths. */
async function onDemo(...args: string[]): Promise<Outcome> {
  await using folder = temporaryFolder();
  Deno.writeFileSync(`${folder.path}/four`, Uint8Array.of(1, 2, 3, 4));
  return await runHere(
    args.map((each) => each.replace("SOCKET", demo.path).replace("FOLDER", folder.path)),
  );
}

/** The same word in each command that takes one: nothing but its output differs. */
const SAME: Readonly<Record<string, readonly string[]>> = {
  "a register of a map": [
    "read SOCKET --map demo SCRATCH",
    "write SOCKET --map demo SCRATCH=1",
    "poll SOCKET --map demo STATUS.READY --equals 1",
    "regs SOCKET --map demo SCRATCH",
    "dump SOCKET --map demo SCRATCH -o FOLDER/out",
    "load SOCKET --map demo SCRATCH FOLDER/four",
    "bench SOCKET --map demo SCRATCH --count 2 --json",
    "dma SOCKET --map demo --map 1M:64K --pci-enable --write SCRATCH=1 --wait SCRATCH==1",
    "irq SOCKET msix --map demo --write TRIGGER=2 --wait STATUS.READY==1 --count 1",
    "dirty SOCKET --map demo --map 1M:64K --write SCRATCH=1 --wait SCRATCH>=1",
  ],
  "a register of the configuration space": [
    "read SOCKET COMMAND",
    "write SOCKET COMMAND=6",
    "poll SOCKET COMMAND --not 0xffff",
    "dump SOCKET COMMAND -o FOLDER/out",
    "bench SOCKET COMMAND --count 2 --json",
    "dma SOCKET --map 1M:64K --write COMMAND=6 --wait COMMAND==6",
    "irq SOCKET msix --write COMMAND=6 --wait COMMAND!=0 --trigger 0 --count 1",
    "dirty SOCKET --map 1M:64K --write COMMAND=6 --wait COMMAND==5,6",
  ],
  "an offset and a value with units": [
    "read SOCKET bar2+4K.l",
    "write SOCKET bar2+4K.l=1M",
    "poll SOCKET bar2+4K.l --at-least 0K",
    "dump SOCKET bar2+4K..8K -o FOLDER/out",
    "load SOCKET bar2+4K.l FOLDER/four",
    "bench SOCKET bar2+4K.l --count 2 --json",
    "dma SOCKET --map 1M:64K --pci-enable --write bar2+4K.l=1M --wait bar2+4K.l==1M",
    "irq SOCKET msix --write bar2+4K.l=1M --wait bar2+4K.l==1M --trigger 0 --count 1",
    "dirty SOCKET --map 1M:64K --write bar2+4K.l=1M --wait bar2+4K.l==1M",
  ],
};

for (const [what, lines] of Object.entries(SAME)) {
  for (const line of lines) {
    Deno.test(`vfu ${line} takes ${what}`, async () => {
      const { code, err } = await onDemo(...line.split(" "));
      assertEquals([code, err], [0, err.startsWith("No page was written") ? err : ""]);
    });
  }
}

Deno.test("dump and load take the bytes of a register, in its width", async () => {
  await using folder = temporaryFolder();
  const { path } = demo;
  const [four, out] = [`${folder.path}/four`, `${folder.path}/out`];
  Deno.writeFileSync(four, Uint8Array.of(1, 2, 3, 4));
  const dump = async (...args: string[]) => {
    assertEquals((await runHere(["dump", path, ...args, "-o", out])).code, 0);
    return Deno.readFileSync(out).toHex();
  };
  assertEquals((await runHere(["load", path, "--map", "demo", "SCRATCH", four])).code, 0);
  assertEquals(await dump("--map", "demo", "SCRATCH"), "01020304");
  assertEquals(await dump("bar0+8.l"), "01020304");
  assertMatch(await dump("VENDOR_ID"), /^[\da-f]{4}$/);
  assertEquals(await dump("CAP_MSIX.b"), "11"); // the id of the capability
  const { code, err } = await runHere(["dump", path, "--map", "demo", "SCRATCHES", "-o", out]);
  assertEquals(code, 2);
  assertMatch(err, /did you mean SCRATCH\?|SCRATCH/);
});

Deno.test("waits stand in order with writes, and say why they ended", async () => {
  const memory = ["dma", "SOCKET", "--map", "1M:64K", "--pci-enable"];
  const late = await onDemo(
    ...[...memory, "--write", "bar0+8=1", "--wait", "bar0+8==2 for 20ms", "--write", "bar0+8=2"],
  );
  assertEquals([late.code, late.out], [1, ""]);
  assertMatch(
    late.err,
    /^vfu: bar0\+8 did not become 0x00000002 within 20 ms; its last value was 0x00000001\n/,
  );
  const inOrder = await onDemo(
    ...[...memory, "--write", "bar0+8=1", "--wait", "bar0+8==1", "--write", "bar0+8=2"],
    ...["--wait", "bar0+8!=1"],
  );
  assertEquals(inOrder, { code: 0, out: "", err: "" });
  for (
    const wrong of ["bar0+8", "bar0+8=1", "bar0+8==", "==1", "bar0+8.b==256", "bar0+8==1 for x"]
  ) {
    const { code, err } = await onDemo(...memory, "--wait", wrong);
    assertEquals(code, 2, wrong);
    assertMatch(err, /^vfu: Cannot use '.*' for --wait: /, wrong);
  }
});

Deno.test("a vector is named alike in options, output and JSON", async () => {
  const once = ["--trigger", "msix[1]", "--count", "1"];
  const text = await onDemo("irq", "SOCKET", "msix[1]", ...once);
  assertMatch(text.out, /^ +[\d.]+ ms {2}msix\[1\] {2}count 1 {2}total 1\n$/);
  const json = JSON.parse((await onDemo("irq", "SOCKET", "msix", ...once, "--json")).out);
  assertEquals([json.irq, json.vector], ["msix", 1]);
  const other = await onDemo("irq", "SOCKET", "msix", "--mask", "intx[0]");
  assertEquals([other.code, other.err], [2, "vfu: --mask intx[0] is no vector of msix\n"]);
});
