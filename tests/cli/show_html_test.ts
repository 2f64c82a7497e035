import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import fc from "fast-check";
import { unpackReport } from "../../cli/show/html/data.ts";
import { pageProgram } from "../../cli/show/html/document.ts";
import { FieldReader } from "../../cli/show/html/fields.ts";
import { HtmlReport, MAX_PAGE_EVENTS } from "../../cli/show/html/report.ts";
import type { Output } from "../../cli/shared/context.ts";
import { openDestination } from "../../cli/shared/destination.ts";
import { decodeMessage } from "../../lib/record/decode.ts";
import { littleEndian } from "../../lib/base/little_endian.ts";
import { encodeMessage, HEADER_SIZE } from "../../lib/wire/header.ts";
import { messages } from "../../lib/wire/messages.ts";
import { regionName } from "../../lib/wire/region.ts";
import { DENO } from "../_deno.ts";
import { plainMessage, temporaryFile, writeRecording } from "../lib/record/_events.ts";
import { Talk } from "../lib/record/_talk.ts";
import { arbitraries } from "../lib/wire/_arbitraries.ts";
import { runHere, runThere } from "./_cli.ts";

/** The data in a page. */
async function dataOf(html: string) {
  const [, text] = /<script type="text\/plain" id="data">([A-Za-z0-9+/=]*)<\/script>/.exec(html)!;
  return await unpackReport(text!);
}

