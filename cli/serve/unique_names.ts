/**
 * Names of the devices of a command.
 *
 * @module
 */

/**
 * Numbers names that occur more than once, so that each line of the log says which device it means.
 *
 * @returns the names in their order: "demo", "demo-2", "demo-3"
 *
 * @example
 * ```ts
 * import { uniqueNames } from "./unique_names.ts";
 *
 * const names = uniqueNames(["demo", "gpio", "demo"]);
 * if (names.join() !== "demo,gpio,demo-2") throw new Error();
 * ```
 */
export function uniqueNames(names: readonly string[]): string[] {
  const counts = new Map<string, number>();
  return names.map((name) => {
    const count = (counts.get(name) ?? 0) + 1;
    counts.set(name, count);
    return count === 1 ? name : `${name}-${count}`;
  });
}
