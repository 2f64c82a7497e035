/**
 * URLs of files.
 *
 * @module
 */

/** Characters that are written as their bytes. */
const ENCODED = /(?:%[\da-f]{2})+/gi;

/**
 * The path of a file, from its URL or the path in that. A place in an error may have characters as
 * they are: what does not decode stays.
 *
 * @example
 * ```ts
 * import { pathOf } from "./file_url.ts";
 *
 * console.assert(pathOf("file:///home/me/c%23/100%.ts") === "/home/me/c#/100%.ts");
 * ```
 */
export function pathOf(url: string): string {
  return url.replace(/^file:\/\//, "").replaceAll(ENCODED, (encoded) => {
    try {
      return decodeURIComponent(encoded);
    } catch {
      return encoded;
    }
  });
}
