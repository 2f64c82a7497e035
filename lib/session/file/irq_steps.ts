/**
 * Steps that are about interrupts.
 *
 * @module
 */

import { constantIn } from "./definitions.ts";
import { parseIrqSelection } from "./irq_selection.ts";
import type { IrqExpectNoneStep, IrqStep, IrqWaitStep, StepCommon } from "../model.ts";
import type { Parts } from "./reading.ts";
import type { Word } from "./arguments.ts";

type AnyIrqStep = IrqStep | IrqWaitStep | IrqExpectNoneStep;

/** The words of such steps, in the order in which they are listed. */
export const IRQ_WORDS: Readonly<Record<AnyIrqStep["word"], Word>> = {
  "irq enable": {
    description: "Have the device signal interrupts",
    subject: "irq",
    arguments: {},
  },
  "irq disable": {
    description: "Have the device signal interrupts no more",
    subject: "irq",
    arguments: {},
  },
  "irq mask": { description: "Hold interrupts back", subject: "irq", arguments: {} },
  "irq unmask": { description: "Let interrupts through again", subject: "irq", arguments: {} },
  "irq trigger": {
    description: "Have the server fire interrupts, as if the device had",
    subject: "irq",
    arguments: {},
  },
  "irq wait": {
    description: "Wait for interrupts",
    subject: "irq",
    main: "count",
    arguments: { count: { kind: "number", description: "So many; default 1" } },
  },
  "irq expect none": {
    description: "Fail if an interrupt is there, or comes",
    subject: "irq",
    main: "for",
    arguments: { for: { kind: "duration", description: "So long; default 100ms" } },
  },
};

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
