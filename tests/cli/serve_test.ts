import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { Interrupted } from "../../cli/shared/context.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { connect } from "../../lib/client/connect.ts";
import { RemoteError } from "../../lib/base/errors.ts";
import { Command } from "../../lib/wire/command.ts";
import { DENO } from "../_deno.ts";
import { startServe } from "../_demo_process.ts";
import { until } from "../_until.ts";
import { RawPeer } from "../_raw_peer.ts";
import { access, ask, negotiate } from "../lib/server/_client.ts";
import { assertGolden, runHere, runThere, spawn, temporaryFolder } from "./_cli.ts";

const REPOSITORY = new URL("../../", import.meta.url).href;

/** A device as a user writes it. */
const PLAIN = `
import { RegionFlags, type ServedDevice } from "@vfu/vfu";
const device: ServedDevice = {
  flags: 0,
  regions: [{
    flags: RegionFlags.READ | RegionFlags.WRITE,
    size: 8,
    read: (_, into) => void into.fill(7),
    write() {
      throw new Error("a bug of the device");
    },
  }],
  irqs: [{ flags: 1, count: 1 }],
  reset() {},
};
export default device;
`;

const DEFINITION = `
import { DemoDevice } from "@vfu/vfu";
const count = {
  kind: "integer",
  description: "How many it has",
  form: "a whole number",
  default: 8,
  parse(text: string) {
    if (!/^\\d+$/.test(text)) throw new RangeError(JSON.stringify(text) + " is not a whole number");
    return Number(text);
  },
  check: (value: unknown) => value,
};
const mode = { ...count, kind: "choice", form: "one of a, b", default: undefined, choices: ["a", "b"] };
export default {
  name: "gadget",
  title: "a thing for tests",
  options: { count, mode },
  create(values: unknown, host?: { log?(line: string): void }) {
    host?.log?.("made with " + JSON.stringify(values));
    return new DemoDevice();
  },
};
`;

/** Modules that can't be served, with the message; FILE stands for the module's path. */
const UNUSABLE: [what: string, source: string, message: string][] = [
  ["no default export", "export const a = 1;", "FILE:1:1: Cannot serve FILE: it has no default"],
  [
    "a device that is not its default export",
    "export const a = 1;\nexport const dev = { flags: 0, regions: [], irqs: [], reset() {} };",
    "FILE:2:1: Cannot serve FILE: it has no default export; write: export default dev",
  ],
  [
    "a syntax error",
    "export default {\n  a: ;\n",
    "vfu: FILE:2:6: Cannot load FILE: SyntaxError: Expression exp",
  ],
  [
    "an import of nothing",
    '\n  import "./nope.ts";',
    'vfu: FILE:2:10: Cannot load FILE: Module not found "file:///',
  ],
  [
    "an import of no such name",
    'import { mk } from "@vfu/vfu";\nexport default mk;',
    "vfu: FILE:1:10: Cannot load FILE: The requested module '@vfu/vfu' does not provide an export",
  ],
  ["an import of a stranger", 'import "@no/one";', 'import what it needs of vfu from "@vfu/vfu"'],
  ["a throw", '\n\nthrow new Error("boom");', "vfu: FILE:3:7: Cannot load FILE: boom"],
  [
    "a throw inside of vfu",
    'import { memory } from "@vfu/vfu";\n memory({ size: -1 });',
    "vfu: FILE:2:2: Cannot load FILE: A region can't have -1 bytes",
  ],
  [
    "a number",
    "const a = 1;\nexport default 7;",
    "FILE:2:1: Cannot serve FILE: its default export is a number, not a device; export default d",
  ],
  [
    "half a device",
    "export default { flags: 0, regions: [] };",
    "an object without irqs, reset, n",
  ],
  ["a class", "export default class Foo {}", "is a class; export default () => new Foo()"],
  ["a function of nothing", "export default () => {};", "its function returned an undefined, not"],
  [
    "a function that throws",
    'export default () => {\n  throw new Error("no");\n};',
    "vfu: FILE:2:9: Cannot make the device device: no",
  ],
  [
    "a device that can't be made",
    'import { cap, defineDevice } from "@vfu/vfu";\nconst capabilities = [cap.aer({ at: 0x200 ' +
    "})];\n" +
    'export default defineDevice({ name: "x", pci: { vendor: 1, device: 1, capabilities }, ' +
    "create: () => ({ regions: {} }) });",
    "vfu: FILE:3:16: Cannot make the device x: One of the extended capabilities has to be at 0x100",
  ],
];

