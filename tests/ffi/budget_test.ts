import { assert, assertEquals, assertThrows } from "@std/assert";
import { addressSpace, Budget, BudgetShare, keptDescriptors, mappings } from "../../ffi/budget.ts";
import { SystemError } from "../../ffi/errno.ts";
import { testFds } from "../_fds.ts";

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

testFds("the budgets of the process leave room for what else it does", () => {
  const maxMaps = Number(Deno.readTextFileSync("/proc/sys/vm/max_map_count"));
  assertEquals(mappings.limit, Math.floor(maxMaps / 2));
  assert(addressSpace.limit <= 2 ** 46);
  assert(keptDescriptors.limit >= 16);
});
