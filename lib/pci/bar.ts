/**
 * Base address registers.
 *
 * @module
 */

import type { ConfigView } from "./view.ts";
import { HEADER_NORMAL } from "./registers.ts";

/**
 * Sizes of the regions behind the BARs (indexes 0 to 5) and the ROM (6), bytes; `undefined` if not
 * known.
 */
export type RegionSizes = (index: number) => bigint | undefined;

/** The fields of a BAR of either kind. */
export interface BarCommon {
  /** 0 to 5, which is the region index too. */
  index: number;
  /** The register as it is, 32 bits; of a 64-bit BAR, both registers. */
  register: bigint;
  /** The address of the region; 0 if none is assigned yet. */
  address: bigint;
  /** Bytes of the region, if its size was given: the register alone does not tell. */
  size?: bigint;
  /** Mistakes found in it. */
  notes: string[];
}

/** A BAR for I/O ports. */
export interface IoBar extends BarCommon {
  /** I/O or memory. */
  space: "io";
}

/** A BAR for memory. */
export interface MemoryBar extends BarCommon {
  /** I/O or memory. */
  space: "memory";
  /** The addresses that it may have; 64-bit takes two registers. */
  type: "32-bit" | "64-bit" | "below 1M" | "reserved";
  /** True if reads have no side effects and writes may be merged. */
  prefetchable: boolean;
}

/** A base address register. */
export type Bar = IoBar | MemoryBar;

/** The expansion ROM's base address register. */
export interface RomBar {
  /** The register as it is, 32 bits. */
  register: number;
  /** True if the ROM decodes its address. */
  enabled: boolean;
  /** The address of the ROM; 0 if none is assigned yet. */
  address: bigint;
  /** Bytes of the ROM, if its size was given. */
  size?: bigint;
}

/** The region index of the expansion ROM. */
export const ROM_REGION_INDEX = 6;

const MEMORY_TYPES = ["32-bit", "below 1M", "64-bit", "reserved"] as const;

/**
 * The value that some bridges return for a register which no function implements. No BAR can read
 * this.
 */
const ALL_ONES = 0xffffffff;

function sizeField(size: bigint | undefined): { size?: bigint } {
  return size === undefined ? {} : { size };
}

/**
 * Decodes the first `count` BARs. A BAR is there if its register is not 0, or if its region has a
 * size. The register of a 32-bit BAR without an address is 0 too.
 *
 * @param start offset of the first one
 */
export function parseBars(
  view: ConfigView,
  count: number,
  regionSizes: RegionSizes,
  start: number = HEADER_NORMAL.BASE_ADDRESS_0,
): Bar[] {
  const bars: Bar[] = [];
  for (let index = 0; index < count; index++) {
    const register = view.u32(start + 4 * index);
    const size = regionSizes(index);
    const hasRegister = register !== 0 && register !== ALL_ONES;
    if (!hasRegister && (size === undefined || size === 0n)) continue;
    const bar = parseBar(view, start, index, count, size);
    bars.push(bar);
    if (bar.space === "memory" && bar.type === "64-bit") index++;
  }
  return bars;
}

function parseBar(
  view: ConfigView,
  start: number,
  index: number,
  count: number,
  size: bigint | undefined,
): Bar {
  const low = view.u32(start + 4 * index);
  const notes: string[] = [];
  if (size === 0n) notes.push("its register is set, and its region has no bytes");
  if (low & 1) {
    return {
      index,
      space: "io",
      register: BigInt(low),
      address: BigInt((low & ~3) >>> 0),
      ...sizeField(size),
      notes,
    };
  }
  const type = MEMORY_TYPES[(low >>> 1) & 3]!;
  const isLast = index + 1 >= count;
  if (type === "reserved") notes.push("its memory type is reserved");
  if (type === "64-bit" && isLast) notes.push("64-bit, but no register follows for the upper half");
  const wide = type === "64-bit" && !isLast;
  const high = wide ? BigInt(view.u32(start + 4 * (index + 1))) << 32n : 0n;
  return {
    index,
    space: "memory",
    type,
    prefetchable: (low & 8) !== 0,
    register: high | BigInt(low),
    address: high | BigInt((low & ~0xf) >>> 0),
    ...sizeField(size),
    notes,
  };
}

/** Decodes the expansion ROM BAR at `offset`; `undefined` if the device shows no ROM. */
export function parseRomBar(
  view: ConfigView,
  offset: number,
  regionSizes: RegionSizes,
): RomBar | undefined {
  const register = view.u32(offset);
  const size = regionSizes(ROM_REGION_INDEX);
  const hasRegister = register !== 0 && register !== ALL_ONES;
  if (!hasRegister && (size === undefined || size === 0n)) return undefined;
  return {
    register,
    enabled: (register & 1) !== 0,
    address: BigInt((register & ~0x7ff) >>> 0),
    ...sizeField(size),
  };
}
