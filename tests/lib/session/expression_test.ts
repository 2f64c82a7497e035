import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  evaluate,
  EvaluationError,
  foldConstant,
  namesIn,
  parseExpression,
} from "../../../lib/session/expression.ts";

const NAMES: Readonly<Record<string, bigint>> = { a: 5n, tail: 33n, "cap.MQES": 2047n };

function calculate(text: string): bigint {
  return evaluate(parseExpression(text), {
    number: (name, part) => NAMES[part === undefined ? name : `${name}.${part}`]!,
  });
}

Deno.test("evaluate() follows C's precedence", () => {
  const cases: [text: string, value: bigint][] = [
    ["1 + 2 * 3", 7n],
    ["(1 + 2) * 3", 9n],
    ["10 - 3 - 2", 5n],
    ["1 << 2 + 1", 8n],
    ["1 | 2 ^ 3 & 2", 1n],
    ["1 & 1 == 1", 1n],
    ["6 & 2 == 2", 0n],
    ["-2 * -3", 6n],
    ["!0 + !5", 1n],
    ["~0 & 0xff", 0xffn],
    ["7 / 2 * 2 + 7 % 2", 7n],
    ["-7 / 2", -3n],
    ["1 < 2 && 2 <= 2 || 0", 1n],
    ["0 && 1 / 0", 0n],
    ["2 || 1 / 0", 1n],
    ["4K + 0x10 + 0b11 + 1_000", 5115n],
    ["a + 64 * (tail & 0x1f)", 69n],
    ["cap.MQES + 1", 2048n],
    ["1 << 255", 1n << 255n],
    ["0xffff_ffff_ffff_ffff", (1n << 64n) - 1n],
  ];
  for (const [text, value] of cases) assertEquals(calculate(text), value, text);
});

/**
 * Text of an expression with all its parentheses, and its value calculated here: undefined if it
 * has none.
 */
const printed = fc.letrec<{ node: { text: string; value: bigint | undefined } }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 5 },
    fc.bigInt(0n, 1n << 64n).map((value) => ({ text: `0x${value.toString(16)}`, value })),
    fc.tuple(fc.constantFrom("-", "~", "!"), tie("node")).map(([sign, { text, value }]) => ({
      text: `${sign}(${text})`,
      value: value === undefined
        ? undefined
        : sign === "-"
        ? -value
        : sign === "~"
        ? -value - 1n
        : value === 0n
        ? 1n
        : 0n,
    })),
    fc.tuple(
      tie("node"),
      fc.constantFrom("+", "-", "*", "/", "%", "|", "==", "<", ">="),
      tie("node"),
    )
      .map(([left, operator, right]) => ({
        text: `(${left.text}) ${operator}(${right.text})`,
        value: independent(left.value, operator, right.value),
      })),
  ),
})).node;

function independent(l: bigint | undefined, operator: string, r: bigint | undefined) {
  if (l === undefined || r === undefined) return undefined;
  if ((operator === "/" || operator === "%") && r === 0n) return undefined;
  const value: Record<string, () => bigint> = {
    "+": () => l + r,
    "-": () => l - r,
    "*": () => l * r,
    "/": () => l / r,
    "%": () => l - (l / r) * r,
    "|": () => l + r - (l & r),
    "==": () => BigInt(l === r),
    "<": () => BigInt(l < r),
    ">=": () => BigInt(l >= r),
  };
  const result = value[operator]!();
  return BigInt.asIntN(257, result) === result && result !== -(1n << 256n) ? result : undefined;
}

Deno.test("parseExpression() gives back what was printed", () => {
  fc.assert(fc.property(printed, ({ text, value }) => {
    if (text.length > 1000) return;
    if (value === undefined) assertThrows(() => calculate(text), EvaluationError);
    else assertEquals(calculate(text), value);
  }));
});

Deno.test("parseExpression() says what is wrong", () => {
  const cases: [text: string, message: string][] = [
    ["", "Cannot read ${}: it is empty"],
    ["1 +", "Cannot read ${1 +}: it ends where a number is due"],
    ["(1", 'Cannot read ${(1}: a ")" is missing'],
    ["1 = 2", 'Cannot read ${1 = 2}: "=" is no operator; did you mean "=="?'],
    ["a b", 'Cannot read ${a b}: "b" can\'t be there'],
    ["a ? b", 'Cannot read ${a ? b}: "?" can\'t be there'],
    ["* 2", 'Cannot read ${* 2}: "*" can\'t be there'],
    ["a.", "Cannot read ${a.}: it ends where a number is due"],
    ["0xg", '"0xg" is no number; write it as 26, 0x1a, 0b11010, 0o32 or 4K'],
    ["9".repeat(100), `"${"9".repeat(20)}…" is beyond 2^256`],
    ["1".repeat(1001), "An expression has 1001 characters, the limit is 1000"],
    [`${"(".repeat(65)}1${")".repeat(65)}`, "An expression is nested more than 64 deep"],
    ["-".repeat(900) + "1", "An expression is nested more than 64 deep"],
  ];
  for (const [text, message] of cases) {
    assertEquals(assertThrows(() => parseExpression(text), SyntaxError).message, message);
  }
});

Deno.test("evaluate() throws where there is no value", () => {
  const cases: [text: string, message: string][] = [
    ["5 / (a - 5)", "Cannot divide 5 by zero"],
    ["5 % 0", "Cannot divide 5 by zero"],
    ["1 << 257", "Cannot shift by 257: it takes 0 to 256 bits"],
    ["1 << 256", "The result of a calculation is beyond 2^256"],
    ["1 >> -1", "Cannot shift by -1: it takes 0 to 256 bits"],
    ["(1 << 255) * 2", "The result of a calculation is beyond 2^256"],
    ["-(1 << 255) * 2", "The result of a calculation is beyond 2^256"],
  ];
  for (const [text, message] of cases) {
    assertEquals(assertThrows(() => calculate(text), EvaluationError).message, message);
  }
});

Deno.test("parseExpression() takes no word for an operator", () => {
  for (const word of ["constructor", "toString", "valueOf", "__proto__"]) {
    assertThrows(() => parseExpression(`1 ${word} 2`), SyntaxError, `"${word}" can't be there`);
  }
});

Deno.test("evaluate() keeps numbers below their limits", () => {
  const below = (value: bigint) =>
    evaluate(
      { kind: "below", operand: { kind: "number", value }, limit: 16n, what: "CC.IOSQES" },
      { number: () => 0n },
    );
  assertEquals(below(15n), 15n);
  const message = (value: bigint) => assertThrows(() => below(value), EvaluationError).message;
  assertEquals(message(16n), "CC.IOSQES can't be 0x10: it takes 0 to 0xf");
  assertEquals(message(-1n), "CC.IOSQES can't be -1: it takes 0 to 0xf");
});

Deno.test("foldConstant() knows constants only", () => {
  const lookup = (name: string) => name === "k" ? 2n : undefined;
  assertEquals(foldConstant(parseExpression("k * 3"), lookup), 6n);
  assertEquals(foldConstant(parseExpression("k * x"), lookup), undefined);
  assertEquals(foldConstant(parseExpression("0 && x"), lookup), 0n);
  assertThrows(() => foldConstant(parseExpression("1 / (k - 2)"), lookup), EvaluationError);
});

Deno.test("namesIn() finds all names with their parts", () => {
  assertEquals(
    [...namesIn(parseExpression("-(a + cap.MQES) << (2 * b)"))].map((
      { name, part },
    ) => [name, part]),
    [["a", undefined], ["cap", "MQES"], ["b", undefined]],
  );
});
