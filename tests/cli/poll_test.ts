import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { awaitCondition } from "../../cli/shared/awaited.ts";
import { Condition } from "../../cli/shared/condition.ts";
import { Interrupted } from "../../cli/shared/context.ts";
import { TimeoutError } from "../../lib/base/errors.ts";
import { parseAddress } from "../../lib/client/address.ts";
import type { Device } from "../../lib/client/device.ts";
import type { Region } from "../../lib/client/region.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { Command } from "../../lib/wire/command.ts";
import { RegionInfoReply } from "../../lib/wire/region.ts";
import { assertGolden, runHere, spawn, temporaryFolder } from "./_cli.ts";
import { assertFailures, replyRead, runOdd, withBar0 } from "./_registers.ts";
import { serveOddly } from "./_server.ts";
import { until } from "../_until.ts";

const STATUS = "bar0+0x14";

Deno.test("poll shows its help", async () => {
  assertGolden("poll-help.txt", (await runHere(["poll", "--help"])).out);
});

Deno.test("poll waits until the value is there, and shows it", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  const poll = (...args: string[]) => runHere(["poll", path, ...args]);
  await runHere(["write", path, "bar0+0x10=0x0f"]);
  // STATUS is BUSY for 10 reads, then READY.
  assertEquals(await poll(STATUS, "--equals", "2"), { code: 0, out: "0x00000002\n", err: "" });
  assertEquals((await poll(STATUS, "--equals", "1:1")).out, "0x00000001\n");
  assertEquals((await runHere(["read", path, "bar0+0x18"])).out, "0xfffffff0\n");
  await runHere(["write", path, "bar2+0x1000.q=0xff00000000000001"]);
  for (const via of ["map", "message"]) {
    const { out } = await poll("bar2+0x1000.q", "--equals", "1:0xff", "--via", via);
    assertEquals(out, "0xff00000000000001\n");
  }
});

Deno.test("poll returns 1 and says the last value when the time is over", async () => {
  let reads = 0;
  const answer = withBar0(4, (request) => {
    if (request.command !== Command.REGION_READ) return "default";
    return replyRead(request, new Uint8Array([++reads, 0, 0, 0xaa]));
  });
  const args = ["bar0", "--equals", "0", "--for", "60ms", "--interval", "20ms"];
  const { code, out, err } = await runOdd(answer, "poll", ...args);
  assertEquals([code, out], [1, ""]);
  const last =
    /^vfu: bar0 did not become 0x00000000 within 60 ms; its last value was 0xaa0000(\w\w)\n$/;
  assertMatch(err, last);
  const value = parseInt(last.exec(err)![1]!, 16);
  assertEquals(value >= 1 && value <= reads, true, `${value} of ${reads}`);
  assertEquals(reads <= 5, true, `${reads} reads`);
});

Deno.test("poll says in a second line why the value may not have come", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  const poll = async (...args: string[]) => {
    const outcome = await runHere(["poll", path, ...args, "--for", "20ms"]);
    assertEquals([outcome.code, outcome.out], [1, ""]);
    return outcome.err.split("\n");
  };
  const [said, why, ...rest] = await poll(STATUS, "--equals", "2"); // it is 1: BARs are read
  assertMatch(said!, /its last value was 0x00000001$/);
  assertMatch(
    why!,
    /^ {2}why: bus master is off in COMMAND \(0x0000\), .*the reason is another one$/,
  );
  assertEquals(rest, [""]);
  const [, blank] = await poll("bar0+8", "--equals", "2"); // it is 0, as what no BAR answers
  assertMatch(blank!, /^ {2}why: BARs 0, 2 and 4 have no address .*; memory decoding is off/);
  const enabled = await poll(STATUS, "--equals", "2", "--pci-enable");
  assertEquals(enabled.length, 2);
});

Deno.test("poll names what was wanted as the user did, and the fields that it found", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  const args = ["DMA_STATUS.DONE", "--map", "demo", "--equals", "1", "--for", "20ms"];
  const { err } = await runHere(["poll", path, ...args]);
  assertEquals(
    err.split("\n")[0],
    "vfu: DMA_STATUS.DONE did not become 0x00000001 under the mask 0x00000001 within 20 ms; " +
      "its last value was 0x00000000 DONE=0",
  );
});

Deno.test("a server that no longer answers is told as that, and asked nothing more", async () => {
  const region = {
    pollAsync(_offset: number, _width: number, isThere: (value: number) => boolean) {
      isThere(0);
      return Promise.reject(new TimeoutError("the server did not answer"));
    },
  };
  const condition = new Condition("equals", [{ value: 1n }]);
  const address = parseAddress("bar0");
  await assertRejects(
    () =>
      awaitCondition(
        {} as Device, // of which nothing may be asked
        { text: "bar0", region: region as unknown as Region, offset: 0 },
        { address, width: 4, condition },
        { timeoutMs: 20, signal: new AbortController().signal },
      ),
    TimeoutError,
    "the server did not answer",
  );
});

