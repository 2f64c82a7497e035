import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type Context, Interrupted } from "../../cli/shared/context.ts";
import { main } from "../../cli/main.ts";
import { COLOURED, PLAIN } from "../../cli/shared/style.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { Command } from "../../lib/wire/command.ts";
import { RegionReadRequest } from "../../lib/wire/access.ts";
import { testFds } from "../_fds.ts";
import { assertGolden, runHere, temporaryFolder } from "./_cli.ts";
import { replyRead, withBar0 } from "./_registers.ts";
import { type Answer, serveOddly } from "./_server.ts";

/** A map with registers that a read changes, and some that it does not. */
const MAP = `name: t
registers:
- { name: ID, offset: 0, width: 4, access: ro, description: Identification }
- { name: POP, offset: 4, width: 4, access: rc }
- { name: HALF, offset: 8, width: 4, fields: [{ name: F, bits: 0, access: rc }] }
- { name: NEXT, offset: 12, width: 4, read_changes: true }
- { name: GO, offset: 16, width: 4, access: wo }
- { name: STATE, offset: 20, width: 2,
    fields: [{ name: ON, bits: 0, enum: { 0: off, 1: running } }, { name: LEVEL, bits: 7:4 }] }
- { name: LANE, offset: 32, width: 1, count: 40 }
- { name: FAR, offset: 4096, width: 4 }
- { name: ELSEWHERE, region: bar3, offset: 0, width: 4 }
- { name: OPTION, region: CAP_AF, offset: 0, width: 1 }
`;

/** Serves a bar0 whose bytes the test changes, and notes the offsets that were read. */
function serve(path: string): { bytes: Uint8Array; reads: number[] } & Disposable {
  const bytes = new Uint8Array(64);
  const reads: number[] = [];
  const answer: Answer = (request) => {
    if (request.command !== Command.REGION_READ) return "default";
    const { region, offset, count } = RegionReadRequest.decode(request.payload);
    if (region !== 0) return request.fail(22);
    reads.push(Number(offset));
    replyRead(request, bytes.slice(Number(offset), Number(offset) + count));
  };
  const server = serveOddly(path, withBar0(64, answer));
  return { bytes, reads, [Symbol.dispose]: () => server[Symbol.dispose]() };
}

Deno.test("regs shows its help", async () => {
  assertGolden("regs-help.txt", (await runHere(["regs", "--help"])).out);
});

for (const columns of [80, 120]) {
  testFds(`regs fits ${columns} columns`, async () => {
    await using folder = temporaryFolder();
    using _server = Server.listen(`${folder.path}/demo.sock`, new DemoDevice());
    for (const map of ["demo", "pci"]) {
      const line = ["regs", `${folder.path}/demo.sock`, "--map", map];
      const { code, out, err } = await runHere(line, { columns });
      assertEquals([code, err], [0, ""]);
      assertGolden(`regs-${map}-${columns}.txt`, out);
      assertEquals(out.split("\n").filter((each) => each.length > columns), []);
    }
  });
}

testFds(
  "regs leaves out what is write-only, what a read changes and what is not there",
  async () => {
    await using folder = temporaryFolder();
    const [path, map] = [`${folder.path}/t.sock`, `${folder.path}/t.yaml`];
    Deno.writeTextFileSync(map, MAP);
    using server = serve(path);
    server.bytes.set([0x12, 0x00, 0x31, 0x80], 20);
    const { code, out, err } = await runHere(["regs", path, "--map", map]);
    assertEquals([code, err], [0, ""]);
    assertEquals(server.reads.filter((offset) => offset > 0 && offset < 20), []);
    assertEquals(out.includes("LANE[15]") && !out.includes("LANE[16]"), true);
    const lines = out.split("\n").filter((line) => !line.startsWith("t.LANE"));
    assertEquals(lines, [
      "t.ID  bar0+0x0  0x00000000  Identification",
      "t.STATE  bar0+0x14  0x0012",
      "  ON        0    0 (off)",
      "  LEVEL     7:4  1",
      "  reserved       0x2",
      "t.FAR  bar0+0x1000  outside the region",
      "Not read (a read changes it):     t.POP t.HALF t.NEXT",
      "Not read (write-only):            t.GO",
      "Not read (after 16 of an array):  t.LANE[16-39]",
      "Not read (bar3 is not there):     t.ELSEWHERE",
      "Not read (CAP_AF is not there):   t.OPTION",
      "",
    ]);
    await runHere(["regs", path, "--map", map, "--all", "POP", "t.NEXT"]);
    assertEquals(server.reads.slice(-2), [4, 12]);
  },
);

