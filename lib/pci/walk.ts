/**
 * The way along the two lists of capabilities, wherever the bytes are. In a copy of the space a
 * read is an access, on a device a message. Every pointer is the device's word, so each step is
 * checked. A list that leaves its bounds or returns to where it was ends there, with a note.
 *
 * @module
 */

import { HEADER, HEADER_CARDBUS, STATUS } from "./registers.ts";
import { hex } from "../text/hex.ts";

/** A read of configuration space, aligned to its width. */
export interface ConfigRead {
  /** Bytes from the start of the space. */
  readonly offset: number;
  /** Bytes to read. */
  readonly width: 1 | 2 | 4;
}

/** The place of a capability. */
export interface CapabilityPlace {
  /** Bytes from the start of the space. */
  readonly offset: number;
  /** Its id: one byte, or two if extended. */
  readonly id: number;
  /** The version of an extended capability. */
  readonly version?: number;
}

/** A list of capabilities, as far as it could be followed. */
export interface CapabilityPlaces {
  /** In the order of the list. */
  readonly places: readonly CapabilityPlace[];
  /** Why the list ends before its own end. */
  readonly notes: readonly string[];
}

/** A walk: it asks for reads one by one, is given their values, and returns what it found. */
export type CapabilityWalk = Generator<ConfigRead, CapabilityPlaces, number>;

/**
 * The layout in the header type; the other bit says whether there are more functions.
 */
const HEADER_TYPE_MASK = 0x7f;
const HEADER_TYPE_CARDBUS = 2;
const STANDARD_START = 0x40;
const STANDARD_END = 0x100;
const EXTENDED_START = 0x100;
const EXTENDED_END = 0x1000;
/** The smallest capability has one dword, so lists cannot be longer than this. */
const MAX_STANDARD = (STANDARD_END - STANDARD_START) / 4;
const MAX_EXTENDED = (EXTENDED_END - EXTENDED_START) / 4;

/**
 * Follows the list of standard capabilities (PCI Local Bus Specification, "Capabilities List"):
 * three reads that find the first, and one for each.
 *
 * @param size bytes of the space
 */
export function* walkCapabilities(size: number): CapabilityWalk {
  const places: CapabilityPlace[] = [];
  const status = yield { offset: HEADER.STATUS, width: 2 };
  if ((status & STATUS.CAP_LIST) === 0) return { places, notes: [] };
  const headerType = (yield { offset: HEADER.HEADER_TYPE, width: 1 }) & HEADER_TYPE_MASK;
  const pointerOffset = headerType === HEADER_TYPE_CARDBUS
    ? HEADER_CARDBUS.CB_CAPABILITY_LIST
    : HEADER.CAPABILITY_LIST;
  const end = Math.min(size, STANDARD_END);
  const seen = new Set<number>();
  const broken = (why: string) => ({
    places,
    notes: [`The list of capabilities is broken: ${why}`],
  });
  let offset = (yield { offset: pointerOffset, width: 1 }) & ~3;
  while (offset !== 0 && places.length < MAX_STANDARD) {
    const reason = refusal(offset, STANDARD_START, end, seen);
    if (reason) return broken(reason);
    seen.add(offset);
    const header = yield { offset, width: 2 };
    const id = header & 0xff;
    if (id === 0xff) return broken(`no capability at ${hex(offset)}`);
    places.push({ offset, id });
    offset = (header >>> 8) & ~3;
  }
  return { places, notes: [] };
}

/**
 * Follows the list of extended capabilities (PCI Express Base Specification, "PCI Express Extended
 * Capabilities"): a read for each. It is empty if the space is not larger than 256 bytes.
 *
 * @param size bytes of the space
 */
export function* walkExtendedCapabilities(size: number): CapabilityWalk {
  const places: CapabilityPlace[] = [];
  const end = Math.min(size, EXTENDED_END);
  const seen = new Set<number>();
  const broken = (why: string) => ({
    places,
    notes: [`The list of extended capabilities is broken: ${why}`],
  });
  if (end < EXTENDED_START + 4) return { places, notes: [] };
  let offset = EXTENDED_START;
  while (offset !== 0 && places.length < MAX_EXTENDED) {
    const reason = refusal(offset, EXTENDED_START, end, seen);
    if (reason) return broken(reason);
    seen.add(offset);
    const header = yield { offset, width: 4 };
    if (header === 0 || header === 0xffff_ffff) {
      // At the first place this is how a function says that it has none.
      if (offset === EXTENDED_START) break;
      return broken(`no capability at ${hex(offset)}`);
    }
    places.push({ offset, id: header & 0xffff, version: (header >>> 16) & 0xf });
    offset = (header >>> 20) & ~3;
  }
  return { places, notes: [] };
}

/** The reason why the capability at `offset` cannot be read, if it cannot. */
function refusal(
  offset: number,
  start: number,
  end: number,
  seen: ReadonlySet<number>,
): string | undefined {
  if (offset < start) return `a capability at ${hex(offset)} would be inside the header`;
  if (offset + 4 > end) return `a capability at ${hex(offset)} is past the end, ${hex(end)}`;
  if (seen.has(offset)) return `the list returns to ${hex(offset)}`;
  return undefined;
}
