import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Interrupted } from "../../cli/shared/context.ts";
import { crc32 } from "../../lib/base/crc32.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { DeviceFeatureRequest, FeatureFlags } from "../../lib/wire/feature.ts";
import { Command } from "../../lib/wire/command.ts";
import { startDemo } from "../_demo_process.ts";
import { LibvfioUser } from "../lib/_libvfio_user.ts";
import { MigratingDevice } from "../lib/server/_migration.ts";
import { words } from "../lib/server/_client.ts";
import { assertGolden, type Outcome, runHere, runThere, temporaryFolder } from "./_cli.ts";
import { type Answer, serveOddly } from "./_server.ts";
import { until } from "../_until.ts";

crc32(new Uint8Array()); // loads what it takes, once

const demo = await startDemo();
const other = await startDemo();
Deno.test.afterAll(async () => {
  await demo.stop();
  await other.stop();
});

function migrate(...args: string[]): Promise<Outcome> {
  return runHere(["migrate", ...args]);
}

/** Runs what must work and say nothing, or this. */
async function works(args: string[], out = ""): Promise<void> {
  assertEquals(await runHere(args), { code: 0, out, err: "" });
}

function files(folder: string): string[] {
  return [...Deno.readDirSync(folder)].filter(({ isFile }) => isFile).map(({ name }) => name)
    .sort();
}

Deno.test("migrate and its subcommands show their help", async () => {
  assertGolden("migrate-help.txt", (await migrate("--help")).out);
  for (const name of ["save", "restore", "show", "state"]) {
    assertGolden(`migrate-${name}-help.txt`, (await migrate(name, "--help")).out);
    assertEquals((await migrate("help", name)).out, (await migrate(name, "--help")).out);
  }
});

for (const preCopy of [[], ["--pre-copy"]]) {
  Deno.test(`a saved state goes on in a second server ${preCopy}`, async () => {
    await using folder = temporaryFolder();
    const file = `${folder.path}/demo.state`;
    await runHere(["reset", demo.path]);
    await runHere(["reset", other.path]);
    const bytes = crypto.getRandomValues(new Uint8Array(0x10000));
    Deno.writeFileSync(`${folder.path}/bar2`, bytes);
    await works(["load", demo.path, "bar2", `${folder.path}/bar2`]);
    await works(["write", demo.path, "bar0+8=0x1234", "bar0+0xc=7", "COMMAND=6"]);
    await works(["migrate", "save", demo.path, "-o", file, ...preCopy, "--keep-stopped"]);
    await works(["migrate", "state", demo.path], "STOP\n");
    await works(["migrate", "restore", other.path, file]);
    await works(["migrate", "state", other.path], "RUNNING\n");
    const registers = ["bar0+8", "bar0+0xc", "COMMAND.w"];
    const lines = "bar0+8:    0x00001234\nbar0+0xc:  0x00000008\nCOMMAND.w: 0x0006\n";
    await works(["read", other.path, ...registers], lines);
    await works(["dump", other.path, "bar2", "-o", `${folder.path}/copy`]);
    assertEquals(Deno.readFileSync(`${folder.path}/copy`).toHex(), bytes.toHex());
    await works(["migrate", "state", demo.path, "RUNNING"], "RUNNING\n");
    await works(["read", demo.path, ...registers], lines);
  });
}

Deno.test("migrate save and restore work with the permissions that are documented", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/demo.state`;
  const permissions = ["--allow-ffi", "--allow-read", "--allow-write"];
  const saved = await runThere(["migrate", "save", demo.path, "-o", file], { permissions });
  assertEquals(saved, { code: 0, out: "", err: "" });
  const restored = await runThere(["migrate", "restore", other.path, file], { permissions });
  assertEquals(restored, { code: 0, out: "", err: "" });
});

Deno.test("migrate shows a device and a file, for people and as JSON", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/demo.state`;
  const saved = JSON.parse((await migrate("save", demo.path, "-o", file, "--json")).out);
  const device = { vendor: 0x1234, device: 0xde5, subsystem_vendor: 0x1234, subsystem: 1 };
  const { size, crc32: crc } = saved;
  assertEquals(saved, {
    device: { ...device, revision: 1 },
    size,
    crc32: crc,
    state: "RUNNING",
  });
  assertEquals(size, Deno.statSync(file).size - 56);
  const { state: _, ...rest } = saved;
  const shown = JSON.parse((await migrate("show", file, "--json")).out);
  assertEquals(shown, { file, ...rest });
  assertEquals(
    (await migrate("show", file)).out,
    "Device    1234:0de5, subsystem 1234:0001, revision 1\n" +
      `State     ${size} bytes (68.4 KiB)\n` +
      `Checksum  0x${crc.toString(16).padStart(8, "0")} (valid)\n`,
  );
  assertEquals(
    (await migrate("show", demo.path)).out,
    "State        RUNNING\nSupports     STOP_COPY, PRE_COPY\n" +
      "Dirty pages  4 KiB\nOne message  1 MiB\n",
  );
  assertEquals(JSON.parse((await migrate("show", demo.path, "--json")).out), {
    socket: demo.path,
    migrates: true,
    state: "RUNNING",
    flags: ["STOP_COPY", "PRE_COPY"],
    dirty_page_size: 4096,
    max_data_xfer_size: 1 << 20,
  });
  assertEquals(JSON.parse((await migrate("state", demo.path, "--json")).out), {
    socket: demo.path,
    state: "RUNNING",
  });
  const restored = JSON.parse((await migrate("restore", other.path, file, "--json")).out);
  assertEquals(restored, saved);
});

