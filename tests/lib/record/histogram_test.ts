import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { TimeHistogram } from "../../../lib/record/histogram.ts";

Deno.test("a percentile is at least the exact one, and at most 1/16 above", () => {
  const times = fc.array(fc.integer({ min: 1, max: 2 ** 45 }), { minLength: 1, maxLength: 100 });
  fc.assert(fc.property(times, fc.constantFrom(0.01, 0.5, 0.9, 0.99, 1), (all, share) => {
    const histogram = new TimeHistogram();
    for (const each of all) histogram.add(each);
    const exact = all.toSorted((a, b) => a - b)[Math.ceil(share * all.length) - 1]!;
    const found = histogram.percentileNs(share);
    assert(found >= exact && found <= exact * (1 + 1 / 16) + 1, `${found} for ${exact}`);
    assertEquals(histogram.maxNs, Math.max(...all));
    const counts = histogram.doublings();
    assertEquals(counts.reduce((sum, { count }) => sum + count, 0), all.length);
    for (const { belowNs, count } of counts) {
      assertEquals(count, all.filter((ns) => ns < belowNs && ns >= belowNs / 2).length);
    }
  }));
});

Deno.test("a histogram of nothing has zeros", () => {
  const histogram = new TimeHistogram();
  assertEquals([histogram.percentileNs(0.5), histogram.maxNs, histogram.doublings()], [0, 0, []]);
});
