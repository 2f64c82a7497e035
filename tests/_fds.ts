/**
 * Descriptor counts around a test: raw ones are seen by no sanitizer of Deno's.
 *
 * @module
 */

import { countOpenFds } from "../ffi/fd.ts";
import { idle } from "../ffi/poller.ts";
import { assertEquals } from "@std/assert";

countOpenFds(1); // opens libc, which stays open: not in a test, which would be told off for it

/**
 * Declares a test that leaves as many descriptors open as it found. What a peer closes asynchronously gets up to a second.
 */
export function testFds(name: string, body: () => void | Promise<void>): void {
  Deno.test(name, async () => {
    const before = countOpenFds();
    await body();
    await idle();
    for (let i = 0; i < 100 && countOpenFds() !== before; i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assertEquals(countOpenFds(), before, "open file descriptors after the test");
  });
}
