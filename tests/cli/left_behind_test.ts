/** Commands of `--spawn`: with variables, of several programs, and what these leave behind. */

import { assertEquals } from "@std/assert";
import { OwnedFd } from "../../ffi/fd.ts";
import { SpawnedServer } from "../../lib/record/spawned_server.ts";
import { DENO } from "../_deno.ts";
import { until } from "../_until.ts";
import { runHere, temporaryFolder } from "./_cli.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** A slow machine is no deviation. */
const PATIENT = ["--timeout", "60s"];
const vfu = (args: string) => `${DENO} run -A ${ROOT}cli/main.ts ${args}`;
const SERVE = vfu("serve demo --socket-path {socket}");

/** Command lines of the shell around a program. SIDE starts a process, and notes its number. */
const FORMS: readonly ((program: string) => string)[] = [
  (program) => `sh -c 'SIDE exec ${program}'`,
  (program) => `sh -c 'trap "" TERM; SIDE ${program}'`,
  (program) => `SIDE ${program} | cat`,
  (program) => `cd / && SIDE exec ${program}`,
  (program) => `A=1 B="2 3" sh -c 'test "$A$B" = "12 3" && SIDE exec ${program}'`,
];

function isRunning(pid: string): boolean {
  try {
    // A process without memory has ended; its parent has not looked yet.
    return /^VmRSS/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return false;
  }
}

/** Command lines, and the numbers of processes that they started aside. */
function commands(folder: string, program: string) {
  const file = `${folder}/side`;
  const side = `sleep 600 & echo $! >> ${file};`;
  return {
    all: FORMS.map((form) => form(program).replace("SIDE", side)),
    /** Waits for the end of each, and returns how many there were. */
    async ended(): Promise<number> {
      const pids = Deno.readTextFileSync(file).trim().split("\n");
      Deno.removeSync(file);
      for (const pid of pids) await until(() => !isRunning(pid), `the end of process ${pid}`);
      return pids.length;
    },
  };
}

Deno.test("vfu check ends what a server left behind", async () => {
  await using folder = temporaryFolder();
  const { all, ended } = commands(folder.path, SERVE);
  for (const spawn of all) {
    const args = ["check", "--only", "server/reset/1", ...PATIENT, "--spawn", spawn];
    assertEquals((await runHere(args)).code, 0, spawn);
    assertEquals(await ended() > 0, true);
  }
});

Deno.test("vfu check-client ends what a client left behind", async () => {
  await using folder = temporaryFolder();
  const { all, ended } = commands(folder.path, vfu("probe {socket}"));
  for (const spawn of all.slice(-2)) {
    const args = ["check-client", "--socket-path", `${folder.path}/s`, "--only", "negotiation/1"];
    assertEquals((await runHere([...args, ...PATIENT, "--spawn", spawn])).code, 0, spawn);
    assertEquals(await ended() > 0, true);
  }
});

Deno.test("vfu check ends a daemon that its command started", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/pid`;
  const spawn = `sh -c '${SERVE} & echo $! >> ${file}; while ! test -S {socket}; do :; done'`;
  const args = ["check", "--only", "server/reset/1", ...PATIENT, "--spawn", spawn];
  assertEquals((await runHere(args)).code, 0);
  for (const pid of Deno.readTextFileSync(file).trim().split("\n")) {
    await until(() => !isRunning(pid), "the daemon's end");
  }
});

Deno.test("a recorder ends what its server left behind", async () => {
  await using folder = temporaryFolder();
  const { all, ended } = commands(folder.path, `${SERVE} --json > /dev/null`);
  for (const spawn of all) {
    {
      await using server = new SpawnedServer(spawn);
      using _client = new OwnedFd(await server.connect(AbortSignal.timeout(60_000)));
      server.disconnected();
    }
    assertEquals(await ended() > 0, true);
  }
});
