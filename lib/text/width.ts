/**
 * Widths of accesses as places have them: `bar0+0x14.l`.
 *
 * @module
 */

/** The letter of each width, which is in bytes. */
export const WIDTH_LETTERS = { 1: "b", 2: "w", 4: "l", 8: "q" } as const;

const WIDTHS = ([1, 2, 4, 8] as const).map((width) => [WIDTH_LETTERS[width], width] as const);

/** The width in bytes that a letter stands for, in either case; undefined for other text. */
export function widthOfLetter(letter: string): keyof typeof WIDTH_LETTERS | undefined {
  return WIDTHS.find(([each]) => each === letter.toLowerCase())?.[1];
}
