import { assertEquals } from "@std/assert";
import {
  histogram,
  histogramLines,
  microseconds,
  percentiles,
} from "../../../cli/bench/latency.ts";

Deno.test("percentiles() takes the nearest rank", () => {
  const times = Float64Array.from({ length: 1000 }, (_, i) => i + 1);
  assertEquals(percentiles(times), { min: 1, p50: 500, p90: 900, p99: 990, p99_9: 999, max: 1000 });
  assertEquals(percentiles(Float64Array.of(7)), {
    min: 7,
    p50: 7,
    p90: 7,
    p99: 7,
    p99_9: 7,
    max: 7,
  });
});

Deno.test("histogram() counts every time once, in buckets that grow", () => {
  const times = Float64Array.from({ length: 999 }, (_, i) => 1 + i * 7.999 / 998);
  const buckets = histogram(times, 4);
  assertEquals(buckets.map(({ from }) => Math.round(from)), [1, 2, 4, 9]);
  assertEquals(buckets.reduce((sum, { count }) => sum + count, 0), 999);
  assertEquals(buckets[0]!.count < buckets[1]!.count, true);
  assertEquals(histogram(Float64Array.of(5, 5), 3).map(({ count }) => count), [0, 0, 2]);
});

Deno.test("histogramLines() aligns, and shows however few there are", () => {
  const buckets = [{ from: 9.5, count: 1 }, { from: 1200, count: 1000 }, { from: 5e6, count: 0 }];
  assertEquals(histogramLines(buckets, 32), [
    "  9.50 µs     1  ▏",
    "  1.20 ms  1000  █████████████",
    "   5.00 s     0",
  ]);
});

Deno.test("microseconds() has three digits", () => {
  assertEquals([0.5, 9.996, 99.96, 124, 999.6, 12_345, 1e6].map(microseconds), [
    "0.50 µs",
    "10.0 µs",
    "100 µs",
    "124 µs",
    "1.00 ms",
    "12.3 ms",
    "1.00 s",
  ]);
});
