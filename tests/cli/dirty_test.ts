import { assertEquals, assertMatch } from "@std/assert";
import { Interrupted } from "../../cli/shared/context.ts";
import { DemoRegister } from "../../lib/devices/demo.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { Command } from "../../lib/wire/command.ts";
import { DeviceFeatureReply, DeviceFeatureRequest, Feature } from "../../lib/wire/feature.ts";
import { startDemo } from "../_demo_process.ts";
import { LibvfioUser } from "../lib/_libvfio_user.ts";
import { assertGolden, type Outcome, runHere, temporaryFolder } from "./_cli.ts";
import { assertFailures, runOdd } from "./_registers.ts";
import { serveOddly } from "./_server.ts";
import { until } from "../_until.ts";

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

/** Has the demo device copy 8 KiB from 1 MiB to 2 MiB + 4 KiB. */
const COPY = ["0x40=0x100000", "0x48=0x201000", "0x50=8192", "0x54=1"].flatMap((write) => [
  "--write",
  `bar0+${write}`,
]);
/** The value of DMA_STATUS after a copy. */
const COPIED = 1;
const RANGES = ["--map", "1M:64K", "--map", "2M:64K"];

/** Runs `vfu dirty` until the device has copied, and then Ctrl-C. */
async function dirty(...args: string[]): Promise<Outcome> {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  const device = new DemoDevice();
  using _server = Server.listen(path, device);
  const off = new AbortController();
  const running = runHere(["dirty", path, ...args, "--hold"], { signal: off.signal });
  const status = new Uint8Array(4);
  await until(() => {
    device.regions[0]!.read!(DemoRegister.DMA_STATUS, status);
    return status[0] === COPIED;
  }, "the copy");
  off.abort(new Interrupted("SIGINT"));
  return await running;
}

Deno.test("dirty shows its help", async () => {
  assertGolden("dirty-help.txt", (await runHere(["dirty", "--help"])).out);
});

for (const share of ["", ":message"]) {
  Deno.test(`dirty shows the pages that the device writes, in memory${share}`, async () => {
    const ranges = RANGES.map((text) => text.startsWith("--") ? text : text + share);
    const args = ["--pci-enable", ...ranges, ...COPY];
    assertEquals(await dirty(...args), {
      code: 130,
      out: "0x00201000      8 KiB  2 pages\n2 of 32 pages of 4 KiB written\n",
      err: "",
    });
    const large = await dirty(...args, "--page-size", "32K", "--json");
    assertEquals([large.code, large.err], [130, ""]);
    assertEquals(JSON.parse(large.out), {
      page_size: 32768,
      pages: 4,
      dirty_pages: 1,
      ranges: [{ iova: 0x200000, length: 32768 }],
    });
  });
}

Deno.test("dirty shows pages as the server has chosen them", async () => {
  const { code, out } = await dirty("--pci-enable", ...RANGES, ...COPY, "--page-size", "512");
  assertEquals([code, out], [
    130,
    "0x00201000      8 KiB  2 pages\n2 of 32 pages of 4 KiB written\n",
  ]);
});

Deno.test("dirty says why no page was written", async () => {
  await runHere(["reset", demo.path]);
  const { code, out, err } = await runHere(["dirty", demo.path, ...RANGES, ...COPY]);
  assertEquals([code, out], [0, "0 of 32 pages of 4 KiB written\n"]);
  assertMatch(
    err,
    /^No page was written\n {2}why: bus master is off in COMMAND \(0x0000\), [^\n]+\n$/,
  );
});

for (const share of ["", ":message"]) {
  Deno.test(`dirty counts what libvfio-user writes by message into memory${share}`, async () => {
    await using folder = temporaryFolder();
    using model = new LibvfioUser(`${folder.path}/device.sock`);
    const off = new AbortController();
    model.onWrite = async () => {
      await model.writeByMessage(0x102fffn, [1, 2]);
      if (share === "") model.dirty.add(0x200000n);
      off.abort(new Interrupted("SIGINT"));
    };
    const ranges = RANGES.map((text) => text.startsWith("--") ? text : text + share);
    const args = ["dirty", model.path, ...ranges, "--write", "config+0x40=1", "--hold"];
    const { code, out, err } = await runHere(args, { signal: off.signal });
    const first = "0x00102000      8 KiB  2 pages\n";
    const second = share === "" ? "0x00200000      4 KiB  1 page\n" : "";
    const count = share === "" ? 3 : 2;
    assertEquals([code, err], [130, ""]);
    assertEquals(out, `${first}${second}${count} of 32 pages of 4 KiB written\n`);
  });
}

Deno.test("dirty takes back what it set up when Ctrl-C comes while the log is started", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/odd.sock`;
  const off = new AbortController();
  const came: string[] = [];
  using _server = serveOddly(path, (request) => {
    const { command, payload } = request;
    if (command === Command.DMA_MAP || command === Command.DMA_UNMAP) {
      came.push(command === Command.DMA_MAP ? "map" : "unmap");
      return request.reply(payload.slice());
    }
    if (command !== Command.DEVICE_FEATURE) return "default";
    const { flags } = DeviceFeatureRequest.decode(payload);
    came.push((flags & 0xffff) === Feature.DMA_LOGGING_START ? "start" : "stop");
    if (came.at(-1) === "start") off.abort(new Interrupted("SIGINT"));
    request.reply(DeviceFeatureReply.encode({ argsz: 8, flags, data: new Uint8Array() }));
  });
  const outcome = await runHere(["dirty", path, ...RANGES, "--hold"], { signal: off.signal });
  assertEquals(outcome, { code: 130, out: "", err: "" });
  assertEquals(came, ["map", "map", "start", "stop", "unmap", "unmap"]);
});

Deno.test("dirty returns 1 for a device without a log, and for ranges of no whole pages", async (t) => {
  const odd = await runOdd(
    (request) => request.command === 2 || request.command === 3 ? request.reply() : "default",
    "dirty",
    "--map",
    "0:4K",
  );
  assertEquals(odd.code, 1);
  assertMatch(odd.err, /^vfu: Cannot start logging which pages of 4096 bytes the device writes: /);
  await assertFailures(t, demo.path, 1, [
    [
      ["dirty", "--map", "0x1000:64K", "--page-size", "64K"],
      "Cannot log 0x10000 bytes at IOVA 0x1000: it is not of whole pages of 64 KiB",
    ],
  ]);
});

Deno.test("dirty returns 2 when the usage is wrong", async (t) => {
  await assertFailures(t, "/nonexistent/socket", 2, [
    [["dirty"], "No memory is given; write it as --map IOVA:SIZE, as --map 1M:64K"],
    [
      ["dirty", "--map", "1"],
      `Cannot use '1' for --map: "1" is no map; write IOVA:SIZE[:ro|:wo][:file=PATH|:message], ` +
      "as 0x100000:64K:ro",
    ],
    [
      ["dirty", "--map", "0:4K", "--page-size", "0"],
      `Cannot use '0' for --page-size: 0 is no page size; a power of two is needed`,
    ],
    [
      ["dirty", "--map", "0:4K", "--page-size", "12K"],
      `Cannot use '12K' for --page-size: 12K is no page size; a power of two is needed`,
    ],
  ]);
});
