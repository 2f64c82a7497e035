/**
 * Completions of a line of the shell.
 *
 * @module
 */

import { CAPABILITY_NAMES, EXTENDED_CAPABILITY_NAMES } from "../../pci/names.ts";
import { lookupRegister } from "../../registers/lookup.ts";
import { BASE_NAMES, BUFFER_PARTS, type Definitions } from "./definitions.ts";
import { IRQ_NAMES } from "./irq_selection.ts";
import { type Argument, COMMON_ARGUMENTS, DATA_KEYS, type KindName } from "./arguments.ts";
import { STEP_WORDS, WORDS } from "./words.ts";

/** Errors that servers answer with. */
const ERRORS = [
  "timeout",
  "EINVAL",
  "EIO",
  "EPERM",
  "ENOENT",
  "EFAULT",
  "ENOTSUP",
  "ENOSPC",
  "EACCES",
];

/** Words that fit, and the end of the line that each of them would take the place of. */
export interface Completions {
  /** In the order in which they are to be shown. */
  readonly words: readonly string[];
  /** The part of the word that is typed already; "" at the start of a word. */
  readonly part: string;
}

/**
 * Finds the words that the end of a line may become.
 * These are step words, keys, regions, registers and fields, buffers, and variables.
 *
 * @example
 * ```ts
 * import { completions } from "./completion.ts";
 * import { newDefinitions } from "./definitions.ts";
 *
 * const { words, part } = completions("write conf", newDefinitions());
 * if (words[0] !== "config" || part !== "conf") throw new Error();
 * ```
 */
export function completions(text: string, definitions: Definitions): Completions {
  const line = text.trimStart();
  const words = STEP_WORDS.filter((word) => word.startsWith(line));
  if (words.length > 0) return { words, part: line };
  const word = STEP_WORDS.toSorted((a, b) => b.length - a.length)
    .find((each) => line.startsWith(`${each} `));
  if (word === undefined) {
    // `PLACE=VALUE` is a line as well.
    const isPlace = !/[\s=]/.test(line);
    return choose(isPlace ? placeWords(line, definitions) : [], isPlace ? line : "");
  }
  const { subject, main, arguments: own } = WORDS[word];
  const [part, ...before] = line.slice(word.length + 1).split(/\s+/).toReversed();
  const done = before.toReversed();
  const known: Readonly<Record<string, Argument>> = { ...own, ...COMMON_ARGUMENTS };
  if (done.length === 0 && subject !== "nothing") {
    return choose(wordsOf(subject, part!, undefined, definitions), part!);
  }
  const pending = Object.keys(known).find((key) => `${" "}${done.join(" ")}`.endsWith(` ${key}`));
  if (pending !== undefined && known[pending]!.kind !== "flag") {
    return choose(wordsOf(known[pending]!.kind, part!, done[0], definitions), part!);
  }
  return keysOrMain({ done, part: part!, main, known }, definitions);
}

/** Keys, which may have several words, and the main argument right after the subject. */
function keysOrMain(
  { done, part, main, known }: {
    done: readonly string[];
    part: string;
    main: string | undefined;
    known: Readonly<Record<string, Argument>>;
  },
  definitions: Definitions,
): Completions {
  for (let count = Math.min(2, done.length - 1); count > 0; count--) {
    const start = [...done.slice(-count), part].join(" ");
    const words = Object.keys(known).filter((key) => key.startsWith(start));
    if (words.length > 0) return { words, part: start };
  }
  const keys = Object.keys(known).filter((key) => !done.includes(key));
  const values = done.length === 1 && main !== undefined
    ? wordsOf(known[main]!.kind, part, done[0], definitions)
    : [];
  return choose([...values, ...keys], part);
}

function choose(words: readonly string[], part: string): Completions {
  const lower = part.toLowerCase();
  return { words: words.filter((word) => word.toLowerCase().startsWith(lower)), part };
}

/**
 * The words of a kind.
 * `place` is the subject of the step, whose field may have values with names.
 */
function wordsOf(
  kind: KindName,
  part: string,
  place: string | undefined,
  definitions: Definitions,
): string[] {
  switch (kind) {
    case "place":
    case "placeOrValues":
      return placeWords(part, definitions);
    case "memory":
      return [...definitions.buffers.keys(), "dma+"];
    case "buffer":
      return [...definitions.buffers.keys()];
    case "variable":
    case "variableOrValues":
      return [...definitions.variables.keys()];
    case "irq":
      return [...IRQ_NAMES];
    case "value":
    case "values":
      return [...valueNames(place, definitions), ...expressionWords(definitions)];
    case "number":
    case "numbers":
      return expressionWords(definitions);
    case "errors":
      return ERRORS;
    case "access":
      return ["rw", "ro", "wo"];
    case "share":
      return ["memfd", "message"];
    case "data":
      return DATA_KEYS.map((key) => `{${key}:`);
    default:
      return [];
  }
}

/** Regions, capabilities, buffers, maps and registers; after a dot, what the word before it has. */
function placeWords(part: string, definitions: Definitions): string[] {
  const { maps, buffers } = definitions;
  const dot = part.lastIndexOf(".");
  if (dot >= 0) {
    const owner = part.slice(0, dot);
    const map = maps.find(({ name }) => name.toLowerCase() === owner.toLowerCase());
    const names = map?.registers.map(registerWord) ?? fieldNames(owner, definitions);
    return names.map((name) => `${owner}.${name}`);
  }
  return [
    ...buffers.keys(),
    ...maps.flatMap(({ registers }) => registers.map(registerWord)),
    ...maps.map(({ name }) => `${name}.`),
    ...BASE_NAMES,
    // A hundred capabilities are shown to those only who ask for one.
    ...(/^e?cap/i.test(part) ? capabilityWords() : []),
  ];
}

function registerWord(
  { name, array }: { readonly name: string; readonly array?: unknown },
): string {
  return array === undefined ? name : `${name}[`;
}

function capabilityWords(): string[] {
  return [CAPABILITY_NAMES, EXTENDED_CAPABILITY_NAMES].flatMap((table) =>
    Object.values(table).flatMap(({ setpciName }) => setpciName ?? [])
  );
}

function fieldNames(register: string, { maps }: Definitions): string[] {
  return find(maps, register)?.register.fields.map(({ name }) => name) ?? [];
}

/** The names of the values of a field. */
function valueNames(place: string | undefined, { maps }: Definitions): string[] {
  const { field } = (place === undefined ? undefined : find(maps, place)) ?? {};
  return [...field?.enum.values() ?? []].map((name) => name.replaceAll(/\s+/g, "-"));
}

/**
 * Finds a register; the index of an array element is ignored, as all elements have the same fields.
 */
function find(maps: Definitions["maps"], text: string) {
  try {
    return lookupRegister(maps, text.replace(/\[[^\]]*\]/, "[0]"));
  } catch {
    return undefined;
  }
}

function expressionWords({ variables, buffers }: Definitions): string[] {
  return [
    ...[...variables.keys()].map((name) => `\${${name}}`),
    ...[...buffers.keys()].flatMap((name) => BUFFER_PARTS.map((part) => `\${${name}.${part}}`)),
  ];
}
