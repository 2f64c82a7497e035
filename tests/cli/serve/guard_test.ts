/**
 * Servers whose devices and logs do the worst that they can. Each runs as a process of its own.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { UnixListener } from "../../../ffi/listener.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { connect } from "../../../lib/client/connect.ts";
import { Command } from "../../../lib/wire/command.ts";
import { childrenIds, connectSoon, device, Served, spawnVfu } from "./_served.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { access, negotiate } from "../../lib/server/_client.ts";

libc(); // opened once for all tests, which then leave nothing open

/** Writes to the register, and does not wait for an answer. */
async function kick(path: string): Promise<RawPeer> {
  const peer = new RawPeer(UnixSocket.connect(path)!);
  await negotiate(peer);
  peer.command(9, Command.REGION_WRITE, access(0n, 0, 1, [1]));
  return peer;
}

for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  Deno.test(`serve ends at ${signal} while a hook holds the thread for ever`, async () => {
    await using served = new Served(device({ write: "hold();" }));
    await served.until(/^Ready/m);
    using _peer = await kick(served.path);
    await served.until(/^holding$/m);
    served.child.kill(signal);
    assertEquals(await served.ended, code);
    assertEquals(served.sockets(), []);
    assertMatch(served.texts.stderr, /^vfu: odd did not let go of the thread; /m);
  });
}

/** Other places where a device may hold the thread, and the source that leads there. */
const HOLDS: [where: string, source: Parameters<typeof device>[0], kicks: boolean][] = [
  ["at the top level of its module", { top: "hold();" }, false],
  ["while it is made", { create: "hold();" }, false],
  ["while it is made, after an await", { create: "return Promise.resolve().then(hold);" }, false],
  ["in a timer of its own", { write: "setTimeout(hold);" }, true],
  ["in a promise of its own", { write: "Promise.resolve().then(hold);" }, true],
];
for (const [where, source, kicks] of HOLDS) {
  Deno.test(`serve ends at SIGTERM while a device holds the thread ${where}`, async () => {
    await using served = new Served(device(source));
    if (kicks) await served.until(/^Ready/m);
    using _peer = kicks ? await kick(served.path) : undefined;
    await served.until(/^holding$/m);
    served.child.kill("SIGTERM");
    assertEquals(await served.ended, 143);
    assertEquals(served.sockets(), []);
  });
}

Deno.test("serve ends, and removes all sockets, while a device holds the thread at its close", async () => {
  await using served = new Served(device({ close: "hold();" }));
  await served.until(/^Ready/m);
  served.child.kill("SIGTERM");
  await served.until(/^holding$/m);
  assertEquals(served.sockets(), []); // already: other devices' too
  assertEquals(await served.ended, 143);
});

Deno.test("a second signal ends serve at once, and removes its sockets", async () => {
  await using served = new Served(device({ write: "hold();" }));
  await served.until(/^Ready/m);
  using _peer = await kick(served.path);
  await served.until(/^holding$/m);
  served.child.kill("SIGINT");
  await new Promise((resolve) => setTimeout(resolve, 300)); // sooner it would be the same signal
  served.child.kill("SIGTERM");
  await served.ended;
  assertEquals(served.sockets(), []);
});

Deno.test("serve leaves a socket alone that took the place of its own, also when it is forced", async () => {
  await using served = new Served(device({ write: "hold();" }));
  await served.until(/^Ready/m);
  using _peer = await kick(served.path);
  await served.until(/^holding$/m);
  Deno.removeSync(served.path);
  Deno.writeTextFileSync(served.path, "another's");
  served.child.kill("SIGTERM");
  assertEquals(await served.ended, 143);
  assertEquals(Deno.readTextFileSync(served.path), "another's");
});

