import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { connect } from "../../lib/client/connect.ts";
import { DemoRegister } from "../../lib/devices/demo.ts";
import { Command } from "../../lib/wire/command.ts";
import { RegionReadRequest } from "../../lib/wire/access.ts";
import { RegionFlags } from "../../lib/wire/region.ts";
import { startDemo } from "../_demo_process.ts";
import { assertGolden, runHere, runThere } from "./_cli.ts";
import { assertFailures, replyRead, runOdd, withBar0 } from "./_registers.ts";

// In a process of its own: the explanation of a refusal blocks this one.
const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

const TEXT = new TextEncoder().encode("The quick brown fox jumps over the lazy dog.");

/** Puts text around the edge of what is mapped of bar2, and resets registers. */
async function prepare(): Promise<void> {
  using device = await connect(demo.path);
  await device.reset();
  await device.regionInfo(2);
  await device.region("bar2").writeAsync(0xfe8, TEXT);
}

async function read(...args: string[]): Promise<string> {
  await prepare();
  const { code, out, err } = await runHere(["read", demo.path, ...args]);
  assertEquals([code, err], [0, ""]);
  return out;
}

Deno.test("read shows its help", async () => {
  assertGolden("read-help.txt", (await runHere(["read", "--help"])).out);
});

Deno.test("read shows the value alone when there is one address", async () => {
  assertEquals(await read("bar0"), "0x64756676\n");
  assertEquals(await read("bar0+4.l", "--format", "dec"), "65536\n");
  assertEquals(await read("VENDOR_ID"), "0x1234\n");
  assertEquals(await read("config.b", "--format", "bin"), "0b00110100\n");
  assertEquals(await read("bar2+0xfe8.q"), "0x6369757120656854\n");
});

Deno.test("read shows lines of address and value when there are several", async () => {
  assertEquals(
    await read("bar0", "CAP_PM+4.w", "0+4.l", "bar2+0xff8.q"),
    "bar0:         0x64756676\n" +
      "CAP_PM+4.w:   0x0008\n" +
      "0+4.l:        0x00010000\n" +
      "bar2+0xff8.q: 0x706d756a20786f66\n",
  );
});

Deno.test("read takes several over one connection, in their order", async () => {
  const counter = `bar0+${DemoRegister.COUNTER}`;
  assertEquals(
    (await read(counter, counter, counter)).match(/0x\w+/g),
    ["0x00000001", "0x00000002", "0x00000003"],
  );
});

Deno.test("read finds capabilities with one message for all, once a connection", async () => {
  /** Messages that `vfu read` sends for these addresses. */
  const sent = async (...addresses: string[]) => {
    const { code, err } = await runHere(["read", demo.path, ...addresses, "-v"]);
    assertEquals(code, 0, err);
    return err.split("\n").filter((line) => line.includes("->")).length;
  };
  // VERSION, region info, the list, the register.
  assertEquals(await sent("CAP_MSIX+2.w"), 4);
  assertEquals(await sent("CAP_MSIX+2.w", "CAP_MSIX+4.l", "CAP_PM+4.w"), 6);
  const { err } = await runHere(["read", demo.path, "CAP_MSIX", "ECAP_SRIOV"]);
  assertEquals(err, "vfu: Cannot find ECAP_SRIOV: the device has no capability ECAP_SRIOV\n");
});

Deno.test("read --count dumps bytes together, across the edge of what is mapped", async () => {
  assertGolden("read-bytes.txt", await read("bar2+0xfe8", "--count", String(TEXT.length)));
  const forced = await read("bar2+0xfe8", "--count", String(TEXT.length), "--via", "message");
  assertGolden("read-bytes.txt", forced);
});

Deno.test("read --count dumps values one by one when the address has a width", async () => {
  assertGolden("read-values.txt", await read("bar0.l", "bar2+0xff8.w", "--count", "5"));
  assertGolden("read-dec.txt", await read("bar2+0xff8.l", "--count", "5", "--format", "dec"));
});

