import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { main } from "../../../cli/main.ts";
import { PLAIN } from "../../../cli/shared/style.ts";
import { blame } from "../../../cli/serve/blame.ts";
import type { CheckJson } from "../../../cli/serve/check.ts";
import { runHere, runThere, temporaryFolder } from "../_cli.ts";

/** The report about modules. */
interface Checked {
  readonly code: number;
  readonly checked: CheckJson[];
  readonly err: string;
  readonly folder: string;
}

/** Checks modules by their names; other files are put beside them. */
async function check(
  sources: Readonly<Record<string, string>>,
  { more = [], hasTypes = true }: { more?: string[]; hasTypes?: boolean } = {},
): Promise<Checked> {
  await using folder = temporaryFolder();
  const files = Object.entries(sources).map(([name, source]) => {
    Deno.mkdirSync(`${folder.path}/${name}`.replace(/[^/]*$/, ""), { recursive: true });
    Deno.writeTextFileSync(`${folder.path}/${name}`, source);
    return `${folder.path}/${name}`;
  });
  const modules = files.filter((each) => each.endsWith(".ts"));
  const args = ["serve", "--check", "--json", ...modules, ...more];
  const permissions = ["--allow-ffi", "--allow-read"]; // those without which the types are left out
  const { code, out, err } = await (hasTypes ? runHere(args) : runThere(args, { permissions }));
  const checked = out.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
  return { code, checked, err, folder: folder.path };
}

/** Mistakes as lines, without the folder. */
function lines({ checked, folder }: Checked): string[] {
  return checked.flatMap(({ mistakes }) =>
    mistakes.flatMap(({ file, line, column, message, details }) => [
      `${file?.replace(`${folder}/`, "")}:${line}:${column}: ${message}`,
      ...details,
    ])
  );
}

const GOOD = `
import { cap, defineDevice, registers } from "@vfu/vfu";
export default defineDevice({
  name: "good",
  pci: { vendor: 1, device: 2, capabilities: [cap.msix({ vectors: 1, bar: 0 })] },
  create() {
    const bar0 = registers({
      registers: [
        { name: "DOORBELL", offset: 0x1000, width: 4, count: 1024 },
        { name: "CTRL", offset: 0x400, width: 4 },
      ],
    });
    return { regions: { bar0 } };
  },
});
`;

Deno.test("serve --check finds nothing wrong with a module in which nothing is", async () => {
  const { code, checked, err } = await check({ "good.ts": GOOD }, { more: ["demo"] });
  assertEquals([code, err], [0, ""]);
  assertEquals(checked.map(({ types_checked, mistakes }) => [types_checked, mistakes]), [
    [true, []],
    [true, []],
  ]);
});

Deno.test("serve --check reports types and what no access reaches, each with its place", async () => {
  const source = GOOD.replace('name: "CTRL", offset: 0x400', 'name: "CTRL", offset: 0x4')
    .replace(
      "      ],\n    });",
      '      ],\n    }, { size: 0x1000 });\n    bar0.regs.CTLR.value = "1";',
    );
  const safe = source.replace("bar0.regs.CTLR.value", "if (Date.now() < 0) bar0.regs.CTLR.value");
  const result = await check({ "wrong.ts": safe });
  assertEquals(result.code, 1);
  const [first = "", ...rest] = lines(result);
  assertStringIncludes(first, "wrong.ts:13:35: TS2339: Property 'CTLR' does not exist on type");
  assertEquals(rest, [
    "wrong.ts:7:18: bar0: registers.DOORBELL: can't be reached; it is beyond the region's size",
    "wrong.ts:7:18: bar0: registers.CTRL: can't be reached; BAR0's MSI-X table is on top, at " +
    "0x0 to 0xf",
  ]);
});