for (const json of [false, true]) {
  Deno.test(`serve reports who holds the thread, while and after that${json ? ", in JSON" : ""}`, async () => {
    const name = json ? "stdout" : "stderr";
    await using served = new Served(
      device({
        top: "let count = 0;",
        write: "if (count++ === 0) holdFor(3000); else setTimeout(() => holdFor(3000));",
      }),
      json ? ["--json"] : [],
    );
    await served.until(/^Ready|"ready"/m, name);
    using peer = await kick(served.path);
    await served.until(/"free"|no longer holds/, name);
    peer.command(10, Command.REGION_WRITE, access(0n, 0, 1, [1]));
    if (json) {
      await served.until(/"free"[^]*"busy"/, name);
      const holds = served.texts.stdout.trimEnd().split("\n").map((line) => JSON.parse(line))
        .filter(({ event }) => event === "busy" || event === "free");
      assertEquals(holds[0], {
        event: "busy",
        device: "odd",
        doing: "REGION_WRITE",
        seconds: 1,
      });
      assertEquals([holds[1].event, holds[1].device], ["free", "odd"]);
      assertEquals(holds[2], { event: "busy", device: null, doing: null, seconds: 1 });
    } else {
      await served.until(/^one of the devices: has held the thread outside of any request/m, name);
      assertMatch(
        served.texts.stderr,
        /^odd: has held the thread at REGION_WRITE for 1 s or more; no device of this process /m,
      );
      assertMatch(served.texts.stderr, /^odd: no longer holds the thread at REGION_WRITE/m);
    }
  });
}

Deno.test("serve goes on ignoring SIGHUP if it was started so, as by nohup", async () => {
  const wrap = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"];
  await using served = new Served(device({}), [], { wrap });
  await served.until(/^Ready/m);
  served.child.kill("SIGHUP");
  using client = await connect(served.path);
  assertEquals((await client.info()).numRegions, 1);
  served.child.kill("SIGTERM");
  assertEquals(await served.ended, 0);
});

/** Logs that can't be written, and how a shell makes them. */
const BROKEN: [what: string, shell: string, args: string[]][] = [
  ["standard output is a full disk", 'exec "$@" >/dev/full', ["--json"]],
  ["standard error is a full disk", 'exec "$@" 2>/dev/full', ["-v"]],
  ["all its output is a full disk", 'exec "$@" >/dev/full 2>&1', ["--json", "-v"]],
  ["no process reads its output", 'exec "$@" | true', ["--json"]],
  ["no process reads its errors", 'exec 3>&1; exec "$@" 2>&1 >&3 3>&- | true', ["-v"]],
  ["its output is closed", 'exec "$@" >&-', ["--json"]],
];
for (const [what, shell, args] of BROKEN) {
  Deno.test(`serve serves on, and ends well, though ${what}`, async () => {
    await using served = new Served(device({}), args, {
      wrap: ["bash", "-c", `set -o pipefail; ${shell}`, "bash"],
    });
    const path = `${served.folder}/demo.sock`;
    const client = await connectSoon(path);
    for (let i = 0; i < 500; i++) await client.region("bar0").read32Async(0);
    client.close();
    const pid = serverOf(served);
    Deno.kill(pid, "SIGTERM");
    assertEquals(await served.ended, 0);
    assertEquals(served.sockets(), []);
    if (what.startsWith("standard output")) {
      assertStringIncludes(served.texts.stderr, "Standard output can't be written to (No space");
    }
  });
}

Deno.test("serve -v serves on while no process reads its pipe, and reports what it discarded", async () => {
  await using served = new Served(undefined, ["-v"], { drains: [] });
  const client = await connectSoon(`${served.folder}/odd.sock`);
  for (let i = 0; i < 12_000; i++) await client.region("bar0").read32Async(0); // 2 MB of lines
  let text = "";
  const reading = (async () => {
    for await (const chunk of served.child.stderr.pipeThrough(new TextDecoderStream())) {
      text += chunk;
    }
  })();
  while (!/lines are missing here/.test(text)) await new Promise((r) => setTimeout(r, 10));
  client.close();
  served.child.kill("SIGTERM");
  await served.child.stdout.cancel();
  assertEquals(await served.ended, 0);
  await reading;
  const [, count] = /^(\d+) lines are missing here: the log could not be written$/m.exec(text)!;
  assert(Number(count) > 100);
  assertMatch(text, /The client has left\n/); // what came after that is there
});

Deno.test("serve ends at SIGTERM while its pipe is full", async () => {
  await using served = new Served(undefined, ["-v"], { drains: [] });
  {
    using client = await connectSoon(`${served.folder}/odd.sock`);
    for (let i = 0; i < 1000; i++) await client.region("bar0").read32Async(0);
  }
  served.child.kill("SIGTERM");
  assertEquals((await served.child.status).code, 0);
  assertEquals(served.sockets(), []);
});

