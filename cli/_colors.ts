/**
 * Colours of a terminal, with the names of `@std/fmt/colors`.
 *
 * Six codes are written out here rather than taken from a package. Packages look at the environment
 * while they load, which in Deno asks the user for a permission.
 *
 * @module
 */

function sgr(open: number, close: number): (text: string) => string {
  return (text) => `\x1b[${open}m${text}\x1b[${close}m`;
}

/** Bold. */
export const bold: (text: string) => string = sgr(1, 22);
/** Less bright than the rest. */
export const dim: (text: string) => string = sgr(2, 22);
/** Red. */
export const red: (text: string) => string = sgr(31, 39);
/** Green. */
export const green: (text: string) => string = sgr(32, 39);
/** Yellow. */
export const yellow: (text: string) => string = sgr(33, 39);
/** Cyan. */
export const cyan: (text: string) => string = sgr(36, 39);
