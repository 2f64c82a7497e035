import { assert } from "@std/assert";
import { monotonicMs } from "../../ffi/clock.ts";

monotonicMs(); // opens libc, which stays open

Deno.test("monotonicMs() never goes back, and runs as fast as performance.now()", async () => {
  const start = monotonicMs();
  const reference = performance.now();
  let last = start;
  for (let i = 0; i < 100_000; i++) {
    const now = monotonicMs();
    assert(now >= last, `${now} follows ${last}`);
    last = now;
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
  const difference = (monotonicMs() - start) - (performance.now() - reference);
  assert(Math.abs(difference) < 2, `the clocks differ by ${difference} ms`);
});