Deno.test("migrate save -o - writes to standard output, and the rest elsewhere", async () => {
  const { code, out, err } = await migrate("save", demo.path, "-o", "-", "--json");
  assertEquals([code, out.slice(0, 8), out.slice(-24, -16)], [0, "vfu-mig\n", "vfu-end\n"]);
  assertEquals(JSON.parse(err).size, out.length - 56);
});

Deno.test("a device that is stopped is saved and restored as well", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/demo.state`;
  await migrate("state", demo.path, "STOP");
  await migrate("state", other.path, "STOP");
  await works(["migrate", "save", demo.path, "-o", file]);
  await works(["migrate", "state", demo.path], "STOP\n");
  await works(["migrate", "restore", other.path, file, "--keep-stopped"]);
  await works(["migrate", "state", other.path], "STOP\n");
  const { code, err } = await runHere(["probe", demo.path]);
  assertEquals(code, 1);
  assertStringIncludes(err, "(state STOP); set it to RUNNING (vfu migrate state SOCKET RUNNING");
  for (
    const args of [["read", demo.path, "bar0"], ["reset", demo.path], ["irq", demo.path, "msix"]]
  ) {
    assertStringIncludes((await runHere(args)).err, "(state STOP); set it to RUNNING");
  }
  await migrate("state", demo.path, "RUNNING");
  await migrate("state", other.path, "RUNNING");
});

/** A device of libvfio-user in a folder of its own. */
async function withLibvfioUser(
  body: (model: LibvfioUser, file: string) => Promise<void>,
): Promise<void> {
  await using folder = temporaryFolder();
  using model = new LibvfioUser(`${folder.path}/device.sock`);
  await body(model, `${folder.path}/device.state`);
}

Deno.test("a stopped device of libvfio-user is saved and restored, and stays stopped", () =>
  withLibvfioUser(async (model, file) => {
    model.state = crypto.getRandomValues(new Uint8Array(5000));
    const { state } = model;
    model.give = () => 100;
    const { path } = model;
    await works(["migrate", "state", path, "STOP"], "STOP\n");
    model.states.length = 0;
    await works(["migrate", "save", path, "-o", file]);
    assertEquals(model.states, [3, 1]); // STOP_COPY once, and back
    assertEquals(
      (await migrate("show", file)).out.split("\n").slice(0, 2),
      ["Device    1b36:1234, subsystem 1af4:1100, revision 2", "State     5000 bytes (4.8 KiB)"],
    );
    assertMatch((await migrate("show", path)).out, /^State {8}STOP$/m);
    model.state = new Uint8Array();
    model.commands.length = 0;
    await works(["migrate", "restore", path, file, "--keep-stopped"]);
    assertEquals([model.state, model.migrationState], [state, 1]);
    assertEquals(model.commands.includes(Command.DEVICE_GET_INFO), false);
    const COMMANDS = [
      ["probe", path],
      ["reset", path],
      ["read", path, "bar0"],
      ["dma", path, "--map", "1M:4K"],
      ["dirty", path, "--map", "1M:4K"],
    ];
    for (const command of COMMANDS) {
      const { code, err } = await runHere(command);
      assertEquals(code, 1);
      assertStringIncludes(err, "(state STOP); set it to RUNNING");
    }
    await works(["migrate", "restore", path, file]);
    await works(["migrate", "state", path], "RUNNING\n");
  }));

Deno.test("a device of libvfio-user that an earlier client was saving is saved, not restored", () =>
  withLibvfioUser(async (model, file) => {
    const { path } = model;
    model.state = new Uint8Array([1, 2, 3]);
    await works(["migrate", "save", path, "-o", file]);
    await works(["migrate", "state", path, "STOP_COPY"], "STOP_COPY\n");
    const { code, err } = await migrate("restore", path, file);
    assertEquals([code, model.migrationState], [1, 3]);
    assertStringIncludes(err, "(state STOP_COPY); set it to RUNNING");
    await works(["migrate", "save", path, "-o", file, "--force"]);
    await works(["migrate", "state", path], "STOP\n");
    assertMatch((await migrate("show", file)).out, /^Device {4}1b36:1234/);
  }));

Deno.test("a device whose ids can't be read is not saved as none", () =>
  withLibvfioUser(async (model, file) => {
    model.refuses = Command.REGION_READ;
    for (const state of ["RUNNING", "STOP"]) {
      await migrate("state", model.path, state);
      const { code, err } = await migrate("save", model.path, "-o", file);
      assertEquals(code, 1);
      assertMatch(err, state === "STOP" ? /\(state STOP\); set it/ : /Cannot read 4 bytes of con/);
    }
  }));

Deno.test("migrate moves so many bytes at once as --chunk-size says", () =>
  withLibvfioUser(async (model, file) => {
    const bytes = crypto.getRandomValues(new Uint8Array(1000));
    model.state = bytes;
    model.largestRead = 64; // as libvfio-user's gpio
    const refused = await migrate("save", model.path, "-o", file);
    assertEquals(refused.code, 1);
    await works(["migrate", "save", model.path, "-o", file, "--force", "--chunk-size", "64"]);
    model.state = new Uint8Array();
    model.commands.length = 0;
    await works(["migrate", "restore", model.path, file, "--chunk-size", "100"]);
    assertEquals(model.state, bytes);
    const writes = model.commands.filter((command) => command === Command.MIG_DATA_WRITE);
    assertEquals(writes.length, 10);
    for (const size of ["0", "65M"]) {
      const { code, err } = await migrate("save", model.path, "-o", file, "--chunk-size", size);
      assertEquals(code, 2);
      assertStringIncludes(err, "don't fit a message: from 1 to 64 MiB are possible");
    }
    const large = await migrate("save", model.path, "-o", file, "--force", "--chunk-size", "2M");
    assertEquals(large.code, 1);
    assertStringIncludes(large.err, "Cannot move 2097152 bytes at once");
  }));

Deno.test("migrate save ends at --max-size, and the device goes on", async () => {
  await using folder = temporaryFolder();
  const [path, file] = [`${folder.path}/endless.sock`, `${folder.path}/state`];
  const device = new MigratingDevice();
  const demo = new DemoDevice();
  device.regions[7] = demo.regions[7];
  const chunk = new Uint8Array(1 << 20);
  device.migration.stopCopy = function* () {
    while (true) yield chunk;
  };
  using _server = Server.listen(path, device);
  const args = ["save", path, "-o", file, "--max-size", "10M"];
  const { code, out, err } = await migrate(...args);
  assertEquals([code, out], [1, ""]);
  assertMatch(
    err,
    /^vfu: Cannot save the device: its state has more than 10 MiB; --max-size allows more; \d+ bytes are in /,
  );
  const { size } = Deno.statSync(`${file}.partial`);
  assert(size <= (10 << 20) + 32, `${size} bytes`);
  assertEquals((await migrate("state", path)).out, "RUNNING\n");
  demo.close();
});

Deno.test("a file that is no whole state of this device is refused before the device is touched", async (t) => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/demo.state`;
  await migrate("save", demo.path, "-o", file);
  const good = Deno.readFileSync(file);
  const changed = (at: number) => good.with(at, good[at]! ^ 0x40);
  const withCrc = (bytes: Uint8Array<ArrayBuffer>) => {
    const crc = crc32(bytes.subarray(0, bytes.length - 24));
    new DataView(bytes.buffer).setUint32(bytes.length - 8, crc, true);
    return bytes;
  };
  const CASES: [what: string, bytes: Uint8Array, reason: RegExp][] = [
    ["empty", new Uint8Array(), /it is no state that vfu migrate save has written/],
    ["something else", new Uint8Array(100), /it is no state that vfu migrate save has written/],
    ["a header", good.subarray(0, 40), /it is cut off/],
    ["cut off", good.subarray(0, good.length - 1), /it is cut off, or something follows its end/],
    ["longer", new Uint8Array([...good, 0]), /it is cut off, or something follows its end/],
    ["damaged", changed(40_000), /its checksum is another; it was changed or damaged/],
    ["damaged ids", changed(17), /its checksum is another/],
    ["of later times", withCrc(changed(8)), /it has the form 65, this vfu knows 1/],
    [
      "of another device",
      withCrc(changed(19)),
      /it is of 1234:4de5, subsystem 1234:0001, revision 1; the device is 1234:0de5, /,
    ],
  ];
  const received: number[] = [];
  const path = `${folder.path}/watched.sock`;
  using _server = Server.listen(path, new DemoDevice(), {
    trace: (direction, bytes) => void (direction === "received" && received.push(bytes[2]!)),
  });
  for (const [what, bytes, reason] of CASES) {
    await t.step(what, async () => {
      Deno.writeFileSync(file, bytes);
      received.length = 0;
      const { code, out, err } = await migrate("restore", path, file);
      assertEquals([code, out], [1, ""]);
      assertMatch(err, reason);
      assertMatch(err, /^vfu: Cannot (use|restore) [^\n]+\n$/);
      assertEquals(received.includes(Command.MIG_DATA_WRITE), false);
      assertEquals((await migrate("state", path)).out, "RUNNING\n");
    });
  }
  await t.step("missing", async () => {
    const { code, err } = await migrate("restore", path, `${folder.path}/none`);
    assertEquals(code, 1);
    assertMatch(err, /^vfu: Cannot open [^\n]+none: No such file/);
  });
});

