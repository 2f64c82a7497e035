import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import {
  RegionReadRequest,
  RegionWriteReply,
  RegionWriteRequest,
} from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { startDemo } from "../../_demo_process.ts";
import { assertGolden, type Outcome, runHere, runThere, temporaryFolder } from "../_cli.ts";
import { assertFailures, replyRead, runOdd, withBar0 } from "../_registers.ts";
import type { Answer } from "../_server.ts";
import { loads } from "../../_loads.ts";

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

const ROOT = new URL("../../../", import.meta.url).pathname;

/** bar0 is memory; `writes` has what was written, as [offset, bytes]. */
function memory(bytes: Uint8Array, writes: [offset: number, data: string][] = []): Answer {
  return withBar0(bytes.length, (request) => {
    if (request.command === Command.REGION_READ) {
      const { offset, count } = RegionReadRequest.decode(request.payload);
      return replyRead(request, bytes.subarray(Number(offset), Number(offset) + count));
    }
    if (request.command !== Command.REGION_WRITE) return "default";
    const { offset, region, data } = RegionWriteRequest.decode(request.payload);
    writes.push([Number(offset), data.toHex()]);
    bytes.set(data, Number(offset));
    request.reply(RegionWriteReply.encode({ offset, region, count: data.length }));
  });
}

/** The registers of QEMU's nvme after a reset, with CSTS of a shutdown. */
function nvme(): Uint8Array {
  const bytes = new Uint8Array(0x2000);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, 0x0040_1820_0f01_07ffn, true);
  view.setUint32(8, 0x0001_0400, true);
  view.setUint32(0x14, 0x0046_0000, true);
  view.setUint32(0x1c, 0x9, true);
  return bytes;
}

function vfu(...args: string[]): Promise<Outcome> {
  const [command, ...rest] = args;
  return runOdd(memory(nvme()), command!, ...rest, "--map", "nvme");
}

Deno.test("read --map shows registers with their fields", async () => {
  const { code, out, err } = await vfu("read", "nvme.CAP", "VS", "nvme.csts", "INTMS", "bar0+0x14");
  assertEquals([code, err], [0, ""]);
  assertGolden("map-read.txt", out);
  assertEquals((await vfu("read", "CSTS.SHST")).out, "0x00000009\n  SHST=2 (shutdown complete)\n");
});

Deno.test("read --map shows the value alone in other bases, and several as a dump", async () => {
  assertEquals((await vfu("read", "CSTS", "--format", "dec")).out, "9\n");
  assertEquals((await vfu("read", "CSTS", "--format", "raw")).out, "\x09\0\0\0");
  assertMatch((await vfu("read", "CSTS", "--count", "1")).out, /^0000001c {2}00000009 +\|.*\|\n$/);
});

Deno.test("read --map --json has the fields", async () => {
  const { out } = await vfu("read", "CSTS.SHST", "ASQ", "--json");
  const [csts, asq] = out.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(csts, {
    address: "CSTS.SHST",
    region: "bar0",
    offset: 0x1c,
    width: 4,
    value: 9,
    via: "message",
    fields: [{ name: "SHST", bits: "3:2", value: 2, meaning: "shutdown complete" }],
  });
  assertEquals(asq.fields, [{ name: "ASQB", bits: "63:12", value: 0 }]);
});

Deno.test("write --map changes one field, by number or name", async () => {
  const writes: [number, string][] = [];
  const { code, err } = await runOdd(
    memory(nvme(), writes),
    "write",
    "CC.EN=1",
    "nvme.CC.SHN=normal-shutdown",
    "AQA=0x1f001f",
    "SQTDBL[2].SQT=7",
    "--map",
    "nvme",
    "--verify",
  );
  assertEquals([code, err], [0, ""]);
  assertEquals(writes, [
    [0x14, "01004600"],
    [0x14, "01404600"],
    [0x24, "1f001f00"],
    [0x1010, "07000000"],
  ]);
});

Deno.test("write --map leaves alone what ones would clear", async () => {
  await using folder = temporaryFolder();
  const map = `${folder.path}/m.yaml`;
  Deno.writeTextFileSync(
    map,
    "{name: m, registers: [{name: S, offset: 0, width: 1, fields: [{name: ERR, bits: 7, " +
      "access: w1c}, " +
      "{name: LATE, bits: 6, access: w1c}, {name: ON, bits: 0}]}]}",
  );
  const write = async (assignment: string) => {
    const writes: [number, string][] = [];
    const answer = memory(new Uint8Array([0xc2]), writes);
    assertEquals((await runOdd(answer, "write", assignment, "--map", map)).code, 0);
    return writes;
  };
  assertEquals(await write("S.ON=1"), [[0, "03"]]);
  assertEquals(await write("m.S.ERR=1"), [[0, "82"]]);
});

