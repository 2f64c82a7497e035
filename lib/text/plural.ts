/**
 * Numbers of things.
 *
 * @module
 */

/**
 * A number and its noun: "1 page", "2 pages".
 *
 * @param many the noun for all numbers but 1; `one` and an "s" if left out
 */
export function plural(count: number | bigint, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 || count === 1n ? one : many}`;
}
