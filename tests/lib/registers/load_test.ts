import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import {
  FileProblems,
  loadRegisterMap,
  parseRegisterMap,
  problemText,
  SHIPPED_MAPS,
} from "../../../lib/registers/mod.ts";

const GOLDEN = new URL("./golden/", import.meta.url);

/** Returns the mistakes in a text, without the name of its file. */
async function mistakes(text: string): Promise<string[]> {
  const { problems } = await parseRegisterMap(text, "f");
  return (problems ?? []).map((problem) => problemText(problem).slice(2));
}

/** A map with one register of 4 bytes and these further lines of it. */
function withRegister(...lines: string[]): string {
  return ["name: m", "registers:", "  - name: R", "    width: 4", ...lines].join("\n");
}

Deno.test("loadRegisterMap() loads the maps of vfu", async () => {
  for (const name of SHIPPED_MAPS) {
    const map = await loadRegisterMap(name);
    assertEquals([map.name, map.registers.length >= 18], [name, true]);
    // They are not checked when they are loaded.
    const file = new URL(`../../../lib/registers/maps/${name}.yaml`, import.meta.url);
    assertEquals(await parseRegisterMap(await Deno.readTextFile(file), name), { map });
  }
});

Deno.test("loadRegisterMap() says which maps there are", async () => {
  await assertRejects(() => loadRegisterMap("nmve"), RangeError, 'did you mean "nvme"?');
  await assertRejects(
    () => loadRegisterMap("uart"),
    RangeError,
    "there are demo, nvme, pci, and files",
  );
  await assertRejects(() => loadRegisterMap("./none.yaml"), Deno.errors.NotFound);
});