testFds("regs --json is read by regs --diff, which shows what differs", async () => {
  await using folder = temporaryFolder();
  const [path, map, saved] = ["t.sock", "t.yaml", "saved.json"].map((n) => `${folder.path}/${n}`);
  Deno.writeTextFileSync(map!, MAP);
  using server = serve(path!);
  const regs = (...args: string[]) => runHere(["regs", path!, "--map", map!, ...args]);
  const { out } = await regs("--json");
  const { registers, left_out: leftOut } = JSON.parse(out);
  assertEquals(registers[1], {
    name: "t.STATE",
    region: "bar0",
    offset: 20,
    width: 2,
    value: 0,
    fields: [
      { name: "ON", bits: "0", value: 0, meaning: "off" },
      { name: "LEVEL", bits: "7:4", value: 0 },
    ],
  });
  assertEquals(leftOut[0], { name: "t.POP", reason: "a read changes it" });
  Deno.writeTextFileSync(saved!, out);
  assertEquals(await regs("--diff", saved!), { code: 0, out: "", err: "" });
  server.bytes[20] = 0x31;
  server.bytes[33] = 7;
  const differs = await regs("--diff", saved!);
  assertEquals([differs.code, differs.err], [1, ""]);
  assertEquals(differs.out.split("\n"), [
    "t.STATE  0x0000 -> 0x0031  ON 0 (off) -> 1 (running)  LEVEL 0 -> 3",
    "t.LANE[1]  0x00 -> 0x07",
    "",
  ]);
  const json = JSON.parse((await regs("--diff", saved!, "--json", "STATE")).out);
  assertEquals(json.differences.map((each: { after: { value: number } }) => each.after.value), [
    0x31,
  ]);
  assertEquals(json.only_saved.includes("t.ID"), true);
});

testFds("regs compares 64-bit values exactly", async () => {
  await using folder = temporaryFolder();
  const [path, map, saved] = ["t.sock", "t.yaml", "saved.json"].map((n) => `${folder.path}/${n}`);
  Deno.writeTextFileSync(map!, "name: t\nregisters: [{ name: WIDE, offset: 0, width: 8 }]\n");
  using server = serve(path!);
  server.bytes.fill(0xff, 0, 8);
  const regs = (...args: string[]) => runHere(["regs", path!, "--map", map!, ...args]);
  Deno.writeTextFileSync(saved!, (await regs("--json")).out);
  assertEquals((await regs("--diff", saved!)).code, 0);
  server.bytes[0] = 0xfe;
  assertEquals(
    (await regs("--diff", saved!)).out,
    "t.WIDE  0xffffffffffffffff -> 0xfffffffffffffffe\n",
  );
});

/** Runs a line on a terminal of so many rows, until the output has a text. */
async function onTerminal(
  args: string[],
  rows: number | undefined,
  onWrite: (out: string) => boolean,
): Promise<{ code: number; out: string }> {
  let out = "";
  const controller = new AbortController();
  const output = {
    isTerminal: rows !== undefined,
    columns: 80,
    rows,
    style: rows === undefined ? PLAIN : COLOURED,
    write(text: string) {
      out += text;
      if (onWrite(out)) controller.abort(new Interrupted("SIGINT"));
    },
    writeBytes() {},
  };
  const context: Context = { out: output, err: output, signal: controller.signal };
  return { code: await main(args, context), out };
}

testFds("regs --watch writes a line for each change, and ends by Ctrl-C", async () => {
  await using folder = temporaryFolder();
  const [path, map] = [`${folder.path}/t.sock`, `${folder.path}/t.yaml`];
  Deno.writeTextFileSync(map, MAP);
  using server = serve(path);
  const line = ["regs", path, "--map", map, "STATE", "--watch", "1ms"];
  const change = (out: string) => {
    if (out.includes("t.STATE  bar0+0x14  0x0000")) server.bytes[20] = 1;
    return out.includes("->");
  };
  const { code, out } = await onTerminal(line, undefined, change);
  assertEquals(code, 130);
  assertMatch(
    out,
    /\n +\d+ ms {2}t\.STATE {2}0x0000 -> 0x0001 {2}ON 0 \(off\) -> 1 \(running\)\n$/,
  );
  server.bytes[20] = 0;
  const changeBack = (text: string) => {
    server.bytes[20] = 1;
    return text.includes('"time_ms"');
  };
  const json = await onTerminal([...line, "--json"], undefined, changeBack);
  assertEquals(JSON.parse(json.out.trim().split("\n").at(-1)!).value, 1);
});

