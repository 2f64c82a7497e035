/**
 * `--region` of `vfu map import`: the place of a peripheral's registers in a device.
 *
 * @module
 */

import { isRegion } from "../../lib/registers/check_regions.ts";
import type { Placement } from "../../lib/registers/import/finish.ts";
import { readInteger } from "../../lib/text/integer.ts";

/**
 * Reads the place of the registers: a region, and perhaps bytes from its start.
 *
 * @throws {SyntaxError} if it is none
 */
export function parsePlacement(text: string): Placement {
  const [region = "", rest] = text.split("+", 2);
  const offset = rest === undefined ? 0n : readInteger(rest);
  if (isRegion(region) && offset !== undefined && offset <= Number.MAX_SAFE_INTEGER) {
    return { region, offset: Number(offset) };
  }
  throw new SyntaxError(`"${text}" is no place of registers; write it as bar0 or bar0+0x1000`);
}
