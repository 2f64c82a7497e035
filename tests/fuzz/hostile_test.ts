import { assert, assertEquals } from "@std/assert";
import { startServe } from "../_demo_process.ts";
import { testFds } from "../_fds.ts";
import { HostileClient } from "./_client.ts";
import { useDemo } from "./_next_client.ts";
import { quietFdsOf, residentOf, settledFdsOf } from "./_process.ts";
import { Random } from "../../lib/base/random.ts";
import { transferBuffers } from "./_transfers.ts";

const MESSAGES = 20_000;
/** Fixed, so that a failure repeats; FUZZ_SEED tries another. */
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 20210301);
/** Garbage that is not collected yet; what leaks is more. */
const SLACK = 96 << 20;

testFds(
  `${MESSAGES} mutated messages leave a server serving, with no descriptor more`,
  async () => {
    await using served = await startServe("demo");
    await useDemo(served.path);
    const before = await quietFdsOf(served.pid); // the client is gone there too
    using hostile = new HostileClient(served.path, SEED);
    await hostile.send(MESSAGES / 10);
    const warm = residentOf(served.pid);
    await hostile.send(MESSAGES - MESSAGES / 10);
    await hostile.play(5); // each scenario, whatever the seed chose before
    await transferBuffers(served.path, new Random(SEED), 100);
    await useDemo(served.path);
    assertEquals(await settledFdsOf(served.pid, before), before);
    assert(residentOf(served.pid) < warm + SLACK, `${warm} bytes became ${residentOf(served.pid)}`);
    assert(hostile.tally.connections > 20, "it was let do something");
    assert(!/failed at/.test(served.stderr()), served.stderr().slice(-2000));
  },
);