testFds("regs --watch writes the screen anew, with marks, where all has room", async () => {
  await using folder = temporaryFolder();
  const [path, map] = [`${folder.path}/t.sock`, `${folder.path}/t.yaml`];
  Deno.writeTextFileSync(map, MAP);
  using server = serve(path);
  const line = ["regs", path, "--map", map, "STATE", "ID", "--watch", "1ms"];
  const change = (out: string) => {
    if (out.includes("t.STATE")) server.bytes[20] = 1;
    return out.includes("*");
  };
  const { code, out } = await onTerminal(line, 25, change);
  assertEquals(code, 130);
  const last = out.slice(out.lastIndexOf("\x1b[H\x1b[2J"));
  assertStringIncludes(last, "t.STATE*  bar0+0x14  0x0001");
  assertMatch(last, /ON\*/);
  assertEquals(/LEVEL\*|t\.ID\*/.test(last), false);
  // Of more than the screen holds, lines.
  server.bytes[20] = 0;
  const small = await onTerminal(line, 3, (text) => {
    server.bytes[20] = 1;
    return text.includes("->");
  });
  assertEquals(small.out.includes("\x1b[2J"), false);
  // Of JSON, too.
  server.bytes[20] = 0;
  const json = await onTerminal([...line, "--json"], 25, (text) => {
    server.bytes[20] = 1;
    return text.includes("time_ms");
  });
  assertEquals(json.out.trimEnd().split("\n").map((text) => JSON.parse(text).name), [
    ...["t.STATE", "t.ID", "t.STATE"],
  ]);
});

testFds("read --watch shows values, and again those that change", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/t.sock`;
  using server = serve(path);
  const line = ["read", path, "bar0+0x14.w", "bar0+0.l", "--watch", "1ms"];
  const change = (out: string) => {
    server.bytes[20] = 9;
    return out.includes("0x0009");
  };
  const { code, out } = await onTerminal(line, undefined, change);
  assertEquals(code, 130);
  const lines = out.trimEnd().split("\n");
  assertEquals(lines.slice(0, 2), ["bar0+0x14.w: 0x0000", "bar0+0.l:    0x00000000"]);
  assertMatch(lines[2]!, /^ +\d+ ms {2}bar0\+0x14\.w: 0x0009$/);
  assertEquals(lines.length, 3);
});

testFds("regs --watch ends with the server", async () => {
  await using folder = temporaryFolder();
  const [path, map] = [`${folder.path}/t.sock`, `${folder.path}/t.yaml`];
  Deno.writeTextFileSync(map, MAP);
  using resources = new DisposableStack();
  resources.use(serve(path));
  let isGone = false;
  const line = ["regs", path, "--map", map, "STATE", "--watch", "1ms"];
  const { code, out } = await onTerminal(line, undefined, (text) => {
    if (text.includes("t.STATE") && !isGone) {
      isGone = true;
      resources.dispose();
    }
    return false;
  });
  assertEquals(code, 1);
  assertStringIncludes(out, "vfu: ");
});

Deno.test("regs returns 2 when the usage is wrong, and 1 for a file that can't be read", async () => {
  await using folder = temporaryFolder();
  const bad = `${folder.path}/bad.json`;
  Deno.writeTextFileSync(bad, "[]");
  const usage: [string[], RegExp][] = [
    [["x"], /Required option '--map/],
    [["x", "--map", "nvme", "CSTZ"], /^vfu: Cannot use 'CSTZ' as register: .*did you mean CSTS/],
    [["x", "--map", "nvme", "--watch", "1s", "--diff", "y"], /--diff .* cannot be used with/],
    [["x", "--map", "nvme", "--diff", bad], /no list "registers"/],
  ];
  for (const [args, why] of usage) {
    const { code, out, err } = await runHere(["regs", ...args]);
    assertEquals([code, out], [2, ""], err);
    assertMatch(err, why);
  }
  const missing = await runHere(["regs", "x", "--map", "nvme", "--diff", `${folder.path}/none`]);
  assertEquals([missing.code, missing.out], [1, ""]);
  assertMatch(missing.err, /Cannot read .*none/);
  const raw = await runHere(["read", "x", "bar0", "--watch", "1s", "--format", "raw"]);
  assertEquals(raw.code, 2);
});
