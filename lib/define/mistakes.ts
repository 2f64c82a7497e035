/**
 * Mistakes in a device as its author wrote it: collected, and thrown all at once, each with its
 * place.
 *
 * @module
 */

import { nearest } from "../text/nearest.ts";
import { keepOrigin, originOf } from "./origin.ts";

/** Names that a message lists at most. */
const MAX_LISTED = 12;

/**
 * A device, region or map can't be made as it is written. `mistakes` has all that is wrong, each
 * with the path of its place, as `registers.DATA.reed: unknown; did you mean "read"?`. With several
 * of them the message has a line for each.
 */
export class DefinitionError extends TypeError {
  /** The name of the class. */
  override readonly name = "DefinitionError";
  /** The sentence's beginning, as "Cannot define the device gpio". */
  readonly doing: string;
  /** The mistakes, one at least. */
  readonly mistakes: readonly string[];
  /** For each of them an error whose stack has its place, if that is known. */
  readonly origins: readonly (Error | undefined)[];

  /**
   * Has all mistakes that were found.
   *
   * @param doing what can't be done, as "Cannot define the device gpio"
   * @param mistakes each with its place; one at least
   * @param origins errors whose stacks have the places of the mistakes, as far as they are known
   */
  constructor(
    doing: string,
    mistakes: readonly string[],
    origins: readonly (Error | undefined)[] = [],
  ) {
    super(
      mistakes.length === 1
        ? `${doing}: ${mistakes[0]}`
        : [`${doing}: ${mistakes.length} mistakes`, ...mistakes].join("\n  "),
    );
    this.doing = doing;
    this.mistakes = mistakes;
    this.origins = origins;
  }
}

/** Steps of which each may find a mistake: all are done, and the mistakes are thrown together. */
export class Attempts {
  readonly #errors: Error[] = [];

  /**
   * Does a step.
   *
   * @param at the part of the device that the step is about, if it is about one
   */
  try(step: () => void, at?: object): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof RangeError || error instanceof DefinitionError)) throw error;
      const origin = at && originOf(at);
      if (origin !== undefined) keepOrigin(error, origin);
      this.#errors.push(error);
    }
  }

  /**
   * Throws what the steps have thrown, if anything.
   *
   * @throws {RangeError} the mistake, if it is the only one
   * @throws {DefinitionError} with all of them
   */
  throwAny(doing: string): void {
    const [first, ...more] = this.#errors;
    if (first === undefined) return;
    if (more.length === 0) throw first;
    const all = this.#errors.flatMap((error) =>
      (error instanceof DefinitionError ? error.mistakes : [error.message])
        .map((text) => [text, originOf(error)] as const)
    );
    throw new DefinitionError(doing, all.map(([text]) => text), all.map(([, origin]) => origin));
  }
}

/** A check of a value by its name, and the words for a right one. */
export interface Form {
  /** True if it is right. */
  readonly accepts: (value: unknown) => boolean;
  /** The words for a right value, as "a function". */
  readonly what: string;
  /** True if it has to be there. */
  readonly isNeeded?: boolean;
}

/** A form for each name of an interface. */
export type Forms<I> = Readonly<Record<keyof I, Form>>;

/** A form of any value. */
export const ANY: Form = { accepts: () => true, what: "anything" };
/** A hook. */
export const FUNCTION: Form = {
  accepts: (value) => typeof value === "function",
  what: "a function",
};
/** True or false. */
export const BOOLEAN: Form = {
  accepts: (value) => typeof value === "boolean",
  what: "true or false",
};
/** A number; its bounds are checked where it is used. */
export const NUMBER: Form = {
  accepts: (value) => typeof value === "number",
  what: "a number",
};
/** A text. */
export const TEXT: Form = { accepts: (value) => typeof value === "string", what: "a text" };
/** A list, whose members are checked elsewhere. */
export const LIST: Form = { accepts: Array.isArray, what: "a list" };
/** An object, whose members are checked elsewhere. */
export const OBJECT: Form = { accepts: isObject, what: "an object" };

