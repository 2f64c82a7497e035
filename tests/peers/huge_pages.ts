/**
 * Huge pages of the machine, for as long as a test needs them.
 *
 * @module
 */

const NUMBER = "/proc/sys/vm/nr_hugepages";

/** Pages of 2 MiB that the machine has set aside, or why it has not. */
export interface HugePages extends Disposable {
  /** Why there are none, in a sentence; `undefined` if they are there. */
  readonly reason: string | undefined;
}

/** Has the kernel set aside `count` more huge pages; disposal puts its number back. */
export function hugePages(count: number): HugePages {
  let added = 0;
  let reason: string | undefined;
  try {
    const before = number();
    Deno.writeTextFileSync(NUMBER, `${before + count}`);
    added = number() - before;
    if (added < count) reason = `the machine sets ${added} of ${count} huge pages aside`;
  } catch (error) {
    reason = `${NUMBER} can't be written: ${(error as Error).message}`;
  }
  const put = () => {
    // Another test may have changed the number meanwhile: only what was added is taken back.
    if (added > 0) Deno.writeTextFileSync(NUMBER, `${Math.max(0, number() - added)}`);
    added = 0;
  };
  if (reason !== undefined) put();
  return { reason, [Symbol.dispose]: put };
}

function number(): number {
  return Number(Deno.readTextFileSync(NUMBER));
}
