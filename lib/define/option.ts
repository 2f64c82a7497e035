/**
 * Options of a device: its user chooses them when the device is made, in TypeScript or by
 * `vfu serve --option name=value`.
 *
 * @module
 */

import { readInteger } from "../text/integer.ts";
import {
  alternatives,
  ANY,
  checkOptions,
  type Forms,
  LIST,
  needed,
  NUMBER,
  shown,
  TEXT,
} from "./mistakes.ts";
import { readSize } from "../text/size.ts";

/** One option of a device. Made by {@linkcode option}. */
export interface DeviceOption<T = unknown> {
  /** The kind of its values. */
  readonly kind: "integer" | "size" | "boolean" | "text" | "choice";
  /** The purpose of the option, in a few words. */
  readonly description: string;
  /** The form of its values, for a person: "a whole number from 1 to 32". */
  readonly form: string;
  /** The value if the caller chooses none; undefined if there is no such value. */
  readonly default: T;
  /** The words that it can be, of a choice. */
  readonly choices?: readonly string[];
  /**
   * Reads a value as a person writes it.
   *
   * @throws {RangeError} if the text is no value; the message describes one, as
   *   `"x" is not a whole number from 1 to 32`
   */
  parse(text: string): T;
  /**
   * Takes a value of TypeScript.
   *
   * @throws {RangeError} if it is none
   */
  check(value: unknown): T;
}

/** The options of a device, by their names. */
export type DeviceOptions = Readonly<Record<string, DeviceOption>>;

/** The options as a device receives them: a value for each. */
export type OptionValues<O extends DeviceOptions> = {
  readonly [N in keyof O]: O[N] extends DeviceOption<infer T> ? T : never;
};

/** The description that every option needs. */
export interface OptionDescription {
  /** The purpose of the option, in a few words. */
  description: string;
}

/** The value of an option for which the caller chooses none. */
export interface OptionDefault<T> {
  /** The value if the caller chooses none. */
  default: T;
}

/** Bounds of a number. */
export interface OptionBounds {
  /** The least that is possible; default 0. */
  min?: number;
  /** The most that is possible; default 2^53 - 1. */
  max?: number;
}

/** Makes options of one kind: undefined if there is no default and the caller chooses none. */
export interface OptionMaker<T, More = unknown> {
  (options: OptionDescription & OptionDefault<T> & More): DeviceOption<T>;
  (options: OptionDescription & More): DeviceOption<T | undefined>;
}

/** Makes options: see {@linkcode option}. */
export interface OptionMakers {
  /** A whole number; decimal, or 0x, 0o, 0b. */
  integer: OptionMaker<number, OptionBounds>;
  /** A number of bytes: 4096, 0x1000, 64K, 2MiB, 1G. */
  size: OptionMaker<number, OptionBounds>;
  /** Yes or no. */
  boolean: OptionMaker<boolean>;
  /** Any text: a name, a path. */
  text: OptionMaker<string>;
  /** One of a few words, the first of which is the default if nothing else is said. */
  choice<const C extends string>(
    options: OptionDescription & { choices: readonly [C, ...C[]]; default?: NoInfer<C> },
  ): DeviceOption<C>;
}

/**
 * Makes the options of a device. Without a `default` an option that the caller does not choose is
 * undefined.
 *
 * @example
 * ```ts
 * import { option } from "./option.ts";
 *
 * const pins = option.integer({ default: 8, min: 1, max: 32, description: "Its number of pins" });
 * const disk = option.text({ description: "The file that is its disk" });
 * const size = option.size({ default: 1 << 20, description: "How large it is" });
 * console.assert(pins.parse("0x10") === 16 && size.parse("64K") === 65536);
 * console.assert(disk.default === undefined);
 * ```
 */
