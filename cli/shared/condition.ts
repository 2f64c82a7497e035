/**
 * Conditions that a value of a register is waited for to meet.
 *
 * @module
 */

import type { Width } from "../../lib/client/info.ts";
import { checkFits, formatMasked, type MaskedValue, matches } from "./value.ts";

/** The ways to compare, by their options. */
const COMPARISONS = {
  equals: {
    isMet: (actual, [wanted]) => matches(actual, wanted!),
    text: ([wanted]) => wanted!,
  },
  not: {
    isMet: (actual, [wanted]) => !matches(actual, wanted!),
    text: ([wanted]) => `another value than ${wanted}`,
  },
  atLeast: {
    isMet: (actual, [{ value, mask } = { value: 0n }]) =>
      (mask === undefined ? BigInt(actual) : BigInt(actual) & mask) >= value,
    text: ([wanted]) => `${wanted} or more`,
  },
  oneOf: {
    isMet: (actual, wanted) => wanted.some((each) => matches(actual, each)),
    text: (wanted) => wanted.join(" or "),
  },
} as const satisfies Record<string, Comparison>;

interface Comparison {
  isMet(actual: number | bigint, wanted: readonly MaskedValue[]): boolean;
  text(wanted: readonly string[]): string;
}

/** The name of a way to compare: `equals`, `not`, `atLeast`, `oneOf`. */
export type ComparisonName = keyof typeof COMPARISONS;

/** A condition. Only `oneOf` has more than one value. */
export class Condition {
  readonly #comparison: Comparison;
  readonly #wanted: readonly MaskedValue[];

  /**
   * @param name the way to compare
   * @param wanted what a value is compared with
   */
  constructor(name: ComparisonName, wanted: readonly MaskedValue[]) {
    this.#comparison = COMPARISONS[name];
    this.#wanted = wanted;
  }

  /**
   * Checks that a register of a width can have the values.
   *
   * @throws {RangeError} if it is too narrow
   */
  checkFits(width: Width): void {
    for (const each of this.#wanted) checkFits(each, width);
  }

  /** Reports whether a value meets the condition. */
  isMet(actual: number | bigint): boolean {
    return this.#comparison.isMet(actual, this.#wanted);
  }

  /** The condition as it follows "waiting for". */
  text(width: Width): string {
    return this.#comparison.text(this.#wanted.map((each) => formatMasked(each, width)));
  }
}
