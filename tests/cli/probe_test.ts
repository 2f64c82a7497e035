import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { COLOURED } from "../../cli/shared/style.ts";
import { EventFd } from "../../ffi/event.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { parseLspciDump } from "../../lib/pci/dump.ts";
import type { IncomingRequest } from "../../lib/transport/incoming.ts";
import { Server } from "../../lib/server/server.ts";
import { RegionReadReply, RegionReadRequest } from "../../lib/wire/access.ts";
import { Command } from "../../lib/wire/command.ts";
import { DeviceInfoReply } from "../../lib/wire/device.ts";
import { RegionIoFdsReply } from "../../lib/wire/io_fds.ts";
import { encodeVersion } from "../../lib/wire/version.ts";
import { assertGolden, runHere, runThere, temporaryFolder } from "./_cli.ts";
import { type Answer, indexOf, replyRegion, serveOddly } from "./_server.ts";

/**
 * Runs `vfu probe` in a process of its own, in the folder of a demo device's socket "demo.sock".
 */
async function probeDemo(...options: string[]) {
  await using folder = temporaryFolder();
  using _server = Server.listen(`${folder.path}/demo.sock`, new DemoDevice());
  return await runThere(["probe", "demo.sock", ...options], { cwd: folder.path });
}

/** Runs `vfu probe` in this process against a server of odd answers. */
async function probeOdd(answer: Answer, ...options: string[]) {
  await using folder = temporaryFolder();
  const path = `${folder.path}/odd.sock`;
  using _server = serveOddly(path, answer);
  const { code, out, err } = await runHere(["probe", path, ...options]);
  return { code, out: out.replaceAll(path, "odd.sock"), err: err.replaceAll(path, "odd.sock") };
}

Deno.test("probe shows the demo device", async () => {
  const { code, out, err } = await probeDemo();
  assertEquals([code, err], [0, ""]);
  assertGolden("probe.txt", out);
});

Deno.test("probe shows the demo device on a wide screen", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  const { code, out } = await runHere(["probe", path], { columns: 120 });
  assertEquals(code, 0);
  assertGolden("probe-120.txt", out.replace(path, "demo.sock"));
});

Deno.test("probe stays within 80 columns and writes no colours into a pipe", async () => {
  const { out } = await probeDemo();
  assertEquals(out.split("\n").filter((line) => line.length > 80), []);
  assertEquals(out.includes("\x1b"), false);
});

Deno.test("probe --json writes the demo device as JSON", async () => {
  const { code, out, err } = await probeDemo("--json");
  assertEquals([code, err], [0, ""]);
  assertGolden("probe.json", out);
});

Deno.test("probe --lspci writes a dump with the bytes that --json has", async () => {
  const dump = await probeDemo("--lspci");
  assertEquals([dump.code, dump.err], [0, ""]);
  assertGolden("probe.lspci", dump.out);
  const { config } = JSON.parse((await probeDemo("--json")).out).pci;
  assertEquals(parseLspciDump(dump.out)[0]!.config.toHex(), config);
});

