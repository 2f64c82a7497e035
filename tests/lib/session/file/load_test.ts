import { assertEquals, assertRejects } from "@std/assert";
import { FileProblems, problemText } from "../../../../lib/yaml/problem.ts";
import { constantOf } from "../../../../lib/session/file/definitions.ts";
import {
  loadSession,
  parseSession,
  type SessionOptions,
} from "../../../../lib/session/file/load.ts";
import type { Session, Step } from "../../../../lib/session/model.ts";

const GOLDEN = new URL("../golden/", import.meta.url).pathname;

/** Reads files of a session from here. */
function from(files: Readonly<Record<string, string>>): SessionOptions {
  return {
    readText(file) {
      const text = files[file];
      return text === undefined
        ? Promise.reject(new Deno.errors.NotFound(`No ${file}`))
        : Promise.resolve(text);
    },
  };
}

/** Returns the mistakes in a text, and in the other files that the text takes. */
async function mistakes(text: string, files: Record<string, string> = {}): Promise<string[]> {
  const { problems } = await parseSession(text, "f.yaml", from(files));
  return (problems ?? []).map(problemText);
}

/** A session in which nothing is wrong. */
async function good(text: string, options: SessionOptions = from({})): Promise<Session> {
  const { session, problems = [] } = await parseSession(text, "f.yaml", options);
  assertEquals(problems.map(problemText), []);
  return session!;
}

/** A step without where it is from. */
function bare(step: Step | undefined): unknown {
  const { source: _, ...rest } = step!;
  return rest;
}

Deno.test("parseSession() tells of all mistakes in all files in one run", async () => {
  const files: SessionOptions = { readText: (file) => Deno.readTextFile(`${GOLDEN}${file}`) };
  const text = await files.readText!("mistakes.yaml");
  const { problems } = await parseSession(text, "mistakes.yaml", files);
  const actual = problems!.map((problem) => `${problemText(problem)}\n`).join("");
  const golden = `${GOLDEN}mistakes.txt`;
  if (Deno.env.get("VFU_UPDATE_GOLDEN") === "1") await Deno.writeTextFile(golden, actual);
  assertEquals(actual, await Deno.readTextFile(golden));
});

Deno.test("parseSession() reads what a session requires and declares", async () => {
  const session = await good(`
title: A device
requires:
  vendor: 0x1b36
  subsystem vendor: 0x1af4
  class: 0108
  regions: { bar0: 16K, config: { size: 256, flags: [read, write] }, 9: 0x10 }
  irqs: { msix: 2, intx: 1 }
registers: { name: mine, registers: [{ name: R, offset: 4, width: 4 }] }
variables: { base: 1M, next: "\${base + 4K}" }
buffers:
  ring: { iova: "\${next}", size: 4K, access: ro, share: message, fill: { u16: [1, -1] }, put: { text: "a\${base:x}" } }
interrupts: ["msix[0-1]", intx]
steps: [read: R]
`);
  const { source, ...requires } = session.requires;
  assertEquals(source, { file: "f.yaml", line: 3, column: 1 });
  assertEquals(requires, {
    vendor: 0x1b36,
    subsystemVendor: 0x1af4,
    classCode: "0108",
    regions: [
      { index: 9, size: 16n, flags: 0 },
      { index: 0, size: 16384n, flags: 0 },
      { index: 7, size: 256n, flags: 3 },
    ],
    irqs: [{ index: 2, count: 2 }, { index: 0, count: 1 }],
  });
  const { title, maps, variables, buffers, interrupts } = session;
  assertEquals([title, maps.map(({ name }) => name)], ["A device", ["mine"]]);
  assertEquals(variables.map(({ name, value }) => [name, constantOf(value, session)]), [
    ["base", 0x10_0000n],
    ["next", 0x10_1000n],
  ]);
  const [ring] = buffers;
  assertEquals([ring?.name, ring?.access, ring?.share], ["ring", "ro", "message"]);
  assertEquals(ring?.fill, {
    kind: "numbers",
    width: 2,
    numbers: [{ kind: "number", value: 1n }, { kind: "number", value: 0xffffn }],
  });
  assertEquals(ring?.put?.kind, "text");
  assertEquals(interrupts.map(({ text, index }) => [text, index]), [["msix[0-1]", 2], ["intx", 0]]);
});

