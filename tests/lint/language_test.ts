import { assertEquals } from "@std/assert";
import plugin from "./language.ts";

/** The rules that a source breaks, in the order of their places. */
function broken(source: string): string[] {
  return Deno.lint.runPlugin(plugin, "source.ts", source)
    .sort((a, b) => a.range[0] - b.range[0])
    .map(({ id, range: [start] }) => `${id} at ${start}`);
}

Deno.test("a line may have 100 columns, whatever it holds", () => {
  const line = (columns: number) => `const a = "${"x".repeat(columns - 13)}";\n`;
  assertEquals(broken(line(100)), []);
  assertEquals(broken(`\n${line(101)}`), ["language/columns at 1"]);
  assertEquals(broken(`// ${"é".repeat(97)}\n`), []);
  assertEquals(broken(`// ${"😀".repeat(97)}\n`), []);
  assertEquals(broken(`// ${"x".repeat(98)}\n`), ["language/columns at 0"]);
  assertEquals(broken(`const a = /${"x".repeat(100)}/;\n`), []);
  assertEquals(broken(`const a = \`\n${"x".repeat(101)}\n\`;\n`), []);
  assertEquals(broken(`// see https://example.org/${"x".repeat(98)}\n`), []);
});

Deno.test("a doc comment begins with a noun or a verb", () => {
  assertEquals(broken("/** What it is. */\nconst a = 1;"), ["language/doc-head at 0"]);
  assertEquals(broken("/**\n * Whether it is.\n */\nconst a = 1;"), ["language/doc-head at 0"]);
  assertEquals(broken("const a = {\n  /** It is one. */\n  b: 1 };"), ["language/doc-head at 14"]);
  assertEquals(broken("/** Whatever comes. */\n// What it is.\n/* Of it */\nconst a = 1;"), []);
  assertEquals(broken('const a = "/** What it is. */";'), []);
});

Deno.test("comments name the actor", () => {
  assertEquals(broken("// Nobody asks.\n"), ["language/phrases at 0"]);
  assertEquals(broken("const a = 1; // the client is told of it\n"), ["language/phrases at 13"]);
  assertEquals(broken("/** Memory that somebody\n * gives back. */\nconst a = 1;"), [
    "language/phrases at 0",
    "language/phrases at 0",
  ]);
  assertEquals(broken('const nobody = "nobody";'), []);
});

Deno.test("a sentence of a doc comment has 25 words at most", () => {
  const words = (count: number) => Array(count).fill("a").join(" ");
  const doc = (text: string) =>
    broken(`/**\n * ${text.replaceAll("\n", "\n * ")}\n */\nconst a = 1;`);
  assertEquals(doc(`${words(25)}.`), []);
  assertEquals(doc(`${words(13)}\n${words(13)}.`), ["language/sentences at 0"]);
  assertEquals(doc(`${words(25)}.\nThe next one: ${words(22)}.`), []);
  assertEquals(doc(`${words(20)}\n\`${words(20)}\` {@linkcode B} ${words(3)}.`), []);
  assertEquals(doc(`${words(20)}:\n- ${words(20)}\n- ${words(20)}\n\n@param b ${words(25)}`), []);
  assertEquals(doc(`${words(20)}\n\n\`\`\`ts\n${words(30)}\n\`\`\`\n| ${words(30)} |`), []);
  assertEquals(doc(`${words(20)}\n\n@returns ${words(26)}`), ["language/sentences at 0"]);
  assertEquals(broken(`// ${words(30)}\n`), []);
});