Deno.test("probe -v shows every message on standard error", async () => {
  const { code, out, err } = await probeOdd(() => "default", "-v");
  assertEquals(code, 0);
  assertStringIncludes(out, "Regions");
  const lines = err.trimEnd().split("\n");
  // VERSION, DEVICE_GET_INFO, 9 regions, 5 interrupts; each there and back.
  assertEquals(lines.length, 2 * (1 + 1 + 9 + 5));
  assertMatch(lines[0]!, /^ +\d+\.\d ms -> #\d+ VERSION request 0\.2 /);
  assertMatch(lines[1]!, /^ +\d+\.\d ms <- #\d+ VERSION reply 0\.1$/);
});

Deno.test("probe colours headings when the style has colours", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/odd.sock`;
  using _server = serveOddly(path, () => "default");
  const { out } = await runHere(["probe", path], { style: COLOURED });
  assertStringIncludes(out, "\n\x1b[1mRegions\x1b[22m\n");
});

Deno.test("probe only asks and reads", async () => {
  const commands = new Set<number>();
  await probeOdd((request) => {
    commands.add(request.command);
    return refusing(request);
  });
  const harmless = [
    Command.VERSION,
    Command.DEVICE_GET_INFO,
    Command.DEVICE_GET_REGION_INFO,
    Command.DEVICE_GET_REGION_IO_FDS,
    Command.DEVICE_GET_IRQ_INFO,
    Command.REGION_READ,
  ];
  assertEquals([...commands].sort((a, b) => a - b), harmless);
});

Deno.test("probe reads the configuration space of a server of ours with one message", async () => {
  const { code, err } = await probeDemo("-v");
  assertEquals(code, 0);
  const sent = err.split("\n").filter((line) => line.includes("->"));
  // VERSION, device info, 10 region infos, 5 of interrupts, the space, 5 of I/O descriptors.
  assertEquals(sent.length, 23);
  assertEquals(sent.filter((line) => line.includes("REGION_READ")).length, 1);
});

/**
 * Refuses region 3, IRQ index 2 without saying why, and reads; region 2 is too large for a number,
 * 7 is there.
 */
function refusing(request: IncomingRequest): ReturnType<Answer> {
  switch (request.command) {
    case Command.DEVICE_GET_REGION_INFO:
      if (indexOf(request) === 2) return replyRegion(request, 1n << 63n);
      if (indexOf(request) === 3) return request.fail(22);
      if (indexOf(request) === 7) return replyRegion(request, 256n);
      return "default";
    case Command.DEVICE_GET_IRQ_INFO:
      return indexOf(request) === 2 ? request.fail(0) : "default";
    case Command.REGION_READ:
      return request.fail(5);
    default:
      return "default";
  }
}

Deno.test("probe shows what is refused, and goes on", async () => {
  const { code, out, err } = await probeOdd(refusing);
  assertEquals([code, err], [0, ""]);
  assertGolden("probe-refused.txt", out);
});

Deno.test("probe --json has an error in place of what is refused, and large integers as text", async () => {
  const { code, out } = await probeOdd(refusing, "--json");
  assertEquals(code, 0);
  const { regions, irqs, pci } = JSON.parse(out);
  assertEquals(regions[3], {
    index: 3,
    name: "bar3",
    error: {
      errno: 22,
      code: "EINVAL",
      message: "Cannot get the info of bar3: the server answered EINVAL (Invalid argument)",
    },
  });
  assertEquals(regions[2].size, "0x8000000000000000");
  assertEquals([irqs[2].error.errno, irqs[2].error.code], [0, ""]);
  assertEquals(pci.error.code, "EIO");
});

Deno.test("probe of what --json saved shows all of what odd devices said", async () => {
  const noPci: Answer = (request) =>
    request.command === Command.DEVICE_GET_INFO
      ? request.reply(DeviceInfoReply.encode({ argsz: 16, flags: 0, numRegions: 8, numIrqs: 1 }))
      : request.command === Command.DEVICE_GET_REGION_INFO
      ? replyRegion(request, 256n)
      : "default";
  const capabilities = { pgsizes: 1n << 63n, extra: { "\x1b[2J": [1] }, twinSocket: { extra: {} } };
  const limits: Answer = (request) =>
    request.command === Command.VERSION
      ? request.reply(encodeVersion({ major: 0, minor: 1, capabilities }))
      : "default";
  await using folder = temporaryFolder();
  const saved = `${folder.path}/saved.json`;
  for (const answer of [refusing, noPci, limits]) {
    const live = (await probeOdd(answer)).out.split("\n");
    Deno.writeTextFileSync(saved, (await probeOdd(answer, "--json")).out);
    const { code, out, err } = await runHere(["probe", saved]);
    assertEquals([code, err], [0, ""]);
    assertEquals(out.split("\n").slice(1), live.slice(1));
    assertStringIncludes(out, `saved in ${saved}`);
  }
});

Deno.test("probe --lspci fails when the configuration space can't be read", async () => {
  const { code, out, err } = await probeOdd(refusing, "--lspci");
  assertEquals([code, out], [1, ""]);
  assertMatch(err, /^vfu: Cannot read 8 bytes of config at 0x[0-9a-f]+: .*EIO.*\n$/);
});

Deno.test("probe shows a configuration space that is too short for a header", async () => {
  const short: Answer = (request) => {
    if (request.command === Command.DEVICE_GET_REGION_INFO && indexOf(request) === 7) {
      return replyRegion(request, 32n);
    }
    if (request.command !== Command.REGION_READ) return "default";
    const { offset, region, count } = RegionReadRequest.decode(request.payload);
    return request.reply(
      RegionReadReply.encode({ offset, region, data: new Uint8Array(count).fill(0xab) }),
    );
  };
  const { code, out } = await probeOdd(short);
  assertEquals(code, 0);
  assertStringIncludes(out, "PCI configuration space, 32 bytes\n  too short to have a header\n");
  const { pci } = JSON.parse((await probeOdd(short, "--json")).out);
  assertEquals([pci.config, pci.space], ["ab".repeat(32), null]);
});

Deno.test("probe does not take a device that says it is no PCI device for one", async () => {
  const info = { argsz: 16, flags: 0, numRegions: 8, numIrqs: 1 };
  const answer: Answer = (request) => {
    switch (request.command) {
      case Command.DEVICE_GET_INFO:
        return request.reply(DeviceInfoReply.encode(info));
      case Command.DEVICE_GET_REGION_INFO:
        return replyRegion(request, 256n);
      default:
        return "default";
    }
  };
  const { code, out } = await probeOdd(answer, "--json");
  const { pci, regions, irqs } = JSON.parse(out);
  assertEquals([code, pci], [0, null]);
  assertEquals([regions[7].name, irqs[0].name], ["region 7", "irq 0"]);
});

Deno.test("probe shows what stands in for parts of a region; a server of version 0.0 is not asked", async () => {
  using fd = new EventFd();
  let asked = 0;
  const answer: Answer = (request) => {
    if (request.command === Command.DEVICE_GET_REGION_INFO && indexOf(request) < 2) {
      return replyRegion(request, 4096n);
    }
    if (request.command !== Command.DEVICE_GET_REGION_IO_FDS) return "default";
    asked++;
    if (indexOf(request) === 1) return request.fail(95);
    const part = { offset: 0x60n, size: 4n, shadowFdIndex: 0, shadowOffset: 0n };
    const subRegions = [
      { ...part, fdIndex: 0, type: 0, flags: 0, data: 0n },
      { ...part, fdIndex: 0, type: 0, flags: 1, data: 7n },
      { ...part, fdIndex: 0xffffffff, type: 1, flags: 0, data: 9n },
    ];
    const payload = RegionIoFdsReply.encode({
      argsz: 136,
      flags: 0,
      index: 0,
      count: 3,
      subRegions,
    });
    request.reply(payload, undefined, [fd.handle]);
  };
  const old: Answer = (request) =>
    request.command === Command.VERSION
      ? request.reply(encodeVersion({ major: 0, minor: 0, capabilities: {} }))
      : answer(request);
  assertEquals((await probeOdd(old)).out.includes("ioeventfd"), false);
  assertEquals(asked, 0);
  assertEquals((await probeOdd(old, "--io-fds")).out.includes("ioeventfd"), true);
  const { code, out } = await probeOdd(answer);
  assertEquals(code, 0);
  assertMatch(
    out,
    /ioeventfd 0x60\+0x4\n +ioeventfd 0x60\+0x4, for 0x7 only\n +ioregionfd 0x60\+0x4, no fd came\n/,
  );
  const { regions } = JSON.parse((await probeOdd(answer, "--json")).out);
  const common = { offset: 0x60, size: 4 };
  assertEquals(regions[0].io_fds, [
    { ...common, kind: "ioeventfd", flags: 0, datamatch: false, data: 0, has_fd: true },
    { ...common, kind: "ioeventfd", flags: 1, datamatch: true, data: 7, has_fd: true },
    { ...common, kind: "ioregionfd", flags: 0, datamatch: false, data: 9, has_fd: false },
  ]);
  assertEquals(regions[1].io_fds, []);
});

Deno.test("probe lets no terminal sequence of the server through", async () => {
  const extra = { "\x1b[2Jkey": "\x1b]0;title\x07\x9b31m\u202e" };
  const answer: Answer = (request) => {
    if (request.command !== Command.VERSION) return "default";
    return request.reply(encodeVersion({ major: 0, minor: 1, capabilities: { extra } }));
  };
  const { code, out } = await probeOdd(answer);
  assertEquals(code, 0);
  // deno-lint-ignore no-control-regex
  assertEquals(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/.test(out), false);
  assertStringIncludes(out, "\\u001b[2Jkey");
});

Deno.test("probe fails with one line", async (t) => {
  await using folder = temporaryFolder();
  const path = (name: string) => `${folder.path}/${name}`;
  Deno.writeTextFileSync(path("file"), "");
  using _silent = serveOddly(path("silent"), () => "silence");
  using _broken = serveOddly(path("broken"), (request) => {
    if (request.command !== Command.DEVICE_GET_REGION_INFO) return "default";
    return request.reply(new Uint8Array(5));
  });
  using _refusing = serveOddly(path("refusing"), (request) => {
    return request.command === Command.DEVICE_GET_INFO ? request.fail(5) : "default";
  });
  const cases: [name: string, expected: RegExp][] = [
    ["nothing", /^vfu: Cannot connect to .*nothing: there is no such file; .*\n$/],
    ["file", /^vfu: Cannot decode .*file: it is not a socket, .*\n$/],
    ["silent", /^vfu: Cannot agree on a version .*: the server did not answer .*\n$/],
    ["broken", /^vfu: Cannot decode DEVICE_GET_REGION_INFO reply: .*\n$/],
    ["refusing", /^vfu: Cannot get the device info: the server answered EIO .*\n$/],
  ];
  for (const [name, expected] of cases) {
    await t.step(name, async () => {
      const timeout = name === "silent" ? "200ms" : "60s";
      const { code, out, err } = await runHere(["probe", path(name), "--timeout", timeout]);
      assertEquals([code, out], [1, ""]);
      assertMatch(err, expected);
    });
  }
});

Deno.test("probe -v shows what caused a failure", async () => {
  const { err } = await runHere(["probe", "/nonexistent/socket", "-v"]);
  assertMatch(err, /^vfu: Cannot connect to [^\n]*\n +at /);
  assertMatch(err, /\n {2}caused by SystemError: /);
});
