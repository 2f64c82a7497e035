/**
 * File descriptors on the command line.
 *
 * @module
 */

/**
 * The number of a descriptor that this process inherited.
 *
 * @throws {RangeError} if the text is none
 */
export function parseFd(text: string): number {
  if (!/^\d{1,7}$/.test(text)) {
    throw new RangeError(`"${text}" is not the number of a file descriptor`);
  }
  return Number(text);
}