Deno.test("parseSession() reads class codes of each length", async () => {
  for (
    const [written, classCode] of [
      ["0x010802", "010802"],
      ["0x10802", "010802"],
      ["0108", "0108"],
      ["01", "01"],
      ['"0c0330"', "0c0330"],
    ]
  ) {
    const { requires } = await good(`{requires: {class: ${written}}, steps: [reset]}`);
    assertEquals(requires.classCode, classCode);
  }
});

Deno.test("parseSession() reads steps with what all may have", async () => {
  const { steps } = await good(`
steps:
  - name: Nobody is there
    poll: bar0+0x1c.w
    equals: 0x1_0
    mask: 0xff
    every: 5ms
    timeout: 1.5s
    expect error: [einval, 110, timeout]
    allow error: eperm
    continue on failure: true
    when: \${1 == 1}
`);
  assertEquals(steps[0]?.source, { file: "f.yaml", line: 3, column: 5 });
  const number = (value: bigint) => ({ kind: "number", value });
  assertEquals(bare(steps[0]), {
    word: "poll",
    name: "Nobody is there",
    text: "poll bar0+0x1c.w 0x1_0 mask 0xff every 5ms",
    timeoutMs: 1500,
    expectError: ["EINVAL", "ETIMEDOUT", "timeout"],
    allowError: ["EPERM"],
    continueOnFailure: true,
    when: { kind: "binary", operator: "==", left: number(1n), right: number(1n) },
    place: {
      text: "bar0+0x1c.w",
      base: { kind: "region", index: 0 },
      offset: number(0x1cn),
      width: 2,
    },
    condition: {
      text: "equals 0x1_0, mask 0xff",
      equals: { text: "0x1_0", expression: number(16n) },
      mask: number(0xffn),
    },
    everyMs: 5,
  });
});

Deno.test("parseSession() makes an expect of several places several", async () => {
  const { steps } = await good('steps: [{ expect: { bar0: 1, "${2 * 2}": 4 }, name: Both }]');
  assertEquals(steps.map((step) => [step.name, step.text]), [
    ["Both", "expect bar0 1"],
    ["Both", "expect ${2 * 2} 4"],
  ]);
});

Deno.test("parseSession() takes places of a buffer without a width for bytes where that is meant", async () => {
  const { steps } = await good(`
buffers: { b: { iova: 0, size: 6 } }
steps:
  - expect: b+4
    bytes: 00 11
  - read: b
    count: 6
  - read: b
`);
  const widths = steps.map((step) =>
    step.word === "read"
      ? step.place.width
      : step.word === "expect" && "base" in step.subject
      ? step.subject.width
      : 0
  );
  assertEquals(widths, [undefined, undefined, 4]);
});

Deno.test("parseSession() keeps texts and bytes whole, however long", async () => {
  const [text, bytes] = ["x y ".repeat(200), "0123456789abcdef".repeat(20)];
  const { steps } = await good(`
buffers: { b: { iova: 0, size: 4K } }
steps:
  - log: ${text}z
  - dma put: b
    bytes: ${bytes}
  - dma put: b
    bytes: 0012
  - expect: b
    text: 0x10
`);
  const [log, first, second, expect] = steps;
  assertEquals(log?.word === "log" && log.message.text, `${text}z`);
  const data = [first, second].map((step) =>
    step?.word === "dma put" && step.data.kind === "bytes" && step.data.bytes.toHex()
  );
  assertEquals(data, [bytes, "0012"]);
  assertEquals(expect?.word === "expect" && expect.condition.textAt?.text, "0x10");
});