Deno.test("what a device refuses of a whole file leaves it as it was", async () => {
  await using folder = temporaryFolder();
  const [file, path] = [`${folder.path}/state`, `${folder.path}/device.sock`];
  const device = new MigratingDevice();
  const config = new DemoDevice();
  device.regions[7] = config.regions[7]; // for the ids
  using _server = Server.listen(path, device);
  await works(["migrate", "save", path, "-o", file]);
  device.faults.add("commit");
  const { code, err } = await migrate("restore", path, file);
  assertEquals(code, 1);
  assertMatch(
    err,
    /^vfu: Cannot set the state of the device to RUNNING: [^\n]+EIO[^\n]+log may say/,
  );
  assertEquals((await migrate("state", path)).out, "RUNNING\n");
  config.close();
});

Deno.test("a device that is no PCI device is saved and restored as well", async () => {
  await using folder = temporaryFolder();
  const [file, path] = [`${folder.path}/state`, `${folder.path}/device.sock`];
  const device = new MigratingDevice();
  device.regions[7] = undefined;
  using _server = Server.listen(path, device);
  await works(["migrate", "save", path, "-o", file]);
  assertMatch((await migrate("show", file)).out, /^Device {4}no PCI device$/m);
  await works(["migrate", "restore", path, file]);
  const elsewhere = await migrate("restore", demo.path, file);
  assertEquals(elsewhere.code, 1);
  assertStringIncludes(elsewhere.err, "it is of no PCI device; the device is 1234:0de5");
});

