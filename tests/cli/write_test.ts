import { assertEquals } from "@std/assert";
import { connect } from "../../lib/client/connect.ts";
import { RegionWriteReply, RegionWriteRequest } from "../../lib/wire/access.ts";
import { Command } from "../../lib/wire/command.ts";
import { RegionFlags } from "../../lib/wire/region.ts";
import { startDemo } from "../_demo_process.ts";
import { assertGolden, runHere } from "./_cli.ts";
import { assertFailures, replyRead, runOdd, withBar0 } from "./_registers.ts";
import type { Answer } from "./_server.ts";

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

async function write(...args: string[]): Promise<void> {
  assertEquals(await runHere(["write", demo.path, ...args]), { code: 0, out: "", err: "" });
}

async function read(...addresses: string[]): Promise<string[]> {
  const { out } = await runHere(["read", demo.path, "bar0", ...addresses]);
  return out.match(/(?<= )0x\w+/g)!.slice(1);
}

Deno.test("write shows its help", async () => {
  assertGolden("write-help.txt", (await runHere(["write", "--help"])).out);
});

Deno.test("write writes values of all widths, in any base, and says nothing", async () => {
  await write(
    "bar2+0x1000.b=0b1010",
    "bar2+0x1002.w=0o17",
    "bar2+0x1004=4_294_967_295",
    "bar2+8.q=0xffff_ffff_ffff_fffe",
    "INTERRUPT_LINE=11",
  );
  assertEquals(
    await read("bar2+0x1000.b", "bar2+0x1002.w", "bar2+0x1004", "bar2+8.q", "INTERRUPT_LINE"),
    ["0x0a", "0x000f", "0xffffffff", "0xfffffffffffffffe", "0x0b"],
  );
});

Deno.test("write writes in the order of the arguments", async () => {
  await write("bar0+8=1", "bar0+8=2");
  assertEquals(await read("bar0+8"), ["0x00000002"]);
});

Deno.test("write changes only the bits of the mask", async () => {
  await write("bar0+8=0xaaaa5555", "bar0+8=0x00ff0000:0x0fff0000");
  assertEquals(await read("bar0+8"), ["0xa0ff5555"]);
});

Deno.test("write --posted asks for no answer, and is done before it ends", async () => {
  await write("--posted", "bar0+8=7", "bar2+0x2000.q=9");
  assertEquals(await read("bar0+8", "bar2+0x2000.q"), ["0x00000007", "0x0000000000000009"]);
  const posted: boolean[] = [];
  const answer = register((isPosted) => posted.push(isPosted));
  const { code } = await runOdd(answer, "write", "bar0=1", "--posted", "--verify");
  assertEquals([code, posted], [0, [true]]);
});

Deno.test("write asks for answers when it is not --posted", async () => {
  const posted: boolean[] = [];
  const answer = register((isPosted) => posted.push(isPosted));
  const { code } = await runOdd(answer, "write", "bar0=1", "bar0=0:1", "--verify");
  assertEquals([code, posted], [0, [false, false]]);
});

Deno.test("write --verify reads back, and fails when it is not as written", async () => {
  await write("--verify", "bar0+8=5", "bar0+8=0x30:0xf0", "bar2+0x1000.q=1");
  const { code, out, err } = await runHere(["write", demo.path, "--verify", "bar0=5", "bar0+8=6"]);
  assertEquals([code, out], [1, ""]);
  assertEquals(err, "vfu: bar0 is not as written: expected 0x00000005, found 0x64756676\n");
  assertEquals(await read("bar0+8"), ["0x00000035"]); // nothing is written after a failure
});

Deno.test("write --verify compares under the mask", async () => {
  await write("--verify", "bar0=0x76:0xff"); // the bits of the read-only register are as written
  const { code, err } = await runHere(["write", demo.path, "--verify", "bar0=0x1:0xff"]);
  assertEquals(code, 1);
  assertEquals(
    err,
    "vfu: bar0 is not as written: expected 0x00000001 under the mask 0x000000ff, found " +
      "0x64756676\n",
  );
});

