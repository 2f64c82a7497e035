/**
 * A run of checks, reported in the forms that were asked for.
 *
 * @module
 */

import type { Rule } from "../../lib/conformance/check.ts";
import type { CheckResult } from "../../lib/conformance/run.ts";
import type { Context } from "../shared/context.ts";
import { Reported } from "../shared/failure.ts";
import { openDestination } from "../shared/destination.ts";
import { tellProblems } from "../shared/problems.ts";
import { assertReplaceable } from "../shared/force.ts";
import { bar, Progress } from "../shared/progress.ts";
import { readKnown, writeKnown } from "./choose.ts";
import {
  isFailure,
  jsonReporter,
  junitReporter,
  markdownReporter,
  tapReporter,
} from "./formats.ts";
import { type CheckReporter, type Judged, type Outcome, tallyOf } from "./report.ts";
import { textReporter } from "./text.ts";
import { plural } from "../../lib/text/plural.ts";

/** Options of reports and of their judgement. */
export interface ReportOptions {
  /** Rules that a peer SHOULD keep fail the run, too. */
  strict?: true | undefined;
  /** The file of known deviations. */
  expect?: string | undefined;
  /** Write the deviations of this run into such a file. */
  saveExpect?: string | undefined;
  /** Replace that file if it is there. */
  force?: true | undefined;
  verbose?: true | undefined;
  json?: true | undefined;
  tap?: true | undefined;
  markdown?: true | undefined;
  junit?: string | undefined;
}

/** The run to report. */
export interface ReportedRun {
  /** The peer's name. */
  readonly name: string;
  /** All rules for a peer of that role: ids that may be known. */
  readonly rules: readonly Rule[];
  /** The number of checks that are chosen. */
  readonly total: number;
  /** True if the run itself writes to standard error how it goes on. */
  readonly saysItself?: boolean;
  /** Does the checks; disposes of what it opens. */
  readonly results: () => AsyncIterable<CheckResult>;
}

/**
 * Does the checks of a run and reports them.
 *
 * @throws {Reported} if one failed
 */
export async function runReported(
  context: Context,
  { name, rules, total, saysItself, results: begin }: ReportedRun,
  options: ReportOptions,
): Promise<void> {
  if (options.saveExpect !== undefined) assertReplaceable(options.saveExpect, options.force);
  const { expect } = options;
  const known = expect === undefined
    ? undefined
    : await tellProblems(context, () => readKnown(expect, rules));
  using saved = options.saveExpect === undefined
    ? undefined
    : openDestination(options.saveExpect, context.out, false); // ahead of a long run
  const reporters = reportersOf(context, name, options);
  const results: Judged[] = [];
  const startMs = performance.now();
  const finish = (error?: Error) => {
    const timeMs = performance.now() - startMs;
    for (const reporter of reporters) reporter.finish(tallyOf(results), timeMs, error);
  };
  try {
    // A terminal that shows the lines of checks needs no bar between them.
    using _progress = context.out.isTerminal || saysItself
      ? undefined
      : progress(context, total, results);
    for await (const result of begin()) {
      const judged = { ...result, outcome: outcomeOf(result, known, options.strict ?? false) };
      results.push(judged);
      for (const reporter of reporters) reporter.result(judged);
    }
  } catch (error) {
    finish(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
  finish();
  if (saved !== undefined) writeKnown(saved, results);
  if (results.some(isFailure)) throw new Reported(1);
}

/** The bar, for those who look at a terminal while the report goes elsewhere. */
function progress({ err }: Context, total: number, results: readonly Judged[]): Progress {
  return new Progress(err, () => {
    const share = results.length / Math.max(1, total);
    return `${bar(share, 30).padEnd(30, "░")} ${results.length} of ${plural(total, "check")}`;
  });
}

function reportersOf(
  context: Context,
  name: string,
  { json, tap, markdown, junit, verbose }: ReportOptions,
): CheckReporter[] {
  const { out } = context;
  const main = json
    ? jsonReporter(out)
    : tap
    ? tapReporter(out)
    : markdown
    ? markdownReporter(out, name)
    : textReporter(context, verbose ?? false);
  return junit === undefined ? [main] : [main, junitReporter(junit, name)];
}

/** Weighs a result. Of known deviations only a change matters. A crash fails at any level. */
function outcomeOf(
  { verdict, check, end }: CheckResult,
  known: ReadonlySet<string> | undefined,
  isStrict: boolean,
): Outcome {
  const isKnown = known?.has(check.id) ?? false;
  if (verdict === "passed") return isKnown ? "mended" : "passed";
  if (verdict !== "failed") return "skipped";
  if (isKnown) return "known";
  const isGrave = check.level === "MUST" || end?.signal !== undefined;
  return isStrict || isGrave || known !== undefined ? "failed" : "warned";
}
