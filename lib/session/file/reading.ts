/**
 * Reads the arguments of steps, from a file or from a line of the shell.
 *
 * @module
 */

import { parseDuration } from "../../text/duration.ts";
import type { Path } from "../../yaml/document.ts";
import { defineVariable, type Definitions, MissingName, type NewVariable } from "./definitions.ts";
import { EvaluationError } from "../expression.ts";
import { inline } from "./inline.ts";
import type { Expression, Session, Source } from "../model.ts";
import { parseNumber } from "./value.ts";

/** The source of steps, and the destination of mistakes. */
export interface Reading {
  /** The meaning of names. */
  readonly definitions: Definitions;
  /** Notes a mistake in the value at `path`. */
  report(path: Path, message: string, hint?: string): void;
  /** Notes a mistake in the key at `path`. */
  reportKey(path: Path, message: string, hint?: string): void;
  /** The number, word or text at `path`, as it is written. */
  written(path: Path): string | undefined;
  /** The position of the value at `path`. */
  source(path: Path): Source;
  /** The session that the `call` at `path` means. Mistakes are noted. */
  session(path: Path, file: string): Session | undefined;
  /** Notes that there is another step; false if there are too many. */
  countStep(path: Path): boolean;
}

/** The arguments of one step. What is wrong with them is noted, and read as undefined. */
export class Parts {
  /** True if there was no mistake. */
  isGood = true;
  /** Variables to which the step gives values. */
  readonly defined: string[] = [];
  /** The path of the step. */
  readonly path: Path;
  /** The arguments as they are written, by their keys. */
  readonly raw: Readonly<Record<string, unknown>>;
  /** The reading that the arguments are read with. */
  readonly reading: Reading;

  /** The arguments in `raw`. */
  constructor(raw: Readonly<Record<string, unknown>>, path: Path, reading: Reading) {
    this.raw = raw;
    this.path = path;
    this.reading = reading;
  }

  /** The meaning of names. */
  get definitions(): Definitions {
    return this.reading.definitions;
  }

  /** Tests for an argument. */
  has(key: string): boolean {
    return this.raw[key] !== undefined;
  }

  /** The value at `keys` on one line, as it is written; a long one is cut. */
  written(...keys: (string | number)[]): string {
    const value = this.#at(keys);
    // Text is as it is; of a number it is lost how it was written.
    return typeof value === "string" || (typeof value === "object" && value !== null)
      ? inline(value)
      : this.reading.written([...this.path, ...keys]) ?? inline(value);
  }

  /** The text at `keys`, or the number as it is written. */
  exact(...keys: (string | number)[]): string {
    const value = this.#at(keys);
    return typeof value === "string"
      ? value
      : this.reading.written([...this.path, ...keys]) ?? String(value);
  }

  #at(keys: readonly (string | number)[]): unknown {
    let value: unknown = this.raw;
    for (const key of keys) value = (value as Record<string | number, unknown> | undefined)?.[key];
    return value;
  }

  /** Notes what is wrong with the value at `keys`. */
  fail(keys: Path, message: string, hint?: string): undefined {
    this.isGood = false;
    this.reading.report([...this.path, ...keys], message, hint);
  }

  /** Gives up a step whose mistake is noted already. */
  abandon(): undefined {
    this.isGood = false;
  }

  /** Notes that the step gives a variable a value. */
  define(name: string, facts: NewVariable = {}): void {
    this.defined.push(name);
    defineVariable(this.definitions, name, facts);
  }

  /** Calls `read`; that it throws is a mistake in the value at `keys`. */
  attempt<T>(keys: Path, read: () => T, isKey = false): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!isMistake(error)) throw error;
      this.isGood = false;
      if (error instanceof MissingName) return undefined;
      const path = [...this.path, ...keys];
      if (isKey) this.reading.reportKey(path, error.message);
      else this.reading.report(path, error.message);
    }
  }

  /** Reads the argument `key`, if it is there. */
  optional<T>(key: string, read: (raw: unknown) => T): T | undefined {
    return this.has(key) ? this.attempt([key], () => read(this.raw[key])) : undefined;
  }

  /** Reads a number. */
  number(key: string): Expression | undefined {
    return this.optional(key, (raw) => parseNumber(raw, this.definitions));
  }

  /** Reads a time, in milliseconds. */
  duration(key: string): number | undefined {
    return this.optional(key, parseTime);
  }

  /** Reads true or false. */
  flag(key: string): boolean {
    return this.raw[key] === true;
  }
}

/** Tells a mistake in a file from a mistake in this program. */
export function isMistake(error: unknown): error is Error {
  return error instanceof SyntaxError || error instanceof RangeError ||
    error instanceof EvaluationError;
}

function parseTime(raw: unknown): number {
  const text = String(raw);
  if (/^\d+(\.\d+)?$/.test(text)) {
    throw new SyntaxError(`The time ${text} has no unit; write ${text}ms or ${text}s`);
  }
  try {
    return parseDuration(text);
  } catch (error) {
    throw error instanceof RangeError
      ? new RangeError(`"${text}" is too short or too long; it takes 1ms at least and 24h at most`)
      : new SyntaxError(`"${text}" is no time; write a number and a unit, as 500ms, 2s or 1m`);
  }
}
