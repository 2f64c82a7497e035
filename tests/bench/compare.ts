/**
 * Results of two runs of the benchmark, compared row by row.
 *
 * @module
 */

import { median } from "./stopwatch.ts";

/** The result of a row. */
export interface Result {
  /** The name of the row. */
  name: string;
  /** The median of its times, in nanoseconds. */
  ns: number;
  /** The same of the side that it is compared with. */
  baselineNs?: number;
  /** The median of the ratios of the turns. */
  ratio?: number;
  /** The part of the ratio, or else of the time, by which another run may differ. */
  noise?: number;
  /** The number of times that it was measured. */
  rounds?: number;
  /** The ratio that is aimed at. */
  aim?: number;
  /** True if that is reached. */
  isMet?: boolean;
  /** More about it. */
  note?: string;
}

/** The results of a run, as `--json` writes them. */
export interface Report {
  /** True if there was a C compiler. */
  hasBaseline: boolean;
  /** The results, in the order of the rows. */
  rows: Result[];
}

/** The change of a row. */
export interface Change {
  /** The name of the row. */
  name: string;
  /** The measure that is compared: ratios differ less with what else a machine does. */
  of: "ratio" | "ns";
  /** Its value before. */
  before: number;
  /** Its value now. */
  now: number;
  /** The part by which it grew; less than 0 is faster. */
  change: number;
  /** The part by which both runs together may differ though nothing changed. */
  noise: number;
  /** "slower" or "faster" if the change is beyond the noise. */
  verdict: "slower" | "faster" | "same";
}

/**
 * Estimates the noise of a median: two standard errors, from the median deviation.
 *
 * @returns a part of the median; 0 of a single value
 */
export function noiseOf(values: readonly number[]): number {
  const middle = median(values);
  const deviation = median(values.map((value) => Math.abs(value - middle)));
  // 1.4826 makes a standard deviation of it, 1.2533 the error of a median in place of a mean.
  return middle === 0 ? 0 : 2 * 1.2533 * 1.4826 * deviation / middle / Math.sqrt(values.length);
}

/** Compares the rows that both reports have. */
export function compare(before: Report, now: Report): Change[] {
  const old = new Map(before.rows.map((row) => [row.name, row]));
  return now.rows.flatMap((row) => {
    const was = old.get(row.name);
    if (was === undefined) return [];
    const of = was.ratio !== undefined && row.ratio !== undefined ? "ratio" : "ns";
    const [a, b] = [was[of]!, row[of]!];
    const change = b / a - 1;
    const noise = Math.hypot(was.noise ?? 0, row.noise ?? 0);
    const verdict = Math.abs(change) <= noise ? "same" : change > 0 ? "slower" : "faster";
    return [{ name: row.name, of, before: a, now: b, change, noise, verdict }];
  });
}

/** Writes changes as a table of 80 columns. */
export function changesText(changes: readonly Change[]): string {
  if (changes.length === 0) return "The file to compare with has none of these rows";
  const percent = (part: number) => `${(100 * part).toFixed(1)} %`;
  const signed = (part: number) => `${part < 0 ? "" : "+"}${percent(part)}`;
  const line = (name: string, ...columns: string[]) =>
    (name.padEnd(37) + columns.map((column) => column.padStart(9)).join("")).trimEnd();
  return [
    line("", "before", "now", "change", "noise"),
    ...changes.map(({ name, of, before, now, change, noise, verdict }) => {
      const value = (number: number) =>
        of === "ratio" ? number.toFixed(2) : `${number.toPrecision(3)} ns`;
      const end = verdict === "same" ? "" : ` ${verdict}`;
      return line(name, value(before), value(now), signed(change), percent(noise)) + end;
    }),
  ].join("\n");
}

/**
 * Reads a report that `--json` wrote.
 *
 * @throws {SyntaxError} if the text is none
 */
export function parseReport(text: string): Report {
  const report = JSON.parse(text);
  const isTime = (value: unknown) => typeof value === "number" && value > 0;
  const isRow = ({ name, ns, ratio, noise }: Partial<Result>) =>
    typeof name === "string" && isTime(ns) && (ratio === undefined || isTime(ratio)) &&
    (noise === undefined || (typeof noise === "number" && noise >= 0));
  const hasRow = (row: unknown) => typeof row === "object" && row !== null && isRow(row);
  if (!Array.isArray(report?.rows) || !report.rows.every(hasRow)) {
    throw new SyntaxError("it has no rows of the benchmark; write one with --json");
  }
  return report;
}