/** A whole number from `min` to `max`. */
export function whole(min: number, max: number): Form {
  return {
    accepts: (value) => Number.isInteger(value) && value as number >= min && value as number <= max,
    what: `a whole number from ${min} to ${max}`,
  };
}

/** The same form, for a value that has to be there. */
export function needed(form: Form): Form {
  return { ...form, isNeeded: true };
}

/** One of some words. */
export function oneOf(...words: readonly string[]): Form {
  return {
    accepts: (value) => words.includes(value as string),
    what: words.map((word) => JSON.stringify(word)).join(" or "),
  };
}

/** Collects mistakes. */
export class Mistakes {
  readonly #all: string[] = [];

  /** Takes a mistake at a path. */
  add(path: string, problem: string): void {
    this.#all.push(path === "" ? problem : `${path}: ${problem}`);
  }

  /**
   * Looks for names of `object` that there are not, values of the wrong form, and what is missing.
   * An instance of a class may have more names: its own state.
   */
  check<I>(path: string, object: object, forms: Forms<I>): void {
    const at = (name: string) => path === "" ? name : `${path}.${name}`;
    const known: Readonly<Record<string, Form>> = forms;
    for (const name of isPlain(object) ? Object.keys(object) : []) {
      if (Object.hasOwn(known, name)) continue;
      this.add(at(name), `unknown; ${alternatives(name, Object.keys(known))}`);
    }
    for (const [name, { accepts, what, isNeeded }] of Object.entries(known)) {
      const value = (object as Record<string, unknown>)[name];
      if (value === undefined) {
        if (isNeeded) this.add(at(name), `missing; it takes ${what}`);
      } else if (!accepts(value)) {
        this.add(at(name), `${shown(value)}, not ${what}`);
      }
    }
  }

  /**
   * Throws what was collected, if anything was.
   *
   * @throws {DefinitionError} with all of it
   */
  throwAny(doing: string): void {
    if (this.#all.length > 0) throw new DefinitionError(doing, this.#all);
  }
}

/**
 * Checks the names and forms of options that a function takes.
 *
 * @throws {DefinitionError} with all that is wrong
 */
export function checkOptions<I>(
  doing: string,
  path: string,
  options: unknown,
  forms: Forms<I>,
): void {
  const mistakes = new Mistakes();
  if (isObject(options)) mistakes.check(path, options, forms);
  else mistakes.add(path, `${shown(options)}, not an object`);
  mistakes.throwAny(doing);
}

/**
 * Checks that an argument is a function: a mistake that would else show long after the call.
 *
 * @throws {TypeError} if it is none
 */
export function assertFunction(doing: string, value: unknown): void {
  if (typeof value === "function") return;
  const hint = value instanceof Promise ? "; write () => ahead of the call" : "";
  throw new TypeError(`${doing}: ${shown(value)}, not a function${hint}`);
}

/** Suggests a name in place of an unknown one. */
export function alternatives(name: string, known: readonly string[]): string {
  const meant = nearest(name, known);
  if (meant !== undefined) return `did you mean "${meant}"?`;
  if (known.length === 0) return "there are none";
  const more = known.length > MAX_LISTED ? ", …" : "";
  return `there are ${known.slice(0, MAX_LISTED).join(", ")}${more}`;
}

/** A value in a few words. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return "a list";
  if (value instanceof Promise) return "a promise";
  if (typeof value === "object") return "an object";
  if (typeof value === "function") return "a function";
  if (typeof value !== "string") return String(value);
  return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
}

/** Tells whether it has members. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Tells whether it is written as `{ ... }`, and is no instance of a class. */
export function isPlain(object: object): boolean {
  const prototype = Object.getPrototypeOf(object);
  return prototype === Object.prototype || prototype === null;
}
