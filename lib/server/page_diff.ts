/**
 * Finds the pages in which two snapshots of memory differ.
 *
 * @module
 */

import { isSameMemory } from "../../ffi/compare.ts";

/** Bytes that are looked at together first: most are as they were. */
const BLOCK_SIZE = 64 << 10;
/** Unit of comparison in bytes: a page with a changed byte counts as changed. */
const PAGE_SIZE = 4096;

/**
 * Yields the pages in which two memories of one length differ, from the lowest on.
 *
 * @example
 * ```ts
 * import { changedPages } from "./page_diff.ts";
 *
 * const before = new Uint8Array(3 * 4096);
 * const now = before.slice();
 * now[5000] = 1;
 * console.assert([...changedPages(before, now)].map(({ offset }) => offset).join() === "4096");
 * ```
 */
export function* changedPages(
  before: Uint8Array,
  now: Uint8Array,
): Generator<{ readonly offset: number; readonly bytes: Uint8Array }, void> {
  const isSame = (start: number, end: number) =>
    isSameMemory(before.subarray(start, end), now.subarray(start, end));
  for (let block = 0; block < now.length; block += BLOCK_SIZE) {
    const end = Math.min(now.length, block + BLOCK_SIZE);
    if (isSame(block, end)) continue;
    for (let offset = block; offset < end; offset += PAGE_SIZE) {
      const bytes = now.subarray(offset, Math.min(end, offset + PAGE_SIZE));
      if (!isSame(offset, offset + bytes.length)) yield { offset, bytes };
    }
  }
}
