import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { lspciDump } from "../../../lib/pci/dump.ts";
import { Server } from "../../../lib/server/server.ts";
import { testFds } from "../../_fds.ts";
import { nvmeImage, rootPortImage } from "../../lib/pci/_images.ts";
import { assertGolden, runHere, temporaryFolder } from "../_cli.ts";

const NVME = nvmeImage().bytes;
const PORT = rootPortImage().bytes;

testFds("probe decodes a saved dump, raw bytes and a saved --json without a device", async () => {
  await using folder = temporaryFolder();
  const [dump, raw, json] = ["dump", "raw", "json"].map((name) => `${folder.path}/${name}`);
  Deno.writeTextFileSync(dump!, lspciDump(NVME, { slot: "00:04.0" }));
  Deno.writeFileSync(raw!, NVME);
  const { code, out, err } = await runHere(["probe", dump!]);
  assertEquals([code, err], [0, ""]);
  assertMatch(out, /^00:04\.0, PCI configuration space, \d+ bytes\n/);
  assertGolden("probe-file.txt", out.replace(/^(\w{4}:\w{4}) .*\(rev/m, "$1 (rev"));
  const ofRaw = await runHere(["probe", raw!]);
  assertEquals(ofRaw.out, out.replace("00:04.0, ", ""));
  const saved = await runHere(["probe", raw!, "--json"]);
  const { functions } = JSON.parse(saved.out);
  assertEquals(functions[0].pci.config, NVME.toHex());
  Deno.writeTextFileSync(json!, JSON.stringify({ pci: functions[0].pci }));
  assertEquals((await runHere(["probe", json!])).out, ofRaw.out);
  // Of --lspci comes the same dump again.
  const again = await runHere(["probe", dump!, "--lspci"]);
  assertEquals(again.out, lspciDump(NVME, { slot: "00:04.0" }));
});

testFds("probe decodes each function of a dump of lspci -xxx", async () => {
  await using folder = temporaryFolder();
  const dump = `${folder.path}/dump`;
  const text = lspciDump(NVME, { slot: "00:04.0" }) +
    lspciDump(PORT.subarray(0, 256), { slot: "0000:00:1c.0" });
  Deno.writeTextFileSync(dump, text);
  const { out } = await runHere(["probe", dump]);
  assertEquals(out.match(/^\S+, PCI configuration space, \d+ bytes$/mg), [
    `00:04.0, PCI configuration space, ${NVME.length} bytes`,
    "0000:00:1c.0, PCI configuration space, 256 bytes",
  ]);
});

testFds("probe shows what probe --json saved of a device as it showed the device", async () => {
  await using folder = temporaryFolder();
  const [path, saved] = [`${folder.path}/demo.sock`, `${folder.path}/saved.json`];
  using _server = Server.listen(path, new DemoDevice());
  const json = (await runHere(["probe", path, "--json"])).out;
  Deno.writeTextFileSync(saved, json);
  const live = await runHere(["probe", path]);
  assertEquals(await runHere(["probe", saved]), {
    ...live,
    out: live.out.replace(path, `${path}, saved in ${saved}`),
  });
  const summary = async (of: string) => {
    const { out } = await runHere(["probe", "--summary", of], { columns: 200 });
    return out.replace(of, "").replaceAll(/ +/g, " ");
  };
  assertEquals(await summary(saved), await summary(path));
  // Of a probe that is not whole, or has values that no probe has, the space is decoded.
  const space = live.out.slice(live.out.indexOf("PCI configuration space"));
  const change = fc.constantFrom<(probe: Record<string, unknown>) => void>(
    (probe) => delete probe.capabilities,
    (probe) => (probe.irqs = 5),
    (probe) => (probe.version = { major: -1, minor: 0 }),
    (probe) => (probe.regions as Record<string, unknown>[])[0]!.flags = 1e99,
    (probe) => (probe.regions as Record<string, unknown>[])[0]!.capabilities = [{ kind: "none" }],
    (probe) => (probe.capabilities as Record<string, unknown>).server = { max_msg_fds: "a" },
    (probe) => (probe.device = null),
    (probe) => (probe.socket = ["\x1b[31m"]),
  );
  await fc.assert(
    fc.asyncProperty(change, async (change) => {
      const probe = JSON.parse(json);
      change(probe);
      Deno.writeTextFileSync(saved, JSON.stringify(probe));
      const { code, out, err } = await runHere(["probe", saved]);
      assertEquals([code, err], [0, ""]);
      assertEquals(out.split("\n")[0], space.split("\n")[0]);
      assertEquals(out.includes("Regions"), false);
    }),
    { numRuns: 30 },
  );
});

testFds("probe says what is wrong with a file", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/file`;
  const cases: [Uint8Array | string, RegExp][] = [
    [new Uint8Array(63), /not a socket, .*: it has 63 bytes, not 64 to 4096/],
    [new Uint8Array(4097), /it has 4097 bytes/],
    ["", /it has 0 bytes/],
    ["hello\n", /no output of lspci -x/],
    ["{", /Cannot decode/],
    ["{}", /no "pci\.config"/],
    ['{"pci":{"config":"zz"}}', /"pci\.config" of its JSON is not in hexadecimal digits/],
    ["00:01.0 x\n", /no output of lspci -x/],
    ["00: 12\n", /no slot came before/],
    ["[]", /no "pci\.config"/],
    ["null", /no JSON of vfu probe/],
    ['{"functions":3}', /no "pci\.config"/],
    ['{"pci":{"error":{"errno":22}}}', /no "pci\.config"/],
    ['{"pci":{"config":"abc"}}', /Cannot decode .*: the "pci\.config" of its JSON is not/],
    [Uint8Array.fromHex(`0a0d0d0a${"00".repeat(96)}`), /it is a recording; vfu show shows it/],
    [Uint8Array.fromHex(`7666752d6d69670a${"00".repeat(96)}`), /it is a saved state; vfu migrate/],
    [`{"pci":{"config":"${"00".repeat(5000)}"}}`, /it has 5000 bytes/],
  ];
  for (const [content, why] of cases) {
    if (typeof content === "string") Deno.writeTextFileSync(path, content);
    else Deno.writeFileSync(path, content);
    const { code, out, err } = await runHere(["probe", path]);
    assertEquals([code, out], [1, ""]);
    assertMatch(err, why);
  }
});

for (const columns of [80, 120]) {
  testFds(`probe --summary shows a line a device in ${columns} columns`, async () => {
    await using folder = temporaryFolder();
    // As long as any other, for the columns of the table.
    const sub = `${folder.path}/${"x".repeat(40 - folder.path.length)}`;
    Deno.mkdirSync(sub);
    const [a, b] = [`${sub}/a.sock`, `${sub}/b.sock`];
    using _a = Server.listen(a, new DemoDevice());
    using _b = Server.listen(b, new DemoDevice());
    const line = ["probe", "--summary", a, b];
    const { code, out, err } = await runHere(line, { columns });
    assertEquals([code, err], [0, ""]);
    assertGolden(
      `probe-summary-${columns}.txt`,
      out.replaceAll(sub, "/tmp/".padEnd(sub.length, "x")),
    );
    const none = await runHere(["probe", "--summary", a, `${folder.path}/none`], { columns });
    assertEquals(none.code, 1);
    assertStringIncludes(none.out.replaceAll(/\s+/g, " "), "there is no such file");
    const json = JSON.parse((await runHere([...line, "--json"])).out);
    assertEquals(json.map((each: { socket: string }) => each.socket), [a, b]);
  });
}

testFds("probe --diff shows in what two devices differ, or a device and a file", async () => {
  await using folder = temporaryFolder();
  const [a, b, saved] = ["a.sock", "b.sock", "saved"].map((name) => `${folder.path}/${name}`);
  using _a = Server.listen(a!, new DemoDevice());
  using _b = Server.listen(b!, new DemoDevice(), { maxDataXferSize: 4096 });
  const limit = "capabilities.agreed.max_data_xfer_size: 1048576 (0x100000) -> 4096 (0x1000)";
  const differ = await runHere(["probe", "--diff", a!, b!]);
  assertEquals(differ.code, 1);
  assertEquals(differ.out.split("\n").includes(limit), true, differ.out);
  assertEquals(await runHere(["probe", "--diff", a!, a!]), { code: 0, out: "", err: "" });
  Deno.writeTextFileSync(saved!, (await runHere(["probe", a!, "--json"])).out);
  assertEquals(await runHere(["probe", "--diff", saved!, a!]), { code: 0, out: "", err: "" });
  await runHere(["write", a!, "COMMAND=6"]);
  const { out } = await runHere(["probe", "--diff", saved!, a!]);
  assertStringIncludes(out, "pci.space.command.set: none -> MEMORY MASTER\n");
  const changed = await runHere(["probe", "--diff", saved!, a!, "--json"]);
  assertEquals(JSON.parse(changed.out).differences, [
    { path: "pci.space.command.value", a: "0", b: "6" },
    { path: "pci.space.command.set", a: "", b: "MEMORY MASTER" },
  ]);
});

testFds("probe --diff has a line for what only one device has", async () => {
  await using folder = temporaryFolder();
  const [a, b] = ["a.json", "b.json"].map((name) => `${folder.path}/${name}`);
  const socket = `${folder.path}/demo.sock`;
  using _server = Server.listen(socket, new DemoDevice());
  const probe = JSON.parse((await runHere(["probe", socket, "--json"])).out);
  Deno.writeTextFileSync(a!, JSON.stringify(probe));
  const { space } = probe.pci;
  const isMsix = ({ name }: { name: string }) => name === "MSI-X";
  space.capabilities = space.capabilities.filter((each: { name: string }) => !isMsix(each));
  space.bars = space.bars.filter(({ index }: { index: number }) => index !== 0);
  probe.regions[2].offset = 0x1000; // of its file: the region is the same
  probe.regions[4].flags = 1;
  probe.regions[4].flag_names = ["read"];
  Deno.writeTextFileSync(b!, JSON.stringify(probe));
  const { code, out } = await runHere(["probe", "--diff", a!, b!]);
  assertEquals([code, out.trimEnd().split("\n")], [1, [
    "regions.bar2.offset: 0 -> 4096 (0x1000)",
    "regions.bar4.flag_names: read write -> read",
    "pci.space.bars.0: there -> absent",
    "pci.space.capabilities.MSI-X@0x50: there -> absent",
  ]]);
});

Deno.test("probe returns 2 for forms that do not go together", async () => {
  for (
    const args of [
      ["a", "b"],
      ["--diff", "a"],
      ["--diff", "a", "b", "c"],
      ["--diff", "--summary", "a", "b"],
      ["--summary", "--lspci", "a"],
    ]
  ) {
    const { code, out } = await runHere(["probe", ...args]);
    assertEquals([code, out], [2, ""]);
  }
});

testFds("probe decodes JSON of a file, of several devices and of odd regions", async () => {
  await using folder = temporaryFolder();
  const [raw, json] = ["raw", "json"].map((name) => `${folder.path}/${name}`);
  Deno.writeFileSync(raw!, PORT);
  const pci = { config: NVME.toHex().toUpperCase() };
  const show = async (value: unknown) => {
    Deno.writeTextFileSync(json!, JSON.stringify(value));
    const { code, out, err } = await runHere(["probe", json!]);
    assertEquals([code, err], [0, ""]);
    return out;
  };
  // What probe FILE --json wrote is decoded to the same text.
  const saved = JSON.parse((await runHere(["probe", raw!, "--json"])).out);
  assertEquals(await show(saved), (await runHere(["probe", raw!])).out);
  const both = { functions: [{ slot: "00:01.0", pci }, { slot: "\x1b[31m", pci }] };
  const headings = (await show(both)).match(/^.*PCI configuration space.*$/mg);
  assertEquals(headings, [
    "00:01.0, PCI configuration space, 4096 bytes",
    "PCI configuration space, 4096 bytes",
  ]);
  const several = await show([{ socket: "a", pci }, { socket: "b", error: "none" }, null, 5]);
  assertMatch(several, /^PCI configuration space, 4096 bytes\n1b36:0010/);
  const odd = [null, 5, { index: 0, size: "0x4000" }, { index: 1, size: -1 }, { size: 7 }];
  assertStringIncludes(await show({ pci, regions: odd }), "unassigned [size=16K]");
  assertMatch(await show({ pci, regions: null }), /BAR 0: .*unassigned$/m);
});

testFds("probe takes every truncation of a dump, and any change of one", async () => {
  const { decodeSaved } = await import("../../../cli/probe/file.ts");
  const text = new TextEncoder().encode(lspciDump(PORT.subarray(0, 0x200), { slot: "00:1c.0" }));
  for (let size = 9; size < text.length; size += 7) {
    const found = await outcomeOf(() => decodeSaved("dump", text.subarray(0, size)));
    if (typeof found === "string") assertMatch(found, /^Cannot decode dump: /);
    else assert(found[0]!.view.config.length <= 0x200);
  }
  const change = fc.tuple(fc.nat({ max: text.length - 1 }), fc.nat({ max: 255 }));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 5 }), async (changes) => {
      const changed = text.slice();
      for (const [at, byte] of changes) changed[at] = byte;
      const found = await outcomeOf(() => decodeSaved("dump", changed));
      if (typeof found === "string") assertMatch(found, /^Cannot decode dump: /);
    }),
    { numRuns: 60 },
  );
});

async function outcomeOf<T>(body: () => Promise<T>): Promise<T | string> {
  try {
    return await body();
  } catch (error) {
    return (error as Error).message;
  }
}

testFds("probe --summary and --diff take files", async () => {
  await using folder = temporaryFolder();
  const [dump, raw, broken] = ["dump", "raw", "broken"].map((name) => `${folder.path}/${name}`);
  Deno.writeTextFileSync(dump!, lspciDump(NVME, { slot: "00:04.0" }));
  Deno.writeFileSync(raw!, PORT.subarray(0, 64));
  Deno.writeTextFileSync(broken!, "{");
  const { code, out } = await runHere(["probe", "--summary", dump!, raw!], { columns: 120 });
  assertEquals(code, 0);
  assertMatch(out, /dump 00:04\.0 +- +1b36:0010 +Non-Volatile memory controller\n/);
  assertMatch(out, /raw +- +1b36:000c +PCI bridge\n/);
  const json = JSON.parse((await runHere(["probe", "--summary", raw!, "--json"])).out);
  assertEquals(json[0].functions.length, 1);
  const differ = await runHere(["probe", "--diff", dump!, broken!]);
  assertEquals(differ.code, 1);
  assertMatch(differ.err, /Cannot decode .*broken: /);
});

testFds("probe --diff refuses JSON that goes too deep", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/deep.json`;
  const [open, close] = ["[", "]"].map((bracket) => bracket.repeat(100_000));
  const pci = { config: NVME.toHex() };
  Deno.writeTextFileSync(path, `{"pci":${JSON.stringify(pci)},"regions":${open}${close}}`);
  const { code, err } = await runHere(["probe", "--diff", path, path]);
  assertEquals([code, err], [
    1,
    `vfu: Cannot decode ${path}: its JSON is no probe: it goes too deep\n`,
  ]);
});
