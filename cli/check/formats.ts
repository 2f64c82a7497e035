/**
 * A run of checks for programs and reports: JSON, TAP, JUnit, Markdown.
 *
 * @module
 */

import { fileError } from "../../lib/text/file_error.ts";
import type { Output } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { tapText } from "../run/tap.ts";
import { attributesText, escape, seconds } from "../shared/xml.ts";
import { type CheckReporter, details, type Judged, resultJson, tallyOf } from "./report.ts";

/** True of a result that fails the run. */
export function isFailure({ outcome }: Judged): boolean {
  return outcome === "failed" || outcome === "mended";
}

/** Writes a line of JSON a check, and one of the summary. */
export function jsonReporter({ write }: Output): CheckReporter {
  return {
    result: (result) => write(`${jsonText(resultJson(result))}\n`),
    finish(tally, timeMs, error) {
      const summary = { type: "summary", ...tally, time_ms: Math.round(timeMs) };
      const whole = error === undefined ? summary : { ...summary, error: error.message };
      write(`${jsonText(whole)}\n`);
    },
  };
}

/** Writes a test point a check. */
export function tapReporter({ write }: Output): CheckReporter {
  let count = 0;
  write("TAP version 14\n");
  return {
    result(result) {
      const { check, outcome, reason } = result;
      const directive = outcome === "skipped"
        ? ` # SKIP ${tapText(reason ?? "")}`
        : outcome === "known" || outcome === "warned"
        ? ` # TODO ${outcome === "known" ? "known" : check.level}`
        : "";
      const isOk = outcome === "passed" || outcome === "skipped";
      const title = tapText(`${check.id} ${check.rule}`);
      write(`${isOk ? "ok" : "not ok"} ${++count} - ${title}${directive}\n`);
      if (isOk) return;
      // JSON is YAML, which the block is made of.
      const lines = Object.entries(resultJson(result))
        .map(([key, value]) => `  ${key}: ${jsonText(value)}\n`);
      write(`  ---\n${lines.join("")}  ...\n`);
    },
    finish(_tally, _timeMs, error) {
      // Without a plan no reader takes it for a whole run.
      write(error === undefined ? `1..${count}\n` : `Bail out! ${tapText(error.message)}\n`);
    },
  };
}

/**
 * Keeps what happens, and writes it to a file at the end; the file is begun at once.
 *
 * @param name the peer's name
 */
export function junitReporter(path: string, name: string): CheckReporter {
  const results: Judged[] = [];
  const writeFile = (text: string) => {
    try {
      Deno.writeTextFileSync(path, text);
    } catch (cause) {
      throw fileError(`write the report ${path}`, cause, true);
    }
  };
  writeFile("");
  return {
    result: (result) => void results.push(result),
    finish(_tally, _timeMs, error) {
      const groups = [...new Set(results.map(({ group }) => group))];
      const suites = groups.map((group) =>
        testsuite(group.title, results.filter((result) => result.group === group))
      );
      const early = error === undefined ? "" : testsuiteOfError(error);
      writeFile(
        `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites${attributesText({ name })}>\n${
          suites.join("")
        }${early}</testsuites>\n`,
      );
    },
  };
}

function testsuite(name: string, results: readonly Judged[]): string {
  const { skipped, warned, known } = tallyOf(results);
  const attributes = {
    name,
    tests: results.length,
    failures: results.filter(isFailure).length,
    errors: 0,
    skipped: skipped + warned + known,
    time: seconds(results.reduce((sum, { timeMs }) => sum + timeMs, 0)),
  };
  return `  <testsuite${attributesText(attributes)}>\n${
    results.map(testcase).join("")
  }  </testsuite>\n`;
}

function testcase(result: Judged): string {
  const { check, outcome, timeMs, reason, expected, came } = result;
  const open = `    <testcase${
    attributesText({ name: check.rule, classname: check.id, time: seconds(timeMs) })
  }`;
  if (outcome === "passed") return `${open}/>\n`;
  const message = outcome === "mended"
    ? "A known deviation is gone"
    : printable(reason ?? `Expected ${expected}; came ${came}`);
  if (!isFailure(result)) {
    return `${open}><skipped${
      attributesText({ message: `${outcome}: ${message}` })
    }/></testcase>\n`;
  }
  const text = details(result).map(([name, value]) => `${name}: ${value}`).join("\n");
  return `${open}><failure${attributesText({ message })}>${escape(text)}</failure></testcase>\n`;
}

function testsuiteOfError(error: Error): string {
  const message = printable(error.message);
  const attributes = { name: "the run", tests: 1, failures: 0, errors: 1, skipped: 0 };
  return `  <testsuite${attributesText(attributes)}>\n    <testcase${
    attributesText({ name: "the run", classname: "the run" })
  }><error${attributesText({ message })}/></testcase>\n  </testsuite>\n`;
}

/** Writes a table by group, and a section for each deviation, as an issue wants them. */
export function markdownReporter({ write }: Output, server: string): CheckReporter {
  const results: Judged[] = [];
  return {
    result: (result) => void results.push(result),
    finish(tally, _timeMs, error) {
      write(`## Conformance of ${code(server)}\n\n`);
      write("| group | passed | failed | warned | known | not tried |\n");
      write("| --- | ---: | ---: | ---: | ---: | ---: |\n");
      for (const group of new Set(results.map((result) => result.group))) {
        const each = tallyOf(results.filter((result) => result.group === group));
        write(`| ${group.title} ${columns(each)}`);
      }
      write(`| **all** ${columns(tally)}`);
      if (error !== undefined) write(`\nThe run ended early: ${code(error.message)}\n`);
      for (const result of results) {
        if (result.outcome === "passed" || result.outcome === "skipped") continue;
        const { check, outcome } = result;
        write(`\n### ${check.id} (${check.level}, ${outcome})\n\n${check.rule}\n\n`);
        for (const [name, value] of details(result)) write(`- ${name}: ${code(value)}\n`);
      }
    },
  };
}

function columns({ passed, failed, mended, warned, known, skipped }: ReturnType<typeof tallyOf>) {
  return `| ${[passed, failed + mended, warned, known, skipped].join(" | ")} |\n`;
}

/** Text in which nothing is Markdown: a fence longer than any run of backticks in it. */
function code(value: string): string {
  const text = printable(value);
  const longest = Math.max(0, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  const space = text.startsWith("`") || text.endsWith("`") ? " " : "";
  return `${fence}${space}${text.replaceAll("\n", " ")}${space}${fence}`;
}
