/**
 * Compares the README with the project that it describes.
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { runServing } from "./cli/_cli.ts";
import { STEP_WORDS } from "../lib/session/file/words.ts";

const ROOT = new URL("../", import.meta.url);

Deno.test("the README's session is the one in examples/sessions, and prints what it shows", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  const file = "examples/sessions/first.yaml";
  const session = await Deno.readTextFile(new URL(file, ROOT));
  assertStringIncludes(readme, `\`\`\`yaml\n${session}\`\`\`\n`);

  const command = `vfu run --serve demo ${file}`;
  const [, shown] = new RegExp(`\\$ ${command}\n(.*?)\`\`\``, "s").exec(readme)!;
  const { out } = await runServing(["run", new URL(file, ROOT).pathname]);
  const plain = (text: string) =>
    text.replaceAll(/[\d.]+ ms/g, "_ ms").replaceAll(/ +_ ms/g, " _ ms")
      .replace(/^(A first session) .*/, "$1");
  assertEquals(plain(out), plain(shown!));
});

Deno.test("the README has each word of sessions in its table of steps", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  const [, table] = /^\| step .*\n((?:\|.*\n)+)/m.exec(readme)!;
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
