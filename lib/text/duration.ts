/**
 * Spans of time as people write them.
 *
 * @module
 */

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Longer ones overflow the timers, which count milliseconds in 32 bits. */
const MAX_DURATION_MS = 24 * 3_600_000;

/**
 * Reads "500ms", "2s", "1.5m" or "1h" as milliseconds. A number without a unit is seconds, as
 * everywhere on a command line.
 *
 * @throws {SyntaxError} if it is something else
 * @throws {RangeError} if it is less than a millisecond or more than a day
 *
 * @example
 * ```ts
 * import { parseDuration } from "./duration.ts";
 *
 * if (parseDuration("500ms") !== 500 || parseDuration("2") !== 2000) throw new Error();
 * ```
 */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  if (!match) throw new SyntaxError("Write a number and a unit, as 500ms, 2s or 1m");
  const durationMs = Number(match[1]) * UNITS_MS[match[2] ?? "s"]!;
  if (durationMs < 1 || durationMs > MAX_DURATION_MS) {
    throw new RangeError("It takes 1ms at least and 24h at most");
  }
  return durationMs;
}