Deno.test("serve --check takes a module whatever its path: nothing in that is a pattern or code", async () => {
  const top = 'const x: number = "a";\nif (x) throw new Error("no");';
  const result = await check({ "c# 5%/[1]?%41%.ts": top + GOOD });
  assertEquals(result.code, 1);
  const [types = "", thrown = ""] = lines(result);
  assertStringIncludes(types, "c# 5%/[1]?%41%.ts:1:7: TS2322: Type 'string' is not assignable");
  assertMatch(thrown, /^c# 5%\/\[1\]\?(%41|A)%\.ts:2:14: Cannot load .*: no$/);
});

/** Modules that can't be loaded or made, and what is said. None of it is said twice. */
const WRONG: [what: string, source: string, expected: string[]][] = [
  ["a syntax error", "export default {\n  a: ;\n}", ["x.ts:2:6: Cannot load FILE: SyntaxError:"]],
  ["an import of nothing", 'import "./no.ts";', ["x.ts:1:8: Cannot load FILE: Module not found"]],
  ["no default export", "export const a = 1;", ["x.ts:1:1: Cannot serve FILE: it has no default"]],
  [
    "hooks that there are not",
    GOOD.replace("return {", "bar0.on({ CTRL: { reed() {} }, CTLR: {} } as any);\n    return {"),
    [
      "x.ts:13:10: Cannot set hooks: 2 mistakes",
      'registers.CTRL.reed: unknown; did you mean "read"?',
      'registers.CTLR: there is no such register in the region; did you mean "CTRL"?',
    ],
  ],
  [
    "registers that overlap, and a BAR that is too small",
    GOOD.replace("0x400", "0x1002"),
    [
      "x.ts:7:18: Cannot use the register map registers: 2 mistakes",
      "registers.CTRL.offset: 0x1002 is not a multiple of the width, 4 bytes; registers are",
      "registers.CTRL.offset: CTRL overlaps DOORBELL, which is at 0x1000 to 0x1003; if that is",
    ],
  ],
  [
    "capabilities that do not fit",
    GOOD.replace("[cap.msix", "[cap.vendor(new Uint8Array(197)), cap.msix"),
    ["x.ts:5:51: Cannot make the device good: There is no room for the capability vendor-spec"],
  ],
  [
    "BARs and capabilities that do not fit, each with its place",
    GOOD.replace("vectors: 1,", "vectors: 2000,").replace(
      "return { regions: { bar0 } }",
      "const bar5 = memory({ size: 16, is64Bit: true });\n    return { regions: { bar0, bar5 } }",
    ).replace("create()", "create({ memory })"),
    [
      "x.ts:5:51: Cannot make the device good: MSI-X does not fit bar0 of 8192 bytes: its table",
      "x.ts:13:18: Cannot make the device good: Cannot declare BAR5 with 64 bits: 0 to 4 are",
    ],
  ],
  [
    "a map with mistakes",
    'import { loadRegisterMap } from "@vfu/vfu";\n' +
    'export default await loadRegisterMap(new URL("m.yaml", import.meta.url).pathname);',
    [
      "x.ts:2:16: Cannot load FILE: Cannot use ",
      ':2:14: "ofset" is no key here; did you mean "offset"?',
      '"width" is 3, not a width of 1, 2, 4 or 8 bytes',
    ],
  ],
];

Deno.test("serve --check reports what can't be loaded or made", async () => {
  const map = "name: m\nregisters: [{ofset: 0, name: A, width: 4, offset: 0},\n" +
    "  {name: B, offset: 4, width: 3}]\n";
  const sources = Object.fromEntries(WRONG.map(([, source], i) => [`x${i}.ts`, source]));
  const result = await check({ "m.yaml": map, ...sources }, { hasTypes: false });
  assertEquals(result.code, 1);
  for (const [i, [what, , expected]] of WRONG.entries()) {
    const found = lines({ ...result, checked: [result.checked[i]!] });
    assertEquals(found.length, expected.length, `${what}: ${found.join("\n")}`);
    for (const [j, part] of expected.entries()) {
      const name = part.replace(/^x\.ts/, `x${i}.ts`);
      assertStringIncludes(found[j]!, name.replace("FILE", `${result.folder}/x${i}.ts`));
    }
  }
});

Deno.test("serve --check reports once what both the loader and the checker find", async () => {
  const [syntax, missing] = WRONG.map(([, source]) => source);
  const result = await check({ "x.ts": syntax!, "y.ts": missing! });
  assertEquals(result.checked.map(({ mistakes }) => mistakes.length), [1, 1]);
});

Deno.test("serve --check reports what fails that no hook waits for", async () => {
  const stray = `${GOOD}Promise.reject(new Error("stray"));\n`;
  const found = await check({ "stray.ts": stray, "good.ts": GOOD }, { hasTypes: false });
  assertEquals(found.code, 1);
  assertEquals(lines(found), [
    "stray.ts:16:16: Something that no hook waits for has failed: stray",
  ]);
});

Deno.test("serve --check says for people what was found, and how many", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/x.ts`;
  Deno.writeTextFileSync(file, GOOD.replace("vendor: 1,", "vendr: 1, clas: 2,"));
  const { code, out } = await runHere(["serve", "--check", file]);
  assertEquals(code, 1);
  const said = out.trimEnd().split("\n");
  assert(said.some((line) => line.includes(`${file}:5:10: TS`)), out);
  assertEquals(said.slice(-5, -1), [
    `${file}:3:16: Cannot define the device good: 3 mistakes`,
    '  pci.vendr: unknown; did you mean "vendor"?',
    '  pci.clas: unknown; did you mean "class"?',
    "  pci.vendor: missing; it takes a number",
  ]);
  assertEquals(said.at(-1), `${file}: 2 mistakes`);
});

Deno.test("serve --check without the permission to start the checker checks the rest", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/x.ts`;
  const permissions = ["--allow-ffi", "--allow-read"];
  Deno.writeTextFileSync(file, GOOD);
  const good = await runThere(["serve", "--check", file], { permissions });
  assertEquals([good.code, good.out], [0, `${file}: no mistakes in its definition\n`]);
  assertStringIncludes(good.err, "its types are not checked: starting the checker takes a permi");
  assertStringIncludes(good.err, `run deno with --allow-run, or check by hand: deno check `);
  Deno.writeTextFileSync(file, GOOD.replace("bar: 0", "bar: 7"));
  const bad = await runThere(["serve", "--check", "--json", file], { permissions });
  const { types_checked, mistakes } = JSON.parse(bad.out) as CheckJson;
  assertEquals([bad.code, types_checked, mistakes.length], [1, false, 1]);
  assertStringIncludes(mistakes[0]!.message, "MSI-X can't be in BAR7");
});

