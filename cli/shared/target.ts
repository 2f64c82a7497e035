/**
 * Places on a device that the command line names.
 *
 * @module
 */

import { Option } from "@commander-js/extra-typings";
import { type Address, parseAddress, resolveAddress } from "../../lib/client/address.ts";
import type { Device } from "../../lib/client/device.ts";
import type { Region } from "../../lib/client/region.ts";
import type { Width } from "../../lib/client/info.ts";
import type { PlaceParser } from "./map.ts";
import { readSize } from "../../lib/text/size.ts";
import { hex } from "../../lib/text/hex.ts";
import { plural } from "../../lib/text/plural.ts";

/** A place on a connected device. */
export interface Target {
  /** As it was written. */
  readonly text: string;
  /** The region that it is in. */
  readonly region: Region;
  /** Bytes from the region's start. */
  readonly offset: number;
}

/** The form of an address, for help texts. */
export const ADDRESS_HELP =
  "An address is REGION+OFFSET.WIDTH, as bar0+0x1c.l. The region is bar0 to bar5, rom, config, " +
  "vga or an index; a capability, as CAP_MSIX+2.w or ECAP_AER; or a register of the " +
  "configuration space, as COMMAND, with setpci's names. The width is .b, .w, .l or .q: 1, 2, 4 " +
  "or 8 bytes; .l if there is none.";

/** The form of a range of a region, for helps. */
export const RANGE_HELP =
  "bar0+0x100..0x200 is a range of it, bar0+0x100.. its rest; or a register: its bytes";

/** `--via` */
export function viaOption() {
  return new Option("--via <way>", "only through mapped memory, or only by message")
    .choices(["map", "message"]);
}

/** A region, or a range of one. */
export interface RegionRange extends Address {
  /** The offset behind the last byte of a range; undefined: the end of the region. */
  readonly end?: number;
  /** Bytes of a range that is a register; its `end` is known once its capability is found. */
  readonly size?: number;
}

/**
 * Reads what {@linkcode parseRegion} does, or a register: its bytes.
 *
 * @param place reads addresses, and may know what names stand for
 * @throws {SyntaxError} if it is neither
 * @throws {RangeError} if the range ends before it begins, or no map has such a register
 */
export function parseRegionOrRegister(text: string, place: PlaceParser): RegionRange {
  try {
    return parseRegion(text);
  } catch (error) {
    if (/^(?:bar[0-5]|rom|config|vga|(?:region)?\d+)\b(?!.*\.[bwlq]$)/i.test(text)) throw error;
    const { named: _, ...address } = place(text);
    if (address.width === undefined) throw error;
    return { ...address, size: address.width };
  }
}

/**
 * Reads the name of a region, with a range if not all of it is meant, and with a width of access if
 * that matters. Examples: "bar2", "bar0.l", "bar0+0x100..0x200", "bar2+4K..", "bar0..256.l".
 *
 * @throws {SyntaxError} if it is none
 * @throws {RangeError} if the range ends before it begins
 */
export function parseRegion(text: string): RegionRange {
  const form = /^(bar[0-5]|rom|config|vga|(?:region)?\d+)((?:\+(\w+))?\.\.(\w+)?)?(\.[bwlq])?$/i;
  const match = form.exec(text);
  const [, name, range, startText, endText, width = ""] = match ?? [];
  const bounds = range === undefined ? [0n, undefined] : [
    startText === undefined ? 0n : readSize(startText),
    endText === undefined ? undefined : readSize(endText),
  ];
  const [start, end] = bounds;
  const isRange = start !== undefined && (endText === undefined || end !== undefined);
  if (match === null || !isRange) {
    throw new SyntaxError(
      `"${text}" is no region; write bar0 to bar5, rom, config, vga or an index, ` +
        "then .b, .w, .l or .q if the width of accesses matters, or a range, as bar0+0x100..0x200",
    );
  }
  if (end !== undefined && end <= start) {
    throw new RangeError(`${text} ends where it begins or before; write it as bar0+0x100..0x200`);
  }
  return {
    ...parseAddress(`${name}${width}`),
    text,
    offset: Number(start),
    ...(end !== undefined && { end: Number(end) }),
  };
}

/**
 * Finds the place of an address, asking what it takes to know.
 *
 * @throws {RemoteError} if the device knows no such region
 * @throws {RangeError} if it has no such capability
 */
export async function findTarget(device: Device, address: Address): Promise<Target> {
  const { region, offset } = await resolveAddress(device, address);
  // Whoever writes a number may mean a device that is not on the PCI bus: it says so itself.
  if (/^(region)?\d/i.test(address.text)) await device.info();
  await device.regionInfo(region); // so that opening it does not block
  return { text: address.text, region: device.region(region), offset };
}

/** A range of a region of a connected device. */
export interface RangeTarget {
  /** The region. */
  readonly region: Region;
  /** Bytes from the region's start. */
  readonly start: number;
  /** The offset behind the last byte. */
  readonly end: number;
}

/**
 * Finds a region, which must be there, and the range that is meant of it.
 *
 * @throws as {@linkcode findTarget}
 * @throws {TypeError} if the device does not have it
 * @throws {RangeError} if the range is not inside it, or begins at no multiple of the width
 */
export async function findRange(device: Device, address: RegionRange): Promise<RangeTarget> {
  const { region, offset: start } = await findTarget(device, address);
  const { size, width = 1 } = address;
  const end = address.end ?? (size === undefined ? region.size : start + size);
  assertAligned(region, start, width);
  region.via(start, Math.max(0, end - start)); // throws if it is absent, or not all there
  return { region, start, end };
}

/** @throws {RangeError} if an offset is no multiple of the width of its accesses */
export function assertAligned(region: Region, offset: number, width: Width): void {
  if (offset % width === 0) return;
  throw new RangeError(
    `Cannot access ${plural(width, "byte")} of ${region.name} at ${hex(offset)}: ` +
      `the offset is not a multiple of ${width}`,
  );
}
