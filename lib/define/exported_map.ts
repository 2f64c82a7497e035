/**
 * The register map of a device that was made: what its regions declare, as one map for clients.
 *
 * @module
 */

import { identifier, MAX_NAME, type Register, type RegisterMap } from "../registers/map.ts";
import type { ServedDevice } from "../server/served_device.ts";
import { DeviceFlags } from "../wire/device.ts";
import { regionNameOf } from "../wire/region.ts";
import { hasReview } from "./review.ts";

/** A register, and its name with the region ahead. */
interface Placed {
  readonly register: Register;
  readonly fullName: string;
}

/**
 * Collects the registers that a client of the device can reach, each at its place in its region.
 * Registers of the same name in several regions have the region ahead, as `BAR2_CTRL`. Those in one
 * region have the offset behind as well, as `BAR2_CTRL_100`.
 *
 * @param name of the map; characters that a name can't have become `_`
 * @returns undefined if the device declares no registers
 */
export function exportedMap(
  device: ServedDevice,
  name: string,
  title?: string,
): RegisterMap | undefined {
  const isPci = (device.flags & DeviceFlags.PCI) !== 0;
  const placed = [...device.regions.entries()].flatMap(([index, region]): Placed[] => {
    const where = regionNameOf(index, isPci).replace(" ", ""); // as addresses have it
    const parts = hasReview(region) ? region.review().parts : [];
    return parts.flatMap(({ register, offset }) =>
      register === undefined ? [] : [{
        register: { ...register, region: where, offset },
        fullName: `${where.toUpperCase()}_${register.name}`,
      }]
    );
  });
  if (placed.length === 0) return undefined;
  const names = uniqueNames(placed);
  return {
    name: identifier(name),
    ...(title !== undefined && { title }),
    registers: placed.map(({ register }, i) => ({ ...register, name: names[i]! })),
  };
}

/** Names that no two registers have, whatever the case of their letters. */
function uniqueNames(placed: readonly Placed[]): string[] {
  const own = Map.groupBy(placed, ({ register }) => register.name.toLowerCase());
  const full = Map.groupBy(placed, ({ fullName }) => fullName.toLowerCase());
  const isAlone = (all: typeof own, name: string) => all.get(name.toLowerCase())!.length === 1;
  const taken = new Set([...own.keys()].filter((name) => isAlone(own, name)));
  return placed.map(({ register: { name, offset }, fullName }) => {
    if (isAlone(own, name)) return name;
    const better = isAlone(full, fullName) ? fullName : `${fullName}_${offset.toString(16)}`;
    let chosen = shortened(better, "");
    for (let i = 2; taken.has(chosen.toLowerCase()); i++) chosen = shortened(better, `_${i}`);
    taken.add(chosen.toLowerCase());
    return chosen;
  });
}

function shortened(name: string, end: string): string {
  return name.slice(0, MAX_NAME - end.length) + end;
}