Deno.test("serve --help is wrapped at the width of the screen", async () => {
  const { code, out } = await runHere(["serve", "--help"]);
  assertEquals(code, 0);
  assertGolden("serve-help.txt", out);
  assertEquals((await runHere(["serve", "demo", "--help"])).out, out);
  assertEquals((await runHere(["help", "serve"])).out, out);
});

for (const [what, source, message] of UNUSABLE) {
  Deno.test(`serve says what to do about a module with ${what}`, async () => {
    await using folder = temporaryFolder();
    const file = `${folder.path}/device.ts`;
    await Deno.writeTextFile(file, source);
    const { code, err } = await runHere(["serve", file, "--socket-path", `${folder.path}/s`]);
    assertEquals(code, 1);
    assertStringIncludes(err, message.replaceAll("FILE", file));
    assertEquals(err.trimEnd().split("\n").length, 1);
  });
}

Deno.test("serve says what to do about a path where no module is", async () => {
  await using folder = temporaryFolder();
  const there = `--socket-path=${folder.path}/s`;
  const missing = await runHere(["serve", `${folder.path}/none.ts`, there]);
  assertEquals(missing.code, 1);
  assertMatch(missing.err, /Cannot load .*\/none\.ts: there is no such file\n$/);
  const { err } = await runHere(["serve", `${folder.path}/`, there]);
  assertMatch(err, /it is not a file; give the path of a module\n$/);
});

Deno.test("serve without the permission to read a module says which one it takes", async () => {
  await using folder = temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/device.ts`, PLAIN);
  const args = ["serve", `${folder.path}/device.ts`, "--socket-path", `${folder.path}/s`];
  const { code, err } = await runThere(args);
  assertEquals(code, 1);
  assertMatch(err, /device\.ts: reading it takes a permission; run deno with --allow-read\n$/);
});

/** Wrong usage, and what is said of it. */
const MISUSE: [args: string[], message: string][] = [
  [[], "Missing required argument 'device'"],
  [["demo"], "One of '--socket-path <path>' and '--fd <number>' is needed"],
  [["dmo", "--socket-path=s"], 'There is no device "dmo"; did you mean "demo"?'],
  [["demo", "demo", "--socket-path=s"], "is needed behind demo"],
  [["demo", "--socket-path=s", "demo", "--socket-path=s"], "Two devices are to be served at s"],
  [["demo", "--socket-path=a", "--socket-path=b"], "--socket-path is given twice for one device"],
  [["--socket-path=a", "demo", "--socket-path=b"], "The device demo has two places, a and b"],
  [["demo", "--socket-path=a", "--fd=3"], "cannot be used with option"],
  [["demo", "--socket-path=a", "--option", "x"], '"x" is no option of a device; write it as name='],
  [["demo", "--socket-path=a", "--option", "x=1"], 'The device demo has no options, so no "x"'],
  [["demo", "--socket-path=a", "--fault", "x"], '"x" is no fault; write COMMAND:FAULT'],
  [["demo", "--socket-path=a", "--seed", "0x1_0000_0000"], "A seed is 0 at least and 2^32 - 1 at"],
  [["demo", "--socket-path=a", "--ready-fd", "1"], "0 to 2 are the standard streams"],
  [["demo", "--socket-path=a", "--bogus"], "Unknown option '--bogus'"],
];
for (const [args, message] of MISUSE) {
  Deno.test(`serve ${args.join(" ")} is wrong usage`, async () => {
    const { code, err } = await runHere(["serve", ...args]);
    assertStringIncludes(err, message);
    assertEquals(code, 2);
  });
}

Deno.test("serve --options lists what can be chosen of a device", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/gadget.ts`;
  await Deno.writeTextFile(file, DEFINITION.replaceAll("@vfu/vfu", `${REPOSITORY}mod.ts`));
  assertEquals((await runHere(["serve", file, "--options"])).out.split("\n"), [
    "gadget: a thing for tests",
    "  option  default  what it is",
    "  count   8        How many it has; a whole number",
    "  mode    -        How many it has; one of a, b",
    "",
  ]);
  const { out } = await runHere(["serve", "demo", file, "--options", "--json"]);
  const [demo, gadget] = out.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(demo, { device: "demo", options: [] });
  assertEquals(gadget.options[1], {
    name: "mode",
    kind: "choice",
    description: "How many it has",
    form: "one of a, b",
    default: null,
    choices: ["a", "b"],
  });
  const where = `--socket-path=${folder.path}/s`;
  const typo = await runHere(["serve", file, where, "--option", "cuont=1"]);
  assertEquals(typo.code, 2);
  assertStringIncludes(
    typo.err,
    'The device gadget has no option "cuont"; did you mean "count"? It has count, mode',
  );
  const wrong = await runHere(["serve", file, where, "--option=count=x"]);
  assertEquals(wrong.code, 2);
  assertStringIncludes(wrong.err, `count of gadget can't be this: "x" is not a whole number`);
  const twice = await runHere(["serve", file, where, "--option=count=1", "--option=count=2"]);
  assertStringIncludes(twice.err, "The option count is given twice");
});

