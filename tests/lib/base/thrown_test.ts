import { assertEquals } from "@std/assert";
import {
  asError,
  causesOf,
  thrownFrames,
  thrownName,
  thrownText,
} from "../../../lib/base/thrown.ts";

const NO_TEXT = "a value without a text was thrown";

function refuse(): never {
  throw new Error("it can't be looked at");
}

const revoked = Proxy.revocable({}, {});
revoked.revoke();

/** Values that a device may throw, with their texts. */
const THROWN: [what: string, thrown: unknown, text: string][] = [
  ["an error", new TypeError("a mistake"), "a mistake"],
  ["an error without a message", new RangeError(), "RangeError"],
  ["a string", "a word", "a word"],
  ["null", null, "null"],
  ["undefined", undefined, "undefined"],
  ["a symbol", Symbol("s"), "Symbol(s)"],
  ["an object without a prototype", Object.create(null), NO_TEXT],
  ["an object whose text throws", { toString: refuse }, NO_TEXT],
  ["a function whose text throws", Object.assign(() => {}, { toString: refuse }), NO_TEXT],
  ["a revoked proxy", revoked.proxy, NO_TEXT],
  ["an error whose message is a number", Object.assign(new Error(), { message: 5 }), "5"],
  [
    "an error whose message throws",
    Object.defineProperty(new Error(), "message", { get: refuse }),
    NO_TEXT,
  ],
];
for (const [what, thrown, text] of THROWN) {
  Deno.test(`thrownText() has words for ${what}`, () => {
    assertEquals(thrownText(thrown), text);
    assertEquals(typeof thrownName(thrown), "string");
    assertEquals(causesOf(thrown), []);
    thrownFrames(thrown);
    const error = asError(thrown);
    assertEquals(error.message === "" ? error.name : error.message, text);
  });
}

Deno.test("asError() returns an error as it is", () => {
  const error = new TypeError("a mistake");
  assertEquals(asError(error) === error, true);
});

Deno.test("thrownFrames() takes a stack that is no text", () => {
  assertEquals(thrownFrames(Object.assign(new Error(), { stack: 5 })), []);
  assertEquals(thrownFrames(Object.defineProperty(new Error(), "stack", { get: refuse })), []);
});

Deno.test("causesOf() ends though an error causes itself", () => {
  const error = new Error("a mistake");
  error.cause = error;
  assertEquals(causesOf(error).length, 8);
});
