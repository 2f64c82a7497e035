/**
 * Arithmetic in session files: what is between `${` and `}`.
 *
 * @module
 */

import { readSize } from "../text/size.ts";
import { hex } from "../text/hex.ts";
import type { BinaryOperator, Expression, UnaryOperator } from "./model.ts";

/** Characters of an expression. */
const MAX_LENGTH = 1000;
/** Parentheses and operators before a number, in one another. */
const MAX_DEPTH = 64;
/** Bits that a number may be shifted by. */
const MAX_SHIFT = 256n;
/** Results are below this, and above its negative. */
const LIMIT = 1n << 256n;

/** An expression without a value now: a division by zero, a too large number, an unset name. */
export class EvaluationError extends Error {
  /** The name of the class. */
  override readonly name = "EvaluationError";
}

/** The meaning of names. */
export interface Scope {
  /**
   * The number that a variable holds.
   * With `part`: a field of the register from which the variable was read, or `iova`, `size` or
   * `end` of a buffer.
   *
   * @throws {EvaluationError} if there is none
   */
  number(name: string, part?: string): bigint;
}

/** Operators between two numbers, by how tightly they bind, as in C. */
const PRECEDENCE: Readonly<Record<BinaryOperator, number>> = {
  "||": 1,
  "&&": 2,
  "|": 3,
  "^": 4,
  "&": 5,
  "==": 6,
  "!=": 6,
  "<": 7,
  "<=": 7,
  ">": 7,
  ">=": 7,
  "<<": 8,
  ">>": 8,
  "+": 9,
  "-": 9,
  "*": 10,
  "/": 10,
  "%": 10,
};

function isBinaryOperator(text: string): text is BinaryOperator {
  return Object.hasOwn(PRECEDENCE, text);
}

const TOKEN =
  /\s*(?:(\d[\wµ]*(?:\.\d[\wµ]*)?)|([A-Za-z_]\w*)|(<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>().=])|(\S))/y;

interface Token {
  readonly kind: "number" | "name" | "mark" | "other";
  readonly text: string;
}

/** A text that is no expression. */
export class ExpressionError extends SyntaxError {
  /** The reason, without the text. */
  readonly reason: string;

  /** An error about `text`. */
  constructor(text: string, reason: string) {
    super(`Cannot read \${${text}}: ${reason}`);
    this.reason = reason;
  }
}

/** Words of other languages for operators. */
const WORDS: ReadonlyMap<string, string> = new Map([["and", "&&"], ["or", "||"], ["not", "!"]]);

/**
 * Reads an expression: numbers in any base and with units, names, parts of names after a dot, and
 * parentheses.
 * Operators are C's, with C's precedence.
 *
 * @param readUnit reads a number with a unit that this place has; undefined if it is none
 * @throws {ExpressionError} if it is none
 * @throws {SyntaxError} if it is too long, too deeply nested, or has a number that is none
 *
 * @example
 * ```ts
 * import { evaluate, parseExpression } from "./expression.ts";
 *
 * const expression = parseExpression("asq + 64 * (tail & 0x1f)");
 * const values = new Map([["asq", 0x1000n], ["tail", 33n]]);
 * if (evaluate(expression, { number: (name) => values.get(name)! }) !== 0x1040n) throw new Error();
 * ```
 */
export function parseExpression(
  text: string,
  readUnit: (text: string) => bigint | undefined = () => undefined,
): Expression {
  if (text.length > MAX_LENGTH) {
    throw new SyntaxError(
      `An expression has ${text.length} characters, the limit is ${MAX_LENGTH}`,
    );
  }
  return new ExpressionParser(text, readUnit).parse();
}

class ExpressionParser {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  readonly #readUnit: (text: string) => bigint | undefined;
  #at = 0;
  #depth = 0;

  constructor(text: string, readUnit: (text: string) => bigint | undefined) {
    this.#text = text;
    this.#readUnit = readUnit;
    this.#tokens = tokenize(text);
  }

