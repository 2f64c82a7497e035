/**
 * Mistakes that a device may be made with, and that its author will want to know of.
 *
 * @module
 */

import type { ServedDevice, ServedRegion } from "../server/served_device.ts";
import { DeviceFlags } from "../wire/device.ts";
import { regionNameOf } from "../wire/region.ts";
import type { DeviceRegion } from "./device_region.ts";

/**
 * Looks for registers that no access reaches.
 *
 * @returns a sentence for each, which begins with region and path
 */
export function reviewDevice(device: ServedDevice): string[] {
  return reviewRegions(device).map(({ text }) => text);
}

/** The same, each with its region. */
export function reviewRegions(device: ServedDevice): { text: string; region: ServedRegion }[] {
  return [...device.regions.entries()].flatMap(([index, region]) => {
    const { unreachable = [] } = hasReview(region) ? region.review() : {};
    const name = regionNameOf(index, (device.flags & DeviceFlags.PCI) !== 0);
    return unreachable.map((each) => ({ text: `${name}: ${each}`, region: region! }));
  });
}

/** Tells whether the contents of a region are known by name. */
export function hasReview(
  region: ServedRegion | undefined,
): region is DeviceRegion & Required<Pick<DeviceRegion, "review">> {
  return region !== undefined && "review" in region && typeof region.review === "function";
}
