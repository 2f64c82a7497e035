/**
 * What the kernel knows of a process.
 *
 * @module
 */

/** How many descriptors a process has open. */
export function openFdsOf(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
}

/** Bytes of memory that a process has in use. */
export function residentOf(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`))!;
  return Number(kib) * 1024;
}

/** How many descriptors it has, once these are `expected`, or after a while. */
export async function settledFdsOf(pid: number, expected: number): Promise<number> {
  for (let i = 0; i < 1000 && openFdsOf(pid) !== expected; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return openFdsOf(pid);
}