Deno.test("a device that does not migrate is told so", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/odd.sock`;
  using _server = serveOddly(path, () => "default");
  const none = "vfu: The device does not migrate: its server refuses the feature MIGRATION\n";
  const saved = await migrate("save", path, "-o", `${folder.path}/state`);
  assertEquals(saved, { code: 1, out: "", err: none });
  assertEquals(files(folder.path), []);
  assertEquals((await migrate("show", path)).out, "The device does not migrate\n");
  const { code, err } = await migrate("state", path);
  assertEquals(code, 1);
  assertMatch(err, /^vfu: Cannot get the feature MIG_DEVICE_STATE: [^\n]+; the device does not/);
});

/** A server whose device migrates, and is silent when it is read; `onRead` hears of it. */
function silentWhenRead(onRead: () => void, states: number[]): Answer {
  let state = 2;
  return (request) => {
    if (request.command === Command.MIG_DATA_READ) {
      onRead();
      return "silence";
    }
    if (request.command === Command.REGION_READ) {
      return request.reply(new Uint8Array([...request.payload, ...words(0)]));
    }
    if (request.command !== Command.DEVICE_FEATURE) return "default";
    const { flags, data } = DeviceFeatureRequest.decode(request.payload);
    const isState = (flags & 0xffff) === 2;
    if ((flags & FeatureFlags.SET) !== 0) states.push(state = data[0]!);
    request.reply(words(16, flags, isState ? state : 1, 0));
  };
}

Deno.test("migrate save sets the device back at Ctrl-C, and leaves no file of nothing", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/silent.sock`;
  const off = new AbortController();
  const states: number[] = [];
  const onRead = () => off.abort(new Interrupted("SIGINT"));
  using _server = serveOddly(path, silentWhenRead(onRead, states));
  const args = ["migrate", "save", path, "-o", `${folder.path}/state`];
  // The server never answers the read, and so nothing that follows: it is left alone after a while.
  assertEquals(await runHere(args, { signal: off.signal }), { code: 130, out: "", err: "" });
  assertEquals(files(folder.path), []);
  assertEquals(states[0], 3);
});

