import { assertEquals, assertMatch } from "@std/assert";
import { Interrupted } from "../../cli/shared/context.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { RegionWriteReply, RegionWriteRequest } from "../../lib/wire/access.ts";
import { Command } from "../../lib/wire/command.ts";
import { assertGolden, runHere, temporaryFolder } from "./_cli.ts";
import { withBar0 } from "./_registers.ts";
import { type Answer, atCommand, replyRegion, serveOddly } from "./_server.ts";

/** A folder with a file of random bytes, and the socket of a demo device. */
async function withFile(
  size: number,
  body: (
    paths: { socket: string; file: string },
    bytes: Uint8Array,
    device: DemoDevice,
  ) => Promise<void>,
): Promise<void> {
  await using folder = temporaryFolder();
  const paths = { socket: `${folder.path}/demo.sock`, file: `${folder.path}/file` };
  const device = new DemoDevice();
  try {
    using _server = Server.listen(paths.socket, device);
    const bytes = Uint8Array.from({ length: size }, () => Math.random() * 256);
    Deno.writeFileSync(paths.file, bytes);
    await body(paths, bytes, device);
  } finally {
    device.close();
  }
}

function content(device: DemoDevice, length: number): string {
  const bytes = new Uint8Array(length);
  device.regions[2]!.read(0, bytes);
  return bytes.toHex();
}

Deno.test("load shows its help", async () => {
  assertGolden("load-help.txt", (await runHere(["load", "--help"])).out);
});

for (const via of [[], ["--via", "message"]]) {
  Deno.test(`load ${via.join(" ")} writes a whole region, and says nothing`, () =>
    withFile(0x10000, async ({ socket, file }, bytes, device) => {
      const outcome = await runHere(["load", socket, "bar2", file, ...via]);
      assertEquals(outcome, { code: 0, out: "", err: "" });
      assertEquals(content(device, 0x10000), bytes.toHex());
    }));
}

Deno.test("load leaves the rest of the region as it is after a smaller file, and says so", () =>
  withFile(1001, async ({ socket, file }, bytes, device) => {
    device.regions[2]!.write(0, new Uint8Array(1003).fill(0xee));
    const { code, out, err } = await runHere(["load", socket, "bar2", file]);
    assertEquals([code, out], [0, ""]);
    assertEquals(err, `${file} has 1001 bytes; the other 64535 of bar2 stay as they are\n`);
    assertEquals(content(device, 1003), bytes.toHex() + "eeee");
  }));

Deno.test("load writes in accesses of the width that the region is given", () =>
  withFile(12, async ({ socket, file }, bytes) => {
    const { code } = await runHere(["load", socket, "bar0.l", file]);
    const scratch = new DataView(bytes.buffer, 8).getUint32(0, true);
    const { out } = await runHere(["read", socket, "bar0+8", "--format", "dec"]);
    assertEquals([code, out], [0, `${scratch}\n`]);
  }));

Deno.test("load writes to a range of a region, and refuses a file that is larger", () =>
  withFile(16, async ({ socket, file }, bytes, device) => {
    device.regions[2]!.write(0, new Uint8Array(64).fill(0xee));
    const outcome = await runHere(["load", socket, "bar2+16..32", file]);
    assertEquals(outcome, { code: 0, out: "", err: "" });
    const around = "ee".repeat(16);
    assertEquals(content(device, 48), around + bytes.toHex() + around);
    const larger = await runHere(["load", socket, "bar2+16..24", file]);
    const why = `Cannot load ${file}: it has 16 bytes, bar2+16..24 has 8`;
    assertEquals(larger, { code: 1, out: "", err: `vfu: ${why}\n` });
  }));

Deno.test("load refuses a file that is larger than the region, and sends nothing of it", () =>
  withFile(0x10001, async ({ socket, file }, _, device) => {
    const { code, out, err } = await runHere(["load", socket, "bar2", file]);
    assertEquals([code, out], [1, ""]);
    assertEquals(err, `vfu: Cannot load ${file}: it has 65537 bytes, bar2 has 65536\n`);
    assertEquals(content(device, 4), "00000000");
  }));

Deno.test("load fails when there is no file, before it connects", async () => {
  const { code, err } = await runHere(["load", "/nonexistent/socket", "bar0", "/nonexistent/file"]);
  assertEquals(code, 1);
  assertMatch(err, /^vfu: Cannot open \/nonexistent\/file: No such file[^\n]*\n$/);
  const folder = await runHere(["load", "/nonexistent/socket", "bar0", "/"]);
  assertEquals(folder.err, "vfu: Cannot load /: it is not a file\n");
});

