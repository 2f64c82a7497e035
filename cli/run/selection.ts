/**
 * The steps of a session that are done.
 *
 * @module
 */

import type { Session } from "../../lib/session/model.ts";
import { nearest } from "../../lib/text/nearest.ts";

/**
 * Finds the step that `--from` or `--until` means: by its number, or by its name.
 *
 * @returns its index
 * @throws {RangeError} if there is none
 */
export function findStep({ file, steps }: Session, text: string): number {
  if (/^\d+$/.test(text)) {
    const index = Number(text) - 1;
    if (index >= 0 && index < steps.length) return index;
    throw new RangeError(`${file} has the steps 1 to ${steps.length}, not ${text}`);
  }
  const same = (name: string | undefined) => name?.toLowerCase() === text.toLowerCase();
  const index = steps.findIndex(({ name }) => same(name));
  if (index >= 0) return index;
  const names = steps.flatMap(({ name }) => name === undefined ? [] : [name]);
  const meant = nearest(text, names);
  throw new RangeError(
    `${file} has no step named "${text}"` +
      (meant !== undefined ? `; did you mean "${meant}"?` : "; a number from 1 works as well"),
  );
}
