/**
 * A run of sessions as TAP, the Test Anything Protocol, version 14.
 *
 * @module
 */

import type { Output } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { type Reporter, stepNumber, stepTitle } from "./reporter.ts";
import { stepJson } from "./step_json.ts";

/** Writes a test point a step. */
export function tapReporter({ write }: Output): Reporter {
  let count = 0;
  let hasBegun = false;
  let isOver = false;
  return {
    begin({ session: { file, title } }) {
      if (!hasBegun) write("TAP version 14\n");
      hasBegun = true;
      write(`# ${tapText(file)}${title === undefined ? "" : `: ${tapText(title)}`}\n`);
    },
    step(result, evidence) {
      const { status } = result;
      const skip = status === "skipped" ? " # SKIP when is 0" : "";
      const title = `${stepNumber(result)} ${stepTitle(result)}`;
      write(`${status === "failed" ? "not ok" : "ok"} ${++count} - ${tapText(title)}${skip}\n`);
      if (status !== "failed") return;
      // JSON is YAML, which the block is made of.
      const { type: _, error, ...rest } = stepJson(result, evidence);
      const lines = Object.entries({ ...error, ...rest })
        .map(([key, value]) => `  ${key}: ${jsonText(value)}\n`);
      write(`  ---\n${lines.join("")}  ...\n`);
    },
    abort(error) {
      isOver = true; // without a plan no reader takes it for a whole run
      write(`Bail out! ${printable(error.message)}\n`);
    },
    end: () => {},
    finish() {
      if (!isOver) write(`1..${count}\n`);
    },
  };
}

/** Text in which no number sign begins a directive. */
export function tapText(text: string): string {
  return printable(text).replaceAll("\\", "\\\\").replaceAll("#", "\\#");
}
