/**
 * Words with `${EXPRESSION}` in them, as `SQTDBL[${queue}]`.
 *
 * @module
 */

import { readSize } from "../../text/size.ts";
import { type Definitions, parseCheckedExpression } from "./definitions.ts";
import { number } from "../expression.ts";
import type { Expression } from "../model.ts";

/** The character that marks an expression while the rest is taken apart. */
const MARK = "\u{1}";

/** A pattern for a number or an expression. */
export const TERM = `(?:\\d\\w*|${MARK}\\d+${MARK})`;

/** A text, and the expressions that were in it. */
export class Marked {
  /** The text with marks in place of the expressions. */
  readonly text: string;
  readonly #written: string;
  readonly #expressions: readonly string[];

  /** Takes the expressions out of a text. */
  constructor(written: string) {
    const expressions: string[] = [];
    this.#written = written;
    this.text = written.replaceAll(MARK, "?").replaceAll(
      /\$\{([^{}]*)\}/g,
      (_, text: string) => `${MARK}${expressions.push(text) - 1}${MARK}`,
    );
    this.#expressions = expressions;
  }

  /** Part of the text, as it was written. */
  original(part: string): string {
    return part.replaceAll(PLACEHOLDER, (_, index) => `\${${this.#expressions[Number(index)]}}`);
  }

  /**
   * Reads what {@linkcode TERM} matched: a number with a unit, or an expression.
   *
   * @throws as `parseCheckedExpression`
   */
  term(part: string, definitions: Definitions): Expression {
    if (part.startsWith(MARK)) {
      return parseCheckedExpression(this.#expressions[Number(part.slice(1, -1))]!, definitions);
    }
    const value = readSize(part);
    if (value === undefined) {
      throw new SyntaxError(
        `"${part}" in "${this.#written}" is no number; write it as 16, 0x10 or 4K`,
      );
    }
    return number(value);
  }
}

const PLACEHOLDER = new RegExp(`${MARK}(\\d+)${MARK}`, "g");
