import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { DENO } from "../_deno.ts";
import { interrupted } from "../_interrupted.ts";
import { changesText, compare, noiseOf, parseReport, type Report } from "./compare.ts";

const BENCH = new URL("./bench.ts", import.meta.url).pathname;

/** Runs the benchmark. */
async function bench(...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(DENO, {
    args: ["run", "--quiet", "--frozen", "--allow-all", BENCH, ...args],
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

Deno.test("noiseOf() is 0 of equal values, and less of more values", () => {
  assertEquals(noiseOf([5]), 0);
  assertEquals(noiseOf([5, 5, 5]), 0);
  const few = noiseOf([9, 10, 11]);
  const many = noiseOf([9, 10, 11, 9, 10, 11, 9, 10, 11, 9, 10, 11]);
  assert(few > many && many > 0);
  assert(Math.abs(noiseOf([90, 100, 110]) - few) < 1e-9);
});

Deno.test("compare() takes ratios where both have them, and tells changes from noise", () => {
  const before: Report = {
    hasBaseline: true,
    rows: [
      { name: "a", ns: 100, ratio: 1, noise: 0.03 },
      { name: "b", ns: 100, ratio: 1, noise: 0.03 },
      { name: "c", ns: 100, noise: 0 },
      { name: "gone", ns: 1 },
    ],
  };
  const now: Report = {
    hasBaseline: true,
    rows: [
      { name: "a", ns: 300, ratio: 1.04, noise: 0.04 },
      { name: "b", ns: 100, ratio: 1.06, noise: 0.04 },
      { name: "c", ns: 50, ratio: 2 },
      { name: "new", ns: 1 },
    ],
  };
  const changes = compare(before, now);
  assertEquals(changes.map(({ name, of, verdict }) => [name, of, verdict]), [
    ["a", "ratio", "same"],
    ["b", "ratio", "slower"],
    ["c", "ns", "faster"],
  ]);
  assertEquals(Math.round(100 * changes[1]!.noise), 5);
  const lines = changesText(changes).split("\n");
  assertEquals(lines.length, 4);
  assertEquals(lines[2]!.replaceAll(/ +/g, " "), "b 1.00 1.06 +6.0 % 5.0 % slower");
  assertEquals(lines[3]!.replaceAll(/ +/g, " "), "c 100 ns 50.0 ns -50.0 % 0.0 % faster");
});

Deno.test("parseReport() refuses what the benchmark did not write", () => {
  assertThrows(() => parseReport("no JSON"), SyntaxError);
  const row = (fields: object) => JSON.stringify({ rows: [{ name: "a", ns: 1, ...fields }] });
  assertEquals(parseReport(row({ ratio: 2, noise: 0 })).rows.length, 1);
  for (
    const text of [
      "{}",
      "null",
      '{"rows": [{}]}',
      '{"rows": [null]}',
      row({ ns: 0 }),
      row({ ns: null }),
      row({ ratio: "2" }),
      row({ noise: null }),
    ]
  ) {
    assertThrows(() => parseReport(text), SyntaxError, "it has no rows");
  }
});

Deno.test("bench --row measures that row, and --compare shows its change", async () => {
  const file = await Deno.makeTempFile({ prefix: "vfu-test-" });
  try {
    const first = await bench("--json", "--row", "encode VERSION");
    assertEquals([first.code, first.err], [0, ""]);
    const { rows } = parseReport(first.out);
    assertEquals(rows.map(({ name }) => name), ["encode VERSION"]);
    assert(rows[0]!.ns > 0 && rows[0]!.noise! >= 0 && rows[0]!.rounds! >= 3);
    await Deno.writeTextFile(file, first.out);
    const second = await bench("--row", "ENCODE version", "--compare", file);
    assertEquals([second.code, second.err], [0, ""]);
    const [, table] = second.out.split("\n\n");
    assertEquals(table!.trim().split(/ +/).slice(0, 4), [
      "before",
      "now",
      "change",
      "noise\nencode",
    ]);
    const third = await bench("--json", "--row", "encode VERSION", "--compare", file);
    assertEquals(JSON.parse(third.out).changes[0].name, "encode VERSION");
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("bench says what is wrong with its line", async () => {
  const unknown = await bench("--row", "nosuch");
  assertEquals([unknown.code, unknown.out], [2, ""]);
  assertStringIncludes(unknown.err, "bench: There is no such row; there are:\n  encode ");
  const missing = await bench("--compare", "/nosuch.json");
  assertEquals(missing.code, 2);
  assertStringIncludes(missing.err, "bench: Cannot compare with /nosuch.json: No such file");
  assertEquals((await bench("--nosuch")).code, 2);
  const two = await bench("encode", "decode");
  assertEquals([two.code, two.err], [2, "bench: One pattern is possible, not 2\n"]);
});

Deno.test("changesText() says so when there is nothing to compare", () => {
  const rows = [{ name: "a", ns: 1 }];
  const changes = compare({ hasBaseline: true, rows: [] }, { hasBaseline: true, rows });
  assertEquals(changesText(changes), "The file to compare with has none of these rows");
});

Deno.test("bench that is called off leaves nothing, also in the middle of a build", async () => {
  const place = await Deno.makeTempDir({ prefix: "vfu-test-" });
  try {
    const names = () => [...Deno.readDirSync(place)].map(({ name }) => name);
    const { code, err } = await interrupted(
      ["run", "--quiet", "--frozen", "--allow-all", BENCH, "--row", "read`, installed"],
      { TMPDIR: place },
      () => names().some((name) => name.startsWith("vfu-build-")),
    );
    assertEquals([code, err, names()], [1, "bench: Called off by SIGINT\n", []]);
  } finally {
    await Deno.remove(place, { recursive: true });
  }
});
