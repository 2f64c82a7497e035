/**
 * The bits of a flags field by name.
 *
 * @module
 */

/** The names of the bits that are set, in lower case, in the order of the table. */
export function flagNames(flags: number, table: Readonly<Record<string, number>>): string[] {
  return Object.entries(table).filter(([, bit]) => flags & bit).map(([name]) => name.toLowerCase());
}

/** The bits that are set and have no name. */
export function unknownFlags(flags: number, table: Readonly<Record<string, number>>): number {
  return Object.values(table).reduce((rest, bit) => rest & ~bit, flags) >>> 0;
}
