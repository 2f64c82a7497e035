/**
 * The steps of a session, as a list.
 *
 * @module
 */

import type { Session, Step } from "../../lib/session/model.ts";
import type { Output } from "../shared/context.ts";
import { printable } from "../shared/printable.ts";
import { jsonText } from "../shared/json.ts";

/**
 * Steps that are listed. Sessions that call sessions many times each are soon more than anybody
 * reads.
 */
const MAX_LISTED = 100_000;

/** A step that would be done. */
interface PlannedStep {
  readonly number: string;
  readonly step: Step;
}

/** Shows the steps from one index to another, with those that they repeat or call. */
export function showPlan(
  { write, style }: Output,
  session: Session,
  { from = 0, until = Infinity, json }: {
    from?: number | undefined;
    until?: number | undefined;
    json?: true | undefined;
  },
): void {
  const { file, title, steps } = session;
  const chosen = planned(steps.slice(from, until + 1), "", from + 1);
  if (!json) write(`${style.bold(printable(title ?? file))} ${style.dim(printable(file))}\n`);
  let listed = 0;
  for (const { number, step } of chosen) {
    if (listed++ === MAX_LISTED) throw new Error(`More than ${MAX_LISTED} steps are not listed`);
    const { file, line, column } = step.source;
    const name = step.name ?? null;
    if (json) {
      const { word, text } = step;
      const plan = {
        type: "step",
        file,
        line,
        column,
        number,
        name,
        word,
        text,
        status: "planned",
      };
      write(`${jsonText(plan)}\n`);
      continue;
    }
    const before = name === null ? "" : `${style.bold(printable(name))}: `;
    const where = style.dim(printable(`${file}:${line}`));
    write(`${number.padStart(6)}  ${before}${printable(step.text)}  ${where}\n`);
  }
}

function* planned(steps: readonly Step[], prefix: string, first: number): Generator<PlannedStep> {
  for (const [i, step] of steps.entries()) {
    const number = `${prefix}${first + i}`;
    yield { number, step };
    if (step.word === "repeat") yield* planned(step.steps, `${number}.`, 1);
    if (step.word === "call") yield* planned(step.session.steps, `${number}.`, 1);
  }
}
