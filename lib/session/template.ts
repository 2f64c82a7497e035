/**
 * Text with numbers in it that are put in when it is needed.
 *
 * @module
 */

import { evaluate, parseExpression, type Scope } from "./expression.ts";
import { hex } from "../text/hex.ts";
import type { Template, TemplateNumber } from "./model.ts";

const BASES = { "": "dec", ":x": "hex", ":b": "bin" } as const;

/** An escaped `${`, or one and what follows it to its end. */
const PART = /\$\$\{|\$\{([^{}]*?)(:[^{}:]*)?(\}|$|(?=\{))/g;

/**
 * Reads a text with `${EXPRESSION}` in it, which stands for the number in decimal.
 * `${EXPRESSION:x}` is in hexadecimal, `${EXPRESSION:b}` in binary. `$${` is a `${` as it is.
 *
 * @throws {SyntaxError} if an expression in it is none
 *
 * @example
 * ```ts
 * import { parseTemplate, render } from "./template.ts";
 *
 * const template = parseTemplate("CAP is ${cap:x}, not $${cap}");
 * if (render(template, { number: () => 26n }) !== "CAP is 0x1a, not ${cap}") throw new Error();
 * ```
 */
export function parseTemplate(text: string): Template {
  const parts: (string | TemplateNumber)[] = [];
  let plain = "";
  let end = 0;
  for (const match of text.matchAll(PART)) {
    const [whole, expression, suffix = "", close] = match;
    plain += text.slice(end, match.index);
    end = match.index + whole.length;
    if (expression === undefined) {
      plain += "${";
      continue;
    }
    if (close !== "}") {
      throw new SyntaxError(`"${whole}" has no end; write \${NAME}, or $\${ for the text`);
    }
    if (!Object.hasOwn(BASES, suffix)) {
      throw new SyntaxError(
        `"${suffix}" in "${whole}" is no format; write \${NAME}, \${NAME:x} or \${NAME:b}`,
      );
    }
    if (plain !== "") parts.push(plain);
    plain = "";
    const base = BASES[suffix as keyof typeof BASES];
    parts.push({ expression: parseExpression(expression), base });
  }
  plain += text.slice(end);
  if (plain !== "") parts.push(plain);
  return { text, parts };
}

/**
 * The text with its numbers.
 *
 * @throws {EvaluationError} if one has no value
 */
export function render({ parts }: Template, scope: Scope): string {
  return parts.map((part) =>
    typeof part === "string" ? part : numberText(evaluate(part.expression, scope), part.base)
  ).join("");
}

function numberText(value: bigint, base: TemplateNumber["base"]): string {
  if (base === "dec") return String(value);
  return base === "hex" ? hex(value) : `${value < 0n ? "-" : ""}0b${abs(value).toString(2)}`;
}

function abs(value: bigint): bigint {
  return value < 0n ? -value : value;
}
