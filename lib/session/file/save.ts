/**
 * Steps that were typed, as a session file.
 *
 * @module
 */

import { COMMON_ARGUMENTS, type KindName } from "./arguments.ts";
import { isStepWord, WORDS } from "./words.ts";
import { hex, hexDigits } from "../../text/hex.ts";
import { YAML_INTEGER } from "./flow.ts";

/** The parts of a session file. */
export interface SavedSession {
  /** The title of the session. */
  readonly title?: string;
  /** Maps of registers, by name or file. */
  readonly include?: readonly string[];
  /** First values of variables. */
  readonly variables?: Readonly<Record<string, bigint>>;
  /** The steps, as `parseLine` gives them. */
  readonly raws: readonly Readonly<Record<string, unknown>>[];
  /**
   * The name for the file of a step, relative to the folder of the saved session.
   * The argument is the name in the step; default the same.
   */
  readonly nameOf?: (file: string) => string;
}

/**
 * Writes a session file. What it loads as is what was typed.
 *
 * @example
 * ```ts
 * import { newDefinitions } from "./definitions.ts";
 * import { parseLine } from "./line.ts";
 * import { sessionYaml } from "./save.ts";
 *
 * const { raw } = parseLine("write bar0+4.l 0x10 verify", newDefinitions());
 * const yaml = "steps:\n  - write: bar0+4.l\n    value: 0x10\n    verify: true\n";
 * if (sessionYaml({ raws: [raw] }) !== yaml) throw new Error();
 * ```
 */
export function sessionYaml(
  { title, include = [], variables = {}, raws, nameOf = (file) => file }: SavedSession,
): string {
  const names = Object.entries(variables);
  const head = [
    ...(title === undefined ? [] : [`title: ${scalar(title, "text")}`]),
    ...(include.length === 0 ? [] : [`include: ${flow(include)}`]),
    ...(names.length === 0 ? [] : ["variables:"]),
    ...names.map(([name, value]) => `  ${name}: ${number(value)}`),
  ];
  const steps = raws.flatMap((raw) => stepLines(renamed(raw, nameOf))).map((line) => `  ${line}\n`);
  const start = head.length === 0 ? "" : `${head.join("\n")}\n\n`;
  return `${start}steps:${steps.length === 0 ? " []" : ""}\n${steps.join("")}`;
}

/** The step with other names of the files in it. */
function renamed(
  raw: Readonly<Record<string, unknown>>,
  nameOf: (file: string) => string,
): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(raw).map(([key, value]) => {
      if (key === "file" && typeof value === "string") return [key, nameOf(value)];
      const isData = (key === "fill" || key === "put") && typeof value === "object" && value;
      return [key, isData ? renamed(value as Record<string, unknown>, nameOf) : value];
    }),
  );
}

function stepLines(raw: Readonly<Record<string, unknown>>): string[] {
  const word = Object.keys(raw).find(isStepWord);
  if (word === undefined) throw new TypeError("A step without a step word can't be saved");
  const { subject, arguments: own } = WORDS[word];
  const keys = Object.keys(raw).filter((key) => key !== word);
  if (subject === "nothing" && keys.length === 0) return [`- ${word}`];
  const known = { ...own, ...COMMON_ARGUMENTS };
  const lines = [
    subject === "nothing" ? `${word}:` : `${word}: ${block(raw[word], subject)}`,
    ...keys.map((key) => `${key}: ${block(raw[key], known[key]?.kind ?? "text")}`),
  ];
  return lines.map((line, i) => `${i === 0 ? "- " : "  "}${line}`);
}

/** A value after its key. */
function block(value: unknown, kind: KindName): string {
  return typeof value === "string" ? scalar(value, kind) : flow(value);
}

/** Kinds of which a number is not text that looks like one. */
const TEXTS: ReadonlySet<KindName> = new Set([
  "text",
  "file",
  "place",
  "memory",
  "variable",
  "buffer",
  "irq",
]);
/** Text that YAML takes as it is, where no brackets are around it. */
const PLAIN =
  /^(?:[A-Za-z_]|\$\{|\d+[A-DF-Za-df-z])(?:[\w .+\-/[\]{}$()*<>|&^~!=,]*[\w.+\-/\]})])?$/;
/** The same within brackets or braces. */
const PLAIN_IN_FLOW = /^(?:[A-Za-z_]|\d+[A-DF-Za-df-z])(?:[\w .+\-/]*[\w.+\-/])?$/;
const KEYWORD = /^(?:null|true|false|~)$/i;

function scalar(text: string, kind: KindName): string {
  if (YAML_INTEGER.test(text)) return TEXTS.has(kind) ? quoted(text) : text;
  return PLAIN.test(text) && !KEYWORD.test(text) ? text : quoted(text);
}

function flow(value: unknown): string {
  if (value === null || value === undefined) return "null";
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (typeof value === "bigint") return number(value);
  if (typeof value === "object") {
    const pairs = Object.entries(value).map(([key, each]) => `${flow(key)}: ${flow(each)}`);
    return pairs.length === 0 ? "{}" : `{ ${pairs.join(", ")} }`;
  }
  if (typeof value !== "string") return String(value);
  return PLAIN_IN_FLOW.test(value) && !KEYWORD.test(value) ? value : quoted(value);
}

/** Small numbers in decimal, as they are counts mostly. */
function number(value: bigint): string {
  return value <= 9n ? String(value) : hex(value);
}

/** JSON's strings are YAML's, but for characters that only YAML ends lines at. */
function quoted(text: string): string {
  return JSON.stringify(text).replaceAll(
    /[\u007f-\u009f\u2028\u2029\ufeff]/g,
    (character) => `\\u${hexDigits(character.charCodeAt(0), 4)}`,
  );
}
