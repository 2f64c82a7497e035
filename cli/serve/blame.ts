/**
 * Errors of a user's module: the place in it, and what is wrong there.
 *
 * @module
 */

import { DefinitionError, isObject } from "../../lib/define/mistakes.ts";
import { originOf } from "../../lib/define/origin.ts";
import { causesOf, thrownFrames, thrownName, thrownText } from "../../lib/base/thrown.ts";
import { FileProblems, problemText } from "../../lib/yaml/problem.ts";
import { Detailed } from "../shared/failure.ts";
import { pathOf } from "../shared/file_url.ts";
import { withoutColours } from "../shared/style.ts";

/** A place in a file. */
export interface Place {
  /** Its path, or the URL if it is no file of this machine. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
}

/** An error of a module, taken apart. */
export interface Blame {
  /** The first place of the user's that the error names or has passed. */
  readonly place: Place | undefined;
  /** The mistake, in a sentence. */
  readonly message: string;
  /** The single mistakes, a sentence each. */
  readonly details: readonly string[];
  /** The stack without what is vfu's and the runtime's. All of it, if nothing else is there. */
  readonly frames: readonly string[];
}

/** A failure of a user's module. Its message begins with the place. */
export class ModuleError extends Detailed {
  /**
   * @param place in the module, if that is known
   * @param reason what is wrong, in a sentence
   */
  constructor(
    readonly place: Place | undefined,
    readonly reason: string,
    details: readonly string[] = [],
    frames: readonly string[] = [],
    options?: ErrorOptions,
  ) {
    super(place ? `${placeText(place)}: ${reason}` : reason, details, frames, options);
  }
}

/** The folder of vfu. */
const ROOT = new URL("../../", import.meta.url).href;

/** A line of a stack: "    at name (URL:LINE:COLUMN)". */
const FRAME = /^ +at (?:.*\(|async )?([a-z][a-z+]*:.*?):(\d+):(\d+)\)?$/;

/** A place with which the loader's messages end. */
const END = /\s+at ([a-z]+:\S+?):(\d+):(\d+)$/;

/** The version of a module, which `--watch` puts into its URL. */
const VERSION = /[?&]vfu=\d+/g;

/** Says what an error is about. */
export function blame(error: unknown): Blame {
  const text = withoutColours(thrownText(error)).replaceAll(VERSION, "").trimEnd();
  const end = END.exec(text);
  const all = framesOf(error);
  const own = all.filter(isUsers);
  const [, url, line, column] = end ?? FRAME.exec(own[0] ?? "") ?? [];
  return {
    place: url === undefined
      ? undefined
      : { file: fileOf(url), line: Number(line), column: Number(column) },
    ...saying(error, end === null ? text : text.slice(0, end.index)),
    frames: own.length > 0 ? own : all,
  };
}

/** Lists the causes of an error, a line each, with the frames of the user's behind it. */
export function causes(error: unknown): string[] {
  return causesOf(error).flatMap((cause) => [
    `caused by ${thrownName(cause)}: ${thrownText(cause)}`,
    ...blame(cause).frames,
  ]);
}

/** The place as an editor takes it: `FILE:LINE:COLUMN`. */
export function placeText({ file, line, column }: Place): string {
  return `${file}:${line}:${column}`;
}

/**
 * An error of a module as a failure whose first word is the place.
 *
 * @param doing what can't be done, as "Cannot load ./gpio.ts"
 * @param explain makes a sentence of the error's own
 * @param origin an error whose place holds if the other one has none
 */
export function blamed(
  doing: string,
  cause: unknown,
  { explain = (message) => message, origin }: {
    explain?: (message: string) => string;
    origin?: Error | undefined;
  } = {},
): ModuleError {
  const { message, details, frames, ...rest } = blame(cause);
  const place = rest.place ?? placeOf(isObject(cause) ? originOf(cause) : undefined) ??
    placeOf(origin);
  const reason = cause instanceof DefinitionError ? message : `${doing}: ${explain(message)}`;
  return new ModuleError(place, reason, details, frames, { cause });
}

/** The place of the user's that an error of `originOf` has. */
export function placeOf(origin: Error | undefined): Place | undefined {
  return origin && blame(origin).place;
}

/** The message in one line, and what comes in lines of its own. */
function saying(error: unknown, text: string): Pick<Blame, "message" | "details"> {
  if (error instanceof DefinitionError && error.mistakes.length > 1) {
    return {
      message: `${error.doing}: ${error.mistakes.length} mistakes`,
      details: error.mistakes,
    };
  }
  if (error instanceof FileProblems) {
    return { message: text, details: error.problems.map(problemText) };
  }
  if (error instanceof TypeError && error.constructor === TypeError && /\n +\|\n/.test(text)) {
    return { message: text.slice(0, text.indexOf("\n")), details: [] }; // the rest shows the line
  }
  return { message: text, details: [] };
}

/** The lines of the stack that follow the message. */
function framesOf(error: unknown): string[] {
  return thrownFrames(error).map((line) => withoutColours(line).replaceAll(VERSION, ""));
}

/** Tells whether a line of a stack is in neither vfu nor the runtime. */
function isUsers(frame: string): boolean {
  const url = FRAME.exec(frame)?.[1];
  if (url === undefined || /^(ext|node):/.test(url)) return false;
  return !isOwn(url);
}

/** Tells whether a URL is of a file of vfu. */
export function isOwn(url: string): boolean {
  return url.startsWith(ROOT) && /^(mod\.ts|(lib|cli|ffi)\/)/.test(url.slice(ROOT.length));
}

function fileOf(url: string): string {
  return url.startsWith("file://") ? pathOf(url) : url;
}
