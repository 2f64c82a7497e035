/** The documents for maintainers agree with the sources. */

import { assert, assertEquals } from "@std/assert";
import manifest from "../deno.json" with { type: "json" };
import { DEFAULT_MAX_SIZE } from "../cli/shared/max_size.ts";
import * as limits from "../lib/base/limits.ts";
import { MAX_DEPTH, MAX_TOKENS } from "../lib/yaml/document.ts";
import { MAX_FILE_SIZE } from "../lib/yaml/text.ts";
import { DENO } from "./_deno.ts";
import { commandsDocument } from "../cli/man/markdown.ts";
import { USER_DOCUMENTS } from "./_document.ts";

const ROOT = new URL("../", import.meta.url);
const DOCUMENTS = [
  "ARCHITECTURE.md",
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "docs/decisions.md",
  "docs/fuzzing.md",
  "docs/interop.md",
  "docs/peers.md",
  "docs/performance.md",
  "docs/replay.md",
  "examples/README.md",
];

/** A document with the help of commands, which names files and tasks elsewhere. */
const GENERATED = "docs/commands.md";

/** The text of a file of the checkout. */
function textOf(path: string): string {
  return Deno.readTextFileSync(new URL(path, ROOT));
}

/** Every file of the checkout's own folders, as a path from the root. */
function files(folder = ""): string[] {
  return [...Deno.readDirSync(new URL(folder || ".", ROOT))].flatMap(({ name, isDirectory }) => {
    if (name === ".git" || name === "node_modules" || name === "coverage") return [];
    return isDirectory ? files(`${folder}${name}/`) : [folder + name];
  });
}

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  KiB: 1024,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  ms: 1,
  s: 1000,
};

Deno.test("SECURITY.md's bounds are those of the sources", () => {
  const constants: Readonly<Record<string, number | bigint>> = {
    ...limits,
    DEFAULT_MAX_SIZE,
    MAX_DEPTH,
    MAX_FILE_SIZE,
    MAX_TOKENS,
  };
  const rows = [...textOf("SECURITY.md").matchAll(/\| +(\d+) ?(\w*) +\| `([A-Z_]+)` +\|$/gm)];
  assert(rows.length > 20);
  assertEquals(rows.length, textOf("SECURITY.md").match(/\| `[A-Z_]+` +\|$/gm)?.length);
  for (const [, number, unit, name] of rows) {
    assertEquals(Number(constants[name!]), Number(number) * UNITS[unit!]!, name);
  }
});

Deno.test("docs/commands.md is what deno task docs:commands writes today", async () => {
  assertEquals(
    textOf("docs/commands.md"),
    await commandsDocument(),
    "run deno task docs:commands, and read what changed",
  );
});

Deno.test("CHANGELOG.md has a section for this version", () => {
  assert(textOf("CHANGELOG.md").includes(`\n## ${manifest.version} - `));
});

Deno.test("ARCHITECTURE.md is short, and its tree names files and folders that there are", () => {
  const lines = textOf("ARCHITECTURE.md").split("\n");
  assert(lines.length < 200);
  const tree = lines.slice(lines.indexOf("```") + 1, lines.lastIndexOf("```"));
  assert(tree.length > 60);
  const all = files();
  const words = tree.flatMap((line) => line.match(/[\w/]+(?:\.ts|\/)(?=[\s:;,]|$)/g) ?? []);
  const missing = words.filter((word) => !all.some((path) => `/${path}`.includes(`/${word}`)));
  assertEquals(missing, []);
});

