/**
 * The register map of a device that was made: what its regions declare, as one map for clients.
 *
 * @module
 */

import { identifier, type Register, type RegisterMap } from "../registers/map.ts";
import type { ServedDevice } from "../server/served_device.ts";
import { DeviceFlags } from "../wire/device.ts";
import { regionNameOf } from "../wire/region.ts";
import { hasReview } from "./review.ts";

/** A register, and the name under which no other one is. */
interface Placed {
  readonly register: Register;
  readonly fullName: string;
}

/**
 * Collects the registers that a client of the device can reach, each at its place in its region.
 * Registers of the same name in several regions have the region ahead, as `BAR2_CTRL`.
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
  const counts = Map.groupBy(placed, ({ register }) => register.name.toLowerCase());
  return {
    name: identifier(name),
    ...(title !== undefined && { title }),
    registers: placed.map(({ register, fullName }) =>
      counts.get(register.name.toLowerCase())!.length === 1
        ? register
        : { ...register, name: fullName }
    ),
  };
}
