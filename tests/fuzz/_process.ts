/**
 * Facts that the kernel knows of a process.
 *
 * @module
 */

/** The number of descriptors that a process has open. */
export function openFdsOf(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
}

/** Bytes of memory that a process has in use. */
export function residentOf(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`))!;
  return Number(kib) * 1024;
}

/** The number of descriptors that it has, once these are `expected`, or after a while. */
export async function settledFdsOf(pid: number, expected: number): Promise<number> {
  for (let i = 0; i < 6000 && openFdsOf(pid) !== expected; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return openFdsOf(pid);
}

/** The number of descriptors that it has when nothing is under way: as many for half a second. */
export async function quietFdsOf(pid: number): Promise<number> {
  let count = openFdsOf(pid);
  for (let same = 0, i = 0; same < 25 && i < 1000; i++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const now = openFdsOf(pid);
    same = now === count ? same + 1 : 0;
    count = now;
  }
  return count;
}
