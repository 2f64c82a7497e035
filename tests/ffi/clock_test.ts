import { assert } from "@std/assert";
import { monotonicMs } from "../../ffi/clock.ts";

monotonicMs(); // opens libc, which stays open

/** Reads both clocks, again if the process was not running in between. */
function bothClocks(): [monotonic: number, reference: number] {
  while (true) {
    const before = performance.now();
    const monotonic = monotonicMs();
    const after = performance.now();
    if (after - before < 0.5) return [monotonic, before];
  }
}

Deno.test("monotonicMs() never goes back, and runs as fast as performance.now()", async () => {
  const [start, reference] = bothClocks();
  let last = start;
  for (let i = 0; i < 100_000; i++) {
    const now = monotonicMs();
    assert(now >= last, `${now} follows ${last}`);
    last = now;
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
  const [end, referenceEnd] = bothClocks();
  const difference = (end - start) - (referenceEnd - reference);
  assert(Math.abs(difference) < 2, `the clocks differ by ${difference} ms`);
});
