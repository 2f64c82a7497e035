/**
 * Reports of a run of checks: what they are given, and the words that they share.
 *
 * @module
 */

import type { CheckResult } from "../../lib/conformance/run.ts";
import { printable } from "../shared/printable.ts";

/**
 * The weight of a result. "warned" is a rule that a peer SHOULD or MAY keep and does not. "known"
 * is a deviation that the file of known deviations has. "mended" is such a deviation that is gone.
 */
export type Outcome = "passed" | "failed" | "warned" | "known" | "mended" | "skipped";

/** A result, and its weight. */
export interface Judged extends CheckResult {
  readonly outcome: Outcome;
}

/** Numbers of a run. */
export type Tally = Readonly<Record<Outcome, number>>;

/** Hears of everything that happens. */
export interface CheckReporter {
  /** A check is over. */
  result(result: Judged): void;
  /** All are; or, with an error, the run ended early. */
  finish(tally: Tally, timeMs: number, error?: Error): void;
}

/** Counts results by weight. */
export function tallyOf(results: readonly Judged[]): Tally {
  const tally = { passed: 0, failed: 0, warned: 0, known: 0, mended: 0, skipped: 0 };
  for (const { outcome } of results) tally[outcome]++;
  return tally;
}

/** Details of a check that failed, as a name and a value each. */
export function details(result: Judged): readonly (readonly [name: string, value: string])[] {
  const { expected, came, messages, usable, reason, check } = result;
  const all: (readonly [string, string | undefined])[] = [
    ["section", check.section],
    ["reason", reason],
    ["expected", expected],
    ["came", came],
    ["afterwards", usable === undefined ? undefined : USABLE[usable]],
    ...messages.map(({ from, text }) => [from === "us" ? "sent" : "received", text] as const),
  ];
  return all.filter((each): each is readonly [string, string] => each[1] !== undefined)
    .map(([name, value]) => [name, printable(value)]);
}

const USABLE = {
  "same connection": "usable on the same connection",
  "new connection": "usable on a new connection",
  "no": "not usable",
} as const;

/** A result as JSON. */
export function resultJson(result: Judged) {
  const { check, group, verdict, outcome, reason, expected, came, messages, usable, end } = result;
  return {
    type: "check",
    id: check.id,
    group: group.title,
    level: check.level,
    section: check.section,
    rule: check.rule,
    verdict,
    outcome,
    ...(reason !== undefined && { reason }),
    ...(expected !== undefined && { expected }),
    ...(came !== undefined && { came }),
    ...(usable !== undefined && { usable }),
    ...(end !== undefined && {
      [`${check.id.split("/")[0]}_end`]: {
        signal: end.signal ?? null,
        code: end.code,
        last_words: end.words,
      },
    }),
    messages,
    time_ms: Math.round(result.timeMs * 1000) / 1000,
  };
}
