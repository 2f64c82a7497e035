import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { loadRegisterMap, parseRegisterMap, SHIPPED_MAPS } from "../../lib/registers/mod.ts";
import { startDemo } from "../_demo_process.ts";
import { assertGolden, runHere, temporaryFolder } from "./_cli.ts";

const SAMPLES = new URL("../lib/registers/import/samples/", import.meta.url).pathname;
const SERIAL = `${SAMPLES}serial.svd`;
const TIMERS = `${SAMPLES}timers.svd`;
const ENGINE = `${SAMPLES}engine.xml`;
const TIMER = new URL("../../examples/timer.ts", import.meta.url).pathname;

async function refused(...args: string[]): Promise<string> {
  const { code, out, err } = await runHere(["map", ...args]);
  assertEquals([code, out], [2, ""]);
  return err;
}

for (const command of ["import", "check", "doc", "list"]) {
  Deno.test(`map ${command} shows its help`, async () => {
    assertGolden(`map-${command}-help.txt`, (await runHere(["map", command, "--help"])).out);
  });
}

Deno.test("map import writes a map that --map reads, and notes on standard error", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/timer.yaml`;
  const { code, out, err } = await runHere(
    ["map", "import", TIMERS, "--peripheral", "TIMER1", "--region", "bar2+0x1000", "-o", file],
  );
  assertEquals([code, out], [0, `${file}: timer1, 21 registers, 10 fields\n`]);
  const notes = err.trimEnd().split("\n");
  assertEquals(notes.length, 8);
  assertEquals(
    notes[0],
    `${TIMERS}:103:9: HIGH overlaps LONG, which is at 0x1700; both are there`,
  );
  const { registers } = await loadRegisterMap(file);
  const { region, offset, array } = registers.find(({ name }) => name === "CH_CC")!;
  assertEquals([region, offset, array], ["bar2", 0x1400, { count: 4, stride: 0x20 }]);
  const piped = await runHere(
    ["map", "import", TIMERS, "--peripheral", "timer1", "--region", "bar2+0x1000"],
  );
  assertEquals([piped.out, piped.err], [await Deno.readTextFile(file), err]);
});

Deno.test("a map that was imported names the registers of a served device", async () => {
  await using folder = temporaryFolder();
  const demo = await startDemo();
  await using _server = { [Symbol.asyncDispose]: () => demo.stop() };
  const file = `${folder.path}/engine.yaml`;
  assertEquals((await runHere(["map", "import", ENGINE, "-o", file])).code, 0);
  const read = await runHere(["read", demo.path, "host.ID", "--map", file, "--pci-enable"]);
  assertEquals([read.code, read.out.split("\n").slice(0, 2)], [
    0,
    ["0x64756676", "  VENDOR=26230 REVISION=117 reserved=0x64000000"],
  ]);
});

Deno.test("map import --json has what was imported", async () => {
  const { code, out, err } = await runHere(["map", "import", ENGINE, "--json", "--name", "dma"]);
  assertEquals([code, err], [0, ""]);
  const { map, ...rest } = JSON.parse(out);
  assertEquals(rest, {
    file: ENGINE,
    format: "IP-XACT",
    device: "engine",
    peripheral: "host",
    name: "dma",
    registers: 7,
    fields: 4,
    notes: [],
    output: null,
  });
  assertEquals((await parseRegisterMap(map, "dma.yaml")).map?.name, "dma");
  const odd = await runHere(["map", "import", TIMERS, "--peripheral", "TIMER0", "--json"]);
  assertEquals(JSON.parse(odd.out).notes[0], {
    line: 103,
    column: 9,
    message: "HIGH overlaps LONG, which is at 0x700; both are there",
  });
});

Deno.test("map import --list shows what there is to choose", async () => {
  const { out } = await runHere(["map", "import", ENGINE, "--list"]);
  assertEquals(out, "host          Registers for the host\nhost.control\nhost.tables\n");
  const { out: json } = await runHere(["map", "import", SERIAL, "--list", "--json"]);
  const { peripherals } = JSON.parse(json);
  assertEquals(peripherals.map(({ name }: { name: string }) => name), ["UART0", "UART1"]);
});

Deno.test("map import needs to know which peripheral, where and what", async () => {
  assertStringIncludes(
    await refused("import", SERIAL),
    "choose one with --peripheral: UART0, UART1",
  );
  assertStringIncludes(
    await refused("import", SERIAL, "--peripheral", "UATR1"),
    `There is no peripheral "UATR1" in ${SERIAL}; did you mean "UART1"?`,
  );
  assertStringIncludes(
    await refused("import", ENGINE, "--region", "bar9"),
    '"bar9" is no place of registers; write it as bar0 or bar0+0x1000',
  );
  assertStringIncludes(await refused("import", ENGINE, "--name", "a-b"), '"a-b" is no name');
  assertStringIncludes(await refused("import", ENGINE, "-o", ENGINE), "would replace");
});

Deno.test("map import writes nothing if the file has mistakes, and tells them all", async () => {
  await using folder = temporaryFolder();
  const [file, output] = [`${folder.path}/bad.svd`, `${folder.path}/bad.yaml`];
  const text = (await Deno.readTextFile(SERIAL))
    .replace("<addressOffset>0x4</addressOffset>", "<addressOffset>0xZ</addressOffset>")
    .replace('derivedFrom="SWITCH"', 'derivedFrom="SWITHC"');
  await Deno.writeTextFile(file, text);
  const { code, out, err } = await runHere(
    ["map", "import", file, "--peripheral", "UART0", "-o", output],
  );
  assertEquals([code, out], [1, ""]);
  const [first, second, last] = err.split("\n");
  assertMatch(first!, /bad\.svd:60:11: <addressOffset> is "0xZ", not a number; write it as/);
  assertMatch(
    second!,
    /bad\.svd:88:15: There are no <enumeratedValues> "SWITHC" to be derived from/,
  );
  assertEquals(last, `vfu: Cannot use ${file}: it has 2 mistakes`);
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["bad.svd"]);
});

Deno.test("map import reads files only, and says so", async () => {
  const { code, err } = await runHere(["map", "import", "/dev/null"]);
  assertEquals([code, err], [1, "vfu: Cannot read /dev/null: it is not a file\n"]);
  const missing = await runHere(["map", "import", "/none/x.svd"]);
  assertEquals(missing.code, 1);
  assertMatch(missing.err, /Cannot open \/none\/x\.svd: .*check the path/);
});

Deno.test("map check tells the mistakes of maps and goes on with the next", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/bad.yaml`;
  await Deno.writeTextFile(file, "name: m\nregisters:\n  - { name: A, ofset: 0, width: 3 }\n");
  const { code, out, err } = await runHere(["map", "check", file, "nvme", TIMER]);
  assertEquals([code, err], [1, ""]);
  assertEquals(
    out.replaceAll(folder.path, "."),
    [
      './bad.yaml:3:5: "offset" is missing here',
      './bad.yaml:3:16: "ofset" is no key here; did you mean "offset"?',
      './bad.yaml:3:33: "width" is 3, not a width of 1, 2, 4 or 8 bytes',
      "./bad.yaml: 3 mistakes",
      "nvme: no mistakes in 30 registers, 97 fields",
      `${TIMER}: no mistakes in 4 registers, 3 fields`,
      "",
    ].join("\n"),
  );
  assertEquals((await runHere(["map", "check", ...SHIPPED_MAPS])).code, 0);
});