/** A folder that is gone when it is disposed of. */
function temporaryFolder(): { readonly path: string } & Disposable {
  const path = Deno.makeTempDirSync();
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

Deno.test("vfu show --html writes a page with the events as columns", async () => {
  using folder = temporaryFolder();
  const talk = new Talk();
  talk.read(0x1cn, 1);
  talk.add({ kind: "interrupt", irq: 2, vector: 1, count: 1n, action: "trigger" });
  talk.add({ kind: "note", text: "a </script> and \u202e a\nline" });
  const recording = `${folder.path}/a <b>.pcapng`;
  writeRecording(recording, talk.events);
  const page = `${folder.path}/page.html`;
  const { code, out, err } = await runHere(["show", recording, "--map", "nvme", "--html", page]);
  assertEquals([code, out, err], [0, "", ""]);
  assertEquals([...Deno.readDirSync(folder.path)].length, 2);
  const { meta, columns, bytes } = await dataOf(Deno.readTextFileSync(page));
  const texts = (name: "name" | "place" | "value") =>
    Array.from(columns[name], (each) => meta.texts[each]);
  assertEquals(meta.file, "a <b>.pcapng");
  assertEquals(texts("name"), ["REGION_READ", "REGION_READ", "interrupt", "note"]);
  assertEquals(texts("place"), ["CSTS  bar0+0x1c", "CSTS  bar0+0x1c", "msix[1]", ""]);
  assertMatch(texts("value")[1]!, /^0x00000001\nRDY=1\nCFS=0\n/);
  assertEquals(texts("value")[3], "a </script> and \\u202e a\\u000aline");
  assertEquals([...columns.time as Float64Array], [0, 20_000, 21_000, 22_000]);
  assertEquals([...columns.latency as Float64Array], [-1, 20_000, -1, -1]);
  assertEquals([...columns.request as Int32Array], [-1, 0, -1, -1]);
  const messages = talk.events.flatMap((event) => event.kind === "message" ? [event.bytes] : []);
  assertEquals(bytes.toHex(), messages.map((each) => each.toHex()).join(""));
});

Deno.test("vfu show --html keeps the start of long messages, and links what --filter left", async () => {
  using folder = temporaryFolder();
  const talk = new Talk();
  talk.read(0x1cn, 1);
  const id = talk.ask("DMA_WRITE", { address: 0n, data: new Uint8Array(5000).fill(7) });
  talk.answer("DMA_WRITE", id, { address: 0n, count: 5000n });
  const recording = `${folder.path}/a.pcapng`;
  writeRecording(recording, talk.events);
  const filter = "command == DMA_WRITE";
  const { code, out } = await runHere(["show", recording, "--filter", filter, "--html", "-"]);
  assertEquals(code, 0);
  const { meta, columns } = await dataOf(out);
  assertEquals([meta.rows, meta.filter], [2, filter]);
  assertEquals([...columns.request as Int32Array], [-1, 0]);
  assertEquals([columns.length[0], columns.kept[0]], [16 + 16 + 5000, 1024]);
});

Deno.test("vfu show --html has a lane for each region, by index, and one that many share", async () => {
  using folder = temporaryFolder();
  const talk = new Talk();
  const regions = Array.from({ length: 40 }, (_, i) => (i * 7 + 3) % 40);
  for (const region of regions) {
    talk.ask("REGION_READ", { region, offset: 0n, count: 4 });
  }
  const recording = `${folder.path}/a.pcapng`;
  writeRecording(recording, talk.events);
  const { meta, columns } = await dataOf((await runHere(["show", recording, "--html", "-"])).out);
  const lanes = Array.from(columns.regionLane, (lane) => meta.lanes[lane]!);
  const own = regions.slice(0, 32);
  assertEquals(lanes.slice(0, 32), own.map(regionName));
  assertEquals(new Set(lanes.slice(32)), new Set(["more regions"]));
  assertEquals(meta.lanes.slice(5, 37), own.toSorted((a, b) => a - b).map(regionName));
});

Deno.test("vfu show --html bounds the bytes and the texts of a page, and counts what is left out", async () => {
  using folder = temporaryFolder();
  const talk = new Talk();
  for (let i = 0; i < 17_000; i++) talk.add({ kind: "note", text: `${i} ${"x".repeat(3000)}` });
  const message = plainMessage(encodeMessage({ messageId: 1, command: 13 }, new Uint8Array(1100)));
  const recording = `${folder.path}/a.pcapng`;
  writeRecording(recording, [...talk.events, ...Array(33_000).fill(message)]);
  const page = `${folder.path}/page.html`;
  assertEquals((await runHere(["show", recording, "--html", page])).code, 0);
  const { meta, columns, bytes } = await dataOf(Deno.readTextFileSync(page));
  const room = 32 << 20;
  assertEquals(meta.rows, 50_000);
  const length = meta.texts.reduce((sum, each) => sum + each.length, 0);
  assert(length <= room && length > room - 2000);
  const shown =
    Array.from(columns.value).filter((value, row) => row < 17_000 && value !== 0).length;
  assert(meta.omittedTexts >= 17_000 - shown && shown < 17_000);
  assertEquals(bytes.length, room + (33_000 - room / 1024) * 64);
});

Deno.test("vfu show --html refuses more events than a page takes, and leaves no file", async () => {
  using file = temporaryFile();
  using folder = temporaryFolder();
  const event = plainMessage(encodeMessage({ messageId: 1, command: 13 }));
  const [one, two] = [1, 2].map((count) => {
    writeRecording(file.path, Array(count).fill(event));
    return Deno.readFileSync(file.path);
  });
  const block = two!.subarray(one!.length);
  const whole = new Uint8Array(one!.length + MAX_PAGE_EVENTS * block.length);
  whole.set(one!);
  for (let at = one!.length; at < whole.length; at += block.length) whole.set(block, at);
  Deno.writeFileSync(file.path, whole);
  const page = `${folder.path}/page.html`;
  const { code, err } = await runHere(["show", file.path, "--html", page]);
  assertEquals(code, 1);
  assertStringIncludes(err, `Cannot write ${page}: a page takes 500000 events, `);
  assertStringIncludes(err, "choose some with --filter");
  assertEquals([...Deno.readDirSync(folder.path)], []);
  const chosen = ["--filter", "index < 10", "--html", page];
  assertEquals((await runHere(["show", file.path, ...chosen])).code, 0);
});

Deno.test("vfu show --html keeps to itself, and writes what came ahead of damage", async () => {
  using folder = temporaryFolder();
  const talk = new Talk();
  talk.read(0x1cn, 1);
  const recording = `${folder.path}/a.pcapng`;
  writeRecording(recording, talk.events);
  const both = await runHere(["show", recording, "--html", "-", "--json"]);
  assertEquals([both.code, both.out], [2, ""]);
  const whole = Deno.readFileSync(recording);
  Deno.writeFileSync(recording, new Uint8Array([...whole, ...new Uint8Array(12)]));
  const { code, out } = await runHere(["show", recording, "--html", "-"]);
  assertEquals(code, 1);
  assertEquals((await dataOf(out)).meta.rows, 2);
  const folderAsTarget = await runHere(["show", recording, "--html", folder.path]);
  assertEquals(folderAsTarget.code, 1);
  assertStringIncludes(folderAsTarget.err, "it is a folder; name a file");
});

Deno.test("a signal ends the writing of a page, and leaves no file", async () => {
  using folder = temporaryFolder();
  const path = `${folder.path}/page.html`;
  {
    using destination = openDestination(path, {} as Output, false);
    const report = new HtmlReport(destination, path, { file: "x", filter: undefined }, undefined);
    const signal = AbortSignal.abort(new RangeError("stop"));
    await assertRejects(() => report.finish(undefined, signal), RangeError, "stop");
  }
  assertEquals([...Deno.readDirSync(folder.path)], []);
});

Deno.test("vfu show without --html loads nothing of it", async () => {
  using file = temporaryFile();
  writeRecording(file.path, []);
  const { code, err } = await runThere(["show", file.path], { permissions: ["--allow-read"] });
  assertEquals([code, err], [0, ""]);
  const graph = await deno("info", "--json", new URL("../../cli/main.ts", import.meta.url).href);
  const { modules } = JSON.parse(graph.out) as {
    modules: {
      specifier: string;
      dependencies?: { code?: { specifier?: string }; isDynamic?: boolean }[];
    }[];
  };
  const importers = modules.flatMap(({ specifier, dependencies = [] }) =>
    dependencies.filter(({ code, isDynamic }) =>
      !isDynamic && code?.specifier?.endsWith("/show/html/report.ts")
    ).map(() => specifier)
  );
  assertEquals(importers, []);
});

/** Runs deno. */
async function deno(...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(DENO, {
    args,
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out!, err: err! };
}

/** Values of a payload by the names that the page has for them. */
function namedValues(value: object, prefix = ""): [name: string, value: bigint][] {
  return Object.entries(value).flatMap(([key, each]): [string, bigint][] => {
    if (typeof each === "number" || typeof each === "bigint") return [[prefix + key, BigInt(each)]];
    if (!Array.isArray(each)) return [];
    return each.slice(0, 64).flatMap((entry, i) =>
      typeof entry === "object" ? namedValues(entry, `${prefix}${key}[${i}].`) : []
    );
  });
}

Deno.test("the page's fields are those of our decode, for each kind of message", async () => {
  using folder = temporaryFolder();
  const talk = new Talk();
  for (const name of Object.keys(messages) as (keyof typeof messages)[]) {
    const { request, reply } = arbitraries[name];
    const replies = fc.sample(reply as fc.Arbitrary<unknown>, { numRuns: 8, seed: 1 });
    for (const value of fc.sample(request as fc.Arbitrary<unknown>, { numRuns: 8, seed: 2 })) {
      talk.answer(name, talk.ask(name, value as never), replies.pop() as never);
    }
  }
  const recording = `${folder.path}/a.pcapng`;
  writeRecording(recording, talk.events);
  const { meta } = await dataOf((await runHere(["show", recording, "--html", "-"])).out);
  let compared = 0;
  for (const event of talk.events) {
    if (event.kind !== "message") continue;
    const { type, header, payload } = decodeMessage(event.bytes)!;
    const fields = new FieldReader(meta, event.bytes).read(type);
    for (
      const [name, expected, isOwn] of [
        ...namedValues(header).map((each) => [...each, false] as const),
        ...namedValues(payload?.value ?? {}).map((each) => [...each, true] as const),
      ]
    ) {
      const field = fields.find((each) => each.name === name && each.at >= HEADER_SIZE === isOwn);
      // Some codecs have values in other words than the wire: of ioregionfds, data are in `value`.
      if (field === undefined || /^subRegions\[\d+\]\.data$/.test(name)) continue;
      const bytes = event.bytes.subarray(field.at, field.at + field.width);
      assertEquals([name, littleEndian(bytes)], [name, expected]);
      assertStringIncludes(field.text, expected < 10n ? `${expected}` : `(${expected})`);
      compared++;
    }
  }
  assert(compared > 2000, `${compared} fields were compared`);
});

Deno.test("the page's program uses names of its own and of browsers alone", async () => {
  using folder = temporaryFolder();
  const program = pageProgram();
  assert(program.length > 20_000);
  assertEquals(/<\/script|<!--/i.test(program), false);
  Deno.writeTextFileSync(`${folder.path}/deno.json`, '{ "lint": { "rules": { "tags": [] } } }');
  Deno.writeTextFileSync(`${folder.path}/page.js`, program);
  const lint = () =>
    deno("lint", `--config=${folder.path}/deno.json`, "--rules-include=no-undef", folder.path);
  assertEquals(await lint().then(({ code, err }) => [code, err]), [0, "Checked 1 file\n"]);
  // The rule finds what it is there for.
  Deno.writeTextFileSync(`${folder.path}/page.js`, program.replaceAll("function table(", "("));
  assertEquals((await lint()).code, 1);
});

Deno.test("the page's types of the DOM are those of the DOM", async () => {
  using folder = temporaryFolder();
  const options = { lib: ["esnext", "dom", "dom.iterable"], strict: true };
  Deno.writeTextFileSync(
    `${folder.path}/deno.json`,
    JSON.stringify({ compilerOptions: options }),
  );
  const types = new URL("../../cli/show/html/dom.ts", import.meta.url).href;
  Deno.writeTextFileSync(
    `${folder.path}/dom.ts`,
    `import type * as page from "${types}";
    export const window_: page.PageWindow = window;
    export const element: page.PageElement = document.createElement("p");
    export const input: page.PageInput = document.createElement("input");
    export const select: page.PageInput = document.createElement("select");
    export const dialog: page.PageDialog = document.createElement("dialog");
    export const canvas: page.PageCanvas = document.createElement("canvas");
    `,
  );
  const check = await deno("check", `--config=${folder.path}/deno.json`, `${folder.path}/dom.ts`);
  assertEquals([check.code, check.err.replace(/^Check .*\n/gm, "")], [0, ""]);
});
