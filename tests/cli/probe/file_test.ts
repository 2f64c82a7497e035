import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
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

testFds("probe decodes what probe --json saved of a device", async () => {
  await using folder = temporaryFolder();
  const [path, saved] = [`${folder.path}/demo.sock`, `${folder.path}/saved.json`];
  using _server = Server.listen(path, new DemoDevice());
  Deno.writeTextFileSync(saved, (await runHere(["probe", path, "--json"])).out);
  const { out } = await runHere(["probe", saved]);
  assertMatch(out, /^PCI configuration space, 4096 bytes\n1234:0de5/);
  assertStringIncludes(out, "BAR 0:       memory, 32-bit, non-prefetchable, unassigned [size=4K]");
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
    ['{"pci":{"config":"zz"}}', /Cannot decode/],
    ["00:01.0 x\n", /no output of lspci -x/],
    ["00: 12\n", /no slot came before/],
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
  const limit = "capabilities.agreed.max_data_xfer_size: 1048576 -> 4096";
  const differ = await runHere(["probe", "--diff", a!, b!]);
  assertEquals(differ.code, 1);
  assertEquals(differ.out.split("\n").includes(limit), true, differ.out);
  assertEquals(await runHere(["probe", "--diff", a!, a!]), { code: 0, out: "", err: "" });
  Deno.writeTextFileSync(saved!, (await runHere(["probe", a!, "--json"])).out);
  assertEquals(await runHere(["probe", "--diff", saved!, a!]), { code: 0, out: "", err: "" });
  await runHere(["write", a!, "COMMAND=6"]);
  const changed = await runHere(["probe", "--diff", saved!, a!, "--json"]);
  assertEquals(JSON.parse(changed.out).differences, [
    { path: "pci.space.command.value", a: "0", b: "6" },
    { path: "pci.space.command.set", a: "", b: "MEMORY MASTER" },
  ]);
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
