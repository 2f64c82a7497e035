import { assertEquals } from "@std/assert";
import { changedRanges } from "../../../cli/dma/memory_watch.ts";

const PAGE = 4096;

function ranges(...changed: number[]): [number, number][] {
  const before = new Uint8Array(2 * PAGE);
  const after = before.slice();
  for (const at of changed) after[at] = 1;
  return [...changedRanges(before, after)].map(({ start, end }) => [start, end]);
}

Deno.test("changedRanges() joins bytes that are near each other", () => {
  assertEquals(ranges(), []);
  assertEquals(ranges(0), [[0, 1]]);
  assertEquals(ranges(5, 6, 8, 24), [[5, 25]]);
  assertEquals(ranges(5, 23), [[5, 6], [23, 24]]);
  assertEquals(ranges(PAGE - 1, PAGE, 2 * PAGE - 1), [[PAGE - 1, PAGE + 1], [
    2 * PAGE - 1,
    2 * PAGE,
  ]]);
});
