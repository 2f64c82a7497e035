/** Clients that trust a server are found, each by its fault, with one change of the device. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { idle } from "../../../ffi/poller.ts";
import { Deviser } from "../../../lib/fuzz/client/deviser.ts";
import { type ClientFinding, fuzzClient } from "../../../lib/fuzz/client/run.ts";
import { allFieldsOf } from "../../../lib/fuzz/fields.ts";
import { labelText } from "../../../lib/fuzz/label.ts";
import { FuzzProgress } from "../../../lib/fuzz/run.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import { PATIENCE_MS } from "../../_until.ts";
import { type Trust, TrustingClient, TRUSTS } from "./_trusting_client.ts";

libc(); // opened once for all tests

async function findIn(
  trust: Trust | undefined,
  { messages = 1500, seed = 1, until = Infinity, timeoutMs = PATIENCE_MS } = {},
): Promise<readonly ClientFinding[]> {
  const folder = Deno.makeTempDirSync();
  const findings: ClientFinding[] = [];
  try {
    const run = fuzzClient(new FuzzProgress("reply"), {
      path: `${folder}/s`,
      start: (path) => new TrustingClient(path, trust),
      seed,
      timeoutMs,
      signal: new AbortController().signal,
      timeMs: 600_000,
      messages,
      minimise: { plays: 100, timeMs: 120_000 },
    });
    for await (const finding of run) {
      findings.push(finding);
      if (findings.length >= until) break;
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
    await idle();
  }
  return findings;
}

testFds("a client that trusts in nothing has no findings", async () => {
  assertEquals((await findIn(undefined)).map(({ text }) => text), []);
});

for (const trust of TRUSTS) {
  testFds(`found: a client that trusts ${trust}`, async () => {
    const isHang = trust === "that a reply comes once";
    const timeoutMs = isHang ? 1000 : PATIENCE_MS;
    const findings = await findIn(trust, { until: 1, messages: 40_000, timeoutMs });
    const [found] = findings;
    assert(found !== undefined, "nothing was found");
    assertEquals(found.kind, isHang ? "hang" : "crash");
    assert(found.isRepeatable, "it fails again");
    assertEquals(found.changes.map(({ label }) => labelText(label)).length, 1);
    assert(found.conversation.length > 0);
  });
}

Deno.test("the same seed makes the same changes for the same requests", () => {
  const right = encodeMessage({ messageId: 3, command: 5, flags: 1 }, new Uint8Array(32));
  const made = (seed: number) => {
    const usual = new Map([[5, 40]]);
    const deviser = new Deviser({ seed, usual, isMuted: () => false });
    return Array.from({ length: 40 }, () => {
      const plan = deviser.next();
      return Array.from(
        { length: 40 },
        (_, i) => plan.changesAt({ command: 5, nth: i + 1, right, fds: 0, maps: [] }),
      );
    });
  };
  assertEquals(made(7), made(7));
  assertNotEquals(made(7), made(8));
});

Deno.test("each field of a reply is altered", () => {
  const right = encodeMessage({ messageId: 3, command: 5, flags: 1 }, new Uint8Array(32));
  const deviser = new Deviser({ seed: 1, usual: new Map([[5, 1]]), isMuted: () => false });
  const seen = new Set<string>();
  for (let i = 0; i < 2000; i++) {
    const turn = { command: 5, nth: 1, right, fds: 1, maps: [] };
    for (const { label } of deviser.next().changesAt(turn)) seen.add(label.field);
  }
  const parts = [
    "length",
    "descriptors",
    "id",
    "command",
    "flags",
    "error",
    "size",
    "own",
    "reply",
  ];
  for (const each of [...allFieldsOf(5, "reply"), ...parts]) assert(seen.has(each), each);
});