for (const document of [...USER_DOCUMENTS, ...DOCUMENTS].filter((each) => each !== GENERATED)) {
  Deno.test(`${document} names files and tasks that there are`, () => {
    const all = files();
    const text = textOf(document);
    const names = [...text.matchAll(/`([^`\s]+\.(?:ts|sh|md|txt|yaml|json))`/g)]
      .map(([, name]) => name!).filter((name) =>
        !/NAME|[*]|^\.\/(module|uart)|^\/tmp\//.test(name)
      );
    const missing = names.filter((name) => !all.some((path) => `/${path}`.endsWith(`/${name}`)));
    assertEquals(missing, []);
    const tasks = [...text.matchAll(/deno task ([\w:-]+)/g)].map(([, name]) => name!);
    assertEquals(tasks.filter((name) => !Object.hasOwn(manifest.tasks, name)), []);
    for (const [, link] of text.matchAll(/\]\(([^)#]+)\)/g)) {
      assert(Deno.statSync(new URL(link!, new URL(document, ROOT))).isFile, link);
    }
  });
}

Deno.test("CONTRIBUTING.md has each task", () => {
  const text = textOf("CONTRIBUTING.md");
  const missing = Object.keys(manifest.tasks).filter((name) => !text.includes(`deno task ${name}`));
  assertEquals(missing, []);
});

/** Phrases that hide the actor, or have a better word (CONTRIBUTING.md); quoted ones are named. */
const BANNED = /(?<!")\b(?:(?:no|some)body|(?:told|tells?) of|gives? back|as it is to be)\b/i;

/** Prose of a document: its lines with their numbers, without blocks of code. */
function proseOf(text: string): [number: number, line: string][] {
  let fence: string | undefined;
  return text.split("\n").flatMap((line, index): [number, string][] => {
    const [mark] = /^ *(?:`{3,}|~{3,})/.exec(line)?.map((each) => each.trim()) ?? [];
    if (mark === undefined) return fence === undefined ? [[index + 1, line]] : [];
    if (fence === undefined) fence = mark;
    else if (mark.startsWith(fence)) fence = undefined;
    return [];
  });
}

/** Mistakes in the language of a document, as "FILE:LINE: reason". */
function mistakesOf(document: string, text: string): string[] {
  return proseOf(text).flatMap(([number, line]) => {
    const place = `${document}:${number}:`;
    const [phrase] = BANNED.exec(line) ?? [];
    const isLong = line.length > 100 && !/^\s*\||https?:\/\/\S+$/.test(line);
    return [
      ...(phrase === undefined
        ? []
        : [`${place} says "${phrase}", which CONTRIBUTING.md rules out`]),
      ...(isLong ? [`${place} has ${line.length} columns; at most 100, but for tables`] : []),
    ];
  });
}

for (const document of [...USER_DOCUMENTS, ...DOCUMENTS]) {
  Deno.test(`${document} follows the rules of language, in lines of 100 columns`, () => {
    assertEquals(mistakesOf(document, textOf(document)), []);
  });
}

Deno.test("mistakesOf() finds long lines and banned phrases in prose alone", () => {
  const long = "x".repeat(101);
  const text = [
    long,
    `| ${long} |`,
    "Nobody asks.",
    'Not "nobody".',
    "```",
    long,
    "```",
    "told of",
  ];
  assertEquals(mistakesOf("a.md", text.join("\n")), [
    "a.md:1: has 101 columns; at most 100, but for tables",
    'a.md:3: says "Nobody", which CONTRIBUTING.md rules out',
    'a.md:8: says "told of", which CONTRIBUTING.md rules out',
  ]);
});

Deno.test("every function of mod.ts has an example", async () => {
  type Declaration = {
    readonly kind: string;
    readonly jsDoc?: { readonly tags?: { kind: string }[] };
  };
  type Symbol = { readonly name: string; readonly declarations: readonly Declaration[] };
  const args = ["doc", "--json", "mod.ts"];
  const { stdout } = await new Deno.Command(DENO, { args, cwd: ROOT }).output();
  const { nodes } = JSON.parse(new TextDecoder().decode(stdout)) as {
    nodes: Record<string, { readonly symbols: readonly Symbol[] }>;
  };
  const functions = Object.values(nodes).flatMap(({ symbols }) => symbols).filter((each) =>
    each.declarations.some(({ kind }) => kind === "function")
  );
  assert(functions.length > 20);
  const without = functions.filter(({ declarations }) =>
    !declarations.some(({ jsDoc }) => jsDoc?.tags?.some(({ kind }) => kind === "example"))
  );
  assertEquals(without.map(({ name }) => name), []);
});
