/**
 * Descriptor counts around a test: raw ones are seen by no sanitizer of Deno's.
 *
 * @module
 */

import { countOpenFds } from "../ffi/fd.ts";
import { idle } from "../ffi/poller.ts";
import { assertEquals } from "@std/assert";

countOpenFds(1); // opens libc, which stays open: not in a test, which would be told off for it

/** The count that the last test left, so that most tests need not wait for a count to settle. */
let settled: number | undefined;

/** Counts the open descriptors once what an earlier test left to the event loop is closed. */
async function settledCount(): Promise<number> {
  let count = countOpenFds();
  for (let i = 0, same = 0; i < 100 && same < 3 && count !== settled; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    const now = countOpenFds();
    same = now === count ? same + 1 : 0;
    count = now;
  }
  return settled = count;
}

/**
 * Runs a body, and returns by how many descriptors more are open after it. Peers that close theirs
 * asynchronously have a minute for it.
 */
async function openedBy(body: () => void | Promise<void>): Promise<number> {
  const before = await settledCount();
  await body();
  await idle();
  for (let i = 0; i < 6000 && countOpenFds() > before; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return countOpenFds() - before;
}

/** Declares a test that leaves as many descriptors open as it found. */
export function testFds(name: string, body: () => void | Promise<void>): void {
  Deno.test(name, async () => {
    let opened = await openedBy(body);
    // On a busy machine a descriptor of an earlier test may be closed only now. A body that closes
    // one which is not its own does so again.
    if (opened < 0) opened = await openedBy(body);
    assertEquals(opened, 0, "descriptors more than before the test");
  });
}