Deno.test("read --json writes an object a line", async () => {
  const one = { address: "bar0.l", region: "bar0", offset: 0, width: 4, value: 0x64756676 };
  assertEquals(JSON.parse(await read("bar0.l", "--json")), { ...one, via: "message" });
  const lines = (await read("bar2+0x1000.q", "bar2+4.w", "--format", "json")).trimEnd().split("\n");
  assertEquals(lines.map((line) => JSON.parse(line)), [
    {
      address: "bar2+0x1000.q",
      region: "bar2",
      offset: 0x1000,
      width: 8,
      value: "0x74207265766f2073",
      via: "map",
    },
    { address: "bar2+4.w", region: "bar2", offset: 4, width: 2, value: 0, via: "message" },
  ]);
});

Deno.test("read --json has values or data when there is a count, and says how it read", async () => {
  const json = async (...args: string[]) => {
    const { values, data, via } = JSON.parse(await read(...args, "--json"));
    return [values ?? data, via];
  };
  assertEquals(await json("bar2+0x1000.b", "--count", "2"), [[0x73, 0x20], "map"]);
  assertEquals(await json("bar2+0xffe", "--count", "4"), [
    "6d707320",
    "mixed",
  ]);
  assertEquals(await json("bar2+0xff0", "--count", "2"), ["6b20", "message"]);
  assertEquals(await json("bar2+0x1000", "--count", "1", "--via", "message"), ["73", "message"]);
});

Deno.test("read --format raw writes the bytes and nothing else", async () => {
  const args = ["bar2+0xfe8", "bar0", "--count", String(TEXT.length), "--format", "raw"];
  assertEquals(await read("bar2+0xfe8.w", "bar0", "--format", "raw"), "Thvfud");
  const { code, out } = await runThere(["read", demo.path, args[0]!, ...args.slice(2)]);
  assertEquals([code, out], [0, new TextDecoder().decode(TEXT)]);
});

Deno.test("read returns 2 and sends nothing when the usage is wrong", async (t) => {
  const form =
    "write REGION+OFFSET[.b|.w|.l|.q], as bar0+0x1c.l, config+4.w, CAP_PM+4.w or COMMAND.w";
  const needsMap = "; a name of a register map needs --map";
  const invalid = (text: string) => `Cannot use '${text}' as address:`;
  await assertFailures(t, "/nonexistent/socket", 2, [
    [["read"], "Missing required argument 'address'; see vfu read --help"],
    [
      ["read", "bar9"],
      `${invalid("bar9")} "bar9" is no region, capability or register; ${form}${needsMap}`,
    ],
    [["read", "bar0", "bar0+"], `${invalid("bar0+")} "bar0+" is no address; ${form}`],
    [
      ["read", "bar0", "--count", "0"],
      "Cannot use '0' for --count: It takes 1 at least and 16777216 at most",
    ],
    [
      ["read", "bar0", "--format", "oct"],
      "Cannot use 'oct' for --format: Allowed choices are hex, dec, bin, raw, json.",
    ],
    [
      ["read", "bar0", "--json", "--format", "hex"],
      "Option '--json' cannot be used with option '--format <form>'",
    ],
  ]);
});

