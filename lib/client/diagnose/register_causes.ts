/**
 * Causes that keep a client from the registers of a device.
 *
 * @module
 */

import type { RemoteError } from "../../base/errors.ts";
import { SystemError } from "../../../ffi/errno.ts";
import type { OwnedFd } from "../../../ffi/fd.ts";
import { COMMAND } from "../../pci/registers.ts";
import { hex } from "../../text/hex.ts";
import { WIDTH_LETTERS } from "../../text/width.ts";
import { PciRegion, placeText, RegionFlags } from "../../wire/region.ts";
import type { RegionInfo, Width } from "../info.ts";
import { type Cause, type Clue, ENABLE, STOPPED } from "./cause.ts";
import type { BarState, Examination, HarmlessRead } from "./examination.ts";
import { plural } from "../../text/plural.ts";

const REGISTERS = ["registers"] as const;
/** Widths that are tried, until the device answers one of them. */
const WIDTHS: readonly Width[] = [4, 1, 2, 8];

/** The causes, with those that explain most first. */
export const REGISTER_CAUSES: readonly Cause[] = [
  {
    id: "bar-unassigned",
    title: "a BAR has no address",
    subjects: REGISTERS,
    async find(look) {
      const bars = await look.bars();
      const without = bars.filter(({ address }) => address === 0n).map(({ index }) => index);
      const clues: Clue[] = without.length === 0 ? [] : [{
        evidence: `${barsText(without)} ${without.length === 1 ? "has" : "have"} no address ` +
          `(${barText(bars.find(({ index }) => index === without[0])!)})`,
        remedy: "assign one (--pci-enable)",
        command: ENABLE,
      }];
      return [
        ...clues,
        ...bars.filter(isProbed).map(({ index, low }) => ({
          evidence: `BAR ${index} holds the answer to a size probe, not an address ` +
            `(config+${hex(0x10 + index * 4)}.l is ${hex(low, 8)})`,
          remedy: "write the address anew; 0, and --pci-enable assigns one",
          command: `write SOCKET BASE_ADDRESS_${index}=0`,
        })),
      ];
    },
  },
  decodeCause("memory-off", "memory", COMMAND.MEMORY, 1, (bar) => !bar.isIo),
  decodeCause("io-off", "I/O", COMMAND.IO, 0, (bar) => bar.isIo),
  {
    id: "no-access",
    title: "a region allows no access",
    subjects: REGISTERS,
    async find(look) {
      const regions = (await regionsOf(look)).filter((info) =>
        !allowsAccess(info) && info.index !== PciRegion.CONFIG // libvfio-user's has no flags
      );
      return regions.map(({ index, size, flags }) => ({
        evidence:
          `${look.device.regionName(index)} has ${plural(size, "byte")} and allows no access ` +
          `(flags ${hex(flags)})`,
        remedy: "the server's reply to REGION_INFO is wrong",
        command: "probe SOCKET",
      }));
    },
  },
  {
    id: "flags-disagree",
    title: "a region's flags do not agree with what a read does",
    subjects: REGISTERS,
    async find(look) {
      if (!look.options.readBars) return [];
      const clues: Clue[] = [];
      for (const info of await regionsOf(look)) {
        if (allowsAccess(info)) clues.push(...await flagClues(look, info));
      }
      return clues;
    },
  },
  {
    id: "no-map",
    title: "a region is to be mapped, and can't be",
    subjects: REGISTERS,
    async find(look) {
      return (await regionsOf(look)).flatMap((info) => mapClues(look, info));
    },
  },
];

function decodeCause(
  id: string,
  what: string,
  mask: number,
  bit: number,
  isOf: (bar: BarState) => boolean,
): Cause {
  return {
    id,
    title: `${what} decoding is off in COMMAND, and a BAR needs it`,
    subjects: REGISTERS,
    async find(look) {
      const command = await look.command();
      const bars = (await look.bars()).filter(isOf).map(({ index }) => index);
      if (command === undefined || (command & mask) !== 0 || bars.length === 0) return [];
      return [{
        evidence: `${what} decoding is off in COMMAND (${hex(command, 4)}), which ${
          barsText(bars)
        } ${bars.length === 1 ? "needs" : "need"}`,
        remedy: `set its bit ${bit} (--pci-enable)`,
        command: ENABLE,
      }];
    },
  };
}

/** Reports whether the low register of a BAR has every bit that can be an address. */
function isProbed({ low, size, isIo }: BarState): boolean {
  const mask = Number(BigInt.asUintN(32, ~(size - 1n))) & ~(isIo ? 0x3 : 0xf);
  const address = (low & ~(isIo ? 0x3 : 0xf)) >>> 0;
  return size < 1n << 31n && address === mask >>> 0;
}

/** "BAR 0", "BARs 0, 2 and 4". */
function barsText(indexes: readonly number[]): string {
  const last = indexes.at(-1)!;
  if (indexes.length === 1) return `BAR ${last}`;
  return `BARs ${indexes.slice(0, -1).join(", ")} and ${last}`;
}

/** As "BASE_ADDRESS_0 is 0x00000000". */
function barText({ index, low }: BarState): string {
  return `BASE_ADDRESS_${index} is ${hex(low, 8)}`;
}

