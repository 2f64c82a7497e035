import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { addressSpace, Budget, BudgetShare, keptDescriptors, mappings } from "../../ffi/budget.ts";
import { SystemError } from "../../ffi/errno.ts";
import { testFds } from "../_fds.ts";
import { runJson } from "./_subprocess.ts";

Deno.test("a budget refuses what is beyond it, and takes none of that", () => {
  const budget = new Budget("cups", "pour", () => 3);
  budget.take(2, "Cannot make tea");
  const error = assertThrows(() => budget.take(2, "Cannot make tea"), SystemError);
  assertEquals([error.code, error.syscall, budget.used], ["ENOSPC", "pour", 2]);
  assertEquals(
    error.message,
    "Cannot make tea, as 2 of 3 cups of this process are in use: " +
      "ENOSPC (No space left on device)",
  );
  budget.take(1, "Cannot make tea");
  budget.give(3);
  assertEquals([budget.used, budget.limit], [0, 3]);
  budget.bound(5);
  assertEquals(budget.limit, 3);
  budget.bound(1);
  assertEquals(budget.limit, 1);
});

Deno.test("a share is never more than what is left, so that nobody takes everything", () => {
  const budget = new Budget("cups", "pour", () => 100);
  const shares = [1, 2, 3, 4].map(() => new BudgetShare(budget));
  const counts = shares.map((share) => {
    for (let count = 0;; count++) {
      try {
        share.take(1, "Cannot make tea");
      } catch (error) {
        assertEquals((error as SystemError).code, "ENOSPC");
        return count;
      }
    }
  });
  assertEquals(counts, [50, 25, 13, 6]);
  assertEquals(budget.used, 94);
  assertThrows(() => shares[3]!.take(2, "Cannot"), SystemError, "6 of 100 cups of this process");
  shares[0]!.give(50);
  shares[3]!.take(7, "Cannot make tea");
  assertEquals(budget.used, 51);
});

Deno.test("a budget looks at the whole process at times, and refuses while that is full", () => {
  let [looks, left] = [0, 5];
  const process = { every: 3, left: () => (looks++, left) };
  const budget = new Budget("cups", "pour", () => 100, process);
  for (let i = 0; i < 6; i++) budget.take(1, "Cannot make tea");
  assertEquals(looks, 2);
  left = 2;
  const full = /all threads together use too many cups of this process/;
  budget.take(2, "Cannot make tea");
  for (let i = 0; i < 3; i++) {
    assertMatch(
      assertThrows(() => budget.take(1, "Cannot make tea"), SystemError, "ENOSPC").message,
      full,
    );
  }
  assertEquals([looks, budget.used], [3, 8]);
  left = 5;
  budget.give(3);
  budget.take(1, "Cannot make tea");
  assertEquals([looks, budget.used], [4, 6]);
});

testFds("three threads map as much as they may, and the process lives", async () => {
  const url = JSON.stringify(new URL("../../ffi/memory.ts", import.meta.url).href);
  const result = await runJson(`
    const code = \`
      import { createMemfd, Mapping } from ${url.replaceAll('"', "'")};
      const small = [];
      let code;
      while (code === undefined) {
        const fd = createMemfd("small", 4096);
        try { small.push(Mapping.create(fd, { length: 4096 })); }
        catch (error) { code = error.code; }
        finally { fd.close(); }
      }
      self.postMessage([small.length, code]);
      self.onmessage = () => small.length;
    \`;
    const url = "data:application/typescript," + encodeURIComponent(code);
    const threads = [1, 2, 3].map(() => {
      const worker = new Worker(url, { type: "module" });
      return new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data));
    });
    const results = await Promise.all(threads);
    const buffers = Array.from({ length: 64 }, () => new Uint8Array(4 << 20).fill(1)); // V8 maps
    console.log(JSON.stringify({ results, buffers: buffers.length }));
    Deno.exit(0);
  `) as { results: [number, string][] };
  assertEquals(result.results.map(([, code]) => code), ["ENOSPC", "ENOSPC", "ENOSPC"]);
  const total = result.results.reduce((sum, [count]) => sum + count, 0);
  assert(total < 0.95 * Number(Deno.readTextFileSync("/proc/sys/vm/max_map_count")));
});

testFds("the budgets of the process leave room for what else it does", () => {
  const maxMaps = Number(Deno.readTextFileSync("/proc/sys/vm/max_map_count"));
  assertEquals(mappings.limit, Math.floor(maxMaps / 2));
  assert(addressSpace.limit <= 2 ** 46);
  assert(keptDescriptors.limit >= 16);
});
