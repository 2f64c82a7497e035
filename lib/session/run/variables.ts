/**
 * The variables of a session that runs.
 *
 * @module
 */

import { decodeField } from "../../registers/decode.ts";
import type { Register } from "../../registers/map.ts";
import { nearest } from "../../text/nearest.ts";
import { EvaluationError, type Scope } from "../expression.ts";

/** A variable. */
interface Variable {
  readonly value: bigint;
  /** The register that it was read from, whose fields are its parts. */
  readonly register?: Register;
}

/** Resolves the names in expressions: variables, and the extents of buffers. */
export class Variables implements Scope {
  readonly #all = new Map<string, Variable>();
  readonly #extents: ExtentOf;

  /**
   * No variables yet.
   *
   * @param extents finder of the extent of a buffer by its name
   */
  constructor(extents: ExtentOf) {
    this.#extents = extents;
  }

  /** The names, in the order in which they came to be. */
  get names(): string[] {
    return [...this.#all.keys()];
  }

  /** Tests for a variable of that name. */
  has(name: string): boolean {
    return this.#all.has(name);
  }

  /** Gives a variable a value. */
  set(name: string, value: bigint, register?: Register): void {
    this.#all.set(name, register === undefined ? { value } : { value, register });
  }

  /** The register that a variable was read from. */
  registerOf(name: string): Register | undefined {
    return this.#all.get(name)?.register;
  }

  /**
   * The value behind a name.
   *
   * @throws {EvaluationError} if there is none
   */
  number(name: string, part?: string): bigint {
    const variable = this.#all.get(name);
    if (variable === undefined) return this.#extent(name, part);
    if (part === undefined) return variable.value;
    const { register } = variable;
    if (register === undefined) {
      throw new EvaluationError(
        `${name} has no part ${part}: it was not read from a register that a map names`,
      );
    }
    const field = register.fields.find((each) => each.name.toLowerCase() === part.toLowerCase());
    if (field !== undefined) return decodeField(field, variable.value).value;
    throw new EvaluationError(
      `${register.name} has no field ${part}${
        meant(part, register.fields.map((each) => each.name))
      }`,
    );
  }

  #extent(name: string, part: string | undefined): bigint {
    const extent = this.#extents(name);
    if (extent === undefined) {
      throw new EvaluationError(`There is no variable ${name}${meant(name, this.#all.keys())}`);
    }
    const { iova, size } = extent;
    const parts = new Map([["iova", iova], ["size", size], ["end", iova + size]]);
    const value = part === undefined ? undefined : parts.get(part);
    if (value !== undefined) return value;
    throw new EvaluationError(
      `${name} is a buffer; write ${name}.iova, ${name}.size or ${name}.end`,
    );
  }
}

/** Finds the address and the size of a buffer. */
export type ExtentOf = (
  name: string,
) => { readonly iova: bigint; readonly size: bigint } | undefined;

function meant(word: string, words: Iterable<string>): string {
  const found = nearest(word, words);
  return found === undefined ? "" : `; did you mean ${found}?`;
}
