/**
 * The word that was probably meant.
 *
 * @module
 */

/** Longer words are compared with nothing: they are no mistyped words. */
const MAX_LENGTH = 64;

/**
 * Finds the one of `words` that differs least from `word`, or undefined if all are too different. A
 * third of the letters may be wrong, one at least, but not all. Upper and lower case are the same.
 *
 * @example
 * ```ts
 * import { nearest } from "./nearest.ts";
 *
 * if (nearest("widht", ["name", "width", "offset"]) !== "width") throw new Error();
 * ```
 */
export function nearest(word: string, words: Iterable<string>): string | undefined {
  if (word.length > MAX_LENGTH) return undefined;
  let best: string | undefined;
  let least = Math.min(Math.max(1, Math.floor(word.length / 3)) + 1, word.length);
  for (const each of words) {
    if (Math.abs(each.length - word.length) >= least) continue;
    const distance = distanceBetween(word.toLowerCase(), each.toLowerCase());
    if (distance < least) [best, least] = [each, distance];
  }
  return best;
}

/** Counts the letters that are added, left out, replaced, or swapped with their neighbour. */
function distanceBetween(a: string, b: string): number {
  let [beforeLast, last]: [number[], number[]] = [[], []];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    [beforeLast, last, row] = [last, row, [i]];
    for (let j = 1; j <= b.length; j++) {
      const differs = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + differs);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, beforeLast[j - 2]! + 1);
      }
      row.push(least);
    }
  }
  return row[b.length]!;
}
