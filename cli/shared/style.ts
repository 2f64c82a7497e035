/**
 * True if and how text is coloured.
 *
 * @module
 */

import * as colours from "@std/fmt/colors";

/** Gives text an appearance. */
export type Paint = (text: string) => string;

/** The appearances that there are. */
export interface Style {
  /** Headings. */
  readonly bold: Paint;
  /** Text that matters less. */
  readonly dim: Paint;
  /** Failures. */
  readonly red: Paint;
  /** Text that came in. */
  readonly green: Paint;
  /** Text that is odd. */
  readonly yellow: Paint;
  /** Text that went out. */
  readonly cyan: Paint;
}

const asIs: Paint = (text) => text;

/** Text as it is: for pipes, files, and people who asked for it. */
export const PLAIN: Style = {
  bold: asIs,
  dim: asIs,
  red: asIs,
  green: asIs,
  yellow: asIs,
  cyan: asIs,
};

/** With colours. */
export const COLOURED: Style = colours;

/** The facts that decide about colours. */
export interface ColourFacts {
  /** True if the text goes to a terminal. */
  readonly isTerminal: boolean;
  /** True if NO_COLOR is set. */
  readonly noColour: boolean;
  /** A variable of the environment, as far as it may be looked at. */
  env(name: string): string | undefined;
}

/**
 * Colours are for terminals that know them. FORCE_COLOR comes before NO_COLOR, as in Deno and Node.
 */
export function chooseStyle({ isTerminal, noColour, env }: ColourFacts): Style {
  const force = env("FORCE_COLOR");
  if (force !== undefined && force !== "") return force === "0" ? PLAIN : COLOURED;
  return isTerminal && !noColour && env("TERM") !== "dumb" ? COLOURED : PLAIN;
}

// deno-lint-ignore no-control-regex -- that is what they begin with
const COLOUR = /\x1b\[[\d;]*m/g;

/** Text without the colours and the like that it has for a terminal. */
export function withoutColours(text: string): string {
  return text.replaceAll(COLOUR, "");
}
