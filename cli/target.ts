/**
 * Places on a device that the command line names.
 *
 * @module
 */

import { Option } from "@commander-js/extra-typings";
import { type Address, parseAddress, resolveAddress } from "../lib/address.ts";
import type { Device } from "../lib/device.ts";
import type { Region, Width } from "../lib/region.ts";

/** A place on a connected device. */
export interface Target {
  /** As it was written. */
  readonly text: string;
  /** The region that it is in. */
  readonly region: Region;
  /** Bytes from the region's start. */
  readonly offset: number;
}

/** Bytes of a register whose address does not say: most are that wide. */
export const DEFAULT_WIDTH: Width = 4;

/** What an address looks like, for helps. */
export const ADDRESS_HELP =
  "An address is REGION+OFFSET.WIDTH, as bar0+0x1c.l. The region is bar0 to bar5, rom, config, " +
  "vga or an index; a capability, as CAP_MSIX+2.w or ECAP_AER; or a register of the " +
  "configuration space, as COMMAND, with setpci's names. The width is .b, .w, .l or .q: 1, 2, 4 " +
  "or 8 bytes; .l if there is none.";

/** `--via` */
export function viaOption() {
  return new Option("--via <way>", "only through mapped memory, or only by message")
    .choices(["map", "message"]);
}

/**
 * Reads the name of a whole region, with a width of access if one matters: "bar2", "bar0.l".
 *
 * @throws {SyntaxError} if it is none
 */
export function parseRegion(text: string): Address {
  if (!/^(bar[0-5]|rom|config|vga|\d+)(\.[bwlq])?$/i.test(text)) {
    throw new SyntaxError(
      `"${text}" is no region; write bar0 to bar5, rom, config, vga or an index, ` +
        "then .b, .w, .l or .q if the width of accesses matters",
    );
  }
  return parseAddress(text);
}

/**
 * Finds the place of an address, asking what it takes to know.
 *
 * @throws {RemoteError} if the device knows no such region
 * @throws {RangeError} if it has no such capability
 */
export async function findTarget(device: Device, address: Address): Promise<Target> {
  const { region, offset } = await resolveAddress(device, address);
  await device.regionInfo(region); // so that opening it does not block
  return { text: address.text, region: device.region(region), offset };
}

/**
 * Finds a whole region, which must be there.
 *
 * @throws as {@linkcode findTarget}
 * @throws {TypeError} if the device does not have it
 */
export async function findRegion(device: Device, address: Address): Promise<Region> {
  const { region } = await findTarget(device, address);
  region.via(0, 0); // throws if it is absent
  return region;
}
