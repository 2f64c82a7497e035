/**
 * A word of the session language: its form, and the way in which its steps are read.
 *
 * @module
 */

import type { Path } from "../../yaml/document.ts";
import type { Expression, Place, Step, StepCommon } from "../model.ts";
import type { Arguments, KindName } from "./arguments.ts";
import type { Parts } from "./reading.ts";

/** A place that a step accesses. */
export interface Extent {
  /** The place. */
  readonly place: Place;
  /** Bytes from there, if it is more than one access. */
  readonly length?: Expression;
}

/** Reads the steps in a step, as those of `repeat`. */
export type ParseInner = (raws: readonly unknown[], path: Path) => Step[];

/** A word that a step begins with. All that is known of it before a run is here. */
export interface Word<S extends Step = Step> {
  /** The description in a line. */
  readonly description: string;
  /** The kind of value that follows the word. */
  readonly subject: KindName;
  /** The argument that a line of the shell may have without its key. */
  readonly main?: string;
  /** Its arguments, besides those of every step. */
  readonly arguments: Arguments;
  /**
   * Reads a step that has the right form. Mistakes are noted in `parts`.
   *
   * @returns the step, or several; undefined only after a mistake
   */
  parse(parts: Parts, common: StepCommon, parseInner: ParseInner): S | readonly S[] | undefined;
  /** The places that a step accesses. They are compared with the device before the first step. */
  places(step: S): readonly Extent[];
}

/** The words of these steps. A word that is left out does not compile. */
export type Words<S extends Step> = { readonly [W in S["word"]]: Word<StepOf<S, W>> };

/** The steps, of several kinds, that begin with a word. */
type StepOf<S extends Step, W> = S extends Step ? W extends S["word"] ? S & { word: W } : never
  : never;

/** The places of a step that accesses none. */
export function nowhere(): readonly Extent[] {
  return [];
}
