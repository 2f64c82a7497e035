/** `vfu check` against real servers: known faults of theirs are found, and crashes are told. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runHere } from "../cli/_cli.ts";
import { idle } from "../../ffi/poller.ts";
import { guestTest } from "./guest.ts";
import { clientCommand, deviationsIn, INTEROP_CLIENTS } from "./interop_text.ts";
import { peerProgram, QEMU_DEVICES } from "./peers.ts";

const INTEROP = Deno.readTextFileSync(new URL("../../docs/interop.md", import.meta.url));

/** A line of `--json`. */
interface Line {
  id: string;
  outcome: string;
  verdict: string;
  came?: string;
  usable?: string;
  server_end?: { signal: string | null; code: number; last_words: string[] };
}

/** Checks a server that is started by a command; returns the results by id. */
async function check(command: string, ...more: string[]): Promise<Map<string, Line>> {
  const { code, out, err } = await runHere([
    "check",
    "--json",
    "--timeout",
    "60s",
    "--spawn",
    command,
    ...more,
  ]);
  assertEquals([code, err], [1, ""]);
  const lines: Line[] = out.trim().split("\n").map((line) => JSON.parse(line));
  return new Map(lines.map((line) => [line.id, line]));
}

/** The command of QEMU's server with edu. */
const edu = () =>
  [
    peerProgram("qemu-system-x86_64"),
    ...["-machine x-remote,vfio-user=on,auto-shutdown=on -accel tcg -m 16M"],
    ...["-nodefaults -no-user-config -display none -serial none -monitor none"],
    ...QEMU_DEVICES.edu.arguments,
    ...["-object x-vfio-user-server,id=vfu0,type=unix,path={socket},device=dev0"],
  ].join(" ");

Deno.test("QEMU's server ends where edu writes memory that it may only read", async () => {
  const session = new URL("../../examples/sessions/edu_copy.yaml", import.meta.url).pathname;
  const results = await check(edu(), "--only", "dma_messages", "--copy", session);
  const found = (verdict: string) =>
    [...results.values()].filter((line) => line.verdict === verdict).map(({ id }) => id);
  const ids = (...numbers: number[]) => numbers.map((number) => `server/dma_messages/${number}`);
  assertEquals(found("passed"), ids(2, 19, 21, 22));
  assertEquals(found("failed"), ids(1, 23, 24));
  assertEquals(results.get(ids(1)[0]!)?.came, "0x00 at byte 0 of 4000");
  const end = results.get(ids(23)[0]!)!;
  assertEquals([end.usable, end.server_end?.signal], ["no", "SIGSEGV"]);
  const listed = deviationsIn(INTEROP, "qemu-edu").filter((id) => results.has(id));
  assertEquals(listed, ids(1, 23, 24), "docs/interop.md");
});

Deno.test("QEMU's server aborts on accesses to config space of 3 bytes modulo 4", async () => {
  const results = await check(edu(), "--only", "region_read");
  for (const number of [21, 23, 24, 25]) { // 3, 7, 11 and 63 bytes
    const line = results.get(`server/region_read/${number}`)!;
    assertEquals([line.outcome, line.usable], ["failed", "no"], line.id);
    assertEquals(line.server_end?.signal, "SIGABRT");
    assertStringIncludes(line.server_end!.last_words.join("\n"), "should not be reached");
  }
  const failed = [...results.values()].filter(({ outcome }) => outcome === "failed");
  assertEquals(failed.map(({ id }) => id), [21, 23, 24, 25].map((n) => `server/region_read/${n}`));
  assertEquals(results.get("server/region_read/22")?.verdict, "passed"); // 5 bytes
  const listed = deviationsIn(INTEROP, "qemu-edu").filter((id) => results.has(id));
  assertEquals(listed, failed.map(({ id }) => id), "docs/interop.md");
});

Deno.test("the crate's server has no errno, and loses step on unknown commands", async () => {
  const command = `${peerProgram("gpio")} --socket-path {socket}`;
  const results = await check(command, "--only", "errors/17", "--only", "framing/11");
  assertStringIncludes(results.get("server/errors/17")?.came ?? "", "no errno");
  assertEquals(results.get("server/errors/17")?.outcome, "warned");
  const step = results.get("server/framing/11")!;
  assertEquals([step.outcome, step.usable], ["failed", "no"]);
  assert(step.server_end !== undefined && step.server_end.code === 101, "a panic");
  const listed = deviationsIn(INTEROP, "crate-gpio").filter((id) => results.has(id));
  assertEquals(listed.toSorted(), ["server/errors/17", "server/framing/11"], "docs/interop.md");
});

/** Checks a client of the matrix; returns the results by id. */
async function checkClient(name: string, ...ids: string[]): Promise<Map<string, Line>> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-check-client-" });
  try {
    const { command } = INTEROP_CLIENTS.find((client) => client.name === name)!;
    const { out } = await runHere([
      ...["check-client", "--json", "--socket-path", `${folder}/s`, "--timeout", "60s"],
      ...ids.flatMap((id) => ["--only", id]),
      ...["--spawn", clientCommand(command)],
    ]);
    const lines: Line[] = out.trim().split("\n").map((line) => JSON.parse(line));
    return new Map(lines.map((line) => [line.id, line]));
  } finally {
    await idle();
    Deno.removeSync(folder, { recursive: true });
  }
}

guestTest("QEMU 11.1's client takes a truncated REGION_READ reply silently", async () => {
  const ids = [1, 2, 3].map((number) => `client/region_read/${number}`);
  const results = await checkClient("client-qemu", ...ids, "client/region_read/9");
  for (const id of ids) {
    const { outcome, came } = results.get(id)!;
    assertEquals(outcome, "failed", id);
    assertStringIncludes(came!, "ended with code 0");
    assertStringIncludes(came!, "as with a plain device");
  }
  assertEquals(results.get("client/region_read/9")!.outcome, "passed");
  assertEquals(deviationsIn(INTEROP, "client-qemu").filter((id) => ids.includes(id)), ids);
});

Deno.test("the crate's client looks neither at message ids nor at types", async () => {
  const ids = ["client/framing/3", "client/framing/7"];
  const results = await checkClient("client-crate", ...ids, "client/framing/1");
  for (const id of ids) assertEquals(results.get(id)!.outcome, "failed", id);
  assertEquals(results.get("client/framing/1")!.outcome, "passed");
  assertEquals(deviationsIn(INTEROP, "client-crate").filter((id) => ids.includes(id)), ids);
});
