import { assertEquals } from "@std/assert";
import fc from "fast-check";
import type { RegionPart, RegionReview } from "../../../lib/define/device_region.ts";
import { ReviewIndex } from "../../../lib/define/review_index.ts";

const SIZE = 64;

const partOf = fc.record({
  offset: fc.nat(40),
  width: fc.constantFrom(1, 2, 4, 8),
  count: fc.integer({ min: 1, max: 4 }),
  gap: fc.nat(6),
}).map(({ gap, ...part }): RegionPart => ({ path: "", ...part, stride: part.width + gap }));
const rangeOf = fc.record({ offset: fc.nat(40), size: fc.integer({ min: 1, max: 9 }) });

/** Finds what has each byte: a part's place in the list, -1 for a range, or undefined. */
function owners({ parts, ranges = [] }: RegionReview): (number | undefined)[] {
  const bytes: (number | undefined)[] = Array(SIZE).fill(undefined);
  for (const { offset, size } of ranges) bytes.fill(-1, offset, offset + size);
  for (const [i, { offset, width, count, stride }] of [...parts.entries()].reverse()) {
    for (let n = 0; n < count; n++) {
      bytes.fill(i, offset + n * stride, offset + n * stride + width);
    }
  }
  return bytes;
}

Deno.test("ReviewIndex finds what has a byte, and where the next one begins", () => {
  fc.assert(fc.property(fc.array(partOf), fc.array(rangeOf), (parts, ranges) => {
    const review = { parts, ranges, unreachable: [] };
    const index = new ReviewIndex(review);
    const bytes = owners(review);
    for (const [at, owner] of bytes.entries()) {
      const found = index.at(at);
      assertEquals(found && (found.part ? parts.indexOf(found.part) : -1), owner);
      if (found !== undefined) {
        assertEquals(found.start <= at && at < found.end, true);
        continue;
      }
      const next = bytes.findIndex((each, i) => i > at && each !== undefined);
      assertEquals(index.nextFrom(at, SIZE), next < 0 ? SIZE : next);
    }
  }));
});