Deno.test("migrate save leaves the device running at Ctrl-C in the middle", async () => {
  await using folder = temporaryFolder();
  const [path, file] = [`${folder.path}/slow.sock`, `${folder.path}/state`];
  const off = new AbortController();
  const device = new MigratingDevice();
  const demo = new DemoDevice();
  device.regions[7] = demo.regions[7];
  device.migration.stopCopy = async function* () {
    yield new Uint8Array(2 << 20);
    await until(
      () =>
        files(folder.path).includes("state.partial") && Deno.statSync(`${file}.partial`).size > 0,
      "the first bytes",
    );
    off.abort(new Interrupted("SIGINT"));
    yield new Uint8Array(3 << 20);
  };
  using _server = Server.listen(path, device);
  const { code, out, err } = await runHere(["migrate", "save", path, "-o", file], {
    signal: off.signal,
  });
  assertEquals([code, out], [130, ""]);
  assertMatch(err, /^vfu: Interrupted by SIGINT; \d+ bytes are in [^\n]+\/state\.partial\n$/);
  assertEquals(files(folder.path), ["state.partial"]);
  assertEquals((await migrate("state", path)).out, "RUNNING\n");
  demo.close();
});

Deno.test("migrate restore leaves the device as it was at Ctrl-C", async () => {
  await using folder = temporaryFolder();
  const [path, file] = [`${folder.path}/slow.sock`, `${folder.path}/state`];
  const device = new MigratingDevice();
  const demo = new DemoDevice();
  device.regions[7] = demo.regions[7];
  device.bytes = new Uint8Array(1 << 20);
  device.chunk = 1 << 20;
  using _server = Server.listen(path, device);
  await works(["migrate", "save", path, "-o", file]);
  const off = new AbortController();
  device.migration.resume = () => ({
    write: () => {
      off.abort(new Interrupted("SIGTERM"));
      return new Promise((resolve) => setTimeout(resolve, 5));
    },
    commit: () => {
      throw new Error("not all has come");
    },
    abort: () => {},
  });
  const { code, err } = await runHere(["migrate", "restore", path, file], { signal: off.signal });
  assertEquals(code, 143);
  assertEquals(err, "vfu: Interrupted by SIGTERM; the device has the state that it had\n");
  assertEquals((await migrate("state", path)).out, "RUNNING\n");
  demo.close();
});

Deno.test("migrate returns 2 when the usage is wrong", async () => {
  const CASES: [args: string[], line: string][] = [
    [
      ["save", "a.sock"],
      "Required option '-o, --output <file>' not specified; see vfu migrate save --help",
    ],
    [["restore", "a.sock"], "Missing required argument 'file'; see vfu migrate restore --help"],
    [
      ["state", "a.sock", "PAUSED"],
      "Cannot use 'PAUSED' as state: Allowed choices are " +
      "RUNNING, STOP, STOP_COPY, RESUMING, PRE_COPY.",
    ],
    [["sav"], "Unknown command 'sav' (Did you mean save?)"],
  ];
  for (const [args, line] of CASES) {
    assertEquals(await migrate(...args), { code: 2, out: "", err: `vfu: ${line}\n` });
  }
  assert((await migrate()).code === 2);
});

Deno.test("migrate save sets the device back when its file must not grow, and says how much it took", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/device.state`;
  const permissions = ["--allow-ffi", "--allow-read", "--allow-write"];
  const saving = ["migrate", "save", demo.path, "-o", file, "--force"];
  assertEquals((await runThere(saving, { permissions })).code, 0); // Deno's caches have all now
  assertEquals(await runThere(saving, { permissions, fileBlocks: 40 }), {
    code: 1,
    out: "",
    err: `vfu: Cannot write ${file}.partial: File too large (os error 27); ` +
      `20480 bytes are in ${file}.partial\n`,
  });
  assertEquals(Deno.statSync(`${file}.partial`).size, 20480);
  await works(["migrate", "state", demo.path], "RUNNING\n");
});
