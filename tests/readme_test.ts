/**
 * Compares the README and docs/sessions.md with the project that they describe.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { STEP_WORDS } from "../lib/session/file/words.ts";
import { documentText } from "./_document.ts";

Deno.test("the README is a path of 180 lines at most", () => {
  assert(documentText("README.md").split("\n").length <= 181);
});

Deno.test("the session of docs/sessions.md is the one in examples/sessions", () => {
  const session = documentText("examples/sessions/first.yaml");
  const document = documentText("docs/sessions.md");
  assertStringIncludes(document, `\`\`\`yaml\n${session}\`\`\`\n`);
  assertStringIncludes(document, "\n$ vfu run --serve demo examples/sessions/first.yaml\n");
});

Deno.test("docs/sessions.md has each word of sessions in its table of steps", () => {
  const [, table] = /^\| step .*\n((?:\|.*\n)+)/m.exec(documentText("docs/sessions.md"))!;
  const subjects = table!.split("\n").map((line) => line.split(" | ")[0]!);
  // "`irq enable`, `disable`" has two words: the parts of a word stand in one row.
  const isThere = (word: string) =>
    subjects.some((subject) =>
      [...subject.matchAll(/`([a-z ]+)/g)].some(([, text]) =>
        text === word ||
        (word.endsWith(` ${text}`) && subject.includes(`\`${word.slice(0, -text!.length)}`))
      )
    );
  assertEquals(STEP_WORDS.filter((word) => !isThere(word)), []);
});