Deno.test("serve --check shows on a terminal that it is at work, on a line that goes away", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/slow.js`;
  Deno.writeTextFileSync(file, `await new Promise((done) => setTimeout(done, 1500));\n${GOOD}`);
  let [out, err] = ["", ""];
  const screen = { columns: 500, style: PLAIN, writeBytes() {} };
  const code = await main(["serve", "--check", file], {
    out: { ...screen, isTerminal: false, write: (text) => void (out += text) },
    err: { ...screen, isTerminal: true, write: (text) => void (err += text) },
    signal: new AbortController().signal,
  });
  assertEquals([code, out], [0, `${file}: no mistakes in its definition\n`]);
  assertMatch(err, /\r. Checking .*\(1 s\) *\r/);
  assertMatch(err, /\r +\r[^\r]*$/);
});

Deno.test("serve --check has JavaScript's types checked where it asks for that", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/x.js`;
  const wrong = GOOD.replace("return {", "if (Date.now() < 0) bar0.regs.CTLR;\n    return {");
  Deno.writeTextFileSync(file, wrong);
  const plain = await runHere(["serve", "--check", file]);
  assertEquals([plain.code, plain.out], [0, `${file}: no mistakes in its definition\n`]);
  assertStringIncludes(plain.err, "its types are not checked: it is JavaScript; // @ts-check in");
  Deno.writeTextFileSync(file, `// @ts-check${wrong}`);
  const asking = await runHere(["serve", "--check", file]);
  assertEquals(asking.code, 1);
  assertStringIncludes(asking.out, `${file}:13:35: TS2339: Property 'CTLR' does not exist`);
});

Deno.test("serve --check says once that there is no file, and of no types", async () => {
  await using folder = temporaryFolder();
  const { code, out } = await runHere(["serve", "--check", `${folder.path}/none.ts`]);
  assertEquals(code, 1);
  assertEquals(
    out.replaceAll(folder.path, ""),
    "Cannot load /none.ts: there is no such file\n/none.ts: 1 mistake\n",
  );
});

Deno.test("serve --check is wrong usage for a device or an option that there is not", async () => {
  for (const args of [["dmo"], ["demo", "--option", "a=1"], ["demo", "--options"]]) {
    assertEquals((await runHere(["serve", "--check", ...args])).code, 2);
  }
});

Deno.test("blame() finds the first place that is neither vfu's nor the runtime's", () => {
  const error = new TypeError("no");
  const root = new URL("../../../", import.meta.url);
  error.stack = [
    "TypeError: no",
    `    at Cell.set (${root}lib/define/register_cells.ts:1:2)`,
    "    at Array.map (<anonymous>)",
    "    at node:internal/process:3:4",
    "    at async file:///tmp/a%20b.ts:5:6",
    `    at new Thing (${root}examples/gpio.ts:7:8)`,
    `    at run (${root}mod.ts:9:10)`,
    "    at ext:core/01_core.js:1:1",
  ].join("\n");
  assertEquals(blame(error), {
    place: { file: "/tmp/a b.ts", line: 5, column: 6 },
    message: "no",
    details: [],
    frames: [
      "    at async file:///tmp/a%20b.ts:5:6",
      `    at new Thing (${root}examples/gpio.ts:7:8)`,
    ],
  });
  assertEquals(blame("text"), { place: undefined, message: "text", details: [], frames: [] });
});
