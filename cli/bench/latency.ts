/**
 * Durations of things: percentiles, and a histogram.
 *
 * @module
 */

import { bar } from "../shared/progress.ts";

/** The time that the reads took, in microseconds. */
export interface Percentiles {
  min: number;
  p50: number;
  p90: number;
  p99: number;
  p99_9: number;
  max: number;
}

/** Times between two bounds, in microseconds: from `from`, up to the `from` of the next one. */
export interface Bucket {
  readonly from: number;
  readonly count: number;
}

/**
 * Percentiles of times by nearest rank.
 *
 * @param sorted at least one time, in ascending order
 */
export function percentiles(sorted: Float64Array): Percentiles {
  const at = (share: number) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)]!;
  return { min: at(0), p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max: at(1) };
}

/**
 * Counts times in buckets whose bounds grow by the same factor, from the least time to the 99.9th
 * percentile. The last one has all that is above.
 *
 * @param sorted at least one time, in ascending order, all above 0
 */
export function histogram(sorted: Float64Array, rows: number): Bucket[] {
  const { min, p99_9 } = percentiles(sorted);
  const factor = (p99_9 / min) ** (1 / (rows - 1));
  const bounds = Array.from({ length: rows }, (_, i) => min * factor ** i);
  const counts = new Array<number>(rows).fill(0);
  let row = 0;
  for (const time of sorted) {
    while (row + 1 < rows && time >= bounds[row + 1]!) row++;
    counts[row]!++;
  }
  return bounds.map((from, i) => ({ from, count: counts[i]! }));
}

/** The histogram as lines, a bar each. */
export function histogramLines(buckets: readonly Bucket[], columns: number): string[] {
  const labels = buckets.map(({ from }) => microseconds(from));
  const counts = buckets.map(({ count }) => String(count));
  const [labelWidth, countWidth] = [labels, counts].map((texts) =>
    Math.max(...texts.map((text) => text.length))
  ) as [number, number];
  const barWidth = Math.max(10, columns - labelWidth - countWidth - 8);
  const most = Math.max(...buckets.map(({ count }) => count));
  return buckets.map(({ count }, i) => {
    // However few, they show.
    const drawn = bar(count / most, barWidth) || (count > 0 ? "▏" : "");
    return `  ${labels[i]!.padStart(labelWidth)}  ${counts[i]!.padStart(countWidth)}  ${drawn}`
      .trimEnd();
  });
}

/** Microseconds in three digits: "9.53 µs", "124 µs", "1.20 ms". */
export function microseconds(value: number): string {
  if (value >= 999_500) return `${threeDigits(value / 1e6)} s`;
  return value >= 999.5 ? `${threeDigits(value / 1000)} ms` : `${threeDigits(value)} µs`;
}

function threeDigits(value: number): string {
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}
