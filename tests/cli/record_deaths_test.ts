/** `vfu record` as a process, whose client, server or itself is killed in the middle of work. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../lib/client/connect.ts";
import type { Device } from "../../lib/client/device.ts";
import { readRecording } from "../../lib/record/reader.ts";
import { DENO } from "../_deno.ts";
import { startDemo } from "../_demo_process.ts";
import { startRecord } from "../_record_process.ts";
import { until } from "../_until.ts";
import { runHere } from "./_cli.ts";

const CLI = new URL("../../cli/main.ts", import.meta.url).pathname;
const SERVE = `${DENO} run -A ${CLI} serve demo --socket-path={socket}`;

/** Reads a register over and over; `done` counts, `end` rejects when the connection ends. */
function readOn(device: Device): { done(): number; readonly end: Promise<void> } {
  let done = 0;
  const end = (async () => {
    for (;; done++) await device.region(0).read32Async(8);
  })();
  end.catch(() => {});
  return { done: () => done, end };
}

/** Ends of main sockets in a recording, each by its side and reason. */
async function endsOf(file: string): Promise<string[]> {
  const ends = [];
  for await (const event of readRecording(file)) {
    if (event.kind === "end" && event.socket === "main") ends.push(`${event.side} ${event.reason}`);
  }
  return ends;
}

function childrenOf(pid: number): number[] {
  const text = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`);
  return text.trim().split(" ").filter((each) => each !== "").map(Number);
}

Deno.test("record: a killed server ends its client, and is started for the next one", async () => {
  await using record = await startRecord("--spawn", SERVE, "--intercept", "all");
  {
    using device = await connect(record.path, { timeoutMs: 60_000 });
    const reads = readOn(device);
    await until(() => reads.done() > 20, "reads");
    for (const pid of childrenOf(record.pid)) Deno.kill(pid, "SIGKILL");
    await assertRejects(() => reads.end);
  }
  using device = await connect(record.path, { timeoutMs: 60_000 });
  assertEquals(await device.region(0).read32Async(0), 0x6475_6676);
  device[Symbol.dispose]();
  // Events are in the file after a tenth of a second.
  await until(async () => (await endsOf(record.file)).length === 2, "the second end");
  const { code } = await record.finish();
  assertEquals([code, record.stderr().includes("at file:")], [0, false]);
  const [first, ...others] = await endsOf(record.file);
  // A socket that is closed before all is read from it fails.
  assert(first === "server left" || first === "server failed", first);
  assertEquals(others, ["client left"]);
  const { code: shown, out, err } = await runHere(["show", record.file, "--stats"]);
  assertEquals([shown, err], [0, ""]);
  assert(out.includes("REGION_READ"));
});

Deno.test("record: a killed recorder leaves whole events, and a server for the next", async () => {
  await using demo = await startDemo();
  await using record = await startRecord("--connect", demo.path);
  using device = await connect(record.path, { timeoutMs: 60_000 });
  const reads = readOn(device);
  // Some are in the file: it is written every tenth of a second.
  await until(() => Deno.statSync(record.file).size > 50_000, "the file");
  Deno.kill(record.pid, "SIGKILL");
  await assertRejects(() => reads.end);
  using next = await connect(demo.path, { timeoutMs: 60_000 });
  assertEquals(await next.region(0).read32Async(0), 0x6475_6676);
  const { code, err } = await runHere(["show", record.file, "--stats"]);
  assertEquals(code, 0);
  assert(err === "" || err.includes("ends in the middle of an event"), err);
  assertEquals(await endsOf(record.file), []);
});

Deno.test("record: a server that was started ends with a recorder that is killed", async () => {
  await using record = await startRecord("--spawn", SERVE);
  using device = await connect(record.path, { timeoutMs: 60_000 });
  assertEquals(await device.region(0).read32Async(0), 0x6475_6676);
  const [server] = childrenOf(record.pid);
  const isThere = () => {
    try {
      // A process without memory has ended; its parent has not looked yet.
      return /^VmRSS/m.test(Deno.readTextFileSync(`/proc/${server}/status`));
    } catch {
      return false;
    }
  };
  assert(isThere());
  Deno.kill(record.pid, "SIGKILL");
  await until(() => !isThere(), "the server's end");
});

Deno.test("record: client and server killed at once leave a recorder for the next", async () => {
  await using record = await startRecord("--spawn", SERVE, "--intercept", "all");
  const poll = new Deno.Command(DENO, {
    args: ["run", "-A", CLI, "poll", record.path, "bar0+8.l", "--equals", "1", "--for", "60s"],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  await until(() => Deno.statSync(record.file).size > 5000, "the client's reads");
  for (const pid of [poll.pid, ...childrenOf(record.pid)]) Deno.kill(pid, "SIGKILL");
  await poll.status;
  using device = await connect(record.path, { timeoutMs: 60_000 });
  assertEquals(await device.region(0).read32Async(0), 0x6475_6676);
  device[Symbol.dispose]();
  await until(async () => (await endsOf(record.file)).length === 2, "the second end");
  assertEquals((await record.finish()).code, 0);
  const ends = await endsOf(record.file);
  assertEquals([ends.length, ends.at(-1)], [2, "client left"]);
});
