/**
 * YAML files of which every part knows its line and column.
 *
 * What is read is YAML 1.2 without aliases: text, whole numbers of any size, true and false, lists
 * and mappings. Size, depth and number of tokens are bounded, so that a hostile file is refused
 * within a second.
 *
 * @module
 */

import {
  Composer,
  type Document,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Node,
  type Pair,
  Parser,
  visit,
} from "yaml";
import type { Position, Problem } from "./problem.ts";

/** Lists and mappings in one another. A map of registers has 6. */
export const MAX_DEPTH = 64;
/** Words, marks and stretches of white space. The parser reads some 600,000 in a second. */
export const MAX_TOKENS = 500_000;
/** Characters of one of them. A number of millions of digits takes seconds to read. */
const MAX_TOKEN_LENGTH = 64 << 10;
/** Mistakes that are listed; a file with more is not what it is taken for. */
export const MAX_PROBLEMS = 100;
/** Code units of a message, which may have a word of the file in it. */
const MAX_MESSAGE = 200;

/** Keys and indexes that lead to a part. */
export type Path = readonly (string | number)[];

/** Notes a mistake: its place, its sentence, and a hint. */
export type Report = (at: Position, message: string, hint?: string) => void;

/** A file that is YAML. */
export interface YamlDocument {
  /** The content of the file. Mappings are objects, integers are bigint, an empty value is null. */
  readonly value: unknown;
  /**
   * Returns the position of the value at `path`. For a missing value this is the position of the
   * mapping that lacks it.
   */
  at(path: Path): Position;
  /** Returns the position of the key of the value at `path`. */
  keyAt(path: Path): Position;
  /** The number, word or text at `path` as it is written; undefined if there is something else. */
  written(path: Path): string | undefined;
}

/** The part of a document at `prefix`, as if it were a document. */
export function partOf(document: YamlDocument, value: unknown, prefix: Path): YamlDocument {
  return {
    value,
    at: (path) => document.at([...prefix, ...path]),
    keyAt: (path) => document.keyAt([...prefix, ...path]),
    written: (path) => document.written([...prefix, ...path]),
  };
}

/** Mistakes of YAML in spite of which the rest is as it was meant. */
const HARMLESS: ReadonlySet<string> = new Set([
  "TAG_RESOLVE_FAILED",
  "BAD_DIRECTIVE",
]);

/**
 * Collects mistakes of one file.
 *
 * @param file as it is to be called in them
 */
export class Problems {
  readonly #file: string;
  readonly #all: Problem[] = [];

  constructor(file: string) {
    this.#file = file;
  }

  /** Notes one. Of many at the same place the first counts. */
  readonly report: Report = ({ line, column }, message, hint) => {
    if (this.isFull) return;
    if (this.#all.some((each) => each.line === line && each.column === column)) return;
    const short = message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message;
    this.#all.push({ file: this.#file, line, column, message: short, ...(hint && { hint }) });
  };

  /** True if no more are noted. */
  get isFull(): boolean {
    return this.#all.length > MAX_PROBLEMS;
  }

  /** All of them, from the first line to the last. */
  sorted(): Problem[] {
    const all = this.#all.toSorted((a, b) => a.line - b.line || a.column - b.column);
    if (all.length <= MAX_PROBLEMS) return all;
    const { file, line, column } = all[MAX_PROBLEMS]!;
    const message = "There are more mistakes, which are not listed";
    return [...all.slice(0, MAX_PROBLEMS), { file, line, column, message }];
  }
}

/**
 * Reads YAML. What is wrong with it is given to `report`.
 *
 * @returns undefined if nothing can be said about the rest
 */
export function parseYaml(text: string, report: Report): YamlDocument | undefined {
  const lines = new LineCounter();
  lines.addNewLine(0);
  const position = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const document = withoutEnv(() => composeBounded(text, lines, position, report));
  if (document === undefined) return undefined;
  let isUsable = true;
  let isAstray = false;
  for (const { code, message, pos: [start] } of [...document.errors, ...document.warnings]) {
    // What follows something out of place is out of place as well.
    if (code === "UNEXPECTED_TOKEN" && isAstray) continue;
    isAstray ||= code === "UNEXPECTED_TOKEN";
    const hint = MESSAGE_HINTS.find(([part]) => message.includes(part))?.[1] ?? HINTS[code];
    report(position(start), message.split("\n")[0]!, hint);
    isUsable &&= HARMLESS.has(code);
  }
  if (!refuseAliases(document, position, report) || !isUsable) return undefined;
  return new Located(document, position, report);
}

/**
 * Hints for what the package tells in several ways under one code, of which its words alone say
 * which. They decide over nothing else.
 */
const MESSAGE_HINTS: readonly (readonly [part: string, hint: string])[] = [
  // [msix[0]] and { CC: ${x} } are the commonest.
  ["between flow", "text with [ ] { } or , in it takes quotes between brackets or braces"],
  ["at node end", "text with { } or [ ] in it takes quotes between braces or brackets"],
  ["Nested mappings", "indent the keys of an item alike; text with a colon in it takes quotes"],
  ["Missing closing", "the quote that begins this text has no other at its end"],
  ["reserved character", "text that begins with it takes quotes"],
  ["without - indicator", "begin each item with -, and indent its keys alike"],
];
const HINTS: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: "indent with spaces",
  MULTIPLE_DOCS: "a file is one document; leave out what follows ---",
};

