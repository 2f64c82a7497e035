/**
 * Devices in processes of their own: what happens to one of them is not felt by the others.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { connect } from "../../../lib/client/connect.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DENO } from "../../_deno.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { access, negotiate } from "../../lib/server/_client.ts";
import { childrenIds, device, Served, type ServedOptions } from "./_served.ts";

libc(); // opened once for all tests, which then leave nothing open

/** The name of this process, as the kernel has it. */
const PROGRAM = Deno.readTextFileSync("/proc/self/comm").trim();

/** A server with `--isolate`: the device of the source, and demo. */
function isolated(
  source: string | undefined,
  args: string[] = [],
  { options = [], ...more }: ServedOptions = {},
): Served {
  return new Served(source, ["--isolate", ...args], {
    ...more,
    options: ["--allow-run", ...options],
  });
}

/** The processes of a server's devices, in the order of the command line. */
function childrenOf({ child }: Served): number[] {
  const pids = childrenIds(child.pid);
  assert(pids.length > 1 && pids.every((pid) => pid > 1));
  return pids.sort((a, b) => a - b);
}

/** Waits until processes are gone. */
async function untilGone(pids: readonly number[]): Promise<void> {
  for (const pid of pids) {
    while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return false;
  }
}

/** Reads a register of the demo device that is served beside. */
async function readBeside({ folder }: Served): Promise<number> {
  using client = await connect(`${folder}/demo.sock`);
  await client.regionInfo(0);
  return await client.region("bar0").read32Async(0);
}

const DEMO_ID = 0x64756676;

async function write(path: string): Promise<RawPeer> {
  const peer = new RawPeer(UnixSocket.connect(path)!);
  await negotiate(peer);
  peer.command(9, Command.REGION_WRITE, access(0n, 0, 1, [1]));
  return peer;
}

Deno.test("serve --isolate reports what happens as serve does, by name", async () => {
  await using served = isolated(
    device({ write: 'console.log("of the device"); throw new Error("a bug of the device");' }),
    ["--fault=REGION_READ:error=EIO@1", "--fault=*:drop%0.0000001"].concat(
      ["demo", "--socket-path=FOLDER/c.sock", "-v", "--seed=7"],
    ),
  );
  await served.until(/^Ready/m);
  const children = childrenOf(served);
  assertEquals(children.length, 3);
  using _peer = await write(served.path);
  await served.until(/a bug of the device\n +at .*odd\.ts/m);
  {
    using client = await connect(`${served.folder}/demo.sock`);
    await client.regionInfo(0);
    const read = () => client.region("bar0").read32Async(0);
    assertEquals(await read().catch((error) => error.code), "EIO");
    assertEquals(await read(), DEMO_ID);
  }
  await served.until(/^demo: .*The client has left$/m);
  served.child.kill("SIGTERM");
  assertEquals(await served.ended, 0);
  assertEquals(served.sockets(), []);
  await untilGone(children);
  assertEquals(served.texts.stdout, "of the device\n");
  for (
    const pattern of [
      /^Serving odd at .*\/odd\.sock\n {2}Regions: region 0 8 B rw-\n/m,
      /^Serving demo at .*\/demo\.sock\n.*\n.*\n.*\n {2}Fault: REGION_READ:error=EIO@1$/m,
      /^Serving demo-2 at .*\/c\.sock\n/m,
      /^The faults that come at random repeat with --seed=7$/m,
      /^odd: A client has connected: [^\n]+ \(\d+\)$/m,
      /^odd: .*odd\.ts:\d+:\d+: The device failed at REGION_WRITE: a bug of the device$/m,
      /^demo: Fault at REGION_READ 1: error=EIO$/m,
      /^demo: +[\d.]+ ms <- .*VERSION/m,
      /^demo: Refusing REGION_READ with EIO: a fault on purpose$/m,
    ]
  ) assertMatch(served.texts.stderr, pattern);
});

Deno.test("serve --isolate passes on what a device writes, whatever that looks like", async () => {
  const words = ['{"event":"loaded"}', '{"event":"ready"}', '{"event":"error","device":"demo"}'];
  await using served = isolated(
    device({
      top: `for (const word of ${JSON.stringify(words)}) console.log(word);
        Deno.stdout.writeSync(new TextEncoder().encode("no end of line"));`,
      write: 'console.log("written");',
    }),
  );
  await served.until(/^Ready/m);
  using _peer = await write(served.path);
  await served.until(/^written$/m, "stdout");
  assertEquals(served.texts.stdout, [...words, "no end of line", "written", ""].join("\n"));
  assertEquals(await readBeside(served), DEMO_ID);
  served.child.kill("SIGTERM");
  assertEquals(await served.ended, 0);
});