  parse(): Expression {
    const expression = this.#binary(1);
    if (this.#at < this.#tokens.length) this.#fail();
    return expression;
  }

  #binary(least: number): Expression {
    let left = this.#unary();
    for (;;) {
      const operator = this.#tokens[this.#at]?.text ?? "";
      if (!isBinaryOperator(operator) || PRECEDENCE[operator] < least) return left;
      this.#at++;
      const right = this.#binary(PRECEDENCE[operator] + 1);
      left = { kind: "binary", operator, left, right };
    }
  }

  #unary(): Expression {
    const token = this.#tokens[this.#at];
    if (token === undefined) this.#fail();
    if (++this.#depth > MAX_DEPTH) {
      throw new SyntaxError(`An expression is nested more than ${MAX_DEPTH} deep`);
    }
    this.#at++;
    try {
      if (token.kind === "number") {
        const value = this.#readUnit(token.text) ?? readNumber(token.text);
        return { kind: "number", value };
      }
      if (token.kind === "name") return this.#name(token.text);
      if (token.text === "(") {
        const inner = this.#binary(1);
        if (this.#tokens[this.#at++]?.text !== ")") this.#fail('a ")" is missing', -1);
        return inner;
      }
      if (/^[-~!]$/.test(token.text)) {
        return {
          kind: "unary",
          operator: token.text as UnaryOperator,
          operand: this.#unary(),
        };
      }
      return this.#fail(undefined, -1);
    } finally {
      this.#depth--;
    }
  }

  #name(name: string): Expression {
    if (this.#tokens[this.#at]?.text !== ".") return { kind: "name", name };
    const part = this.#tokens[this.#at + 1];
    if (part === undefined || !/^\w+$/.test(part.text)) this.#fail(undefined, 1);
    this.#at += 2;
    return { kind: "name", name, part: part.text };
  }

  /** Reports the token that can't be here. */
  #fail(why?: string, relative = 0): never {
    const token = this.#tokens[this.#at + relative];
    const previous = this.#tokens[this.#at + relative - 1]?.text ?? "";
    const word = [token?.text ?? "", previous].find((each) => WORDS.has(each.toLowerCase()));
    const found = word !== undefined
      ? `"${word}" is no operator; did you mean "${WORDS.get(word.toLowerCase())}"?`
      : token === undefined
      ? (this.#text.trim() === "" ? "it is empty" : "it ends where a number is due")
      : token.text === "="
      ? '"=" is no operator; did you mean "=="?'
      : `"${token.text}" can't be there`;
    throw new ExpressionError(this.#text, why ?? found);
  }
}

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  for (let match; (match = TOKEN.exec(text)) !== null;) {
    const [, number, name, mark, other] = match;
    if (number !== undefined) tokens.push({ kind: "number", text: number });
    else if (name !== undefined) tokens.push({ kind: "name", text: name });
    else if (mark !== undefined) tokens.push({ kind: "mark", text: mark });
    else tokens.push({ kind: "other", text: other! });
  }
  return tokens;
}

function readNumber(text: string): bigint {
  const value = readSize(text);
  if (value === undefined) {
    throw new SyntaxError(`"${text}" is no number; write it as 26, 0x1a, 0b11010, 0o32 or 4K`);
  }
  if (value < LIMIT) return value;
  throw new SyntaxError(`"${text.slice(0, 20)}…" is beyond 2^256`);
}

/**
 * The value of an expression.
 *
 * @throws {EvaluationError} if it has none
 */
export function evaluate(expression: Expression, scope: Scope): bigint {
  switch (expression.kind) {
    case "number":
      return expression.value;
    case "name":
      return scope.number(expression.name, expression.part);
    case "unary":
      return calculateUnary(expression.operator, evaluate(expression.operand, scope));
    case "below":
      return checkBelow(evaluate(expression.operand, scope), expression);
    case "binary": {
      const { operator } = expression;
      const left = evaluate(expression.left, scope);
      if (operator === "&&" && left === 0n) return 0n;
      if (operator === "||" && left !== 0n) return 1n;
      return bounded(calculate(operator, left, evaluate(expression.right, scope)));
    }
  }
}

