import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createMemfd } from "../../ffi/memory.ts";
import { UnixListener } from "../../ffi/listener.ts";
import { parseFault } from "../../cli/serve/fault.ts";
import { countUse } from "../../lib/client/diagnose/connection_causes.ts";
import { CAUSES } from "../../lib/client/diagnose/causes.ts";
import { connect } from "../../lib/client/connect.ts";
import { diagnose } from "../../lib/client/diagnose/diagnose.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { embed } from "../../lib/server/embedded.ts";
import { Server } from "../../lib/server/server.ts";
import { Command } from "../../lib/wire/command.ts";
import { RegionFlags } from "../../lib/wire/region.ts";
import { testFds } from "../_fds.ts";
import { assertGolden, runHere, temporaryFolder } from "./_cli.ts";
import { serveOddly } from "./_server.ts";
import { Patient, SICK } from "./_sick.ts";

/** Causes that lie in the client that waits, which `vfu doctor` is not. */
const OF_A_CLIENT = ["masked-by-client", "masks-itself", "intx-replaced"];

/** The causes that `vfu doctor --json` names, with its exit code. */
async function named(path: string, ...args: string[]): Promise<[number, string[]]> {
  const { code, out, err } = await runHere(["doctor", path, "--json", ...args]);
  assertEquals(err, "");
  const { found } = JSON.parse(out) as { found: { cause: string }[] };
  return [code, found.map(({ cause }) => cause)];
}

/** The causes of a device with a fault. */
async function namedOf(patient: Patient): Promise<[number, string[]]> {
  await using folder = temporaryFolder();
  using _server = patient.serve(`${folder.path}/sick.sock`);
  return await named(`${folder.path}/sick.sock`);
}

Deno.test("doctor shows its help", async () => {
  assertGolden("doctor-help.txt", (await runHere(["doctor", "--help"])).out);
});

testFds("doctor finds nothing at a device in good health, and returns 0", async () => {
  assertEquals(await namedOf(new Patient()), [0, []]);
  await using folder = temporaryFolder();
  using _server = new Patient().serve(`${folder.path}/well.sock`);
  const { code, out } = await runHere(["doctor", `${folder.path}/well.sock`]);
  assertEquals(code, 0);
  assertMatch(
    out.replaceAll("\n", " "),
    /^Nothing is in the way of .*well\.sock: none of \d+ known/,
  );
});

Deno.test("doctor has a sick device for each cause", () => {
  const ids = CAUSES.map(({ id }) => id).filter((id) => !OF_A_CLIENT.includes(id));
  assertEquals(Object.keys(SICK).sort(), ids.sort());
  assertEquals(new Set(CAUSES.map(({ id }) => id)).size, CAUSES.length);
});

for (const [cause, faults] of Object.entries(SICK)) {
  for (const [i, makeSick] of faults.entries()) {
    testFds(`doctor names ${cause} (${i + 1} of ${faults.length}), and nothing else`, async () => {
      const patient = new Patient();
      makeSick(patient);
      assertEquals(await namedOf(patient), [1, [cause]]);
    });
  }
}

/** Causes that lie in the server: a line of vfu shows more of them, and mends none. */
const IN_THE_SERVER = [
  "gone",
  "older-protocol",
  "no-access",
  "flags-disagree",
  "no-map",
  "no-pin",
  "intx-asserted",
  "msix-pending",
  "msix-outside",
  "msi-pending",
  "msix-count",
  "msi-count",
  "no-eventfd",
];

/** Runs what doctor has a person run: each line once. */
async function runLines(path: string): Promise<void> {
  const { out } = await runHere(["doctor", path, "--json"]);
  const { found } = JSON.parse(out) as { found: { command: string | null }[] };
  const lines = found.flatMap(({ command }) => command ?? []);
  for (const line of new Set(lines)) {
    const { code, err } = await runHere(line.split(" ").slice(1));
    assert(code !== 2, `${line}: ${err}`);
  }
}

for (const [cause, faults] of Object.entries(SICK)) {
  testFds(`doctor's lines for ${cause} can be run, and mend what a client can mend`, async () => {
    for (const makeSick of faults) {
      await using folder = temporaryFolder();
      const path = `${folder.path}/sick.sock`;
      const patient = new Patient();
      makeSick(patient);
      using _server = patient.serve(path);
      await runLines(path);
      await runLines(path); // an address of 0 has another cause, with another line
      const isMended = !IN_THE_SERVER.includes(cause);
      assertEquals(await named(path), isMended ? [0, []] : [1, [cause]]);
    }
  });
}

