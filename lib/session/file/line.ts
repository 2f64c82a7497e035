/**
 * Reads steps as lines of a shell.
 * Examples: `write nvme.CC { EN: 1 } verify`, `poll CSTS.RDY 1 timeout 500ms`, `CC.EN=1`.
 *
 * @module
 */

import type { Path } from "../../yaml/document.ts";
import { type Definitions, meant } from "./definitions.ts";
import { parseFlow, plainValue, unquote } from "./flow.ts";
import type { Source, Step, StepWord } from "../model.ts";
import { parsePlace, placeWords } from "./place.ts";
import type { Reading } from "./reading.ts";
import { parseStepAt } from "./steps.ts";
import { type Argument, COMMON_ARGUMENTS, type KindName } from "./arguments.ts";
import { STEP_WORDS, WORDS } from "./words.ts";

export { completions } from "./completion.ts";

/** Characters of a line. */
const MAX_LENGTH = 10_000;

/** A step as a file has it: the step word with its subject, and arguments by their keys. */
export type RawStep = Record<string, unknown>;

/** A word of a line. */
export interface LineToken {
  /** As it is written. */
  readonly text: string;
  /** True if the word is in quotes, and so is no key. */
  readonly isQuoted: boolean;
}

/**
 * Reads a line: `WORD SUBJECT [MAIN] [KEY VALUE]...`, or `PLACE=VALUE`, or `PLACE`, which is read.
 *
 * Words and keys are those of session files. Text with spaces takes quotes.
 * Lists are `1,2,3` or `[1, 2]`, fields `{ EN: 1 }`. Keys that are true or false stand alone.
 *
 * @param definitions meaning of names; the variables and buffers that the line defines are added
 * @returns the step as a file would have it, and as it is run:
 *   several, if it expects something of several places
 * @throws {SyntaxError} if something is wrong, with a hint
 *
 * @example
 * ```ts
 * import { newDefinitions } from "./definitions.ts";
 * import { parseLine } from "./line.ts";
 *
 * const { raw, steps } = parseLine("poll bar0+0x1c.l at least 1 timeout 2s", newDefinitions());
 * if (steps[0]?.timeoutMs !== 2000 || raw["at least"] !== "1") throw new Error();
 * ```
 */
export function parseLine(
  text: string,
  definitions: Definitions,
): { raw: RawStep; steps: readonly Step[] } {
  const tokens = tokenizeLine(text);
  const raw = isPlace(tokens, definitions)
    ? { read: tokens[0]!.text }
    : rawStep(tokens, definitions);
  return { raw, steps: parseStep(raw, definitions, text) };
}

/**
 * Reads a step that is written as in a file.
 *
 * @param raw numbers are bigint
 * @param text name of the step in mistakes; by default the step itself
 * @throws {SyntaxError} if something is wrong, with a hint
 *
 * @example
 * ```ts
 * import { newDefinitions } from "./definitions.ts";
 * import { parseStep } from "./line.ts";
 *
 * const [step] = parseStep({ write: "bar0+4", value: 0x10n }, newDefinitions());
 * if (step?.text !== "write bar0+4 0x10") throw new Error();
 * ```
 */
export function parseStep(
  raw: RawStep,
  definitions: Definitions,
  text?: string,
): readonly Step[] {
  return parseStepAt(raw, [], new LineReading(definitions, text));
}

/** Reads one step; the first mistake ends that. */
class LineReading implements Reading {
  readonly definitions: Definitions;
  readonly #source: Source;

  constructor(definitions: Definitions, text: string | undefined) {
    this.definitions = definitions;
    this.#source = { file: text === undefined ? "a step" : "a line", line: 1, column: 1 };
  }

  report(_path: Path, message: string, hint?: string): never {
    throw new SyntaxError(hint === undefined ? message : `${message}; ${hint}`);
  }

  reportKey(path: Path, message: string, hint?: string): never {
    this.report(path, message, hint);
  }

  written(): undefined {}

  source(): Source {
    return this.#source;
  }

  session(path: Path, file: string): never {
    this.report(path, `Cannot call ${file} from here`, `run it by "vfu run ${file} SOCKET"`);
  }

  countStep(): boolean {
    return true;
  }
}

