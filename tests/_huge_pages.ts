/**
 * Huge pages for a test: the kernel has a pool of them, which is put back.
 *
 * @module
 */

const POOL = "/proc/sys/vm/nr_hugepages";

/** A line of /proc/meminfo, without its unit. */
function memoryInfo(name: string): number {
  const line = Deno.readTextFileSync("/proc/meminfo").match(new RegExp(`^${name}: *(\\d+)`, "m"));
  return Number(line?.[1] ?? NaN);
}

/**
 * Runs a test while exactly `count` pages of 2 MiB are free. Other tests may have theirs at the
 * same time, so the pool is locked. Root and a kernel with huge pages are needed: without these the
 * test fails, rather than to show nothing.
 */
export async function withHugePages(
  count: number,
  body: () => void | Promise<void>,
): Promise<void> {
  using lock = Deno.openSync("/dev/shm/vfu-test-huge-pages.lock", { create: true, write: true });
  await lock.lock(true);
  const before = Deno.readTextFileSync(POOL).trim();
  try {
    const used = memoryInfo("HugePages_Total") - memoryInfo("HugePages_Free") +
      memoryInfo("HugePages_Rsvd");
    Deno.writeTextFileSync(POOL, String(used + count));
    const free = memoryInfo("HugePages_Free") - memoryInfo("HugePages_Rsvd");
    if (free !== count) throw new Error(`The kernel has ${free} huge pages free, not ${count}`);
    await body();
  } finally {
    Deno.writeTextFileSync(POOL, before);
    lock.unlockSync();
  }
}
