/**
 * A run of checks as text for a person.
 *
 * @module
 */

import { plural } from "../../lib/text/plural.ts";
import type { Context } from "../shared/context.ts";
import { tableLines } from "../shared/table.ts";
import { type CheckReporter, details, type Judged, type Outcome, tallyOf } from "./report.ts";

const SIGNS: Readonly<Record<Outcome, string>> = {
  passed: "✔",
  failed: "✘",
  warned: "!",
  known: "~",
  mended: "✘",
  skipped: "-",
};

const SUFFIXES: Partial<Readonly<Record<Outcome, string>>> = {
  mended: " (kept now; remove it from the known deviations)",
  known: " (known)",
};

/** The outcomes that a reader looks for at the end, among hundreds of others. */
const TO_LOOK_AT: readonly Outcome[] = ["failed", "mended", "warned"];

/** Writes a heading a group, a line a check, a summary by group, and what to look at. */
export function textReporter({ out }: Context, isVerbose: boolean): CheckReporter {
  const { style } = out;
  const paints: Readonly<Record<Outcome, (text: string) => string>> = {
    passed: style.green,
    failed: style.red,
    warned: style.yellow,
    known: style.dim,
    mended: style.red,
    skipped: style.dim,
  };
  const results: Judged[] = [];
  /** The sign, the id and the rule of a check. */
  const writeRule = ({ check, outcome }: Judged) => {
    const [first, ...others] = folded(
      `${check.rule}${SUFFIXES[outcome] ?? ""}`,
      out.columns - check.id.length - 6,
    );
    out.write(`  ${paints[outcome](`${SIGNS[outcome]} ${check.id}`)}  ${first}\n`);
    for (const each of others) out.write(`${" ".repeat(check.id.length + 6)}${each}\n`);
  };
  return {
    result(result) {
      const { group, outcome } = result;
      if (results.at(-1)?.group !== group) {
        out.write(`${results.length > 0 ? "\n" : ""}${style.bold(group.title)}\n`);
      }
      results.push(result);
      writeRule(result);
      const isTold = isVerbose || outcome === "failed" || outcome === "warned";
      if (!isTold && outcome !== "skipped") return;
      const lines = outcome === "skipped"
        ? [["", `not tried: ${result.reason}`] as const]
        : details(result);
      for (const [name, value] of lines) {
        const head = name === "" ? "" : `${name.padEnd(10)} `;
        for (const [i, text] of folded(value, out.columns - 6 - head.length).entries()) {
          out.write(`      ${style.dim(`${i === 0 ? head : " ".repeat(head.length)}${text}`)}\n`);
        }
      }
    },
    finish(tally, timeMs, error) {
      if (results.length === 0 && error !== undefined) return; // the reason says all
      if (results.length > 0) {
        const groups = [...new Set(results.map(({ group }) => group))];
        const rows = groups.map((group) => {
          const { passed, failed, warned, known, mended, skipped } = tallyOf(
            results.filter((result) => result.group === group),
          );
          const counts = [passed, failed + mended, warned, known, skipped].map(String);
          return [group.title, ...counts, ""];
        });
        const head = ["group", "passed", "failed", "warned", "known", "not tried", ""];
        out.write(`\n${style.bold("Summary")}\n`);
        const lines = tableLines([head, ...rows], {
          columns: out.columns,
          indent: 2,
          right: [1, 2, 3, 4, 5],
        });
        for (const line of lines) out.write(`${line}\n`);
      }
      const toLookAt = results.filter(({ outcome }) => TO_LOOK_AT.includes(outcome));
      if (toLookAt.length > 0 && results.length > toLookAt.length) {
        out.write(`\n${style.bold("To look at")}\n`);
        toLookAt.forEach(writeRule);
      }
      const { passed, failed, warned, known, mended, skipped } = tally;
      const parts = [
        style.green(`${passed} passed`),
        failed + mended > 0 ? style.red(`${failed + mended} failed`) : "0 failed",
        ...(warned > 0 ? [style.yellow(plural(warned, "warning"))] : []),
        ...(known > 0 ? [`${known} known`] : []),
        ...(skipped > 0 ? [`${skipped} not tried`] : []),
      ];
      if (error !== undefined) parts.push(style.red("ended early"));
      out.write(`\n${parts.join(", ")} in ${(timeMs / 1000).toFixed(1)} s\n`);
    },
  };
}

/** The fewest columns to which text is folded. */
const MIN_COLUMNS = 20;

/** Text in lines of so many columns, that end at spaces and commas where there are some. */
function folded(text: string, columns: number): string[] {
  const width = Math.max(MIN_COLUMNS, columns);
  const lines: string[] = [];
  let rest = text;
  while (rest.length > width) {
    const end = Math.max(rest.lastIndexOf(" ", width), rest.lastIndexOf(",", width - 1) + 1);
    const at = end > 0 ? end : width;
    lines.push(rest.slice(0, at));
    rest = rest.slice(at).trimStart();
  }
  return [...lines, rest];
}
