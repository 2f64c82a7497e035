/**
 * Text of strangers, safe to show.
 *
 * @module
 */

import { hexDigits } from "../../lib/text/hex.ts";

/**
 * Controls of ASCII and Latin 1, which start terminal sequences. Also characters that show nothing
 * or turn the direction of writing, separators of lines and paragraphs, and halves of a surrogate
 * pair.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** The text on one line, with what a terminal would act upon written as `\u001b`. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escaped);
}

/** A character as JSON and JavaScript write it in a string: `\u` and four digits a code unit. */
export function escaped(character: string): string {
  const units = Array.from({ length: character.length }, (_, i) => character.charCodeAt(i));
  return units.map((unit) => `\\u${hexDigits(unit, 4)}`).join("");
}
