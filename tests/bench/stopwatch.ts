/**
 * A stopwatch in a process of the benchmark, which reports its times when asked.
 *
 * @module
 */

/** As in baseline.c. */
const BATCHES = 21;
/** The time in milliseconds that warms the compiler up. */
const WARM_UP_MS = 300;

/** The middle one of some numbers; of an even count the mean of the two. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1]! + sorted[Math.floor(half)]!) / 2;
}

/**
 * Measures for each line on standard input, and prints what one operation takes, the median of
 * batches: `{"ns": 12.3}`. It is done for a while ahead of that.
 *
 * @param count how many operations
 * @param run does so many of them
 */
export async function measureOnDemand(
  count: number,
  run: (count: number) => void | Promise<void>,
): Promise<void> {
  const batch = Math.max(1, Math.floor(count / BATCHES));
  const warm = performance.now() + WARM_UP_MS;
  while (performance.now() < warm) await run(batch);
  const line = new Uint8Array(1);
  while (Deno.stdin.readSync(line) === 1) { // blocks: nothing else is running
    const ns = await measure(batch, run);
    Deno.stdout.writeSync(new TextEncoder().encode(`{"ns": ${ns.toFixed(3)}}\n`));
  }
}

async function measure(
  batch: number,
  run: (count: number) => void | Promise<void>,
): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < BATCHES; i++) {
    const start = performance.now();
    await run(batch);
    times.push((performance.now() - start) * 1e6 / batch);
  }
  return median(times);
}
