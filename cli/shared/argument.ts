/**
 * Values on the command line.
 *
 * @module
 */

import { InvalidArgumentError } from "@commander-js/extra-typings";

/** Makes a parser that throws into one for an option or argument, whose errors are wrong usage. */
export function argument<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
    }
  };
}

/** The same for an argument of which there are many. */
export function argumentList<T>(
  parse: (text: string) => T,
): (text: string, previous: T[] | undefined) => T[] {
  const parseOne = argument(parse);
  return (text, previous = []) => [...previous, parseOne(text)];
}