/** 1 MiB in bar0, whose first 64 KiB can be written; `then` happens after those. */
function stubborn(then: (request: Parameters<Answer>[0]) => ReturnType<Answer>): Answer {
  return withBar0(1 << 20, (request) => {
    if (request.command !== Command.REGION_WRITE) return "default";
    const { offset, region, data } = RegionWriteRequest.decode(request.payload);
    if (offset >= 0x10000n) return then(request);
    request.reply(RegionWriteReply.encode({ offset, region, count: data.length }));
  });
}

Deno.test("load says how much was written when it can't go on", () =>
  withFile(0x40000, async ({ file }) => {
    const path = `${file}.sock`;
    using _server = serveOddly(path, stubborn((request) => request.fail(28)));
    const { code, err } = await runHere(["load", path, "bar0", file]);
    assertEquals(code, 1);
    assertEquals(
      err,
      "vfu: Cannot write 32768 bytes of bar0 at 0x10000: the server answered ENOSPC (No space " +
        "left on device); " +
        "65536 of 262144 bytes were written\n",
    );
  }));

Deno.test("load says how much was written at Ctrl-C", () =>
  withFile(0x100000, async ({ file }) => {
    const path = `${file}.sock`;
    const controller = new AbortController();
    // Eight are in flight together: the tenth comes when two answers are there.
    const trace = atCommand(
      Command.REGION_WRITE,
      10,
      () => controller.abort(new Interrupted("SIGINT")),
    );
    using _server = serveOddly(path, stubborn(() => "silence"), undefined, trace);
    const { code, err } = await runHere(["load", path, "bar0", file], {
      signal: controller.signal,
    });
    assertEquals(code, 130);
    assertEquals(err, "vfu: Interrupted by SIGINT; 65536 of 1048576 bytes were written\n");
  }));

/** The bytes left of a region of 2^63 bytes, of a part of the region, and of a range. */
const HUGE = 1n << 63n;
const RESTS = [["bar0", HUGE - 16n], ["bar0+16..", HUGE - 32n], ["bar0..64", 48n]] as const;
for (const [address, rest] of RESTS) {
  Deno.test(`load says that ${rest} bytes of ${address} stay as they are`, () =>
    withFile(16, async ({ file }) => {
      const path = `${file}.sock`;
      using _server = serveOddly(path, (request) => {
        const { command } = request;
        if (command === Command.DEVICE_GET_REGION_INFO) return replyRegion(request, HUGE);
        if (command !== Command.REGION_WRITE) return "default";
        const { offset, region, data } = RegionWriteRequest.decode(request.payload);
        request.reply(RegionWriteReply.encode({ offset, region, count: data.length }));
      });
      const { code, err } = await runHere(["load", path, address, file]);
      const name = address.includes(".") ? address : "bar0";
      const stays = `the other ${rest} of ${name} stay as they are`;
      assertEquals({ code, err }, { code: 0, err: `${file} has 16 bytes; ${stays}\n` });
    }));
}

Deno.test("commands that read a file refuse a pipe that no process writes, and do not wait for one", async () => {
  await using folder = temporaryFolder();
  const pipe = `${folder.path}/pipe`;
  const made = await new Deno.Command("mkfifo", { args: [pipe] }).output();
  assertEquals(made.code, 0);
  const nowhere = `${folder.path}/none.sock`;
  const cases: [args: string[], doing: string][] = [
    [["load", nowhere, "bar0", pipe], "load"],
    [["migrate", "restore", nowhere, pipe], "use"],
    [["dma", nowhere, "--map", "1M:4K", "--fill", `1M:4K=${pipe}`], "fill with"],
  ];
  for (const [args, doing] of cases) {
    const err = `vfu: Cannot ${doing} ${pipe}: it is not a file; - reads standard input\n`;
    const expected = { code: 1, out: "", err };
    assertEquals(await runHere(args), expected);
  }
});

Deno.test("load --json has what was written", () =>
  withFile(1001, async ({ socket, file }) => {
    const { code, out, err } = await runHere(["load", socket, "bar2", file, "--json"]);
    assertEquals([code, err], [0, ""]);
    assertEquals(JSON.parse(out), { region: "bar2", offset: 0, bytes: 1001, file });
  }));
