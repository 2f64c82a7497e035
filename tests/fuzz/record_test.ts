import { assert, assertEquals } from "@std/assert";
import { runHere } from "../cli/_cli.ts";
import { startServe } from "../_demo_process.ts";
import { testFds } from "../_fds.ts";
import { startRecord } from "../_record_process.ts";
import { HostileClient } from "./_client.ts";
import { useDemo } from "./_next_client.ts";
import { quietFdsOf, settledFdsOf } from "./_process.ts";

const MESSAGES = 20_000;
/** Fixed, so that a failure repeats; FUZZ_SEED tries another. */
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 20210301);

testFds(
  `${MESSAGES} mutated messages through a recorder are recorded, and can be shown`,
  async () => {
    await using served = await startServe("demo");
    await using record = await startRecord("--connect", served.path, "--intercept", "all");
    await useDemo(record.path);
    const before = [await quietFdsOf(record.pid), await quietFdsOf(served.pid)];
    using hostile = new HostileClient(record.path, SEED);
    await hostile.send(MESSAGES);
    await useDemo(record.path);
    assertEquals(await settledFdsOf(record.pid, before[0]!), before[0]);
    assertEquals(await settledFdsOf(served.pid, before[1]!), before[1]);
    assert(!/failed at/.test(served.stderr()), served.stderr().slice(-2000));
    // The file is read while it is there.
    const ways = [["--map", "demo", "--map", "pci"], ["--stats"], ["--json"]];
    const { code, events } = await record.finish();
    assertEquals(code, 0);
    assert(events.some(({ kind }) => kind === "garbage"));
    assert(events.filter(({ kind }) => kind === "end").length > 20, "many clients");
    for (const way of ways) {
      const shown = await runHere(["show", record.file, ...way]);
      assertEquals([shown.code, shown.err], [0, ""]);
      assert(!/undefined|NaN|\[object/.test(shown.out), way.join(" "));
    }
  },
);
