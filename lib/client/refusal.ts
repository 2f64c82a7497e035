/**
 * Refusals of accesses to regions: what a device does answer, and what its registers say, tell the
 * reason.
 *
 * The look is a generator that asks for reads, so that blocking and asynchronous callers share it.
 *
 * @module
 */

import { E2BIG, EINVAL, EMSGSIZE, ENOTSUP, ENXIO, ERANGE } from "../../ffi/errno.ts";
import type { RegionInfo } from "./info.ts";
import type { RegionAccess, RemoteError } from "../base/errors.ts";
import type { Plan } from "../base/plan.ts";
import { BAR_BITS, COMMAND, HEADER, HEADER_NORMAL } from "../pci/registers.ts";
import type { Width } from "./info.ts";
import { hex } from "../text/hex.ts";
import { WIDTH_LETTERS } from "../text/width.ts";
import { PciRegion, regionName } from "../wire/region.ts";
import { plural } from "../text/plural.ts";

/** A read that tells something, of the region that refused or of the configuration space. */
export interface Look {
  /** The region index. */
  readonly region: number;
  /** Bytes from its start. */
  readonly offset: number;
  /** Bytes to read. */
  readonly count: number;
}

/** The facts that take no look. */
export interface KnownOfRegion {
  /** The region. */
  readonly info: RegionInfo;
  /** Its name: "bar0", "region 9". */
  readonly name: string;
  /** An access to it by message was answered before, on this connection. */
  readonly hasAnswered: boolean;
}

/**
 * A look into a refusal: it is given the little-endian value of each read, or undefined for a
 * refused one.
 */
export type LookInto = Plan<Look, bigint | undefined, string | undefined>;

/** Errors that say nothing of the reason. 0 stands for none. */
const VAGUE: ReadonlySet<number> = new Set([0, EINVAL, ENXIO, E2BIG, ERANGE, EMSGSIZE, ENOTSUP]);

/** Widths of registers, the most usual first. */
const WIDTHS: readonly Width[] = [4, 8, 2, 1];
const NARROW = WIDTHS.filter((width) => width <= 4);

/**
 * Finds the reason why an access was refused. Of a read, other widths are tried at the same place:
 * the caller wanted to read there. A write is not tried again.
 *
 * @returns the reason and the remedy in words; undefined if nothing is found out
 */
export function* lookIntoRefusal(
  { errno, access }: RemoteError,
  known: KnownOfRegion,
): LookInto {
  if (access === undefined || !VAGUE.has(errno)) return undefined;
  const refused: Width[] = [];
  if (access.kind === "read") {
    const answered = yield* answeredWidth(access, known.info, refused);
    if (answered !== undefined) return yield* sayWidth(access, known.name, answered);
  }
  const bar = access.region <= PciRegion.BAR5 ? yield* lookAtBar(access.region) : undefined;
  const isOff = bar?.isOff === true && !known.hasAnswered;
  const reasons = [
    access.kind === "read" ? sayRefused(access, refused, isOff) : WRITE_REASONS,
    known.hasAnswered ? `other accesses to ${known.name} were answered` : undefined,
    bar?.text,
  ].filter((each) => each !== undefined);
  return reasons.length === 0 ? undefined : reasons.join("; ");
}

const WRITE_REASONS =
  "the register may take another width only (.b, .w, .l or .q), or not this value";

/** Tries the widths of registers; those that are refused as well are noted. */
function* answeredWidth(
  { region, offset, count }: RegionAccess,
  { size }: RegionInfo,
  refused: Width[],
): Plan<Look, bigint | undefined, Width | undefined> {
  // Configuration space is accessed in pieces of 4 bytes at most.
  for (const width of region === PciRegion.CONFIG ? NARROW : WIDTHS) {
    if (width === count || offset % width !== 0 || BigInt(offset + width) > size) continue;
    if ((yield { region, offset, count: width }) !== undefined) return width;
    refused.push(width);
  }
  return undefined;
}

/**
 * Another width is answered. It is the reason if the first one is still refused: some errors pass.
 */
function* sayWidth(
  { region, offset, count }: RegionAccess,
  name: string,
  width: Width,
): LookInto {
  const isTransient = (yield { region, offset, count }) !== undefined;
  if (isTransient) return "the same read is answered now: try again";
  const address = addressOf(name, offset, WIDTH_LETTERS[width]);
  return count > 8
    ? `reads of ${
      plural(width, "byte")
    } are answered there: read ${width} at a time, as ${address} does`
    : `a read of ${plural(width, "byte")} is answered there: name the width, ${address}`;
}

/** Says which widths are refused. Unless the BAR is off that may be for want of a register. */
function sayRefused(
  { count }: RegionAccess,
  refused: readonly Width[],
  isOff: boolean,
): string | undefined {
  if (refused.length === 0) return undefined;
  const all = [...refused, ...(count <= 8 ? [count] : [])].toSorted((a, b) => a - b);
  const said = `reads of ${list(all)} bytes are refused there`;
  return isOff ? said : `${said}: there may be no register to read`;
}

/** Reads the registers of a BAR: its address, and whether it is switched on. */
function* lookAtBar(
  index: number,
): Plan<Look, bigint | undefined, { text: string; isOff: boolean } | undefined> {
  const config = PciRegion.CONFIG;
  const at = HEADER_NORMAL.BASE_ADDRESS_0 + index * 4;
  const command = yield { region: config, offset: HEADER.COMMAND, count: 2 };
  const bar = yield { region: config, offset: at, count: 4 };
  if (command === undefined || bar === undefined) return undefined;
  const low = Number(bar);
  const isIo = (low & BAR_BITS.IO) !== 0;
  const is64Bit = !isIo && (low & BAR_BITS.TYPE_MASK) === BAR_BITS.TYPE_64 &&
    index < PciRegion.BAR5;
  const high = is64Bit ? (yield { region: config, offset: at + 4, count: 4 }) ?? 0n : 0n;
  const hasAddress = (low & (isIo ? ~0x3 : ~0xf)) !== 0 || high !== 0n;
  const isDecoded = (Number(command) & (isIo ? COMMAND.IO : COMMAND.MEMORY)) !== 0;
  const kind = isIo ? "I/O" : "memory";
  if (hasAddress && isDecoded) {
    return { text: `the BAR has an address, and ${kind} decoding is on`, isOff: false };
  }
  const lacks = hasAddress
    ? `${kind} decoding is off in COMMAND (${hex(command, 4)})`
    : "the BAR has no address yet";
  const text = `${lacks}: if that is why, enable the device first ` +
    "(--pci-enable, device.pci.enable(), or pci enable in a session)";
  return { text, isOff: true };
}

/**
 * Says what to try if the connection ended with an access of many bytes. Some servers know only the
 * widths of registers, and end at any other one.
 */
export function widthHint({ region, offset, count, kind }: RegionAccess): string | undefined {
  if (count === 1 || count === 2 || count === 4 || count === 8) return undefined;
  const address = addressOf(regionName(region), offset, "l");
  return "some servers know accesses of 1, 2, 4 and 8 bytes only, and end at others: " +
    `${kind} 4 at a time, as ${address} does`;
}

/** A place as commands take it: `bar0+0x10.l`, `region9.w`. */
function addressOf(name: string, offset: number, letter: string): string {
  return `${name.replace(" ", "")}${offset === 0 ? "" : `+${hex(offset)}`}.${letter}`;
}

/** "1", "1 and 2", "1, 2 and 4". */
function list(values: readonly number[]): string {
  const last = String(values.at(-1));
  return values.length === 1 ? last : `${values.slice(0, -1).join(", ")} and ${last}`;
}