function allowsAccess({ flags }: RegionInfo): boolean {
  return (flags & (RegionFlags.READ | RegionFlags.WRITE | RegionFlags.MMAP)) !== 0;
}

/** The regions that the device has. */
async function regionsOf(look: Examination): Promise<RegionInfo[]> {
  const count = Math.min((await look.info())?.numRegions ?? 0, PciRegion.VGA + 1);
  const regions: RegionInfo[] = [];
  for (let index = 0; index < count; index++) {
    const info = await look.regionInfo(index);
    if (info !== undefined && info.size > 0n) regions.push(info);
  }
  return regions;
}

async function flagClues(look: Examination, { index, flags, size }: RegionInfo): Promise<Clue[]> {
  const { places, isDecisive } = await placesToRead(look, index, size);
  const claims = (flags & RegionFlags.READ) !== 0;
  if (claims && !isDecisive) return [];
  const name = look.device.regionName(index);
  let refusal: { place: HarmlessRead; error: RemoteError } | undefined;
  for (const place of places) {
    const tried = await look.tryRead(index, place.offset, place.width);
    if (tried === undefined) return []; // the device does not answer
    if ("refusal" in tried) {
      refusal ??= { place, error: tried.refusal };
      continue;
    }
    if (claims) return [];
    return [{
      evidence: `${name} is not to be read (flags ${hex(flags)}), ` +
        `and a read of ${readText(place)} is answered`,
      remedy: "the server's reply to REGION_INFO has to have the flag READ",
      command: readCommand(name, place),
    }];
  }
  if (refusal === undefined || !claims) return [];
  const { place, error } = refusal;
  return [{
    evidence: `${name} is to be read (flags ${hex(flags)}), ` +
      `and a read of ${readText(place)} is refused with ${error.code || "no errno"}`,
    remedy: "the server has to answer it, or to leave out the flag READ",
    command: readCommand(name, place),
  }];
}

/** Reads that show if a region can be read; not decisive if something else has them refused. */
async function placesToRead(
  look: Examination,
  region: number,
  size: bigint,
): Promise<{ places: readonly HarmlessRead[]; isDecisive: boolean }> {
  if (region === PciRegion.CONFIG) {
    return { places: [{ region, offset: 0, width: 4 }], isDecisive: true };
  }
  if (region > PciRegion.BAR5) return { places: [], isDecisive: false }; // the ROM has a switch
  const state = await look.migrationState();
  const isStopped = state !== undefined && STOPPED.has(state);
  const isPci = await look.command() !== undefined;
  const bar = (await look.bars()).find(({ index }) => index === region);
  const isDecisive = !isStopped && (!isPci || bar !== undefined && await look.isDecoded(bar));
  const known = look.options.harmless?.filter((each) => each.region === region) ?? [];
  if (known.length > 0) return { places: known, isDecisive };
  const places = WIDTHS.filter((width) => BigInt(width) <= size)
    .map((width) => ({ region, offset: 0, width }));
  const end = Number(size) - 4; // a region may begin with a hole
  return { places: end > 0 ? [...places, { region, offset: end, width: 4 }] : places, isDecisive };
}

function readText({ offset, width }: HarmlessRead): string {
  return `${plural(width, "byte")} at ${hex(offset)}`;
}

function readCommand(region: string, { offset, width }: HarmlessRead): string {
  return `read SOCKET ${placeText(region, offset)}.${WIDTH_LETTERS[width]}`;
}

/** Clues about a region that says that it can be mapped. */
function mapClues(
  { device }: Examination,
  { index, flags, size, offset, fds, capabilities }: RegionInfo,
): Clue[] {
  if ((flags & RegionFlags.MMAP) === 0) return [];
  const name = device.regionName(index);
  if (fds.length === 0) {
    return [{
      evidence: `${name} is to be mapped (flags ${hex(flags)}), and no file descriptor came`,
      remedy: "accesses go by message; the server has to pass the file",
      command: "probe SOCKET --verbose",
    }];
  }
  const parts = capabilities.flatMap((capability) =>
    capability.kind === "sparse_mmap"
      ? capability.areas.map((area) => ({ end: area.offset + area.size, file: fds[0] }))
      : capability.kind === "sparse_mmap_fds"
      ? capability.areas.map(({ fdOffset, size, fdIndex }) => ({
        end: fdOffset + size - offset,
        file: fds[fdIndex],
      }))
      : []
  );
  const areas = parts.length > 0 ? parts : [{ end: size, file: fds[0] }];
  for (const { end, file } of areas) {
    const fileSize = file && sizeOf(file);
    if (fileSize === undefined || offset + end <= fileSize) continue;
    return [{
      evidence: `${name} is to be mapped to ${hex(offset + end)} of a file that ends at ` +
        hex(fileSize),
      remedy: "accesses go by message; the server has to make the file as long as the region",
      command: "probe SOCKET --verbose",
    }];
  }
  return [];
}

/** Bytes of a file; undefined if it is none whose size counts. */
function sizeOf(file: OwnedFd): bigint | undefined {
  try {
    const { isFile, size } = file.stat();
    return isFile ? size : undefined;
  } catch (error) {
    if (error instanceof SystemError) return undefined;
    throw error;
  }
}
