/**
 * The regions of a defined device: served regions that know their base address register, and the
 * bytes of them that migrate.
 *
 * @module
 */

import type { Register } from "../registers/map.ts";
import { leastBarSize } from "../server/config.ts";
import type { ServedRegion } from "../server/served_device.ts";
import { PciRegion } from "../wire/region.ts";
import { BOOLEAN, type Form, type Forms, isObject } from "./mistakes.ts";
import { keepOrigin } from "./origin.ts";
import { sealClass } from "./sealed.ts";

/** Name of a region that a device may have. */
export type RegionName = `bar${0 | 1 | 2 | 3 | 4 | 5}` | "rom" | "vga";

/** The regions that a device may have, with their indexes. */
export const REGION_INDEX: Readonly<Record<RegionName, number>> = {
  bar0: PciRegion.BAR0,
  bar1: PciRegion.BAR1,
  bar2: PciRegion.BAR2,
  bar3: PciRegion.BAR3,
  bar4: PciRegion.BAR4,
  bar5: PciRegion.BAR5,
  rom: PciRegion.ROM,
  vga: PciRegion.VGA,
};

/** The fields of a region's base address register. */
export interface BarKind {
  /** I/O ports in place of memory. Default false. */
  readonly io?: boolean;
  /** The register is 64 bits wide, and takes the place of two. Default false. */
  readonly is64Bit?: boolean;
  /** Reading has no side effects. Default false. */
  readonly prefetchable?: boolean;
}

/** Forms of {@linkcode BarKind}. */
export const BAR_KIND: Forms<BarKind> = { io: BOOLEAN, is64Bit: BOOLEAN, prefetchable: BOOLEAN };

/** Something in a region that has a name: a register, or an array of them. */
export interface RegionPart {
  /** Its path in the map, as "registers.CTRL". */
  readonly path: string;
  /** Bytes from the start of the region. */
  readonly offset: number;
  /** Bytes of one. */
  readonly width: number;
  /** The number of them. */
  readonly count: number;
  /** Bytes from one to the next. */
  readonly stride: number;
  /** The register as its map declares it, with its offset there. */
  readonly register?: Register;
}

/** The contents of a region by name, and those that no access reaches. */
export interface RegionReview {
  /** The contents that accesses reach, in whole or in part. */
  readonly parts: readonly RegionPart[];
  /** Bytes that have no names, but that the region answers by itself. Default none. */
  readonly ranges?: readonly RegionRange[];
  /** Contents that no access reaches: a sentence for each, with its path. */
  readonly unreachable: readonly string[];
}

/** Some bytes of a region. */
export interface RegionRange {
  /** Bytes from the start of the region. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

/** A region of a defined device. `registers`, `memory`, `callbacks` and `overlay` make them. */
export interface DeviceRegion extends ServedRegion {
  /** The fields of its base address register. */
  readonly bar: BarKind;
  /**
   * Bytes that hold all of the region's state: they migrate. Their lengths never change. Undefined
   * if the region's state is unknown.
   */
  readonly contents?: readonly Uint8Array[];
  /** The contents by name, for `vfu serve --check`. */
  review?(): RegionReview;
  /** Restores what the region holds after a reset, which waits for a promise. */
  reset?(): void | Promise<void>;
  /** Frees what it holds. */
  close?(): void;
}

/** A form of regions. */
export const REGION: Form = {
  accepts: isRegion,
  what: "a region; registers, memory, callbacks and overlay make them",
};

/** Tells whether it is a region. */
export function isRegion(value: unknown): value is DeviceRegion {
  return isObject(value) && isObject(value["bar"]) && typeof value["size"] === "number" &&
    typeof value["read"] === "function" && typeof value["write"] === "function";
}

/** Members that a region may lack. They are undefined, ahead of the refusal of unknown names. */
const LACKING: Readonly<
  Record<Exclude<keyof DeviceRegion, "flags" | "size" | "bar" | "read" | "write">, undefined>
> = {
  fds: undefined,
  fdOffset: undefined,
  capabilities: undefined,
  ioFds: undefined,
  contents: undefined,
  memory: undefined,
  view: undefined,
  review: undefined,
  reset: undefined,
  close: undefined,
};

const SEALED = { ...LACKING };
sealClass(SEALED, { path: "region" });

/**
 * Has a region, or the objects of a class of regions, refuse names that there are not.
 *
 * @returns the region
 */
export function sealRegion<T extends DeviceRegion>(region: T): T {
  keepOrigin(region);
  return Object.setPrototypeOf(region, SEALED);
}

/**
 * Resets regions. If a reset takes its time, the returned promise is settled when all resets have
 * ended.
 */
export function resetAll(regions: readonly DeviceRegion[]): void | Promise<void> {
  const late = regions.map((each) => each.reset?.()).filter((each) => each instanceof Promise);
  if (late.length > 0) return Promise.all(late).then(() => {});
}

/**
 * Bytes of a BAR that has room for `size`: a power of two.
 *
 * @param kind of the BAR: one of I/O ports may be smaller
 * @throws {RangeError} if it is no number of bytes
 */
export function barSize(size: number, kind: BarKind = {}): number {
  return regionSize(size, leastBarSize(kind));
}

/**
 * Bytes of a region that has room for `size`: a power of two.
 *
 * @param least the fewest bytes
 * @throws {RangeError} as {@linkcode barSize}
 */
export function regionSize(size: number, least: number): number {
  if (!Number.isSafeInteger(size) || size < 1) {
    throw new RangeError(`A region can't have ${size} bytes: it takes a whole number from 1 on`);
  }
  return Math.max(least, 2 ** Math.ceil(Math.log2(size)));
}

/**
 * The part of {@linkcode BarKind} of some options.
 *
 * @throws {RangeError} if there is no such base address register
 */
export function barKind({ io, is64Bit, prefetchable }: BarKind): BarKind {
  if (io && (is64Bit || prefetchable)) {
    throw new RangeError("A region of I/O ports can be neither 64 bits wide nor prefetchable");
  }
  return {
    ...(io && { io }),
    ...(is64Bit && { is64Bit }),
    ...(prefetchable && { prefetchable }),
  };
}
