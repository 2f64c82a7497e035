/**
 * A run of sessions as a JUnit report, which CI systems read.
 *
 * @module
 */

import { fileError } from "../../lib/text/file_error.ts";
import {
  isFirstRound,
  type Reporter,
  type SessionRun,
  stepNumber,
  stepTitle,
  type Summary,
} from "./reporter.ts";
import type { StepResult } from "../../lib/session/run/step_result.ts";
import { attributesText, escape, seconds } from "../shared/xml.ts";
import { evidenceLines, failureText } from "./failure_text.ts";

interface Suite {
  readonly run: SessionRun;
  readonly cases: string[];
  summary: Summary | undefined;
  aborted: Error | undefined;
}

/**
 * Keeps what happens, of repeats the first round and what fails, and writes it to a file at the
 * end. That file is begun at once: that it can't be written is told before anything is done.
 */
export function junitReporter(path: string): Reporter {
  const suites: Suite[] = [];
  try {
    Deno.writeTextFileSync(path, "");
  } catch (cause) {
    throw fileError(`write the report ${path}`, cause, true);
  }
  return {
    begin: (run) => void suites.push({ run, cases: [], summary: undefined, aborted: undefined }),
    step(result, evidence) {
      // A repeat may have more rounds than a report can hold.
      if (result.status !== "failed" && !isFirstRound(result)) return;
      const lines = evidence === undefined ? [] : evidenceLines(evidence);
      suites.at(-1)?.cases.push(testcase(result, lines));
    },
    abort(error) {
      const suite = suites.at(-1);
      if (suite !== undefined) suite.aborted = error;
    },
    end(summary) {
      const suite = suites.at(-1);
      if (suite !== undefined) suite.summary = summary;
    },
    finish: () =>
      Deno.writeTextFile(path, report(suites)).catch((cause) => {
        throw fileError(`write the report ${path}`, cause, true);
      }),
  };
}

function report(suites: readonly Suite[]): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="vfu run">\n${
    suites.map(testsuite).join("")
  }</testsuites>\n`;
}

function testsuite({ run: { session, round, rounds }, cases, summary, aborted }: Suite): string {
  const which = rounds === 1 ? "" : ` (round ${round})`;
  const { failed = 0, skipped = 0, timeMs = 0 } = summary ?? {};
  const attributes = {
    name: `${session.title ?? session.file}${which}`,
    file: session.file,
    tests: cases.length + (aborted === undefined ? 0 : 1),
    failures: failed,
    errors: aborted === undefined ? 0 : 1,
    skipped,
    time: seconds(timeMs),
  };
  // Those who read it count cases. One of its own says that the session has not come to its end.
  const error = aborted === undefined
    ? ""
    : `    <testcase${attributesText({ name: "the session", classname: session.file })}><error${
      attributesText({ message: aborted.message })
    }/></testcase>\n`;
  return `  <testsuite${attributesText(attributes)}>\n${cases.join("")}${error}  </testsuite>\n`;
}

function testcase(result: StepResult, evidence: readonly string[]): string {
  const { step, status, error, timeMs } = result;
  const { file, line } = step.source;
  const name = `${stepNumber(result)} ${stepTitle(result)}`;
  const open = `    <testcase${
    attributesText({ name, classname: file, file, line, time: seconds(timeMs) })
  }`;
  if (status === "passed") return `${open}/>\n`;
  if (status === "skipped") return `${open}><skipped/></testcase>\n`;
  const text = [...failureText(result), ...evidence].join("\n");
  return `${open}><failure${attributesText({ message: error?.message ?? "" })}>${
    escape(text)
  }</failure></testcase>\n`;
}