testFds("doctor's lines mend all of a device that nothing has set up", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/a b.sock`;
  using _server = Server.listen(path, new DemoDevice());
  const { out } = await runHere(["doctor", path, "--json"]);
  const lines = JSON.parse(out).found.map(({ command }: { command: string }) => command);
  for (const line of lines) {
    assertStringIncludes(line, ` '${path}'`);
    await runHere(
      line.replace(` '${path}'`, " SOCKET").split(" ").slice(1)
        .map((word: string) => word === "SOCKET" ? path : word),
    );
  }
  assertEquals(await named(path), [0, []]);
});

testFds("doctor names a file that is shorter than its region", async () => {
  using file = createMemfd("short", 0x800);
  const patient = new Patient();
  patient.flags |= RegionFlags.MMAP;
  patient.file = file;
  assertEquals(await namedOf(patient), [1, ["no-map"]]);
});

testFds("doctor names several causes, those that explain most first", async () => {
  const patient = new Patient();
  patient.config.setUint32(0x10, 0, true);
  patient.config.setUint16(0x04, 0, true);
  patient.config.setUint16(0x52, 3, true);
  const causes = ["bar-unassigned", "memory-off", "msix-off", "msi-off", "bus-master-off"];
  assertEquals(await namedOf(patient), [1, causes]);
});

testFds("doctor reads registers of BARs only where it may", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/sick.sock`;
  const map = `${folder.path}/map.yaml`;
  Deno.writeTextFileSync(
    map,
    "name: t\nregisters:\n- { name: POP, offset: 0, width: 4, access: rc }\n" +
      "- { name: HALF, offset: 4, width: 4, fields: [{ name: F, bits: 0, access: rc }] }\n" +
      "- { name: ID, offset: 0x900, width: 2, access: ro }\n",
  );
  const patient = new Patient();
  patient.refusal = 22; // but in the MSI-X table
  using _server = patient.serve(path);
  assertEquals(await named(path), [1, ["flags-disagree"]]);
  assertEquals(await named(path, "--no-read"), [0, []]);
  assertEquals(await named(path, "--map", map), [0, []]);
});

testFds("doctor --pci-enable enables the device first", async () => {
  await using folder = temporaryFolder();
  using _server = Server.listen(`${folder.path}/demo.sock`, new DemoDevice());
  const [code, causes] = await named(`${folder.path}/demo.sock`, "--pci-enable");
  assertEquals([code, causes], [1, ["msix-off", "msix-vector-masked"]]);
});

testFds("doctor says that the server has another client", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  using _other = await connect(path);
  assertEquals(await named(path, "--timeout", "50ms"), [1, ["one-client"]]);
  const { out } = await runHere(["doctor", path, "--timeout", "50ms"]);
  assertMatch(out, /^one-client {2}The server has 1 client already \(\/proc\/net\/unix\)/);
});

testFds("doctor says why there is no connection", async () => {
  await using folder = temporaryFolder();
  assertEquals(await named(`${folder.path}/none.sock`), [1, ["no-server"]]);
  Deno.writeTextFileSync(`${folder.path}/file`, "");
  assertEquals(await named(`${folder.path}/file`), [1, ["no-server"]]);
  {
    using _listener = UnixListener.listen(`${folder.path}/silent.sock`);
    assertEquals(await named(`${folder.path}/silent.sock`, "--timeout", "50ms"), [
      1,
      ["no-answer"],
    ]);
  }
  {
    using _server = serveOddly(`${folder.path}/refuses.sock`, (request) => request.fail(22));
    assertEquals(await named(`${folder.path}/refuses.sock`), [1, ["other-protocol"]]);
  }
  const version = (request: Parameters<Parameters<typeof serveOddly>[1]>[0]) =>
    request.reply(new Uint8Array([2, 0, 0, 0]));
  using _server = serveOddly(`${folder.path}/newer.sock`, version);
  assertEquals(await named(`${folder.path}/newer.sock`), [1, ["other-protocol"]]);
});