Deno.test("serve --isolate --json writes an object a line", async () => {
  await using served = isolated(device({}), ["--json"]);
  await served.until(/"ready"/, "stdout");
  assertEquals(await readBeside(served), DEMO_ID);
  await served.until(/"disconnect"/, "stdout");
  const [, odd] = childrenOf(served).toReversed();
  Deno.kill(odd!, "SIGKILL");
  await served.until(/"ended"/, "stdout");
  served.child.kill("SIGINT");
  assertEquals(await served.ended, 1);
  const [ready, ...events] = served.texts.stdout.trimEnd().split("\n").map((text) =>
    JSON.parse(text)
  );
  assertEquals(ready.devices.map((each: { device: string }) => each.device), ["odd", "demo"]);
  assertEquals(events, [
    { event: "connect", device: "demo", client: { id: Deno.pid, program: PROGRAM } },
    { event: "disconnect", device: "demo", reason: null },
    { event: "ended", device: "odd", code: null, signal: "SIGKILL" },
  ]);
  assertEquals(served.texts.stderr, "");
});

/** Crashes the process. The runtime lets the first signal pass, for the fault to come again. */
function crash(signal: string): string {
  return `for (;;) Deno.kill(Deno.pid, "${signal}");`;
}

/** The ends of a device: the name, the code for it, and how its process ends. */
const DISASTERS: [what: string, code: string, how: RegExp, options?: string[]][] = [
  ["crashes by SIGSEGV", crash("SIGSEGV"), /by SIGSEGV/],
  ["crashes by SIGBUS", crash("SIGBUS"), /by SIGBUS/],
  ["ends its process", "Deno.exit(7);", /with code 7/],
  ["ends its process as if all were well", "Deno.exit(0);", /with code 1/],
  [
    "exhausts its memory",
    "const all = []; for (;;) all.push(new Array(1000).fill(all.length));",
    /(by SIG(TRAP|ABRT|ILL)|with code 13[234])/,
    ["--v8-flags=--max-old-space-size=60"],
  ],
];
for (const [what, code, how, options = []] of DISASTERS) {
  Deno.test(`serve --isolate serves the others on when a device ${what}`, async () => {
    await using served = isolated(device({ write: code }), [], { options });
    await served.until(/^Ready/m);
    using beside = await connect(`${served.folder}/demo.sock`);
    await beside.regionInfo(0);
    using _peer = await write(served.path);
    await served.until(/^odd: Its process has ended /m);
    assertMatch(
      served.texts.stderr,
      new RegExp(
        `^odd: Its process has ended ${how.source}, and its socket is removed; `,
        "m",
      ),
    );
    assertEquals(await beside.region("bar0").read32Async(0), DEMO_ID);
    beside.close();
    assertEquals(served.sockets(), ["demo.sock"]);
    served.child.kill("SIGTERM");
    assertEquals(await served.ended, 1);
    assertEquals(served.sockets(), []);
  });
}

Deno.test("serve --isolate serves the others while a device holds its thread, and ends all", async () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    await using served = isolated(device({ write: "hold();" }));
    await served.until(/^Ready/m);
    const children = childrenOf(served);
    using _peer = await write(served.path);
    await served.until(/^odd: holding$/m);
    assertEquals(await readBeside(served), DEMO_ID);
    if (signal === "SIGTERM") {
      await served.until(/^odd: has held the thread at REGION_WRITE for 1 s or more$/m);
    }
    served.child.kill(signal);
    assertEquals(await served.ended, { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }[signal]);
    assertEquals(served.sockets(), []);
    await untilGone(children);
  }
});

Deno.test("serve --isolate ends a process that is stopped, and removes its socket", async () => {
  await using served = isolated(device({}));
  await served.until(/^Ready/m);
  const children = childrenOf(served);
  Deno.kill(children[0]!, "SIGSTOP");
  assertEquals(await readBeside(served), DEMO_ID);
  served.child.kill("SIGTERM");
  assertEquals(await served.ended, 143);
  assertEquals(served.sockets(), []);
  await untilGone(children);
});

Deno.test("a second signal ends serve --isolate and all its processes", async () => {
  await using served = isolated(device({ write: "hold();" }));
  await served.until(/^Ready/m);
  const children = childrenOf(served);
  using _peer = await write(served.path);
  await served.until(/^odd: holding$/m);
  served.child.kill("SIGINT");
  await new Promise((resolve) => setTimeout(resolve, 300)); // sooner it would be the same signal
  served.child.kill("SIGINT");
  await served.ended;
  await untilGone(children);
  assertEquals(served.sockets(), []);
});

for (const [what, source] of [["work", {}], ["hold their thread", { write: "hold();" }]] as const) {
  Deno.test(`processes of devices that ${what} end with a parent that is killed`, async () => {
    const close = `Deno.writeTextFileSync(new URL("./closed", import.meta.url), "");`;
    await using served = isolated(device({ ...source, close }));
    await served.until(/^Ready/m);
    const children = childrenOf(served);
    using _peer = await write(served.path);
    if (what !== "work") await served.until(/^odd: holding$/m);
    served.child.kill("SIGKILL");
    await served.child.status;
    await untilGone(children);
    assertEquals(served.sockets(), []);
    // A device that works was closed, as at any other end.
    const isClosed = Deno.readDirSync(served.folder).some(({ name }) => name === "closed");
    assertEquals(isClosed, what === "work");
  });
}