Deno.test("serve serves several devices of the user's own, and tells of each by name", async () => {
  const folder = await Deno.makeTempDir({ prefix: "vfu-cli-" });
  await Deno.writeTextFile(`${folder}/plain.ts`, PLAIN);
  await Deno.writeTextFile(`${folder}/gadget.ts`, DEFINITION);
  try {
    await using served = await startServe(
      `${folder}/plain.ts`,
      ...["--fault", "REGION_READ:error=EBUSY@2"],
      ...[`${folder}/gadget.ts`, "--option", "count=3", "--socket-path", "FOLDER/b.sock"],
      ...["demo", "--socket-path", "FOLDER/c.sock", "-v"],
    );
    {
      using plain = new RawPeer(UnixSocket.connect(served.path)!);
      using gadget = await connect(`${served.folder}/b.sock`);
      using demo = await connect(`${served.folder}/c.sock`);
      assertEquals([(await gadget.info()).numRegions, (await demo.info()).numRegions], [9, 9]);
      await negotiate(plain);
      const read = () => ask(plain, Command.REGION_READ, access(0n, 0, 4));
      assertEquals((await read()).payload.slice(16), new Uint8Array(4).fill(7));
      assertEquals((await read()).errno, 16);
      assertEquals((await ask(plain, Command.REGION_WRITE, access(0n, 0, 1, [1]))).errno, 5);
      assertEquals((await ask(plain, Command.REGION_READ, access(6n, 0, 4))).errno, 22);
    }
    await served.stop();
    assertEquals(await served.ended, 0);
    const said = served.stderr();
    for (
      const pattern of [
        /^gadget: made with {"count":3}$/m,
        /^Serving plain at .*plain\.sock\n {2}Regions: region 0 8 B rw-\n {2}Interrupts: irq 0 1$/m,
        /^ {2}Fault: REGION_READ:error=EBUSY@2$/m,
        /^Serving demo at .*\n {2}PCI 1234:0de5, class 0880 \(System peripheral\), revision 0x1$/m,
        /^Ready; Ctrl-C stops it$/m,
        /^plain: A client has connected: [^\n]+ \(\d+\)$/m,
        /^plain: Fault at REGION_READ 2: error=EBUSY$/m,
        /^plain: .*plain\.ts:\d+:\d+: The device failed at REGION_WRITE: a bug of the device$/m,
        /^ +at .*plain\.ts:\d+:\d+\)?$/m,
        /^gadget: +[\d.]+ ms <- .*VERSION/m,
        /^plain: Refusing REGION_READ with EBUSY: a fault on purpose$/m,
        /^plain: Refusing REGION_READ with EINVAL: the access leaves the region$/m,
        /^plain: The client has left$/m,
      ]
    ) assertMatch(said, pattern);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("serve --json writes an object a line", async () => {
  const folder = await Deno.makeTempDir({ prefix: "vfu-cli-" });
  await Deno.writeTextFile(`${folder}/plain.ts`, PLAIN);
  try {
    await using served = await startServe(
      `${folder}/plain.ts`,
      "--json",
      ...["--fault", "DEVICE_RESET:drop", "--fault", "REGION_READ:garbage@9", "--seed", "5"],
    );
    {
      using plain = new RawPeer(UnixSocket.connect(served.path)!);
      await negotiate(plain);
      plain.command(7, Command.DEVICE_RESET);
      assertEquals((await ask(plain, Command.REGION_WRITE, access(0n, 0, 1, [1]))).errno, 5);
    }
    {
      using rude = new RawPeer(UnixSocket.connect(served.path)!);
      rude.send(new Uint8Array(16));
      while (await rude.receive() !== undefined); // until the server has closed
    }
    while (served.stdout().trimEnd().split("\n").length < 7) {
      await new Promise((r) => setTimeout(r, 5));
    }
    await served.stop();
    assertEquals(await served.ended, 0);
    assertEquals(served.stderr(), "");
    const events = served.stdout().trimEnd().split("\n").map((line) => JSON.parse(line));
    assertEquals(events.map(({ event }) => event), [
      "ready",
      "connect",
      "fault",
      "error",
      "disconnect",
      "connect",
      "disconnect",
    ]);
    const [ready, connected, fault, error, left, , rude] = events;
    const program = Deno.readTextFileSync("/proc/self/comm").trim();
    assertEquals(connected.client, { id: Deno.pid, program });
    assertEquals([ready.seed, ready.devices.length], [5, 1]);
    assertEquals(ready.devices[0].socket, served.path);
    assertEquals(ready.devices[0].faults, ["DEVICE_RESET:drop", "REGION_READ:garbage@9"]);
    assertEquals(ready.devices[0].regions, [
      { index: 0, name: "region 0", size: 8, flags: 3, flag_names: ["read", "write"] },
    ]);
    const device = "plain";
    assertEquals(fault, {
      event: "fault",
      device,
      command: "DEVICE_RESET",
      fault: "drop",
      count: 1,
    });
    assertEquals([error.doing, error.message], ["REGION_WRITE", "a bug of the device"]);
    assertMatch(error.stack[0], /^at .*plain\.ts/);
    assertEquals(error.stack.length, 1); // what is vfu's is left out
    assertMatch(error.place.file, /\/plain\.ts$/);
    assertEquals([typeof error.place.line, typeof error.place.column], ["number", "number"]);
    assertEquals(left, { event: "disconnect", device, reason: null });
    assertMatch(rude.reason, /its size is 0, less than a header's 16/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("serve --ready-fd says READY=1 when it listens, and closes the descriptor", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  // A shell gives descriptor 3: the end of its output is the end of the descriptor.
  const vfu = `"$0" run --no-prompt --allow-ffi --allow-read --allow-write "$1" serve demo`;
  const child = new Deno.Command("sh", {
    args: [
      "-c",
      `exec ${vfu} --socket-path "$2" --ready-fd 3 3>&1 1>/dev/null 2>&1`,
      DENO,
      new URL("../../cli/main.ts", import.meta.url).pathname,
      path,
    ],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  let said = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) said += text;
  assertEquals(said, "READY=1\n"); // and the server runs on
  using device = await connect(path);
  assertEquals((await device.info()).numRegions, 9);
  child.kill("SIGTERM");
  assertEquals((await child.status).code, 0);
});

Deno.test("serve fails when it can't say that it is ready, and leaves nothing behind", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  const { code, err } = await runHere(["serve", "demo", "--socket-path", path, "--ready-fd=999"]);
  assertEquals(code, 1);
  assertMatch(err, /Cannot tell file descriptor 999 that the server is ready: .*EBADF/);
  assertEquals([...Deno.readDirSync(folder.path)], []);
});

Deno.test("serve removes every socket when the last of its devices can't be served", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  const args = ["demo", "--socket-path", path, "demo", "--socket-path", `${folder.path}/no/b.sock`];
  const { code, err } = await runHere(["serve", ...args]);
  assertEquals(code, 1);
  assertMatch(err, /Cannot listen on .*b\.sock: its folder does not exist/);
  assertEquals([...Deno.readDirSync(folder.path)], []);
});

Deno.test("serve refuses one device at two places, unless its module makes one each time", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/plain.ts`;
  await Deno.writeTextFile(file, PLAIN.replaceAll("@vfu/vfu", `${REPOSITORY}mod.ts`));
  const [a, b] = ["a", "b"].map((name) => `--socket-path=${folder.path}/${name}.sock`);
  const { code, err } = await runHere(["serve", file, a!, file, b!]);
  assertEquals(code, 1);
  assertMatch(err, /its module gives the same device twice; export a function that makes one/);
});

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
  Deno.test(`serve leaves nothing behind at ${signal}, with a client and without`, async () => {
    await using folder = temporaryFolder();
    for (const hasClient of [false, true]) {
      const path = `${folder.path}/demo.sock`;
      const child = spawn(["serve", "demo", "--socket-path", path], {
        permissions: ["--allow-ffi", "--allow-read", "--allow-write"],
      });
      const socket = await connectWhenThere(path);
      using peer = new RawPeer(socket);
      if (hasClient) await negotiate(peer);
      child.kill(signal);
      assertEquals((await child.output()).code, 0);
      assertEquals([...Deno.readDirSync(folder.path)], []);
    }
  });
}

Deno.test("serve ends at a signal also while a device is not made yet", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/slow.ts`;
  await Deno.writeTextFile(file, "export default () => new Promise(() => {});");
  const controller = new AbortController();
  const args = ["serve", file, "--socket-path", `${folder.path}/s`];
  const serving = runHere(args, { signal: controller.signal });
  setTimeout(() => controller.abort(new Interrupted("SIGINT")), 20);
  assertEquals((await serving).code, 130);
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["slow.ts"]);
});

Deno.test("serve --fd ends when its client goes", async () => {
  const [a, b] = UnixSocket.pair();
  const serving = runHere(["serve", "demo", "--fd", String(a.release())]);
  {
    using peer = new RawPeer(b);
    await negotiate(peer);
  }
  const { code, err } = await serving;
  assertEquals(code, 0);
  assertMatch(err, /^Serving demo on file descriptor \d+$/m);
});

Deno.test("serve lets no terminal sequence of a client through", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  const controller = new AbortController();
  const serving = runHere(["serve", "demo", "--socket-path", path], { signal: controller.signal });
  const socket = await connectWhenThere(path);
  {
    using peer = new RawPeer(socket);
    const json = new TextEncoder().encode("\x1b[2J\0");
    peer.command(1, Command.VERSION, new Uint8Array([0, 0, 1, 0, ...json]));
    while (await peer.receive() !== undefined); // until the server has closed
  }
  controller.abort(new Interrupted("SIGTERM"));
  const { err } = await serving;
  assertStringIncludes(err, "the JSON is not valid");
  assert(!err.includes("\x1b"));
});