Deno.test("map check --json writes an object for each map", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/bad.yaml`;
  await Deno.writeTextFile(file, "name: m\nregisters:\n  - { name: A, offset: 2, width: 4 }\n");
  const device = `${folder.path}/bad.ts`;
  await Deno.writeTextFile(device, "export default 7;\n");
  const { code, out } = await runHere(["map", "check", file, device, "pci", "--json"]);
  assertEquals(code, 1);
  const [bad, module, pci] = out.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(bad, {
    file,
    name: null,
    registers: null,
    fields: null,
    mistakes: [{
      line: 3,
      column: 24,
      message: "0x2 is not a multiple of the width, 4 bytes",
      hint: "registers are accessed at multiples of their width",
    }],
  });
  assertStringIncludes(module.mistakes[0].message, "its default export is a number");
  assertEquals([pci.name, pci.registers, pci.mistakes], ["pci", 31, []]);
});

Deno.test("map check returns 2 for a map that there is not, 1 for such a file", async () => {
  assertStringIncludes(await refused("check", "nvem"), 'did you mean "nvme"?');
  const { code, err } = await runHere(["map", "check", "/none/x.yaml"]);
  assertEquals(code, 1);
  assertMatch(err, /Cannot read \/none\/x\.yaml/);
});

Deno.test("map doc writes Markdown", async () => {
  assertGolden("map-doc.txt", (await runHere(["map", "doc", "demo"])).out);
});

Deno.test("map doc has values, arrays, and text that means nothing in Markdown", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/m.yaml`;
  await Deno.writeTextFile(
    file,
    `name: m
registers:
  - { name: LATE_ONE, offset: 8, width: 4, read_changes: true, reset: 16 }
  - name: RING
    offset: 0
    width: 2
    count: 3
    description: "a|b <i>*_c_* [d](e) \\n f_g"
    fields:
      - { name: LOW, bits: "3:0", enum: { 0: none, 1: "a|b" } }
      - { name: HIGH, bits: 15, access: ro }
`,
  );
  const { out } = await runHere(["map", "doc", file]);
  const rows = out.split("\n").filter((line) => line.startsWith("| ") && !line.includes("---"))
    .map((line) => line.replaceAll(/ +/g, " "));
  assertEquals(rows, [
    "| Offset | Register | Bytes | Access | Reset | Description |",
    "| 0x0 + 0x2 × n | RING[3] | 2 | rw | | a\\|b \\<i\\>\\*\\_c\\_\\* \\[d](e) f_g |",
    "| 0x8 | LATE_ONE | 4 | rw, a read changes it | 0x10 | |",
    "| Bits | Field | Access | Values | Description |",
    "| 15 | HIGH | ro | | |",
    "| 3:0 | LOW | rw | 0: none; 1: a\\|b | |",
  ]);
});