/**
 * Runs `parse` while the environment is empty. The package looks into it for switches of its own
 * debugging. That takes a permission that nothing else here needs, and asks for it on a terminal.
 */
function withoutEnv<T>(parse: () => T): T {
  // As a global: an import by name is loaded by all that reads no YAML, too.
  const { process } = globalThis as unknown as { process: { env: Record<string, string> } };
  const { env } = process;
  try {
    process.env = {};
    return parse();
  } finally {
    process.env = env;
  }
}

/** Composes the document, unless it has too much of something. */
function composeBounded(
  text: string,
  lines: LineCounter,
  position: (offset: number) => Position,
  report: Report,
): Document.Parsed | undefined {
  const parser = new Parser(lines.addNewLine);
  const composer = new Composer({
    intAsBigInt: true,
    prettyErrors: false,
    schema: "core",
    // It compares each key of a mapping with all others; toValue() sees duplicates too
    uniqueKeys: false,
    version: "1.2",
  });
  const documents: Document[] = [];
  let count = 0;
  for (const lexeme of new Lexer().lex(text)) {
    for (const token of parser.next(lexeme)) documents.push(...composer.next(token));
    // A document, its contents, and for each level a collection.
    if (parser.stack.length > MAX_DEPTH + 2) {
      report(position(parser.offset), `More than ${MAX_DEPTH} lists and mappings in one another`);
      return undefined;
    }
    if (lexeme.length > MAX_TOKEN_LENGTH) {
      report(position(parser.offset), `More than ${MAX_TOKEN_LENGTH} characters in one piece`);
      return undefined;
    }
    if (++count > MAX_TOKENS) {
      report(position(parser.offset), `More than ${MAX_TOKENS} words and marks`);
      return undefined;
    }
  }
  for (const token of parser.end()) documents.push(...composer.next(token));
  documents.push(...composer.end(true, text.length));
  const [document, second] = documents;
  if (second !== undefined) {
    report(position(second.range![0]), "A second document begins", HINTS["MULTIPLE_DOCS"]);
  }
  return document as Document.Parsed;
}

/** Rejects aliases and merges, by which a small file can stand for an endless one. */
function refuseAliases(
  document: Document.Parsed,
  position: (offset: number) => Position,
  report: Report,
): boolean {
  let isFree = true;
  visit(document, {
    Alias(_, { range, source }) {
      isFree = false;
      report(position(range![0]), `"*${source}" is an alias`, "write out what it stands for");
    },
  });
  return isFree;
}

class Located implements YamlDocument {
  readonly value: unknown;
  readonly #root: Node | null;
  readonly #position: (offset: number) => Position;
  /** The pairs of each mapping, by their keys. */
  readonly #pairs = new Map<Node, Map<string, Pair<Node, Node | null>>>();

  constructor(
    { contents }: Document.Parsed,
    position: (offset: number) => Position,
    report: Report,
  ) {
    this.#root = contents;
    this.#position = position;
    this.value = this.#read(contents, report);
  }

  at(path: Path): Position {
    return this.#position(startOf(this.#find(path).value));
  }

  keyAt(path: Path): Position {
    const { key, value } = this.#find(path);
    return this.#position(startOf(key ?? value));
  }

  written(path: Path): string | undefined {
    const { value } = this.#find(path);
    return isScalar(value) ? value.source : undefined;
  }

  #read(node: Node | null, report: Report): unknown {
    if (isScalar(node)) return node.value;
    if (isSeq<Node>(node)) return node.items.map((item) => this.#read(item, report));
    if (!isMap<Node, Node | null>(node)) return null;
    const pairs = new Map<string, Pair<Node, Node | null>>();
    const seen = new Set<string>();
    for (const pair of node.items) {
      const text = keyText(pair.key);
      const same = isScalar(pair.key) ? String(pair.key.value) : text; // 0x1 and 1
      if (seen.has(same)) report(this.#position(startOf(pair.key)), `"${text}" is there already`);
      else pairs.set(text, pair);
      seen.add(same);
    }
    this.#pairs.set(node, pairs);
    return Object.fromEntries(
      [...pairs].map(([key, { value }]) => [key, this.#read(value, report)]),
    );
  }

  /** The value at `path`, or the last on the way to it, and its key. */
  #find(path: Path): { key: Node | undefined; value: Node | null } {
    let [key, value]: [Node | undefined, Node | null] = [undefined, this.#root];
    for (const step of path) {
      if (isSeq<Node>(value) && typeof step === "number" && step in value.items) {
        [key, value] = [undefined, value.items[step]!];
        continue;
      }
      const pair = value === null ? undefined : this.#pairs.get(value)?.get(String(step));
      if (pair === undefined) break;
      [key, value] = [pair.key, pair.value ?? pair.key];
    }
    return { key, value };
  }
}

function startOf(node: Node | null): number {
  return node?.range?.[0] ?? 0;
}

/** A key as text: a number as it was written, so that messages can show it. */
function keyText(key: unknown): string {
  return isScalar(key) ? key.source ?? String(key.value) : "?";
}
