import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Interrupted } from "../../cli/shared/context.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { RegionReadRequest } from "../../lib/wire/access.ts";
import { Command } from "../../lib/wire/command.ts";
import { startDemo, startServe } from "../_demo_process.ts";
import { assertGolden, runHere, runThere, spawn, temporaryFolder } from "./_cli.ts";
import { assertFailures, replyRead, withBar0 } from "./_registers.ts";
import { type Answer, atCommand, indexOf, replyRegion, serveOddly } from "./_server.ts";

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

const MIB = 1 << 20;

/** Names of the files in a folder, but for the socket. */
function files(folder: string): string[] {
  return [...Deno.readDirSync(folder)].filter(({ isFile }) => isFile).map(({ name }) => name);
}

/**
 * A device with 1 MiB in bar0: each byte is the number of its 4 KiB. `onRead` may do something
 * else.
 */
function megabyte(onRead: (offset: number) => ReturnType<Answer>): Answer {
  return withBar0(MIB, (request) => {
    if (request.command !== Command.REGION_READ) return "default";
    const { offset, count } = RegionReadRequest.decode(request.payload);
    if (onRead(Number(offset)) === "silence") return "silence";
    return replyRead(request, page(Number(offset), count));
  });
}

function page(offset: number, count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => (offset + i) >> 12);
}

Deno.test("dump shows its help", async () => {
  assertGolden("dump-help.txt", (await runHere(["dump", "--help"])).out);
});

Deno.test("dump writes a whole region, mapped or not, and says nothing", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using device = new DemoDisposable();
  using _server = Server.listen(path, device.demo);
  const bytes = crypto.getRandomValues(new Uint8Array(0x10000));
  device.demo.regions[2]!.write(0, bytes);
  for (const via of [[], ["--via", "message"]]) {
    const file = `${folder.path}/bar2`;
    const outcome = await runHere(["dump", path, "bar2", "-o", file, ...via]);
    assertEquals(outcome, { code: 0, out: "", err: "" });
    assertEquals(Deno.readFileSync(file).toHex(), bytes.toHex());
  }
  assertEquals(files(folder.path), ["bar2"]);
});

class DemoDisposable {
  readonly demo = new DemoDevice();
  [Symbol.dispose](): void {
    this.demo.close();
  }
}

Deno.test("dump -o - writes to standard output", async () => {
  const { code, out, err } = await runHere(["dump", demo.path, "config", "-o", "-"]);
  assertEquals([code, err, out.length], [0, "", 4096]);
  assertEquals([...out.slice(0, 4)].map((c) => c.charCodeAt(0)), [0x34, 0x12, 0xe5, 0x0d]);
});

Deno.test("dump reads in accesses of the width that the region is given", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/bar0`;
  const { code, out, err } = await runHere(["dump", demo.path, "bar0.l", "-o", file]);
  assertEquals([code, out, err], [0, "", ""]);
  assertEquals(new TextDecoder().decode(Deno.readFileSync(file).subarray(0, 4)), "vfud");
});

Deno.test("dump leaves what has come in FILE.partial when the server dies", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/dying.sock`;
  const file = `${folder.path}/bar0`;
  Deno.writeTextFileSync(file, "before");
  const server = serveOddly(
    path,
    megabyte((offset) => {
      if (offset < 0x18000) return;
      server[Symbol.dispose]();
      return "silence";
    }),
  );
  const { code, out, err } = await runHere(["dump", path, "bar0", "-o", file]);
  assertEquals([code, out], [1, ""]);
  assertMatch(err, /^vfu: [^\n]+; 98304 of 1048576 bytes are in [^\n]+\/bar0\.partial\n$/);
  assertEquals(Deno.readFileSync(`${file}.partial`), page(0, 98304));
  assertEquals(Deno.readTextFileSync(file), "before");
});