Deno.test("loadRegisterMap() refuses what is too large, or no text, and never ends", async () => {
  const endless = await assertRejects(() => loadRegisterMap("/dev/zero"), FileProblems);
  assertEquals(problemText(endless.problems[0]!), "/dev/zero:1:1: The file is larger than 4 MiB");
  const path = await Deno.makeTempFile({ suffix: ".yaml" });
  try {
    await Deno.writeFile(path, new Uint8Array([0x61, 0xff]));
    const { problems } = await assertRejects(() => loadRegisterMap(path), FileProblems);
    assertStringIncludes(problems[0]!.message, "not text in UTF-8");
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("parseRegisterMap() tells of all mistakes in one run, each with its place", async () => {
  const text = await Deno.readTextFile(new URL("mistakes.yaml", GOLDEN));
  const { problems } = await parseRegisterMap(text, "mistakes.yaml");
  const actual = problems!.map((problem) => `${problemText(problem)}\n`).join("");
  const golden = new URL("mistakes.txt", GOLDEN);
  if (Deno.env.get("VFU_UPDATE_GOLDEN") === "1") await Deno.writeTextFile(golden, actual);
  assertEquals(actual, await Deno.readTextFile(golden));
});

Deno.test("parseRegisterMap() reads numbers in any base, exactly", async () => {
  for (const all of ["0xffff_ffff_ffff_ffff", "18446744073709551615", "0o1777777777777777777777"]) {
    const text = `{name: m, registers: [{name: R, offset: 0b1000, width: 8, reset: ${all}}]}`;
    const { map } = await parseRegisterMap(text, "f");
    assertEquals([map?.registers[0]?.reset, map?.registers[0]?.offset], [2n ** 64n - 1n, 8]);
  }
});

Deno.test("parseRegisterMap() fills in what is left out", async () => {
  const { map } = await parseRegisterMap(
    withRegister("    offset: 8", "    count: 3", "    fields:", "      - {name: F, bits: 3:0}"),
    "f",
  );
  assertEquals(map?.registers[0], {
    name: "R",
    region: "bar0",
    offset: 8,
    width: 4,
    access: "rw",
    array: { count: 3, stride: 4 },
    fields: [{ name: "F", high: 3, low: 0, access: "rw", enum: new Map() }],
  });
});

Deno.test("parseRegisterMap() takes registers that overlap on purpose", async () => {
  const text = "{name: m, registers: [{name: ALL, offset: 0, width: 4}, " +
    "{name: LOW, offset: 0, width: 2, overlaps: ALL}, {name: HIGH, offset: 2, width: 2}]}";
  assertEquals(await mistakes(text), [
    '1:127: HIGH overlaps ALL, which is at 0x0 to 0x3; if that is meant, add "overlaps: ALL"',
  ]);
  assertEquals(await mistakes(text.replace("width: 2}]", "width: 2, overlaps: ALL}]")), []);
});

Deno.test("parseRegisterMap() lets arrays lie between one another, and tells if they meet", async () => {
  const arrays = (start: number) =>
    "{name: m, registers: [{name: A, offset: 0, width: 4, count: 65536, stride: 8}, " +
    `{name: B, offset: ${start}, width: 4, count: 65536, stride: 8}]}`;
  assertEquals(await mistakes(arrays(4)), []);
  assertEquals(await mistakes(arrays(8)), [
    '1:98: B overlaps A, which is at 0x8 to 0xb; if that is meant, add "overlaps: A"',
  ]);
});

Deno.test("parseRegisterMap() tells of mistakes in YAML", async () => {
  assertEquals(await mistakes(withRegister("\toffset: 0")), [
    "5:1: Tabs are not allowed as indentation; indent with spaces",
  ]);
  assertEquals(await mistakes(withRegister("    offset: 0", "---", "name: two")), [
    "6:1: A second document begins; a file is one document; leave out what follows ---",
  ]);
  assertEquals(
    await mistakes(withRegister("    offset: 0", "    description: a, b: c")),
    [
      "6:18: Nested mappings are not allowed in compact mappings; indent the keys of an item " +
      "alike; text with a colon in it takes quotes",
    ],
  );
  assertEquals(
    await mistakes("{name: m, registers: [{name: R, offset: 0, width: 4, description: a, or b}]}"),
    ['1:70: "or b" is no key here; text with a comma takes quotes between braces'],
  );
  assertEquals(await mistakes(""), [
    "1:1: The file is empty, not a map of registers: a mapping with name and registers",
  ]);
});

Deno.test("parseRegisterMap() refuses aliases", async () => {
  const levels = Array.from({ length: 30 }, (_, i) => `k${i}: &b${i} [*a, *a]`);
  const found = await mistakes(["a: &a [x, x]", ...levels].join("\n"));
  assertEquals(found.length, 60);
  assertEquals(found[0], '2:10: "*a" is an alias; write out what it stands for');
});

Deno.test("parseRegisterMap() refuses what is endless within a second or two", async (t) => {
  const head = withRegister("    offset: 0", "    fields:");
  const many = (count: number, line: (i: number) => string) =>
    Array.from({ length: count }, (_, i) => line(i)).join("\n");
  const cases: Record<string, [text: string, first: RegExp]> = {
    lists: ["[".repeat(4 << 20), /^1:\d+: More than 64 lists and mappings in one another$/],
    dashes: ["- ".repeat(2 << 20), /More than 64 lists/],
    mappings: ["{a: ".repeat(1 << 20), /More than 64 lists/],
    quotes: ['"'.repeat(4 << 20), /More than 500000 words and marks/],
    lines: ["\n".repeat(4 << 20), /More than 500000 words/],
    digits: [`name: ${"9".repeat(4_000_000)}`, /^1:\d+: More than 65536 characters in one piece$/],
    fields: [`${head}\n${many(40_000, () => "      - {name: F, bits: 0}")}`, /More than 500000/],
    values: [
      `${head}\n      - name: F\n        bits: 0\n        enum:\n` +
      many(60_000, (i) => `          ${i}: x`),
      /is the name of another value|does not fit/,
    ],
  };
  for (const [name, [text, first]] of Object.entries(cases)) {
    await t.step(name, async () => {
      const startMs = performance.now();
      const found = await mistakes(text);
      const elapsedMs = performance.now() - startMs;
      assertEquals(first.test(found[0]!), true, found[0]);
      // Alone it is less than 900; what is quadratic takes hours.
      assertEquals(elapsedMs < 60_000, true, `${elapsedMs} ms`);
    });
  }
});

Deno.test("parseRegisterMap() lists 100 mistakes and says that there are more", async () => {
  const text = "name: m\nregisters:\n" + "  - 1\n".repeat(200);
  const found = await mistakes(text);
  assertEquals(found.length, 101);
  assertEquals(found.at(-1), "103:5: There are more mistakes, which are not listed");
});

Deno.test("parseRegisterMap() compares a thousand registers at a place, not more", async () => {
  const list = (count: number, overlaps: (i: number) => string) =>
    Array.from(
      { length: count },
      (_, i) => `- {name: R${i}, offset: 0, width: 4, count: 20, overlaps: ${overlaps(i)}}`,
    );
  const text = (lines: string[]) =>
    ["name: m", "registers:", "- {name: F, offset: 0, width: 4}", ...lines].join("\n");
  const other = "- {name: X, offset: 0, width: 4}";
  assertEquals(await mistakes(text(list(900, () => "F"))), []);
  assertMatch((await mistakes(text([...list(900, () => "F"), other])))[0]!, /X overlaps/);
  const [crowd] = await mistakes(text([...list(9000, () => "F"), other]));
  assertMatch(crowd!, /R1000 is at the place of more than 1000 others/);
  const wrong = await mistakes(text(list(9000, (i) => `Q${i}`)));
  assertEquals(wrong.length, 101);
});