testFds("doctor ends with a device that falls silent in the middle", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/silent.sock`;
  using _server = serveOddly(
    path,
    ({ command }) => command === Command.VERSION ? "default" : "silence",
  );
  assertEquals(await named(path, "--timeout", "50ms"), [1, ["no-answer"]]);
});

testFds("doctor shows what came in place of an answer", async () => {
  for (
    const [fault, cause, evidence] of [
      ["garbage", "other-protocol", /The server says that it read \d+ of 4 bytes of config/],
      ["close=20", "no-answer", /in the middle of a message: 20 of 36 bytes came/],
    ] as const
  ) {
    await using folder = temporaryFolder();
    const path = `${folder.path}/demo.sock`;
    const faults = { rules: [parseFault(`REGION_READ:${fault}`)], seed: 1 };
    using _server = Server.listen(path, new DemoDevice(), { faults });
    const { out } = await runHere(["doctor", path, "--json"]);
    const found = JSON.parse(out).found as { cause: string; evidence: string }[];
    assertEquals(found.map((each) => each.cause), [cause]);
    assertMatch(found[0]!.evidence, evidence);
  }
});

testFds("a diagnosis says which question had no answer, or that all took too long", async () => {
  const rules = [parseFault("REGION_READ:drop")];
  using device = await connect(embed(new DemoDevice(), { faults: { rules, seed: 1 } }).fd);
  const late = await diagnose(device, { budgetMs: 0 });
  assertEquals(late.map(({ evidence }) => evidence), [
    "the answers to all questions took longer than 0 ms together",
  ]);
  const [silent] = await diagnose(device, { budgetMs: 100 });
  assertMatch(silent!.evidence, /^Cannot .*: the server did not answer within \d+ ms/);
  const [again] = await diagnose(device, { answerMs: 50 });
  assertMatch(again!.evidence, /^Cannot .*: the server did not answer within 50 ms/);
});

testFds("doctor --pci-enable says that the device refuses to be enabled", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  const faults = { rules: [parseFault("REGION_WRITE:error=EPERM")], seed: 1 };
  using _server = Server.listen(path, new DemoDevice(), { faults });
  assertEquals(await named(path, "--pci-enable"), [1, ["enable-refused"]]);
});

Deno.test("doctor returns 2 when the usage is wrong", async () => {
  for (const args of [[], ["a", "b"], ["a", "--map", "nothing"], ["a", "--timeout", "x"]]) {
    const { code, out, err } = await runHere(["doctor", ...args]);
    assertEquals([code, out], [2, ""]);
    assertStringIncludes(err, "vfu: ");
  }
});

Deno.test("countUse() counts the connections of a path in /proc/net/unix", () => {
  const table = "Num       RefCount Protocol Flags    Type St Inode Path\n" +
    "0000000000000000: 00000002 00000000 00010000 0001 01 1 /run/a b.sock\n" +
    "0000000000000000: 00000003 00000000 00000000 0001 03 2 /run/a b.sock\n" +
    "0000000000000000: 00000003 00000000 00000000 0001 02 3 /run/a b.sock\n" +
    "0000000000000000: 00000003 00000000 00000000 0001 03 4\n" +
    "0000000000000000: 00000003 00000000 00000000 0001 03 5 c.sock\n" +
    "0000000000000000: 00000003 00000000 00000000 0001 03 6 /other/a b.sock\n";
  assertEquals(countUse(table, "/run/a b.sock"), { accepted: 1, waiting: 1 });
  assertEquals(countUse(table, "/run/c.sock"), { accepted: 1, waiting: 0 });
});

for (const columns of [80, 120]) {
  Deno.test(`doctor fits ${columns} columns`, async () => {
    await using folder = temporaryFolder();
    using _server = Server.listen(`${folder.path}/demo.sock`, new DemoDevice());
    const { code, out } = await runHere(["doctor", `${folder.path}/demo.sock`], { columns });
    assertEquals(code, 1);
    assertGolden(`doctor-${columns}.txt`, out.replaceAll(folder.path, "FOLDER"));
    const long = out.split("\n").filter((line) => line.length > columns);
    assertEquals(long.filter((line) => !/^ +Run: vfu /.test(line)), []); // is copied as a whole
  });
}