Deno.test("dump leaves what has come in FILE.partial at Ctrl-C", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/slow.sock`;
  const file = `${folder.path}/bar0`;
  const controller = new AbortController();
  using _server = serveOddly(
    path,
    megabyte((offset) => offset < 0x8000 ? undefined : "silence"),
    undefined,
    // Eight are in flight together: the ninth comes when the one answer was written.
    atCommand(Command.REGION_READ, 9, () => controller.abort(new Interrupted("SIGINT"))),
  );
  const args = ["dump", path, "bar0", "-o", file];
  assertEquals(await runHere(args, { signal: controller.signal }), {
    code: 130,
    out: "",
    err: `vfu: Interrupted by SIGINT; 32768 of 1048576 bytes are in ${file}.partial\n`,
  });
  assertEquals(files(folder.path), ["bar0.partial"]);
});

Deno.test("dump leaves no file when nothing has come", async (t) => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/file`;
  await assertFailures(t, demo.path, 1, [
    [["dump", "bar1", "-o", file], "Cannot access bar1: the device does not have it"],
    [
      ["dump", "77", "-o", file],
      "Cannot get the info of region 77: the server answered EINVAL (Invalid argument)",
    ],
    [
      ["dump", "bar0", "--pci-enable", "-o", file],
      "Cannot read 4096 bytes of bar0 at 0x0: the server answered EINVAL (Invalid argument); " +
      "reads of 4 bytes are answered there: read 4 at a time, as bar0.l does",
    ],
    [
      ["dump", "bar2", "--via", "map", "-o", file],
      "Cannot access 32768 bytes of bar2 at 0x0 through the map: that is not in one mapped area",
    ],
  ]);
  assertEquals(files(folder.path), []);
});

/** The refusing device, served by a process of its own. */
const REFUSING = new URL("./_refusing_device.ts", import.meta.url).pathname;

/** The bytes of that device's bar0, 0xff where the device refuses. `refused` are ranges. */
function registers(start: number, end: number, refused: readonly [number, number][]): string {
  const bytes = new Uint8Array(end);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < end; at += 4) view.setUint32(at, at, true);
  for (const [from, to] of refused) bytes.fill(0xff, from, to);
  return bytes.subarray(start).toHex();
}

Deno.test("dump keeps what it could read, and lists what was refused", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/bar0`;
  await using server = await startServe(REFUSING);
  const dump = async (region: string, ...args: string[]) => {
    const { code, out, err } = await runHere(["dump", server.path, region, "-o", file, ...args]);
    assertEquals([code, out], [1, ""]);
    return err.replaceAll(folder.path, "");
  };
  // Without a width what is around a refused register goes with it, up to 256 bytes.
  const first = (range: string, count: number, hint: string) =>
    `bar0+0x1000..0x2000 (4 KiB) was refused: EINVAL (Invalid argument)\n` +
    `bar0+${range} was refused: EINVAL (Invalid argument)\n` +
    `vfu: ${count} bytes of bar0 were refused, and are 0xff in /bar0; the first: Cannot read ` +
    `${hint}`;
  const coarse = await dump("bar0");
  assertEquals(
    coarse.startsWith(first("0x8000..0x8100 (256 B)", 0x1100, "32768 bytes of bar0 at 0x0: ")),
    true,
    coarse,
  );
  assertEquals(
    Deno.readFileSync(file).toHex(),
    registers(0, 0x10000, [[0x1000, 0x2000], [0x8000, 0x8100]]),
  );
  // With one it does not.
  const fine = await dump("bar0.l");
  assertEquals(
    fine.startsWith(first("0x8004..0x8008 (4 B)", 0x1004, "4 bytes of bar0 at 0x1000: ")),
    true,
    fine,
  );
  const expected = registers(0, 0x10000, [[0x1000, 0x2000], [0x8004, 0x8008]]);
  assertEquals(Deno.readFileSync(file).toHex(), expected);
  assertEquals(files(folder.path), ["bar0"]);
  const { code, out } = await runHere(["dump", server.path, "bar0+0x1ff0..0x2010.l", "-o", "-"]);
  assertEquals([code, out.length, out.slice(0, 16)], [1, 32, "\xff".repeat(16)]);
});

Deno.test("dump of a region that refuses everything leaves no file", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/file`;
  await using server = await startServe(REFUSING);
  const all = await runHere(["dump", server.path, "bar0+0x1000..0x2000.l", "-o", file]);
  assertEquals([all.code, all.out], [1, ""]);
  assertMatch(all.err, /^vfu: Cannot read 4 bytes of bar0 at 0x1000: the server answered EINVAL /);
  const writeOnly = await runHere(["dump", server.path, "bar1", "-o", file]);
  assertEquals(writeOnly, {
    code: 1,
    out: "",
    err: "vfu: Cannot access bar1: the device says that it can't be read\n",
  });
  assertEquals(files(folder.path), []);
  // What is mapped needs no message.
  assertEquals((await runHere(["dump", server.path, "bar2", "-o", file])).code, 0);
  assertEquals(files(folder.path), ["file"]);
});