/** Faults that keep a device from being served, with the exit code and the message. */
const FAILURES: [what: string, source: string, args: string[], code: number, said: RegExp][] = [
  [
    "does not load",
    "export default 7;",
    [],
    1,
    /^odd\.ts|.*odd.*: vfu: .*:1:1: Cannot serve .*a number/m,
  ],
  [
    "does not begin",
    device({ top: 'throw new Error("boom");' }),
    [],
    1,
    /vfu: .*odd\.ts:\d+:\d+: Cannot load .*boom/,
  ],
  ["is not known", device({}), ["dmo", "--socket-path=FOLDER/c.sock"], 2, /did you mean "demo"/],
  [
    "has no such option",
    device({}),
    ["demo", "--socket-path=FOLDER/c.sock", "--option=a=b"],
    2,
    /The device demo has no options/,
  ],
  [
    "can't listen",
    device({}),
    ["demo", "--socket-path=FOLDER/no/c.sock"],
    1,
    /Cannot listen on .*its folder does not exist/,
  ],
  [
    "crashes while it is made",
    device({ create: crash("SIGSEGV") }),
    [],
    1,
    /^vfu: Cannot serve .*: its process has ended by SIGSEGV$/m,
  ],
];
for (const [what, source, args, code, said] of FAILURES) {
  Deno.test(`serve --isolate serves nothing when one of the devices ${what}`, async () => {
    await using served = isolated(source, args);
    assertEquals(await served.ended, code);
    assertMatch(served.texts.stderr, said);
    assert(!served.texts.stderr.includes("Ready"));
    assertEquals(served.sockets(), []);
  });
}

Deno.test("serve --isolate ends at a signal while a device is not made yet", async () => {
  await using served = isolated(device({ create: "hold();" }));
  await served.until(/holding$/m);
  const children = childrenOf(served);
  served.child.kill("SIGTERM");
  assertEquals(await served.ended, 143);
  await untilGone(children);
  assertEquals(served.sockets(), []);
});

Deno.test("serve --isolate says which permission it takes", async () => {
  await using served = new Served(device({}), ["--isolate"]);
  assertEquals(await served.ended, 1);
  assertEquals(
    served.texts.stderr,
    "vfu: Cannot isolate the devices: starting processes takes a permission; " +
      "run deno with --allow-run\n",
  );
});

Deno.test("serve --isolate hands each descriptor to its device alone", async () => {
  const folder = Deno.makeTempDirSync();
  // bash connects two descriptors to a server of the test's and hands them over; 5 is for READY=1.
  const root = new URL("../../../", import.meta.url).pathname;
  const script = `
import { UnixListener } from "${root}ffi/listener.ts";
import { connect } from "${root}lib/client/connect.ts";
import { UnixSocket } from "${root}ffi/socket.ts";
import { setInherited } from "${root}ffi/process.ts";
const [a, b] = [UnixSocket.pair(), UnixSocket.pair()];
const theirs = [a[1].release(), b[1].release()];
for (const fd of theirs) setInherited(fd, true);
const child = new Deno.Command("${DENO}", {
  args: ["run", "--no-prompt", "--config=${root}deno.json", "--allow-ffi", "--allow-read", "--allow-run",
    "${root}cli/main.ts", "serve", "--isolate", "demo", "--fd=" + theirs[0], "demo", "--fd=" + theirs[1]],
  stderr: "inherit",
}).spawn();
for (const fd of theirs) setInherited(fd, false);
const { OwnedFd } = await import("${root}ffi/fd.ts");
for (const fd of theirs) new OwnedFd(fd).close();
const first = await connect(a[0].release(), { timeoutMs: 30000 });
const second = await connect(b[0].release(), { timeoutMs: 30000 });
await first.regionInfo(0);
console.log("first", await first.region("bar0").read32Async(0));
first.close();
await second.regionInfo(0);
console.log("second", await second.region("bar0").read32Async(0));
second.close();
console.log("code", (await child.status).code);
`;
  Deno.writeTextFileSync(`${folder}/fds.ts`, script);
  const { stdout, stderr } = await new Deno.Command(DENO, {
    args: ["run", "-A", "--no-check", `--config=${root}deno.json`, `${folder}/fds.ts`],
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stdout);
  assertEquals(
    text,
    `first ${DEMO_ID}\nsecond ${DEMO_ID}\ncode 0\n`,
    new TextDecoder().decode(stderr),
  );
  Deno.removeSync(folder, { recursive: true });
});
