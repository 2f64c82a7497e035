/**
 * Places whose contents a replay does not compare.
 *
 * @module
 */

import { lookupRegister, UnknownNameError } from "../../lib/registers/lookup.ts";
import type { RegisterMap } from "../../lib/registers/map.ts";
import type { IgnoredRange } from "../../lib/replay/compare.ts";
import { parseRegion } from "../shared/target.ts";
import { type Address, DEFAULT_WIDTH, parseAddress } from "../../lib/client/address.ts";

/**
 * Reads a place: "bar0+0x10", "bar0+0x10.q", "bar0+0x100..0x200", "bar2", or a register that a map
 * names.
 *
 * @throws {SyntaxError} if it is none
 * @throws {RangeError} if no map has it, or it is in a capability
 */
export function parseIgnored(text: string, maps: readonly RegisterMap[]): IgnoredRange {
  if (maps.length > 0) {
    try {
      return rangeOf(text, lookupRegister(maps, text));
    } catch (error) {
      if (!(error instanceof UnknownNameError)) throw error;
    }
  }
  if (/^(bar[0-5]|rom|config|vga|\d+)$|\.\./i.test(text)) {
    const { end = Infinity, ...address } = parseRegion(text);
    return { ...rangeOf(text, address), end };
  }
  return rangeOf(text, parseAddress(text));
}

function rangeOf(text: string, { base, offset, width = DEFAULT_WIDTH }: Address): IgnoredRange {
  if (base.kind !== "region") {
    throw new RangeError(`"${text}" has no fixed place; write it as config+0x40`);
  }
  return { region: base.index, start: offset, end: offset + width };
}
