/**
 * The bits of a flags field by name.
 *
 * @module
 */

import type { RegionIoFd } from "../../lib/client/io_fds.ts";
import { RegionFlags } from "../../lib/wire/region.ts";

/** The names of the bits that are set, in lower case, in the order of the table. */
export function flagNames(flags: number, table: Readonly<Record<string, number>>): string[] {
  return Object.entries(table).filter(([, bit]) => flags & bit).map(([name]) => name.toLowerCase());
}

/** The flags of a region as letters, as in a file's mode: "rwm". */
export function accessText(flags: number): string {
  const letters = [["r", RegionFlags.READ], ["w", RegionFlags.WRITE], [
    "m",
    RegionFlags.MMAP,
  ]] as const;
  return letters.map(([letter, bit]) => flags & bit ? letter : "-").join("");
}

/** The bits that are set and have no name. */
export function unknownFlags(flags: number, table: Readonly<Record<string, number>>): number {
  return Object.values(table).reduce((rest, bit) => rest & ~bit, flags) >>> 0;
}

/** KVM_IOEVENTFD_FLAG_DATAMATCH of linux/kvm.h. */
const DATAMATCH = 1;

/** Reports whether an eventfd stands for writes of one value only. */
export function hasDatamatch({ kind, flags }: Pick<RegionIoFd, "kind" | "flags">): boolean {
  return kind.endsWith("ioeventfd") && (flags & DATAMATCH) !== 0;
}
