/**
 * A run of sessions as lines of JSON.
 *
 * @module
 */

import { failureLines } from "../shared/failure.ts";
import type { Output } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import type { Reporter } from "./reporter.ts";
import { roundMs, stepJson } from "./step_json.ts";

/** Writes an object a line: `type` is "session", "step", "abort" or "end". */
export function jsonReporter({ write }: Output): Reporter {
  const line = (json: unknown) => write(`${jsonText(json)}\n`);
  return {
    begin: ({ session: { file, title }, round, rounds }) =>
      line({ type: "session", file, title: title ?? null, round, rounds }),
    step: (result, evidence) => line(stepJson(result, evidence)),
    abort: (error) => line({ type: "abort", message: failureLines(error, false)[0] }),
    end: ({ timeMs, ...counts }) => line({ type: "end", ...counts, time_ms: roundMs(timeMs) }),
  };
}
