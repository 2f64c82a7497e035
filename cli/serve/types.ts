/**
 * The types of a user's module, checked by Deno's own checker in a process of its own.
 *
 * @module
 */

import { pathOf } from "../shared/file_url.ts";
import { shellWord } from "../../lib/text/shell_word.ts";
import { blame, type Place } from "./blame.ts";

/** A mistake that the checker found. */
export interface TypeMistake {
  /** The place; undefined if the checker does not say. */
  readonly place: Place | undefined;
  /** The mistake, with TypeScript's number of it. */
  readonly message: string;
  /** Why, a line each. */
  readonly details: readonly string[];
}

/** The checker's result. */
export type TypesChecked =
  | { readonly isChecked: true; readonly mistakes: readonly TypeMistake[] }
  /** The types were not checked, for this reason. */
  | { readonly isChecked: false; readonly reason: string };

const ROOT = new URL("../../", import.meta.url);

/** The place where a mistake begins in the checker's output. */
const BEGIN = /^(?=TS\d+ \[ERROR\]: )/m;

/** The first line of a mistake, and the line that ends it. */
const HEAD = /^(TS\d+) \[ERROR\]: /;
const AT = /^ {4}at (?=[a-z]+:)/;

/**
 * Checks the types of a module, with vfu's settings, as `vfu serve` runs it. The checker takes
 * `--allow-run`.
 *
 * @param url of the module
 * @param signal ends the checker
 */
export async function checkTypes(url: URL, signal: AbortSignal): Promise<TypesChecked> {
  if (isUnchecked(url)) {
    const reason = "it is JavaScript; // @ts-check in its first line has the checker look at it";
    return { isChecked: false, reason };
  }
  const args = checkerArguments(url);
  const byHand = `by hand: deno ${args.map(shellWord).join(" ")}`;
  if (Deno.build.standalone) return { isChecked: false, reason: `this is no Deno; ${byHand}` };
  const program = await startable(Deno.execPath(), "deno");
  if (program === undefined) {
    return {
      isChecked: false,
      reason:
        `starting the checker takes a permission; run deno with --allow-run, or check ${byHand}`,
    };
  }
  const { code, stderr } = await new Deno.Command(program, {
    args,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "null",
    signal,
  }).output();
  if (code === 0) return { isChecked: true, mistakes: [] };
  const text = new TextDecoder().decode(stderr);
  const mistakes = text.split(BEGIN).filter((each) => HEAD.test(each)).map(readMistake);
  return { isChecked: true, mistakes: mistakes.length > 0 ? mistakes : [readFailure(text)] };
}

/** Tells whether the checker passes over a module: JavaScript that does not ask for it. */
function isUnchecked(url: URL): boolean {
  if (!/\.[cm]?jsx?$/.test(url.pathname)) return false;
  try {
    return !/^\s*\/\/\s*@ts-check\b/m.test(Deno.readTextFileSync(url));
  } catch {
    return false; // the checker says why
  }
}

/** The first of some programs that may be started without a question to the user. */
async function startable(...programs: readonly string[]): Promise<string | undefined> {
  for (const command of programs) {
    const { state } = await Deno.permissions.query({ name: "run", command });
    if (state === "granted") return command;
  }
}

/**
 * The lock file of vfu says nothing of what a module imports. A path would be taken for a pattern:
 * where `?` or `[` is in it, nothing is checked.
 */
function checkerArguments({ href }: URL): string[] {
  const isHere = ROOT.protocol === "file:";
  const config = isHere ? [`--config=${pathOf(new URL("deno.json", ROOT).pathname)}`] : [];
  return [
    "check",
    "--quiet",
    "--no-lock",
    ...config,
    href,
  ];
}

/** A mistake: its sentences, the line of the file, a line that marks it, and the place. */
function readMistake(text: string): TypeMistake {
  const lines = text.split("\n");
  const end = lines.findIndex((line) => AT.test(line));
  const said = end < 0 ? lines : lines.slice(0, end);
  const isMarked = /^\s*(?:~+|\^)\s*$/.test(said.at(-1) ?? "");
  const [first = "", ...details] = isMarked ? said.slice(0, -2) : said;
  return {
    place: end < 0 ? undefined : placeIn(lines[end]!),
    message: first.replace(HEAD, "$1: "),
    details: details.map((line) => line.trim()).filter((line) => line !== ""),
  };
}

/** Why the checker could not begin: a module that can't be read, or not be found. */
function readFailure(text: string): TypeMistake {
  const { place, message } = blame(new Error(text.split(/\n\s*\n/)[0]!.replace(/^error: /, "")));
  return { place, message: message.split("\n")[0]!, details: [] };
}

function placeIn(line: string): Place | undefined {
  return blame(new Error(line)).place;
}