/** The process id of the server, which may be a child of the shell that was started. */
function serverOf({ child }: Served): number {
  return childrenIds(child.pid).find((pid) => commandOf(pid).includes("main.ts")) ?? child.pid;
}

function commandOf(pid: number): string {
  return Deno.readTextFileSync(`/proc/${pid}/cmdline`);
}

Deno.test("of many servers that start at once on a stale socket one listens", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-many-" });
  const path = `${folder}/s.sock`;
  const left = UnixListener.listen(`${path}.left`);
  Deno.renameSync(`${path}.left`, path);
  left.close();
  const children = Array.from({ length: 6 }, () => spawnServer(path));
  const ends = children.map(async (child) => {
    let text = "";
    for await (const more of child.stderr.pipeThrough(new TextDecoderStream())) {
      text += more;
      if (/^Ready/m.test(more)) ready.resolve(child);
    }
    return { text, code: (await child.status).code };
  });
  const ready = Promise.withResolvers<Deno.ChildProcess>();
  const winner = await ready.promise;
  const others = children.flatMap((child, i) => child === winner ? [] : [ends[i]!]);
  for (const { text, code } of await Promise.all(others)) {
    assertEquals(code, 1);
    assertMatch(text, /^vfu: Cannot listen on .*: another server listens there/);
  }
  {
    using client = await connect(path);
    assertEquals((await client.info()).numRegions, 9);
  }
  winner.kill("SIGTERM");
  await Promise.all(ends);
  assertEquals([...Deno.readDirSync(folder)], []);
  Deno.removeSync(folder);
});

/** Ends that a device may keep `vfu run` from, which serves the device itself. */
for (
  const [where, source] of [["made", { create: "hold();" }], ["written", {
    write: "hold();",
  }]] as const
) {
  Deno.test(`run --serve ends at SIGINT while its device holds the thread when ${where}`, async () => {
    const folder = Deno.makeTempDirSync({ prefix: "vfu-run-" });
    Deno.writeTextFileSync(`${folder}/odd.ts`, device(source));
    Deno.writeTextFileSync(`${folder}/s.yaml`, "steps:\n  - write: { bar0.b: 1 }\n");
    const child = spawnVfu("run", "--serve", `${folder}/odd.ts`, `${folder}/s.yaml`);
    let text = "";
    for await (const more of child.stderr.pipeThrough(new TextDecoderStream())) {
      if (/^holding$/m.test(text += more) && !/has held/.test(text)) child.kill("SIGINT");
    }
    assertEquals((await child.status).code, 130);
    assertMatch(text, /did not let go of the thread/);
    Deno.removeSync(folder, { recursive: true });
  });
}

function spawnServer(path: string): Deno.ChildProcess {
  return spawnVfu("serve", "demo", "--socket-path", path);
}

/** The ways in which a device may end its process, with the line that reports each. */
const EXITS: [source: Parameters<typeof device>[0], line: RegExp][] = [
  [{ top: "Deno.exit(7);" }, /^vfu: \/.*\/odd\.ts ended the process at load, with code 7$/m],
  [{ create: "Deno.exit(7);" }, /^vfu: odd ended the process at create, with code 7$/m],
  [{ write: "Deno.exit(7);" }, /^vfu: odd ended the process at REGION_WRITE, with code 7$/m],
  [{ write: "process.exit(7);" }, /^vfu: odd ended the process at REGION_WRITE, with code 7$/m],
  [{ write: "setTimeout(() => Deno.exit(7));" }, /^vfu: a device ended the process, with code 7$/m],
];
for (const [source, line] of EXITS) {
  const [[where, code]] = Object.entries(source) as [[string, string]];
  Deno.test(`serve removes its sockets, and says who ended it, at ${code} in ${where}`, async () => {
    await using served = new Served(
      device({ top: 'import process from "node:process";', ...source }),
    );
    if (where === "write") await served.until(/^Ready/m);
    using _peer = where === "write" ? await kick(served.path) : undefined;
    assertEquals(await served.ended, 7);
    assertEquals(served.sockets(), []);
    assertMatch(served.texts.stderr, line);
  });
}