Deno.test("poll lives on by message when the server makes the file of the region shorter", async () => {
  await using folder = temporaryFolder();
  const [path, file] = [`${folder.path}/odd.sock`, `${folder.path}/bar0`];
  Deno.writeFileSync(file, new Uint8Array(4096));
  using fd = OwnedFd.open(file);
  let reads = 0;
  using _server = serveOddly(path, (request) => {
    if (request.command === Command.REGION_READ) {
      reads++;
      return replyRead(request, new Uint8Array([1, 0, 0, 0]));
    }
    if (request.command !== Command.DEVICE_GET_REGION_INFO) return "default";
    const info = { argsz: 32, index: 0, flags: 7, size: 4096n, offset: 0n, capabilities: [] };
    request.reply(RegionInfoReply.encode(info), undefined, [fd]);
  });
  // Looks are rare: a file that shrinks between a look and its access ends the process all the
  // same.
  const args = ["poll", path, "bar0", "--equals", "1", "--for", "60s", "--interval", "50ms"];
  const child = spawn(args);
  const maps = `/proc/${child.pid}/maps`;
  await until(() => Deno.readTextFileSync(maps).includes(file), "the map");
  Deno.truncateSync(file, 0);
  const { code, stdout, stderr } = await child.output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals([code, out, err], [0, "0x00000001\n", ""]);
  assertEquals(reads, 1);
});

Deno.test("poll returns 2 and sends nothing when the usage is wrong", async (t) => {
  await assertFailures(t, "/nonexistent/socket", 2, [
    [["poll", "bar0"], "One of '--equals', '--not', '--at-least' and '--one-of' is needed"],
    [["poll", "bar0.b", "--equals", "256"], "0x100 does not fit 8 bits: bar0.b has no more"],
    [
      ["poll", "bar0", "--equals", "1:2"],
      "Cannot use '1:2' for --equals: 0x1 has bits outside its mask 0x2",
    ],
    [
      ["poll", "bar0", "--equals", "x"],
      "Cannot use 'x' for --equals: " +
      '"x" is no value; write it as 26, 0x1a, 0b11010, 0o32 or 64K',
    ],
  ]);
});

Deno.test("poll ends at Ctrl-C", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  const controller = new AbortController();
  const args = ["poll", path, STATUS, "--equals", "0", "--interval", "1h", "--for", "2h"];
  const running = runHere(args, { signal: controller.signal });
  setTimeout(() => controller.abort(new Interrupted("SIGINT")), 20);
  assertEquals(await running, { code: 130, out: "", err: "" });
});

Deno.test("poll waits for another value, for a greater one, for one of several", async () => {
  const poll = async (...args: string[]) => {
    let reads = 0;
    const answer = withBar0(4, (request) => {
      if (request.command !== Command.REGION_READ) return "default";
      return replyRead(request, new Uint8Array([reads++, 0, 0, 0xaa]));
    });
    return await runOdd(answer, "poll", "bar0", ...args);
  };
  assertEquals((await poll("--not", "0xaa000000")).out, "0xaa000001\n");
  assertEquals((await poll("--not", "0:0xfe")).out, "0xaa000002\n");
  assertEquals((await poll("--at-least", "0xaa000003")).out, "0xaa000003\n");
  assertEquals((await poll("--at-least", "5:0xff")).out, "0xaa000005\n");
  assertEquals((await poll("--one-of", "0,4:0xff,0xaa000006")).out, "0xaa000004\n");
  const { code, err } = await poll("--one-of", "1,2", "--for", "20ms");
  assertEquals(code, 1);
  assertMatch(
    err,
    /^vfu: bar0 did not become 0x00000001 or 0x00000002 within 20 ms; its last value was 0xaa/,
  );
});

Deno.test("poll --json has the value, the reads, and the time", async () => {
  let reads = 0;
  const answer = withBar0(4, (request) => {
    if (request.command !== Command.REGION_READ) return "default";
    return replyRead(request, new Uint8Array([reads++, 0, 0, 0]));
  });
  const { out } = await runOdd(answer, "poll", "bar0", "--equals", "2", "--json");
  const { elapsed_ms, ...rest } = JSON.parse(out);
  assertEquals(Number.isInteger(elapsed_ms), true);
  assertEquals(rest, {
    address: "bar0",
    region: "bar0",
    offset: 0,
    width: 4,
    value: 2,
    via: "message",
    reads: 3,
  });
});

Deno.test("poll wants one condition, and a value that fits", async () => {
  const cases: [args: string[], message: RegExp][] = [
    [[], /One of '--equals', '--not', '--at-least' and '--one-of' is needed/],
    [["--equals", "1", "--not", "2"], /cannot be used with/],
    [["--one-of", "1,x"], /Cannot use '1,x' for --one-of: "x" is no value/],
    [["--one-of", "1,0x100000000"], /0x100000000 does not fit 32 bits: bar0 has no more/],
    [["--at-least", "2:1"], /0x2 has bits outside its mask 0x1/],
  ];
  for (const [args, message] of cases) {
    const { code, err } = await runHere(["poll", "none.sock", "bar0", ...args]);
    assertEquals(code, 2, err);
    assertMatch(err, message);
  }
});