const CLOSING: Readonly<Record<string, string>> = { "{": "}", "[": "]" };

/**
 * Cuts a line into words at its spaces, but for those in quotes, `${...}`, `{...}` and `[...]`.
 *
 * @throws {SyntaxError} if one of those has no end, or the line is too long
 */
export function tokenizeLine(text: string): LineToken[] {
  if (text.length > MAX_LENGTH) {
    throw new SyntaxError(`The line has ${text.length} characters, the limit is ${MAX_LENGTH}`);
  }
  const tokens: LineToken[] = [];
  for (let at = 0; at < text.length;) {
    if (/\s/.test(text[at]!)) {
      at++;
      continue;
    }
    const end = endOfToken(text, at);
    const word = text.slice(at, end);
    const isQuoted = isQuote(word[0]!) && endOfQuote(text, at) === end;
    tokens.push({ text: isQuoted ? unquote(word) : word, isQuoted });
    at = end;
  }
  return tokens;
}

/**
 * Finds the end of the word that begins at `start`: the first space outside quotes and brackets.
 */
function endOfToken(text: string, start: number): number {
  const open: string[] = [];
  let at = start;
  for (; at < text.length; at++) {
    const character = text[at]!;
    const close = CLOSING[character];
    if (isQuote(character)) at = endOfQuote(text, at) - 1;
    else if (close !== undefined) open.push(close);
    else if (character === open.at(-1)) open.pop();
    else if (open.length === 0 && /\s/.test(character)) return at;
  }
  if (open.length === 0 && at === text.length) return at;
  const rest = text.slice(start, start + 20);
  throw new SyntaxError(`"${rest}" has no end: a quote, bracket or brace is missing`);
}

function isQuote(character: string): boolean {
  return character === '"' || character === "'";
}

/**
 * Finds the end of the quoted text that begins at `start`.
 * Returns a position beyond the end of the line if the quote is never closed.
 */
function endOfQuote(text: string, start: number): number {
  const quote = text[start]!;
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === "\\" && quote === '"') at++;
    else if (text[at] === quote) return at + 1;
  }
  return text.length + 2;
}

function rawStep(tokens: readonly LineToken[], definitions: Definitions): RawStep {
  const [first] = tokens;
  if (first === undefined) throw new SyntaxError("The line is empty");
  const word = wordAt(tokens);
  if (word !== undefined) {
    const rest = tokens.slice(word.split(" ").length);
    const written = word === "write" ? assigned(rest) ?? rest : rest;
    return withArguments(word, new TokenReader(written));
  }
  const written = assigned(tokens);
  if (written === undefined) {
    throw new SyntaxError(`"${first.text}" is no step; ${stepHint(tokens, definitions)}`);
  }
  return withArguments("write", new TokenReader(written));
}

/** The word or the place that a line was probably meant to begin with, else all words. */
function stepHint(tokens: readonly LineToken[], definitions: Definitions): string {
  const [one, two, three] = [1, 2, 3].map((n) =>
    tokens.slice(0, n).map((each) => each.text).join(" ")
  );
  const ending = STEP_WORDS.filter((word) => word.split(" ").slice(1).includes(one!));
  if (ending.length > 0) return `did you mean ${ending.map((word) => `"${word}"`).join(" or ")}?`;
  const all = `there are ${STEP_WORDS.join(", ")}`;
  const later = meant(two!, STEP_WORDS, meant(three!, STEP_WORDS, all));
  return meant(one!, [...STEP_WORDS, ...placeWords(definitions)], later);
}

