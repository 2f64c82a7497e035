import { assertEquals } from "@std/assert";
import { sources } from "../import_graph.ts";
import plugin from "./language.ts";

const ROOT = new URL("../../", import.meta.url);

/** Folders whose comments do not follow the rules yet; the list only shrinks. */
const LATER: string[] = [
  "lib/devices",
];

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

/** Mistakes in the language of files, as "FILE:LINE: reason". */
function mistakes(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    const source = Deno.readTextFileSync(new URL(path, ROOT));
    return Deno.lint.runPlugin(plugin, path, source).map(({ message, range: [start] }) =>
      `${path}:${source.slice(0, start).split("\n").length}: ${message}`
    );
  });
}

Deno.test("sources follow the rules of language", () => {
  const all = sources(ROOT, "ffi", "lib", "cli", "examples", "tests");
  const held = all.filter((path) => !LATER.some((folder) => path.startsWith(`${folder}/`)));
  assertEquals(mistakes(["mod.ts", ...held]), []);
});