Deno.test("parseSession() includes each file once, relative to the one that names it", async () => {
  const session = await good(
    "{include: [a/x.yaml, a/y.yaml], steps: [{log: '${x + y + z}'}, read: R]}",
    from({
      "a/x.yaml": "{include: [./z.yaml, regs.yaml], variables: {x: '${z}'}}",
      "a/y.yaml": "{include: ../a/z.yaml, variables: {y: 2}}",
      "a/z.yaml": "{variables: {z: 1}, buffers: {b: {iova: 0, size: 4, put: {file: data.bin}}}}",
      "a/regs.yaml": "{name: regs, registers: [{name: R, offset: 0, width: 4}]}",
    }),
  );
  assertEquals(session.variables.map(({ name }) => name), ["z", "x", "y"]);
  assertEquals(session.buffers[0]?.put, { kind: "file", path: "a/data.bin" });
});

Deno.test("parseSession() calls sessions, each read once", async () => {
  let reads = 0;
  const files = from({
    "sub/s.yaml": "{variables: {n: 1}, steps: [{read: bar0, into: r}, {set: n, to: '${n + r}'}]}",
  });
  const session = await good(
    "steps: [{call: sub/s.yaml, with: {n: 5}, into: {got: n, r: r}}, {call: ./sub/s.yaml}, " +
      "{log: '${got + r}'}]",
    {
      readText: (file) => (reads++, files.readText!(file)),
    },
  );
  const [first, second] = session.steps;
  assertEquals(reads, 1);
  if (first?.word !== "call" || second?.word !== "call") throw new Error("no calls");
  assertEquals(first.session === second.session, true);
  assertEquals([...first.session.parameters ?? []], ["n"]);
  assertEquals(first.into, [{ name: "got", from: "n" }, { name: "r", from: "r" }]);
});

Deno.test("parseSession() does not take what a call sets for a constant", async () => {
  const called = "{variables: {n: 0, k: 0}, steps: [{log: '${8 / n}'}]}";
  const caller = "steps: [{call: s.yaml, with: {n: 5}}]";
  assertEquals(await mistakes(caller, { "s.yaml": called }), []);
  assertEquals(await mistakes("steps: [{call: s.yaml, with: {k: 5}}]", { "s.yaml": called }), [
    "s.yaml:1:41: Cannot divide 8 by zero",
  ]);
});

Deno.test("parseSession() finds sessions and files that go in circles, or too far", async () => {
  const ring = { "a.yaml": "steps: [{call: b.yaml}]", "b.yaml": "steps: [{call: a.yaml}]" };
  assertEquals(await mistakes("steps: [{call: a.yaml}]", ring), [
    "b.yaml:1:16: The session calls itself: a.yaml -> b.yaml -> a.yaml",
  ]);
  const includes = { "a.yaml": "include: b.yaml", "b.yaml": "include: [a.yaml]" };
  assertEquals(await mistakes("{include: a.yaml, steps: []}", includes), [
    "b.yaml:1:11: The file includes itself: a.yaml -> b.yaml -> a.yaml",
  ]);
  const chain = Object.fromEntries(
    Array.from({ length: 20 }, (_, i) => [`${i}.yaml`, `steps: [{call: ${i + 1}.yaml}]`]),
  );
  assertEquals(await mistakes("steps: [{call: 0.yaml}]", chain), [
    "14.yaml:1:16: More than 16 sessions call one another",
  ]);
  const leaves = Object.fromEntries(
    Array.from({ length: 70 }, (_, i) => [`${i}.yaml`, "steps: [reset]"]),
  );
  const all = Object.keys(leaves).map((name) => `{call: ${name}}`).join(", ");
  const found = await mistakes(`steps: [${all}]`, leaves);
  assertEquals(found.length, 7);
  assertEquals(found[0]?.endsWith("The session takes more than 64 files"), true);
});

Deno.test("parseSession() sets variables from outside", async () => {
  const text = "{variables: {n: 1, m: '${n * 2}'}, steps: [reset]}";
  const session = await good(text, { set: { n: 21n } });
  assertEquals(session.variables.map(({ value }) => constantOf(value, session)), [21n, 42n]);
  await assertRejects(
    () => parseSession(text, "f.yaml", { set: { nn: 1n } }),
    RangeError,
    '"nn" is no variable of f.yaml; did you mean "n"?',
  );
});