/** Command lines that load MODULE, and none of which serves it to others. */
const LOADING = [
  "serve MODULE --check",
  "serve MODULE --export-map FOLDER/map.yaml",
  "map check MODULE",
  "map doc MODULE",
  "regs FOLDER/none.sock --map MODULE",
  "run FOLDER/run.yaml --serve MODULE",
];
for (const line of LOADING) {
  Deno.test(`vfu ${line} says that a module ended it, and fails`, async () => {
    const folder = Deno.makeTempDirSync({ prefix: "vfu-exit-" });
    try {
      Deno.writeTextFileSync(`${folder}/run.yaml`, "steps: [{ read: bar0.b }]");
      const runs = [[{ top: "Deno.exit(0);" }, "load"], [{ create: "Deno.exit(0);" }, ""]] as const;
      for (const [source, doing] of runs) {
        Deno.writeTextFileSync(`${folder}/odd.ts`, device(source));
        const args = line.replaceAll("MODULE", `${folder}/odd.ts`).replaceAll("FOLDER", folder);
        const child = spawnVfu(...args.split(" "));
        const [{ code }, err] = await Promise.all([
          child.status,
          new Response(child.stderr).text(),
        ]);
        assertEquals(code, 1);
        const when = doing === "" ? "(load|create)" : doing; // a check does both
        assertMatch(
          err,
          new RegExp(`^vfu: .*odd.* ended the process at ${when}, with code 1$`, "m"),
        );
      }
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  });
}

/** A thrown value without a text, both where a hook waits for the value and where none does. */
const ODD = "throw Object.create(null);";
for (
  const write of [ODD, `setTimeout(() => { ${ODD} });`, `Promise.reject(Object.create(null));`]
) {
  Deno.test(`serve serves on after a hook did ${write}`, async () => {
    await using served = new Served(device({ write }));
    await served.until(/^Ready/m);
    {
      using _peer = await kick(served.path);
      await served.until(/^The device failed|^odd: The device failed|failed at .*without a text/m);
    }
    using _device = await connectSoon(served.path);
    served.child.kill("SIGTERM");
    assertEquals(await served.ended, 0);
  });
}

for (
  const close of [
    ODD,
    `Promise.reject(new Error("late"));`,
    `return Promise.reject(new Error("late"));`,
  ]
) {
  Deno.test(`serve ends well, and reports it, when a device at its close did ${close}`, async () => {
    await using served = new Served(device({ close }));
    await served.until(/^Ready/m);
    served.child.kill("SIGTERM");
    assertEquals(await served.ended, 0);
    assertMatch(served.texts.stderr, /The device failed at .*: (late|a value without a text)/m);
    assertEquals(served.sockets(), []);
  });
}

Deno.test("serve serves though a module fails at what nothing waits for while another is loaded", async () => {
  const top = `Promise.reject(new Error("early"));
await new Promise((resolve) => setTimeout(resolve, 200));`;
  await using served = new Served(device({ top }));
  await served.until(/^Ready/m);
  assertMatch(served.texts.stderr, /failed at something that no hook waits for: early/);
  served.child.kill("SIGTERM");
  assertEquals(await served.ended, 0);
});

Deno.test("run --serve says that its device ended the process", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-exit-" });
  try {
    Deno.writeTextFileSync(`${folder}/odd.ts`, device({ write: "Deno.exit(7);" }));
    Deno.writeTextFileSync(`${folder}/run.yaml`, "steps: [{ write: { bar0.b: 1 } }]");
    const child = spawnVfu("run", `${folder}/run.yaml`, "--serve", `${folder}/odd.ts`);
    const [{ code }, err] = await Promise.all([child.status, new Response(child.stderr).text()]);
    assertEquals(code, 7);
    assertMatch(err, /^vfu: .*odd\.ts ended the process at REGION_WRITE, with code 7$/m);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("serve serves on though its log is a file that must not grow", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-limit-" });
  try {
    { // Deno's caches, which are files as well, have all afterwards
      await using served = new Served(undefined, ["-v"]);
      using _client = await connectSoon(served.path);
      await served.until(/^Ready/m);
    }
    const log = `${folder}/log`;
    Deno.writeFileSync(log, new Uint8Array(1 << 20));
    await using served = new Served(undefined, ["-v"], {
      wrap: ["sh", "-c", `ulimit -f 2048; exec "$0" "$@" 2>>${log}`], // blocks of 512 bytes
      options: ["--no-code-cache"],
    });
    using client = await connectSoon(served.path);
    assertEquals(client.state, "CONNECTED");
    served.child.kill("SIGTERM");
    assertEquals(await served.ended, 0);
    assertEquals(Deno.statSync(log).size, 1 << 20);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