Deno.test("poll --map waits for a field, by number or name", async () => {
  const ready = "0x00000009\n  RDY=1\n";
  assertEquals(await vfu("poll", "CSTS.RDY", "--equals", "1"), { code: 0, out: ready, err: "" });
  const { out } = await vfu("poll", "CSTS.SHST", "--equals", "shutdown complete");
  assertEquals(out, "0x00000009\n  SHST=2 (shutdown complete)\n");
  const late = await vfu("poll", "CSTS.CFS", "--equals", "1", "--for", "30ms");
  assertEquals([late.code, late.out], [1, ""]);
});

Deno.test("--map takes several maps, and addresses as ever beside them", async () => {
  const args = ["pci.VENDOR_ID", "nvme.VS", "COMMAND.w", "bar0+4.l", "MSIX_FLAGS"];
  const { code, out } = await runHere(
    ["read", demo.path, ...args, "--map", "nvme", "--map", "pci", "--pci-enable"],
  );
  assertEquals(code, 0);
  assertEquals(out.match(/^\S+:/gm), args.map((text) => `${text}:`));
  assertStringIncludes(out, "QSIZE=");
});

Deno.test("--map demo names the registers of the demo device", async () => {
  const map = ["--map", "demo"];
  const all = ["ID", "VERSION.MAJOR", "STATUS.READY", "DMA_ERRNO"];
  const { code, out, err } = await runHere(["read", demo.path, ...all, ...map]);
  assertEquals([code, err], [0, ""]);
  assertMatch(out, /^ID:\s+0x64756676$/m);
  assertMatch(out, /ERRNO=0x0 \(none\)/);
  const written = await runHere(["write", demo.path, "DMA_CONTROL.VECTOR=2", ...map, "--verify"]);
  assertEquals([written.code, written.err], [0, ""]);
});

Deno.test("--map needs no permission but to read, and asks for none", async () => {
  const permissions = ["--allow-ffi", `--allow-read=${ROOT},${demo.path}`];
  const { code, out, err } = await runThere(["read", demo.path, "COMMAND", "--map", "pci"], {
    permissions,
  });
  assertEquals([code, err], [0, ""]);
  assertMatch(out, /^0x[0-9a-f]{4}\n {2}IO=\d MEMORY=\d MASTER=\d/);
});

Deno.test("without --map no map is loaded, and no package that reads one", async () => {
  const loaded = await loads(new URL("../../../", import.meta.url), "cli/commands/read.ts");
  const others = loaded.filter((each) => each.startsWith("npm:") || each.includes("/maps/"));
  assertEquals(others.map((each) => each.split("@^")[0]), ["npm:@commander-js/extra-typings"]);
});

Deno.test("--map tells of all mistakes in a file, each on a line", async () => {
  await using folder = temporaryFolder();
  const map = `${folder.path}/m.yaml`;
  Deno.writeTextFileSync(map, "name: m\nregisters:\n  - {name: A, ofset: 0, width: 3}\n");
  const { code, out, err } = await runHere(["read", "/nonexistent", "A", "--map", map]);
  assertEquals([code, out], [1, ""]);
  assertGolden("map-mistakes.txt", err.replaceAll(map, "m.yaml"));
});

Deno.test("--map returns 2 and sends nothing when the usage is wrong", async (t) => {
  const invalid = (text: string, name = "address") => `Cannot use '${text}' as ${name}:`;
  const map = ["--map", "nvme"];
  await assertFailures(t, "/nonexistent/socket", 2, [
    [
      ["read", "CSTX", ...map],
      `${invalid("CSTX")} "CSTX" is no register of nvme; did you mean CSTS?`,
    ],
    [
      ["read", "CSTS", "--map", "nvm"],
      `Cannot use 'nvm' for --map: There is no map "nvm"; did you mean "nvme"?`,
    ],
    [
      ["write", "CC.EN=2", ...map],
      `${invalid("CC.EN=2", "address=value")} 2 does not fit EN, which has 1 bit: 0`,
    ],
    [
      ["write", "CC=0x1_0000_0000", ...map],
      `${invalid("CC=0x1_0000_0000", "address=value")} 0x100000000 does not fit 32 bits`,
    ],
    [
      ["poll", "CSTS.SHST", "--equals", "complet", ...map],
      `Cannot use 'complet' for --equals: "complet" is no value of SHST; ` +
      `write a number or "normal operation", "shutdown in progress", "shutdown complete"`,
    ],
  ]);
});
