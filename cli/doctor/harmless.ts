/**
 * Registers of a map that may be looked at.
 *
 * @module
 */

import { parseAddress } from "../../lib/client/address.ts";
import type { HarmlessRead } from "../../lib/client/diagnose/examination.ts";
import { isChangedByRead, type RegisterMap } from "../../lib/registers/map.ts";

/** Registers of a region that are enough. */
const MAX_READS = 8;

/** The first registers of each region of a map that a read does not change. */
export function harmlessReads({ registers }: RegisterMap): HarmlessRead[] {
  const counts = new Map<number, number>();
  return registers.flatMap((register) => {
    const region = indexOf(register.region);
    if (region === undefined || register.access === "wo" || isChangedByRead(register)) return [];
    const count = counts.get(region) ?? 0;
    if (count === MAX_READS) return [];
    counts.set(region, count + 1);
    return [{ region, offset: register.offset, width: register.width }];
  });
}

/** The index of a region; undefined for a capability, whose place the device alone knows. */
function indexOf(region: string): number | undefined {
  const { base } = parseAddress(region);
  return base.kind === "region" ? base.index : undefined;
}
