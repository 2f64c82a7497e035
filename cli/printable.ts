/**
 * Text of strangers, safe to show.
 *
 * @module
 */

// Controls of ASCII and of Latin 1, which start terminal sequences; line separators; what turns the direction of writing.
// deno-lint-ignore no-control-regex
const UNPRINTABLE = /[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g;

/** The text on one line, with what a terminal would act upon written as `\u001b`. */
export function printable(text: string): string {
  return text.replace(
    UNPRINTABLE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