/** Words of which the first, `PLACE=VALUE`, is cut into two; undefined if it has another form. */
function assigned([first, ...others]: readonly LineToken[]): LineToken[] | undefined {
  if (first === undefined || first.isQuoted) return undefined;
  const assignment = /^((?:\$\{[^{}]*\}|[^=${}"'])+)=(?!=)(.+)$/s.exec(first.text);
  if (assignment === null) return undefined;
  const [, place, value] = assignment;
  return [{ text: place!, isQuoted: false }, { text: value!, isQuoted: false }, ...others];
}

/** Tests a line for a place and nothing else. */
function isPlace(tokens: readonly LineToken[], definitions: Definitions): boolean {
  const [only, ...others] = tokens;
  if (only === undefined || others.length > 0 || only.isQuoted || wordAt(tokens)) return false;
  try {
    parsePlace(only.text, definitions);
    return true;
  } catch {
    return false; // what it is instead is told by those who read it
  }
}

/** The step word that a line begins with; the longest of those that do. */
function wordAt(tokens: readonly LineToken[]): StepWord | undefined {
  for (let count = 3; count > 0; count--) {
    const text = tokens.slice(0, count).map((each) => each.text).join(" ");
    const word = STEP_WORDS.find((each) => each === text);
    if (word !== undefined) return word;
  }
  return undefined;
}

/** Words of a line, one after the other. */
class TokenReader {
  readonly #tokens: readonly LineToken[];
  #at = 0;

  constructor(tokens: readonly LineToken[]) {
    this.#tokens = tokens;
  }

  get next(): LineToken | undefined {
    return this.#tokens[this.#at];
  }

  take(): LineToken | undefined {
    return this.#tokens[this.#at++];
  }

  /** The key of `known` that comes next; the longest, if one begins another. */
  key(known: Readonly<Record<string, Argument>>): string | undefined {
    for (let count = 3; count > 0; count--) {
      const tokens = this.#tokens.slice(this.#at, this.#at + count);
      if (tokens.length < count || tokens.some(({ isQuoted }) => isQuoted)) continue;
      const text = tokens.map((each) => each.text).join(" ");
      if (Object.hasOwn(known, text)) return text;
    }
    return undefined;
  }

  skip(key: string): void {
    this.#at += key.split(" ").length;
  }
}

function withArguments(word: StepWord, tokens: TokenReader): RawStep {
  const { subject, main, arguments: own } = WORDS[word];
  const known = { ...own, ...COMMON_ARGUMENTS };
  const raw: RawStep = { [word]: null };
  if (subject !== "nothing") raw[word] = parseArgumentValue(word, subject, tokens.take());
  // A mapping has its values already.
  const takesMain = main !== undefined && typeof raw[word] === "string";
  if (takesMain && word === "set" && tokens.next?.text === "=") tokens.take();
  if (takesMain && tokens.next !== undefined && tokens.key(known) === undefined) {
    raw[main] = parseArgumentValue(main, known[main]!.kind, tokens.take());
  }
  while (tokens.next !== undefined) {
    const key = tokens.key(known);
    if (key === undefined) throw unknownKey(tokens.next.text, word, Object.keys(known));
    if (Object.hasOwn(raw, key)) throw new SyntaxError(`"${key}" is there already`);
    tokens.skip(key);
    raw[key] = parseArgument(key, known[key]!.kind, tokens);
  }
  return raw;
}

function unknownKey(text: string, word: string, keys: readonly string[]): SyntaxError {
  const hint = meant(text, keys, `there are ${keys.join(", ")}; text with spaces takes quotes`);
  return new SyntaxError(`"${text}" is no key of ${word}; ${hint}`);
}

function parseArgument(key: string, kind: KindName, tokens: TokenReader): unknown {
  if (kind !== "flag") return parseArgumentValue(key, kind, tokens.take());
  const isSaid = tokens.next !== undefined && /^(true|false)$/.test(tokens.next.text);
  return isSaid ? tokens.take()!.text === "true" : true;
}

/**
 * The value of a word, as a file would have it.
 * Whole numbers alone stay text, so that they are shown as they were typed.
 */
function parseArgumentValue(key: string, kind: KindName, token: LineToken | undefined): unknown {
  if (kind === "steps") {
    throw new SyntaxError(
      "Steps to be repeated can't be typed on a line; write them into a file for vfu run",
    );
  }
  if (token === undefined) {
    throw new SyntaxError(`"${key}" is the last word; write its value after it`);
  }
  const { text, isQuoted } = token;
  if (isQuoted || kind === "text" || kind === "bytes" || kind === "file") return text;
  if (/^[[{]/.test(text)) return parseFlow(text);
  if (kind === "values" || kind === "numbers" || kind === "errors") {
    const all = text.match(/(?:\$\{[^{}]*\}|\{[^{}]*\}|[^,])+/g) ?? [];
    if (all.length > 1) {
      return all.map((each) => each.startsWith("{") ? parseFlow(each) : plainValue(each));
    }
  }
  return text;
}