Deno.test("dump takes a range of a region", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/range`;
  await using server = await startServe(REFUSING);
  for (
    const [range, start, end] of [
      ["bar0+0x2000..0x2100", 0x2000, 0x2100],
      ["bar0+12K..0x4000.l", 0x3000, 0x4000],
      ["bar0..4K", 0, 0x1000],
      ["bar0+0xfff0..", 0xfff0, 0x10000],
      ["0+8..16.q", 8, 16],
    ] as const
  ) {
    const outcome = await runHere(["dump", server.path, range, "-o", file]);
    assertEquals(outcome, { code: 0, out: "", err: "" }, range);
    assertEquals(Deno.readFileSync(file).toHex(), registers(start, end, []), range);
  }
  for (
    const [range, why] of [
      ["bar0+0xfff0..0x10010", "Cannot access 32 bytes of bar0 at 0xfff0: it has 0x10000 bytes"],
      ["bar0+2..8.l", "Cannot access 4 bytes of bar0 at 0x2: the offset is not a multiple of 4"],
    ] as const
  ) {
    const outcome = await runHere(["dump", server.path, range, "-o", file]);
    assertEquals(outcome, { code: 1, out: "", err: `vfu: ${why}\n` });
  }
});

Deno.test("dump asks for --max-size before it writes a region that is said to be huge", async () => {
  await using folder = temporaryFolder();
  const [path, file] = [`${folder.path}/huge.sock`, `${folder.path}/bar0`];
  const commands: number[] = [];
  using _server = serveOddly(path, (request) => {
    commands.push(request.command);
    if (request.command !== Command.DEVICE_GET_REGION_INFO) return "default";
    replyRegion(request, indexOf(request) === 0 ? 1n << 63n : 3n << 29n);
  });
  const CASES: [args: string[], line: string][] = [
    [["bar0"], "Cannot dump bar0: the server says that it has 8 EiB, more than 1 GiB"],
    [["bar1"], "Cannot dump bar1: the server says that it has 1.5 GiB, more than 1 GiB"],
    [
      ["bar1", "--max-size", "512M"],
      "Cannot dump bar1: the server says that it has 1.5 GiB, more than 512 MiB",
    ],
  ];
  for (const [args, line] of CASES) {
    const { code, err } = await runHere(["dump", path, ...args, "-o", file]);
    assertEquals([code, err], [1, `vfu: ${line}; --max-size allows more\n`]);
  }
  assertEquals(commands.includes(Command.REGION_READ), false);
  assertEquals([...Deno.readDirSync(folder.path)].length, 1); // the socket
  const allowed = await runHere(["dump", path, "bar1", "-o", file, "--max-size", "2G"]);
  // Refused by the server.
  assertStringIncludes(allowed.err, "Cannot read 32768 bytes of bar1 at 0x0");
});

Deno.test("dump returns 2 when the usage is wrong", async (t) => {
  const invalid = (text: string) =>
    `Cannot use '${text}' as region: "${text}" is no region; ` +
    "write bar0 to bar5, rom, config, vga or an index, then .b, .w, .l or .q if the width of " +
    "accesses matters, or a range, as bar0+0x100..0x200";
  await assertFailures(t, "/nonexistent/socket", 2, [
    [["dump", "bar0"], "Required option '-o, --output <file>' not specified; see vfu dump --help"],
    [["dump", "bar0+4", "-o", "x"], invalid("bar0+4")],
    [
      ["dump", "VENDOR", "-o", "x"],
      `Cannot use 'VENDOR' as region: "VENDOR" is no region, capability or register; ` +
      "write REGION+OFFSET[.b|.w|.l|.q], as bar0+0x1c.l, config+4.w, CAP_PM+4.w or COMMAND.w; " +
      "a name of a register map needs --map",
    ],
    [["dump", "bar0+x..8", "-o", "x"], invalid("bar0+x..8")],
    [["dump", "bar0.l+4..8", "-o", "x"], invalid("bar0.l+4..8")],
    [
      ["dump", "bar0+8..8", "-o", "x"],
      "Cannot use 'bar0+8..8' as region: bar0+8..8 ends where " +
      "it begins or before; write it as bar0+0x100..0x200",
    ],
  ]);
});

Deno.test("dump fails when it can't make the file, before it connects", async () => {
  const { code, err } = await runHere([
    "dump",
    "/nonexistent/socket",
    "bar0",
    "-o",
    "/nonexistent/x",
  ]);
  assertEquals(code, 1);
  assertMatch(
    err,
    /^vfu: Cannot make \/nonexistent\/x\.partial: No such file or directory[^\n]*\n$/,
  );
});

Deno.test("dump -o - ends quietly when nobody reads", async () => {
  const child = spawn(["dump", demo.path, "bar2", "-o", "-"]);
  await child.stdout.cancel();
  const [{ code }, err] = await Promise.all([child.status, new Response(child.stderr).text()]);
  assertEquals([code, err], [0, ""]);
});

for (const [address, args] of [["bar2", []], ["bar2", ["--via", "message"]]] as const) {
  Deno.test(`dump ${address} ${args.join(" ")} says how much a file took that must not grow`, async () => {
    await using folder = temporaryFolder();
    const file = `${folder.path}/bar2.bin`;
    const line = ["dump", demo.path, address, "-o", file, ...args];
    const permissions = ["--allow-ffi", "--allow-read", "--allow-write"];
    assertEquals((await runThere(line, { permissions })).code, 0); // Deno's caches have all now
    assertEquals(await runThere(line, { permissions, fileBlocks: 40 }), {
      code: 1,
      out: "",
      err: `vfu: Cannot write ${file}.partial: File too large (os error 27); ` +
        `20480 of 65536 bytes are in ${file}.partial\n`,
    });
    assertEquals(Deno.statSync(`${file}.partial`).size, 20480);
  });
}

Deno.test("dump --json has what was dumped, and what was refused", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/bar0`;
  await using server = await startServe(REFUSING);
  const dump = (...args: string[]) => runHere(["dump", server.path, "-o", file, "--json", ...args]);
  const whole = { region: "bar0", offset: 0x2000, bytes: 0x100, file, refused: [] };
  assertEquals(JSON.parse((await dump("bar0+0x2000..0x2100")).out), whole);
  const { code, out, err } = await dump("bar0+0x1ff0..0x2010.l");
  assertEquals(code, 1, err);
  assertEquals(JSON.parse(out), {
    region: "bar0",
    offset: 0x1ff0,
    bytes: 32,
    file,
    refused: [{ offset: 0x1ff0, bytes: 16, reason: "EINVAL (Invalid argument)" }],
  });
  assertEquals((await runHere(["dump", server.path, "bar0", "-o", "-", "--json"])).code, 2);
});