export const option: OptionMakers = {
  integer: (given: OptionDescription & OptionBounds) => {
    checkMaker("integer", given, BOUNDED);
    const { min = 0, max = Number.MAX_SAFE_INTEGER, ...rest } = given;
    return make<number>({
      ...rest,
      kind: "integer",
      form: `a whole number ${rangeText(min, max)}`,
      read: (text) => toNumber(readInteger(text)),
      accepts: (value) => isWithin(value, min, max),
    });
  },

  size: (given: OptionDescription & OptionBounds) => {
    checkMaker("size", given, BOUNDED);
    const { min = 0, max = Number.MAX_SAFE_INTEGER, ...rest } = given;
    return make<number>({
      ...rest,
      kind: "size",
      form: `a size in bytes ${rangeText(min, max)}, as 4096, 64K or 2MiB`,
      read: (text) => toNumber(readSize(text)),
      accepts: (value) => isWithin(value, min, max),
    });
  },

  boolean: (rest: OptionDescription) => {
    checkMaker("boolean", rest, EVERY);
    return make<boolean>({
      ...rest,
      kind: "boolean",
      form: "true or false",
      read: (text) => BOOLEANS[text.toLowerCase()],
      accepts: (value) => typeof value === "boolean",
    });
  },

  text: (rest: OptionDescription) => {
    checkMaker("text", rest, EVERY);
    return make<string>({
      ...rest,
      kind: "text",
      form: "a text",
      read: (text) => text,
      accepts: (value) => typeof value === "string",
    });
  },

  choice: <const C extends string>(
    given: OptionDescription & { choices: readonly [C, ...C[]]; default?: NoInfer<C> },
  ) => {
    checkMaker("choice", given, { ...EVERY, choices: needed(LIST) });
    const { choices, ...rest } = given;
    return {
      ...make<C>({
        default: choices[0],
        ...rest,
        kind: "choice",
        form: `one of ${choices.join(", ")}`,
        read: (text) => choices.find((each) => each === text),
        accepts: (value) => choices.includes(value as C),
      }),
      choices,
    };
  },
};

/** The form that all options share. A default is checked by its own kind. */
const EVERY: Forms<OptionDescription & OptionDefault<unknown>> = {
  description: needed(TEXT),
  default: ANY,
};
const BOUNDED: Forms<OptionDescription & OptionDefault<unknown> & OptionBounds> = {
  ...EVERY,
  min: NUMBER,
  max: NUMBER,
};

function checkMaker<I>(kind: string, given: unknown, forms: Forms<I>): void {
  checkOptions(`Cannot make an option`, `option.${kind}`, given, forms);
}

interface Parts<T> extends OptionDescription {
  kind: DeviceOption["kind"];
  form: string;
  default?: T;
  read: (text: string) => T | undefined;
  accepts: (value: unknown) => boolean;
}

function make<T>({ kind, description, form, read, accepts, ...rest }: Parts<T>): DeviceOption<T> {
  const check = (value: unknown, name: string) => {
    if (!accepts(value)) throw new RangeError(`${name} is not ${form}`);
    return value as T;
  };
  if (rest.default !== undefined) check(rest.default, `The default ${String(rest.default)}`);
  return {
    kind,
    description,
    form,
    default: rest.default as T,
    parse: (text) => check(read(text), shown(text)),
    check: (value) => check(value, shown(value)),
  };
}

/**
 * A value for every option: those that were chosen, checked, and defaults.
 *
 * @throws {RangeError} for a value that is not possible, or an option that does not exist; the
 *   message has the nearest name
 */
export function optionValues<O extends DeviceOptions>(
  options: O,
  chosen: Readonly<Record<string, unknown>>,
): OptionValues<O> {
  for (const name of Object.keys(chosen)) {
    if (!Object.hasOwn(options, name)) throw new RangeError(unknownOption(name, options));
  }
  const values = Object.entries(options).map(([name, each]) => {
    const value = chosen[name];
    if (value === undefined) return [name, each.default];
    try {
      return [name, each.check(value)];
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new RangeError(`Option ${name}: ${error.message}`);
    }
  });
  return Object.fromEntries(values);
}

function unknownOption(name: string, options: DeviceOptions): string {
  const names = Object.keys(options);
  const others = names.length === 0 ? "the device has none" : alternatives(name, names);
  return `There is no option "${name}"; ${others}`;
}

const BOOLEANS: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  on: true,
  1: true,
  false: false,
  no: false,
  off: false,
  0: false,
};

/** A number that was read, as an option holds it. One that is too large is refused later. */
function toNumber(value: bigint | undefined): number | undefined {
  return value === undefined ? undefined : Number(value);
}

function isWithin(value: unknown, min: number, max: number): boolean {
  return Number.isSafeInteger(value) && value as number >= min && value as number <= max;
}

function rangeText(min: number, max: number): string {
  return max === Number.MAX_SAFE_INTEGER ? `from ${min}` : `from ${min} to ${max}`;
}