Deno.test("write returns 2 and sends nothing when the usage is wrong", async (t) => {
  const invalid = (text: string) => `Cannot use '${text}' as address=value:`;
  const cases: [text: string, why: string][] = [
    ["bar0+8.b=256", "0x100 does not fit 8 bits"],
    ["bar0+8.w=0:0x10000", "0x10000 does not fit 16 bits"],
    ["bar0=0x1_0000_0000", "0x100000000 does not fit 32 bits"],
    ["COMMAND=65536", "0x10000 does not fit 16 bits"],
    ["bar0=5:4", "0x5 has bits outside its mask 0x4"],
    ["bar0=-1", '"-1" is no value; write it as 26, 0x1a, 0b11010, 0o32 or 64K'],
    ["bar0", '"bar0" is no assignment; write ADDRESS=VALUE, as bar0+0x14.l=1'],
    [
      "=1",
      '"" is no address; write REGION+OFFSET[.b|.w|.l|.q], as bar0+0x1c.l, config+4.w, ' +
      "CAP_PM+4.w or COMMAND.w",
    ],
  ];
  await assertFailures(t, "/nonexistent/socket", 2, [
    [["write"], "Missing required argument 'address=value'; see vfu write --help"],
    ...cases.map(([text, why]) =>
      [["write", "bar0+8=1", text], `${invalid(text)} ${why}`] as [string[], string]
    ),
  ]);
});

Deno.test("write returns 1 and says why in one line when it can't be done", async (t) => {
  await assertFailures(t, demo.path, 1, [
    [["write", "bar0+0x1000=1"], "Cannot access 4 bytes of bar0 at 0x1000: it has 0x1000 bytes"],
    [
      ["write", "bar0+1.w=1"],
      "Cannot access 2 bytes of bar0 at 0x1: the offset is not a multiple of 2",
    ],
    [["write", "rom=1"], "Cannot access rom: the device does not have it"],
    [["write", "CAP_HT.w=1"], "Cannot find CAP_HT.w: the device has no capability CAP_HT"],
    [
      ["write", "bar0.b=1"],
      "Cannot write 1 byte of bar0 at 0x0: the server answered EINVAL (Invalid argument); the " +
      "register may take another width only (.b, .w, .l or .q), or not this value; the BAR has " +
      "no address yet: if that is why, enable the device first (--pci-enable, " +
      "device.pci.enable(), or pci enable in a session)",
    ],
    [
      ["write", "--pci-enable", "bar0.b=1"],
      "Cannot write 1 byte of bar0 at 0x0: the server answered EINVAL (Invalid argument); the " +
      "register may take another width only (.b, .w, .l or .q), or not this value; the BAR has " +
      "an address, and memory decoding is on",
    ],
  ]);
  using device = await connect(demo.path);
  await device.reset(); // what --pci-enable has switched on
});

Deno.test("write looks for all places before it writes to any", async () => {
  await write("bar0+8=0x11");
  const { code } = await runHere(["write", demo.path, "bar0+8=0x22", "CAP_HT=1"]);
  assertEquals([code, await read("bar0+8")], [1, ["0x00000011"]]);
});

Deno.test("write fails when the region is read-only", async () => {
  const { code, err } = await runOdd(
    withBar0(4096, () => "default", RegionFlags.READ),
    "write",
    "bar0=1",
  );
  assertEquals(code, 1);
  assertEquals(err, "vfu: Cannot access bar0: the device says that it can't be written\n");
});

/** One register in bar0, which reports for each of its writes whether the write was posted. */
function register(onWrite: (isPosted: boolean) => void): Answer {
  let value = new Uint8Array(4);
  return withBar0(4, (request) => {
    if (request.command === Command.REGION_READ) return replyRead(request, value);
    if (request.command !== Command.REGION_WRITE) return "default";
    const { offset, region, data } = RegionWriteRequest.decode(request.payload);
    value = data.slice();
    onWrite(request.noReply);
    request.reply(RegionWriteReply.encode({ offset, region, count: data.length }));
  });
}

Deno.test("write --json has a line for each register", async () => {
  const args = ["write", demo.path, "bar0+8=1", "bar0+8=0x100:0xff00", "--json"];
  const { code, out } = await runHere(args);
  assertEquals(code, 0);
  assertEquals(out.trimEnd().split("\n").map((line) => JSON.parse(line)), [
    { address: "bar0+8", width: 4, value: 1 },
    { address: "bar0+8", width: 4, value: 0x100, mask: 0xff00 },
  ]);
});
