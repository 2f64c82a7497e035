/**
 * Interrupts as a session names them: `msix`, `msix[0]`, `msix[0-3]`, `msix[${vector}]`.
 *
 * @module
 */

import { irqIndex, PciIrq } from "../../wire/irq.ts";
import { constantIn, type Definitions, meant } from "./definitions.ts";
import { Marked, TERM } from "./interpolation.ts";
import type { IrqSelection } from "../model.ts";
import { readIndex } from "../../text/integer.ts";

/** The IRQ indexes that have names. */
export const IRQ_NAMES: readonly string[] = Object.keys(PciIrq).map((name) => name.toLowerCase());

const FORM = new RegExp(`^(\\w+)(?:\\[(${TERM})(?: *- *(${TERM}))?\\])?$`);
const HOW = "write msix, msix[0] or msix[0-3]";

/**
 * Reads vectors of an IRQ index: its name or number, and in brackets one or a range; all without.
 *
 * @throws {SyntaxError} if it is none
 * @throws {RangeError} if there is no such index, or the range is in the wrong order
 * @throws {EvaluationError} if an expression in it can't have a value
 *
 * @example
 * ```ts
 * import { newDefinitions } from "./definitions.ts";
 * import { parseIrqSelection } from "./irq_selection.ts";
 *
 * const { index, first, last } = parseIrqSelection("msix[0-3]", newDefinitions());
 * if (index !== 2 || first?.kind !== "number") throw new Error();
 * if (last?.kind !== "number" || last.value !== 3n) throw new Error();
 * ```
 */
export function parseIrqSelection(text: string, definitions: Definitions): IrqSelection {
  const marked = new Marked(text);
  const match = FORM.exec(marked.text);
  if (match === null) throw new SyntaxError(`"${text}" is no interrupt; ${HOW}`);
  const [, name, from, to] = match;
  const index = parseIrqIndex(name!);
  const first = from === undefined ? undefined : marked.term(from, definitions);
  const last = to === undefined ? undefined : marked.term(to, definitions);
  for (const each of [first, last]) {
    const value = each && constantIn(each, definitions);
    if (value !== undefined && (value < 0n || value > 0xffff_ffffn)) {
      throw new RangeError(`The vector ${value} in "${text}" is no number below 2^32`);
    }
  }
  if (first !== undefined && last !== undefined) {
    const [low, high] = [constantIn(first, definitions), constantIn(last, definitions)];
    if (low !== undefined && high !== undefined && high < low) {
      throw new RangeError(
        `The vectors of "${text}" are in the wrong order; write the lower one first`,
      );
    }
  }
  return { text, index, ...(first && { first }), ...(last && { last }) };
}

/**
 * The IRQ index of a name, or a number.
 *
 * @throws {RangeError} if there is none
 */
export function parseIrqIndex(name: string): number {
  const index = readIndex(name) ?? irqIndex(name.toLowerCase());
  if (index !== undefined) return index;
  throw new RangeError(
    `"${name}" is no IRQ index; ${meant(name, IRQ_NAMES, `there are ${IRQ_NAMES.join(", ")}`)}`,
  );
}
