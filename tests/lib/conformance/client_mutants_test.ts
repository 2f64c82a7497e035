/** Each deliberate fault of a client is named by a check; the same checks pass without it. */

import { assert, assertEquals } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { idle } from "../../../ffi/poller.ts";
import { CLIENT_CHECKS, CLIENT_GROUPS } from "../../../lib/conformance/client/groups.ts";
import { type CheckResult, planOf } from "../../../lib/conformance/run.ts";
import { runClientChecks } from "../../../lib/conformance/run_client.ts";
import { testFds } from "../../_fds.ts";
import { PATIENCE_MS } from "../../_until.ts";
import { type Fault, MUTANTS, RawClient, SILENT } from "./_raw_client.ts";

libc(); // opened once for all tests

/** The wait for a client that says nothing: it fails either way, so that it may be short. */
const SILENCE_MS = 5000;

async function check(fault: Fault | undefined, ids: readonly string[]): Promise<CheckResult[]> {
  const folder = Deno.makeTempDirSync();
  try {
    const plans = planOf(CLIENT_GROUPS, ({ id }) => ids.includes(id));
    return await Array.fromAsync(runClientChecks(plans, {
      path: `${folder}/s`,
      start: (path) => new RawClient(path, fault),
      timeoutMs: fault !== undefined && SILENT.includes(fault) ? SILENCE_MS : PATIENCE_MS,
      signal: new AbortController().signal,
    }));
  } finally {
    Deno.removeSync(folder, { recursive: true });
    await idle();
  }
}

testFds("a careful client keeps each rule", async () => {
  const results = await check(undefined, CLIENT_CHECKS.map(({ id }) => id));
  assertEquals(
    results.filter(({ verdict }) => verdict === "failed").map((r) => [r.check.id, r.came]),
    [],
  );
  const passed = results.filter(({ verdict }) => verdict === "passed").map(({ check }) => check.id);
  const untried = Object.values(MUTANTS).filter((id) => !passed.includes(`client/${id}`));
  assertEquals(untried, [], "a mutant fails for its fault, not for the client");
  assert(passed.length >= 160, `${passed.length} passed`);
});

for (const [fault, id] of Object.entries(MUTANTS)) {
  testFds(`a client that ${fault} fails ${id}`, async () => {
    const [result] = await check(fault as Fault, [`client/${id}`]);
    assertEquals(result?.verdict, "failed", `${result?.reason}`);
    assert(result?.expected && result.came, "what was expected, and what came");
  });
}
