/** A server that is unusual, and keeps the specification, deviates in no check. */

import { assert, assertEquals } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { idle } from "../../../ffi/poller.ts";
import { checkServer } from "../../../lib/conformance/api/mod.ts";
import type { Rule } from "../../../lib/conformance/check.ts";
import { planOf, runChecks } from "../../../lib/conformance/run.ts";
import { SERVER_GROUPS } from "../../../lib/conformance/server/groups.ts";
import { defineDevice } from "../../../lib/define/device.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import type { ServedDevice } from "../../../lib/server/served_device.ts";
import { Server, type ServerOptions } from "../../../lib/server/server.ts";
import { Command } from "../../../lib/wire/command.ts";
import { testFds } from "../../_fds.ts";
import { PATIENT } from "../../_until.ts";
import { type Mutant, MutantTarget } from "./_mutant.ts";

libc(); // opened once for all tests

/** A limit that was chosen is told to each client: a deviation at SHOULD, on purpose. */
const TOLD = "server/negotiation/8";
/** A check that waits for a time of the server. */
const PATIENCE = "server/connection/17";

const chooses = ({ id }: Rule) => id !== TOLD && id !== PATIENCE;

/** Ids of the checks in which a server deviates, and the number of those that passed. */
async function deviations(device: ServedDevice, offer: ServerOptions) {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/s`;
  const failed: string[] = [];
  let passed = 0;
  try {
    using _server = Server.listen(path, device, offer);
    const options = { path, chooses, isDestructive: true, ...PATIENT };
    for await (const { check, verdict, expected, came } of checkServer(options)) {
      if (verdict === "failed") failed.push(`${check.id}: ${expected}, ${came}`);
      if (verdict === "passed") passed++;
    }
  } finally {
    await idle();
    Deno.removeSync(folder, { recursive: true });
  }
  return { failed, passed };
}

const OFFERS: readonly (readonly [name: string, offer: ServerOptions])[] = [
  ["takes no descriptors", { maxMsgFds: 0 }],
  ["takes one descriptor", { maxMsgFds: 1, minor: 1 }],
  ["takes one byte of data", { maxDataXferSize: 1 }],
  ["takes 100 bytes of data", { maxDataXferSize: 100, writeMultiple: false }],
  ["takes no DMA map", { maxDmaMaps: 0, twinSocket: false }],
  ["takes one DMA map", { maxDmaMaps: 1, minor: 0 }],
  ["maps pages of 2 MiB", { pgsizes: 1n << 21n }],
];

for (const [name, offer] of OFFERS) {
  testFds(`a server that ${name} deviates in nothing`, async () => {
    const { failed, passed } = await deviations(new DemoDevice(), offer);
    assertEquals(failed.filter((each) => !each.startsWith("server/negotiation/28")), []);
    assert(passed > 200, `${passed} passed`);
  });
}

testFds("a device that is no PCI device, and has no interrupts, deviates in nothing", async () => {
  const device = defineDevice({
    name: "plain",
    pci: false,
    create: ({ memory }) => ({ regions: [memory({ size: 4096 })] }),
  }).create();
  const { failed, passed } = await deviations(device, {});
  assertEquals(failed, []);
  assert(passed > 150, `${passed} passed`);
});

testFds("a device without DMA, to which any map is none, deviates in nothing", async () => {
  const maps: readonly number[] = [Command.DMA_MAP, Command.DMA_UNMAP];
  const mutant: Mutant = {
    name: "no DMA",
    check: "dma/1",
    reply: (m) => {
      if (!maps.includes(m.command) || (m.flags & 0x20) === 0) return;
      m.flags &= ~0x20;
      m.error = 0;
      if (m.command === Command.DMA_UNMAP) m.payload = new Uint8Array(24);
    },
  };
  const verdicts = new Map<string, string>();
  {
    await using target = new MutantTarget(mutant);
    const plans = planOf(SERVER_GROUPS, ({ id }) => id.startsWith("server/dma/"));
    const options = {
      ...PATIENT,
      signal: new AbortController().signal,
      isDestructive: true,
      isFresh: false,
    };
    for await (const { check, verdict } of runChecks(target, plans, options)) {
      verdicts.set(check.id, verdict);
    }
  }
  await idle();
  assertEquals([...verdicts].filter(([, verdict]) => verdict === "failed"), []);
  assertEquals(verdicts.get("server/dma/1"), "passed");
  assertEquals(verdicts.get("server/dma/10"), "not applicable");
});