function calculateUnary(operator: UnaryOperator, value: bigint): bigint {
  if (operator === "!") return truth(value === 0n);
  return bounded(operator === "-" ? -value : ~value);
}

function calculate(operator: BinaryOperator, left: bigint, right: bigint): bigint {
  switch (operator) {
    case "+":
      return left + right;
    case "-":
      return left - right;
    case "*":
      return left * right;
    case "/":
    case "%":
      if (right === 0n) throw new EvaluationError(`Cannot divide ${left} by zero`);
      return operator === "/" ? left / right : left % right;
    case "<<":
      return left << shift(right);
    case ">>":
      return left >> shift(right);
    case "&":
      return left & right;
    case "|":
      return left | right;
    case "^":
      return left ^ right;
    case "==":
      return truth(left === right);
    case "!=":
      return truth(left !== right);
    case "<":
      return truth(left < right);
    case "<=":
      return truth(left <= right);
    case ">":
      return truth(left > right);
    case ">=":
      return truth(left >= right);
    case "&&":
    case "||": // the left one did not decide
      return truth(right !== 0n);
  }
}

function truth(holds: boolean): bigint {
  return holds ? 1n : 0n;
}

function shift(by: bigint): bigint {
  if (by >= 0n && by <= MAX_SHIFT) return by;
  throw new EvaluationError(`Cannot shift by ${by}: it takes 0 to ${MAX_SHIFT} bits`);
}

function bounded(value: bigint): bigint {
  if (value < LIMIT && value > -LIMIT) return value;
  throw new EvaluationError("The result of a calculation is beyond 2^256");
}

function checkBelow(
  value: bigint,
  { limit, what }: { readonly limit: bigint; readonly what: string },
): bigint {
  if (value >= 0n && value < limit) return value;
  const found = value < 0n ? String(value) : hex(value);
  throw new EvaluationError(`${what} can't be ${found}: it takes 0 to ${hex(limit - 1n)}`);
}

/** Signals that a name is no constant. */
const NOT_CONSTANT = Symbol("not constant");

/**
 * The value of an expression in which all names are constants, else undefined.
 *
 * @param lookup the value of a constant; undefined if it is none
 * @throws {EvaluationError} if it can never have a value, as of a division by zero
 */
export function foldConstant(
  expression: Expression,
  lookup: (name: string, part?: string) => bigint | undefined = () => undefined,
): bigint | undefined {
  try {
    return evaluate(expression, {
      number(name, part) {
        const value = lookup(name, part);
        if (value === undefined) throw NOT_CONSTANT;
        return value;
      },
    });
  } catch (error) {
    if (error === NOT_CONSTANT) return undefined;
    throw error;
  }
}

/** The names in an expression, with their parts. */
export function* namesIn(
  expression: Expression,
): Generator<{ readonly name: string; readonly part?: string }> {
  switch (expression.kind) {
    case "name":
      yield expression;
      return;
    case "unary":
    case "below":
      return yield* namesIn(expression.operand);
    case "binary":
      yield* namesIn(expression.left);
      yield* namesIn(expression.right);
  }
}

/** A number as an expression. */
export function number(value: bigint | number): Expression {
  return { kind: "number", value: BigInt(value) };
}

/** Two expressions with an operator; of two numbers it is a number. */
export function binary(left: Expression, operator: BinaryOperator, right: Expression): Expression {
  const expression: Expression = { kind: "binary", operator, left, right };
  return left.kind === "number" && right.kind === "number"
    ? number(evaluate(expression, { number: () => 0n }))
    : expression;
}