Deno.test("constantOf() knows what no step changes", async () => {
  const session = await good(`
variables: { a: 1, b: 2, c: "\${a}", d: "\${b}", i: 0 }
buffers: { x: { iova: 4K, size: 4K }, y: { iova: 8K, size: 4K } }
steps:
  - set: { b: 3 }
  - repeat: 2
    as: i
    steps:
      - dma map: y
        iova: 16K
  - log: "\${a} \${b} \${c} \${d} \${i} \${x.end} \${y.end} \${8 * a}"
`);
  const log = session.steps.at(-1);
  const parts = log?.word === "log" ? log.message.parts : [];
  const values = parts.flatMap((each) =>
    typeof each === "string" ? [] : [constantOf(each.expression, session)]
  );
  assertEquals(values, [1n, undefined, 1n, undefined, undefined, 0x2000n, undefined, 8n]);
});

Deno.test("parseSession() tells of mistakes in YAML", async () => {
  const cases: [text: string, found: string[]][] = [
    ["steps:\n\t- reset", ["f.yaml:2:1: Tabs are not allowed as indentation; indent with spaces"]],
    ["steps:\n  - read: bar0\n   into: x", [
      "f.yaml:3:1: Sequence item without - indicator; begin each item with -, and indent its " +
      "keys alike",
    ]],
    ["{interrupts: [msix[0], intx], steps: []}", [
      "f.yaml:1:19: Missing , or : between flow sequence items; text with [ ] { } or , in it " +
      "takes quotes between brackets or braces",
    ]],
    ["", ["f.yaml:1:1: The file is empty, not a session: a mapping with steps"]],
    ["steps: [reset]\nsteps: [reset]", ['f.yaml:2:1: "steps" is there already']],
    ["{}", ['f.yaml:1:1: "steps" is missing here']],
    ["name: t\nregisters: [{ name: A, offset: 0, width: 4, reset: 1 }]", [
      "f.yaml:1:1: The file is a map of registers; name it in the include of a session",
    ]],
    ["include: ./a b.ts\nsteps: [reset]", [
      'f.yaml:1:10: "./a b.ts" is a device\'s module; include its map, which vfu serve ' +
      "'./a b.ts' --export-map FILE writes",
    ]],
    ["step: [reset]", ['f.yaml:1:1: "step" is no key here; did you mean "steps"?']],
    // One mistake, and not one for each word that follows it.
    ["variables: { a: 1, b: ${a}, c: 2, d: 3 }\nsteps: [reset]", [
      "f.yaml:1:24: Unexpected flow-map-start at node end; text with { } or [ ] in it takes " +
      "quotes between braces or brackets",
    ]],
    ["steps:\n  - read: bar0\n     into: x", [
      "f.yaml:2:11: Nested mappings are not allowed in compact mappings; indent the keys of an " +
      "item alike; text with a colon in it takes quotes",
    ]],
    ["steps:\n  - repeat: 2\n    expect error: EINVAL\n    steps: [reset]", [
      'f.yaml:3:19: "expect error: EINVAL" says nothing of a repeat; write it at the step in ' +
      "it that is refused",
    ]],
    ["steps: [{irq wait: msix, count: 0}]", ['f.yaml:1:33: "count" is 0, not 1 at least']],
  ];
  for (const [text, found] of cases) assertEquals(await mistakes(text), found);
});

Deno.test("loadSession() throws what is wrong", async () => {
  const path = await Deno.makeTempFile({ suffix: ".yaml" });
  try {
    await Deno.writeTextFile(path, "steps: [rest]");
    const { problems } = await assertRejects(() => loadSession(path), FileProblems);
    assertEquals(
      problemText(problems[0]!),
      `${path}:1:9: "rest" is no step; did you mean "reset"?`,
    );
  } finally {
    await Deno.remove(path);
  }
  await assertRejects(() => loadSession("./none.yaml"), Deno.errors.NotFound);
  const endless = await assertRejects(() => loadSession("/dev/zero"), FileProblems);
  assertEquals(endless.problems[0]?.message, "The file is larger than 4 MiB");
});