Deno.test("map doc writes nothing that a terminal obeys, and no miles of spaces", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/m.yaml`;
  const values = Array.from({ length: 1000 }, (_, i) => `${i}: "V${i}"`).join(", ");
  await Deno.writeTextFile(
    file,
    `name: m
title: "a\\u001b[31mb"
registers:
  - name: A
    offset: 0
    width: 4
    fields:
      - { name: F, bits: "15:0", enum: { ${values} } }
      - { name: G, bits: 16, description: "\\u202e" }
`,
  );
  const { out } = await runHere(["map", "doc", file]);
  assertStringIncludes(out, "a\\u001b[31mb\n");
  const row = out.split("\n").find((line) => line.startsWith("| 16 "))!;
  assertEquals([row.length, row.endsWith("| \\u202e |")], [337, true]);
});

Deno.test("map doc --html is one page that loads and runs nothing", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/m.yaml`;
  await Deno.writeTextFile(
    file,
    `name: m
title: "</title><script>alert(1)</script>"
registers:
  - name: A
    offset: 0
    width: 4
    description: "<img src=x>\\u202e\\n\\u009b"
    fields: [{ name: F, bits: 0 }]
`,
  );
  const page = `${folder.path}/m.html`;
  assertEquals((await runHere(["map", "doc", file, "--html", "-o", page])).code, 0);
  const html = await Deno.readTextFile(page);
  assert(html.startsWith("<!DOCTYPE html>"));
  assertEquals(html.match(/<(script|img|link|iframe)\b|\bon\w+=|https?:/g), null);
  assertStringIncludes(html, "m: &lt;/title&gt;&lt;script&gt;");
  assertStringIncludes(html, "&lt;img src=x&gt;\\u202e \\u009b");
  assertStringIncludes(html, '<a href="#bar0-A">A</a>');
  assertStringIncludes(html, '<section id="bar0-A">');
  const [, style = ""] = /<style>(.*)<\/style>/s.exec(html) ?? [];
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(style));
  assertStringIncludes(html, `style-src 'sha256-${new Uint8Array(hash).toBase64()}'`);
});

Deno.test("map doc --json has all of a map, also of a device's module", async () => {
  const { out } = await runHere(["map", "doc", TIMER, "--json"]);
  const { name, registers } = JSON.parse(out);
  assertEquals([name, registers.length], ["timer", 4]);
  assertEquals(registers[3], {
    name: "STATUS",
    description: null,
    region: "bar0",
    offset: 12,
    width: 4,
    access: "w1c",
    read_changes: false,
    reset: null,
    count: null,
    stride: null,
    fields: [{
      name: "OVER",
      description: "A period was over; drives the pin",
      bits: "0",
      access: "w1c",
      values: [],
    }],
  });
  assertStringIncludes(await refused("doc", "nvme", "--json", "--html"), "cannot be used with");
});

Deno.test("map list lists the registers of a map, and their names alone", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/own.yaml`;
  Deno.writeTextFileSync(
    file,
    "name: own\nregisters:\n" +
      "- name: ID\n  offset: 4\n  width: 2\n" +
      "  fields: [{ name: A, bits: 0 }, { name: B, bits: 1 }]\n" +
      "- { name: SLOT, region: CAP_MSIX, offset: 8, width: 4, count: 4 }\n",
  );
  const { out } = await runHere(["map", "list", file]);
  const rows = out.trimEnd().split("\n").map((line) => line.split(/ {2,}/));
  assertEquals(rows, [
    ["REGISTER", "PLACE", "FIELDS"],
    ["ID", "bar0+0x4.w", "A B"],
    ["SLOT[0-3]", "CAP_MSIX+0x8.l"],
  ]);
  const names = await runHere(["map", "list", file, "--names"]);
  assertEquals(names.out, "ID\nID.A\nID.B\nSLOT[0]\n");
  const json = JSON.parse((await runHere(["map", "list", file, "--json"])).out);
  assertEquals(json.registers.length, 2);
  assertStringIncludes(await refused("list", "--names"), "'--names' needs the name of a map");
  assertStringIncludes(await refused("list", "nvm"), 'did you mean "nvme"');
});

Deno.test("map list names the maps that come with vfu", async () => {
  const { out } = await runHere(["map", "list"]);
  assertEquals(out.split("\n")[0], "MAP   REGISTERS  TITLE");
  const { maps } = JSON.parse((await runHere(["map", "list", "--json"])).out);
  assertEquals(maps.map(({ name }: { name: string }) => name), [...SHIPPED_MAPS]);
});

Deno.test("map doc and list name their argument, not --map, for a map that there is not", async () => {
  for (const command of ["doc", "list"]) {
    const { code, err } = await runHere(["map", command, "nope"]);
    assertEquals(code, 2);
    assertMatch(err, /^vfu: Cannot use 'nope' as name\|file: There is no map "nope"/);
  }
});
