import { assertEquals, assertThrows } from "@std/assert";
import { evaluate, Parameters } from "../../../../lib/registers/import/expression.ts";

const PARAMETERS = new Parameters(
  new Map([["a", "3"], ["b", "a * 2"], ["round", "loop"], ["loop", "round + 1"]]),
);

const VALUES: [text: string, value: bigint][] = [
  ["42", 42n],
  ["0x1F", 0x1fn],
  ["4K", 4096n],
  ["32'hdead_beef", 0xdeadbeefn],
  ["'h10", 16n],
  ["8'b1010", 10n],
  ["'o17", 15n],
  ["1_000", 1000n],
  ["1 + 2 * 3", 7n],
  ["(1 + 2) * 3", 9n],
  ["2 ** 10 - 1", 1023n],
  ["7 / 2 + 7 % 2", 4n],
  ["1 << 4 | 3", 19n],
  ["~0 & 'hff", 255n],
  ["-3 + 5", 2n],
  ["a > 2 && !(b == 7) ? 10 : 20", 10n],
  ["a <= 2 || b != 6 ? 10 : 20", 20n],
  ["$clog2(17)", 5n],
  ["$clog2(1)", 0n],
  ["true", 1n],
  ["b + a", 9n],
];

for (const [text, value] of VALUES) {
  Deno.test(`evaluate("${text}") is ${value}`, () => {
    assertEquals(evaluate(text, PARAMETERS), value);
  });
}

const MISTAKES: [text: string, message: string][] = [
  ["", "something is missing"],
  ["1 +", "something is missing"],
  ["(1", '")" is missing'],
  ["1 2", '"2" is out of place'],
  ["c", "there is no parameter c"],
  ["1 / (a - 3)", "it divides by 0"],
  ["2 ** 5000", "it is too large"],
  ["1 << 100000", "it is too large"],
  ["round", "the parameter round leads to itself"],
  ["8'b12", '"8\'b12" is no number'],
  ["1 @ 2", '"@ 2" can\'t be read'],
  ["(".repeat(900), "it is nested too deep"],
  ["-".repeat(900), "it is nested too deep"],
  ["1?".repeat(400), "it is nested too deep"],
  ["1".repeat(2000), "it is longer than 1000 letters"],
];

for (const [text, message] of MISTAKES) {
  Deno.test(`evaluate("${text.slice(0, 20)}") says: ${message}`, () => {
    assertThrows(() => evaluate(text, PARAMETERS), SyntaxError, message);
  });
}

Deno.test("parameters that lead to two others each are computed once each", () => {
  const texts = Array.from({ length: 60 }, (_, i): [string, string] => [
    `p${i}`,
    i === 0 ? "1" : `p${i - 1} + p${i - 1}`,
  ]);
  assertEquals(evaluate("p59", new Parameters(new Map(texts))), 1n << 59n);
});