Deno.test("read returns 1 and says why in one line when it can't be done", async (t) => {
  await prepare();
  const refused =
    "Cannot read 2 bytes of bar0 at 0x0: the server answered EINVAL (Invalid argument)";
  await assertFailures(t, demo.path, 1, [
    [["read", "bar0+0x1000"], "Cannot access 4 bytes of bar0 at 0x1000: it has 0x1000 bytes"],
    [
      ["read", "bar0+4", "--count", "4093"],
      "Cannot access 4093 bytes of bar0 at 0x4: it has 0x1000 bytes",
    ],
    [
      ["read", "bar2+0xff0", "--count", "32", "--via", "map"],
      "Cannot access 32 bytes of bar2 at 0xff0 through the map: that is not in one mapped area",
    ],
    [
      ["read", "bar0", "--via", "map"],
      "Cannot access 4 bytes of bar0 at 0x0 through the map: the device shares no memory for it",
    ],
    [["read", "bar2+2"], "Cannot access 4 bytes of bar2 at 0x2: the offset is not a multiple of 4"],
    [
      ["read", "bar2+2.l", "--count", "2"],
      "Cannot access 4 bytes of bar2 at 0x2: the offset is not a multiple of 4",
    ],
    [["read", "bar1"], "Cannot access bar1: the device does not have it"],
    [
      ["read", "77"],
      "Cannot get the info of region 77: the server answered EINVAL (Invalid argument)",
    ],
    [["read", "bar0", "CAP_HT"], "Cannot find CAP_HT: the device has no capability CAP_HT"],
    [
      ["read", "CAP_VNDR@1"],
      "Cannot find CAP_VNDR@1: the device has no capability CAP_VNDR number 1",
    ],
    [
      ["read", "bar0.w"],
      `${refused}; a read of 4 bytes is answered there: name the width, bar0.l`,
    ],
  ]);
});

Deno.test("read shows what it has read before a failure", async () => {
  const { code, out, err } = await runHere(["read", demo.path, "bar0", "bar0.w", "bar0+4"]);
  assertEquals([code, out], [1, "bar0:   0x64756676\n"]);
  assertStringIncludes(err, "Cannot read 2 bytes of bar0");
});

Deno.test("read --pci-enable gives BARs addresses and switches the device on", async () => {
  assertEquals(
    await read("COMMAND", "BASE_ADDRESS_0", "BASE_ADDRESS_2", "--pci-enable"),
    "COMMAND:        0x0006\nBASE_ADDRESS_0: 0x80000000\nBASE_ADDRESS_2: 0x8001000c\n",
  );
});

Deno.test("read fails when the answer has fewer or more bytes than it asked for", async () => {
  for (const length of [0, 3, 5]) {
    const answer = withBar0(
      4096,
      (request) =>
        request.command === Command.REGION_READ
          ? replyRead(request, new Uint8Array(length))
          : "default",
    );
    const { code, out, err } = await runOdd(answer, "read", "bar0");
    assertEquals([code, out], [1, ""]);
    assertEquals(
      err,
      `vfu: The server answered ${
        16 + length
      } bytes to a read of 4 bytes of bar0 at 0x0; 20 belong there, 16 of them ahead of the data\n`,
    );
  }
});

Deno.test("read asks for values one by one when the address has a width, else for all at once", async () => {
  const lengths: number[] = [];
  const answer = withBar0(4096, (request) => {
    if (request.command !== Command.REGION_READ) return "default";
    const { count } = RegionReadRequest.decode(request.payload);
    lengths.push(count);
    return replyRead(request, new Uint8Array(count));
  });
  await runOdd(answer, "read", "bar0.w", "bar0", "--count", "6");
  assertEquals(lengths, [2, 2, 2, 2, 2, 2, 6]);
});

Deno.test("read fails when the region can't be read, and asks for nothing", async () => {
  const commands: number[] = [];
  const answer = withBar0(4096, (request) => {
    commands.push(request.command);
    return "default";
  }, RegionFlags.WRITE);
  const { code, err } = await runOdd(answer, "read", "bar0");
  assertEquals(code, 1);
  assertEquals(err, "vfu: Cannot access bar0: the device says that it can't be read\n");
  assertEquals(commands.includes(Command.REGION_READ), false);
});

Deno.test("read -v shows every message", async () => {
  const { err } = await runHere(["read", demo.path, "bar0", "-v"]);
  assertMatch(err, /-> #\d+ REGION_READ request .*\n.*<- #\d+ REGION_READ reply /);
});
