/**
 * Steps that are about interrupts.
 *
 * @module
 */

import { constantIn } from "./definitions.ts";
import { parseIrqSelection } from "./irq_selection.ts";
import type {
  IrqExpectNoneStep,
  IrqSelection,
  IrqStep,
  IrqWaitStep,
  StepCommon,
} from "../model.ts";
import type { Parts } from "./reading.ts";
import { nowhere, type Word, type Words } from "./word.ts";

type AnyIrqStep = IrqStep | IrqWaitStep | IrqExpectNoneStep;

/** The words of such steps, in the order in which they are listed. */
export const IRQ_WORDS: Words<AnyIrqStep> = {
  "irq enable": irqWord("irq enable", "Have the device signal interrupts"),
  "irq disable": irqWord("irq disable", "Have the device signal interrupts no more"),
  "irq mask": irqWord("irq mask", "Hold interrupts back"),
  "irq unmask": irqWord("irq unmask", "Let interrupts through again"),
  "irq trigger": irqWord("irq trigger", "Have the server fire interrupts, as if the device had"),
  "irq wait": {
    description: "Wait for interrupts",
    subject: "irq",
    main: "count",
    arguments: { count: { kind: "number", description: "So many; default 1" } },
    parse: parseWait,
    places: nowhere,
  },
  "irq expect none": {
    description: "Fail if an interrupt is there, or comes",
    subject: "irq",
    main: "for",
    arguments: { for: { kind: "duration", description: "So long; default 100ms" } },
    parse: parseExpectNone,
    places: nowhere,
  },
};

/** A word that has vectors and nothing else. */
function irqWord<W extends IrqStep["word"]>(
  word: W,
  description: string,
): Word<IrqStep & { word: W }> {
  return {
    description,
    subject: "irq",
    arguments: {},
    parse: (parts, common) => {
      const irq = selection(word, parts);
      return irq && { word, ...common, irq };
    },
    places: nowhere,
  };
}

/** The vectors that are the subject of a step. */
function selection(word: AnyIrqStep["word"], parts: Parts): IrqSelection | undefined {
  return parts.optional(word, (raw) => parseIrqSelection(raw as string, parts.definitions));
}

function parseWait(parts: Parts, common: StepCommon): IrqWaitStep | undefined {
  const irq = selection("irq wait", parts);
  const count = parts.number("count");
  parts.attempt(["count"], () => {
    const value = count && constantIn(count, parts.definitions);
    if (value !== undefined && value < 1n) {
      throw new RangeError(`"count" is ${value}, not 1 at least`);
    }
  });
  return irq && { word: "irq wait", ...common, irq, ...(count && { count }) };
}

function parseExpectNone(parts: Parts, common: StepCommon): IrqExpectNoneStep | undefined {
  const irq = selection("irq expect none", parts);
  const forMs = parts.duration("for");
  return irq && { word: "irq expect none", ...common, irq, ...(forMs && { forMs }) };
}