/** Connects as soon as a server listens. */
async function connectWhenThere(path: string): Promise<UnixSocket> {
  for (let attempt = 0; attempt < 6000; attempt++) {
    try {
      const socket = UnixSocket.connect(path);
      if (socket) return socket;
    } catch { /* not yet */ }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("Nobody listens");
}

Deno.test("serve tells in a line of a state that the device does not take", async () => {
  const refused = "The state that the client restores was refused, and the device is as it was";
  const cutOff = [
    new Uint8Array(1),
    "it ends after 0 frames, without its end: it is cut off",
  ] as const;
  const other = [new Uint8Array(64), "it is no state of a device of vfu"] as const;
  for (const [json, [bytes, why]] of [[[], other], [["--json"], other], [[], cutOff]] as const) {
    const reason = `${refused}: Cannot restore a state: ${why}`;
    await using served = await startServe("demo", ...json);
    {
      using device = await connect(served.path);
      const writer = device.migration.restore().getWriter();
      writer.closed.catch(() => {});
      await writer.write(bytes);
      await assertRejects(() => writer.close(), RemoteError);
    }
    await served.stop();
    assertEquals(await served.ended, 0);
    const lines = (json.length > 0 ? served.stdout() : served.stderr()).trimEnd().split("\n");
    const said = lines.filter((line) => line.includes("refused"));
    assertEquals(
      said,
      [
        json.length > 0
          ? JSON.stringify({ event: "refused", device: "demo", message: reason })
          : reason,
      ],
    );
    assertEquals(lines.filter((line) => /^\s+at\s/.test(line)), []);
  }
});

Deno.test("vfu serve tells of what a device throws where nobody waits for it, and serves on", async () => {
  await using folder = temporaryFolder();
  const module = `${folder.path}/stray.ts`;
  await Deno.writeTextFile(
    module,
    PLAIN.replace(
      'throw new Error("a bug of the device");',
      'void Promise.reject(new Error("a promise")); setTimeout(() => { throw new Error("a ' +
        'timer"); });',
    ),
  );
  await using served = await startServe(module);
  for (let i = 0; i < 2; i++) {
    using device = await connect(served.path, { timeoutMs: 20_000 });
    await device.regionInfo(0);
    await device.region(0).write32Async(0, 1);
    await until(() => /a timer/.test(served.stderr()), "the report");
    assertEquals(await device.region(0).read32Async(0), 0x07070707);
  }
  for (const what of ["a promise", "a timer"]) {
    assertStringIncludes(
      served.stderr(),
      `: The device failed at something that no hook waits for: ${what}\n`,
    );
  }
});

Deno.test("vfu serve says which line of a hook failed, and which registers no access reaches", async () => {
  await using folder = temporaryFolder();
  const module = `${folder.path}/hook.ts`;
  await Deno.writeTextFile(
    module,
    `import { cap, defineDevice, registers } from "@vfu/vfu";
const pci = { vendor: 1, device: 1, capabilities: [cap.msix({ vectors: 1, bar: 0 })] };
export default defineDevice({ name: "hook", pci, create: () => ({ regions: { bar0: registers({
  registers: [{ name: "ISR", offset: 0x1000, width: 4 }, { name: "CTRL", offset: 0, width: 4 }],
}).on({ ISR: { write(value) {
  (this as unknown as { regs: undefined }).regs!;
  check(value);
} } }) } }) });
function check(value: number) {
  if (value === 1) throw new RangeError("one", { cause: new Error("deeper") });
  bar.ISR.BOGUS = value;
}
const { regs: bar } = registers({ registers: [{ name: "ISR", offset: 0, width: 4 }] }) as any;
`,
  );
  await using served = await startServe(module);
  const client = await connect(served.path, { timeoutMs: 20_000 });
  await client.regionInfo(0);
  for (const value of [1, 2]) {
    await assertRejects(() => client.region(0).write32Async(0x1000, value), RemoteError, "EIO");
  }
  client.close();
  await served.stop();
  const said = served.stderr();
  for (
    const expected of [
      "Mistake: bar0: registers.CTRL: can't be reached; BAR0's MSI-X table is on top, at 0x0 " +
      "to 0xf\n",
      `${module}:10:26: The device failed at REGION_WRITE: one\n`,
      `    at Object.write (file://${module}:7:3)\n  caused by Error: deeper\n`,
      `${module}:11:16: The device failed at REGION_WRITE: Cannot write ISR.BOGUS: unknown; there `,
    ]
  ) assertStringIncludes(said, expected);
  assert(!said.includes("/lib/"), said); // vfu's own frames
});
