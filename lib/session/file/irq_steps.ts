/**
 * Steps that are about interrupts.
 *
 * @module
 */

import { constantIn } from "./definitions.ts";
import { parseIrqSelection } from "./irq_selection.ts";
import type { IrqExpectNoneStep, IrqStep, IrqWaitStep, StepCommon } from "../model.ts";
import type { Parts } from "./reading.ts";

type AnyIrqStep = IrqStep | IrqWaitStep | IrqExpectNoneStep;

/** Reads such a step. What is wrong is noted in `parts`. */
export function readIrqStep(
  word: AnyIrqStep["word"],
  parts: Parts,
  common: StepCommon,
): AnyIrqStep | undefined {
  const irq = parts.optional(word, (raw) => parseIrqSelection(raw as string, parts.definitions));
  const count = parts.number("count");
  parts.attempt(["count"], () => {
    const value = count && constantIn(count, parts.definitions);
    if (value !== undefined && value < 1n) {
      throw new RangeError(`"count" is ${value}, not 1 at least`);
    }
  });
  const forMs = parts.duration("for");
  if (irq === undefined) return undefined;
  switch (word) {
    case "irq wait":
      return { word, ...common, irq, ...(count && { count }) };
    case "irq expect none":
      return { word, ...common, irq, ...(forMs && { forMs }) };
    default:
      return { word, ...common, irq };
  }
}
