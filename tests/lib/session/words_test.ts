/**
 * Reports of words that are declared and then forgotten: the compiler makes them, else reading.
 */

import { checkEdited, missingFields, testCompiler } from "../../_edited_sources.ts";
import { assertEquals, assertThrows } from "@std/assert";
import { newDefinitions } from "../../../lib/session/file/definitions.ts";
import { parseLine } from "../../../lib/session/file/line.ts";
import { variablesSetBy, WORDS } from "../../../lib/session/file/words.ts";
import type { Word } from "../../../lib/session/file/word.ts";

/** Files of steps: the union of each, the table, and what is written there of a new word. */
const FILES = [
  ["register", "type RegisterStep =", "REGISTER_WORDS: Words<RegisterStep> = {", ""],
  ["session", "type SessionStep =", "SESSION_WORDS: Words<SessionStep> = {", "entry"],
  ["irq", "type AnyIrqStep =", "IRQ_WORDS: Words<AnyIrqStep> = {", "entry"],
  ["dma", "type DmaStep =", "DMA_WORDS: Words<DmaStep> = {", ""],
] as const;

testCompiler("the compiler asks for what a word of sessions lacks", async () => {
  const words = [...FILES.map(([name]) => `${name}Word`), "alone"];
  const steps = words.map((word) =>
    `export interface ${word} extends StepCommon { readonly word: "${word}" }`
  );
  const text = await checkEdited([
    [
      "lib/session/model.ts",
      "export type Step =",
      `${steps.join("\n")}\nexport type Step =\n  | ${words.join(" | ")}`,
    ],
    ...FILES.flatMap(([name, union, table, written]) => {
      const path = `lib/session/file/${name}_steps.ts`;
      const entry = `${name}Word: {description: "", subject: "text", arguments: {}},`;
      return [
        [path, union, `${union} import("../model.ts").${name}Word |`],
        [path, table, written === "" ? table : `${table} ${entry}`],
      ] as const;
    }),
  ]);
  assertEquals(missingFields(text).map((each) => each.replace(/ \[ERROR\]: [^]*/, "")), [
    "lib/session/file/dma_steps.ts dmaWord", // a word without an entry
    "lib/session/file/irq_steps.ts parse, places", // an entry without its reading
    "lib/session/file/register_steps.ts registerWord",
    "lib/session/file/session_steps.ts parse, places",
    "lib/session/file/words.ts alone", // a word that is in no table
    "lib/session/run/executor.ts", // a step that `perform` never does
  ], text);
});

/** Reads a line while a word has other parts. */
function readWith(word: keyof typeof WORDS, parts: Partial<Word>, line: string): unknown {
  const entry = WORDS[word] as Word;
  const before = { ...entry };
  try {
    Object.assign(entry, parts);
    return parseLine(line, newDefinitions());
  } finally {
    Object.assign(entry, before);
  }
}

Deno.test("a step that is read as none, without a mistake, is a fault and not a step less", () => {
  for (const parse of [() => undefined, () => []]) {
    assertThrows(
      () => readWith("sleep", { parse }, "sleep 1s"),
      Error,
      'A step of "sleep" was read as no step',
    );
  }
});

Deno.test("a variable that is set by an argument of another kind is a fault", () => {
  assertThrows(
    () =>
      readWith("sleep", {
        parse: (parts, common) => {
          parts.define("hidden");
          return { word: "sleep", ...common, durationMs: 1 };
        },
      }, "sleep 1s"),
    Error,
    '"sleep" sets "hidden", which is in no argument of a kind that sets',
  );
});

Deno.test("the variables that a step sets are those of its arguments of a kind that sets", () => {
  assertEquals(variablesSetBy({ read: "bar0", into: "x" }), ["x"]);
  assertEquals(variablesSetBy({ set: "x", to: "y" }), ["x"]);
  assertEquals(variablesSetBy({ set: { x: 1n, y: 2n } }), ["x", "y"]);
  assertEquals(variablesSetBy({ repeat: 2n, as: "i", steps: [{ set: "x", to: 1n }] }), ["i"]);
  assertEquals(variablesSetBy({ call: "f", with: { a: 1n }, into: { x: "y" } }), ["x"]);
  assertEquals(variablesSetBy({ raed: "bar0", into: "x" }), ["x"]);
  assertEquals(variablesSetBy({ "dma map": "x", write: "y", name: "z" }), []);
  for (const other of ["reset", null, 3n, []]) assertEquals(variablesSetBy(other), []);
});
