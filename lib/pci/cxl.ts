/**
 * The designated vendor-specific capabilities of CXL (Compute Express Link Specification, "PCIe
 * DVSEC for CXL Devices" and those after it).
 *
 * @module
 */

import { field, flag, flagsFrom, register, type RegisterLayout } from "./layout.ts";

/** Vendor id of the consortium. */
export const CXL_VENDOR_ID = 0x1e98;

/** Bytes ahead of the blocks of the register locator, and of each block. */
const LOCATOR_HEADER = 0x0c;
const LOCATOR_BLOCK = 8;

const PROTOCOLS = "Cache IO Mem";
const FLEX_BUS = "Cache IO Mem SynHdrByp DrftBuf 68BFlit MltLogDev";
const FLIT = "256BFlit PBRFlit";
const BLOCKS = ["empty", "component", "BAR virtualization", "device", "performance"];

/** One of the two ranges of memory of a device. */
function range(name: string, at: number): RegisterLayout[] {
  return [
    register(`${name} SizeHigh`, at, 4),
    register(
      name,
      at + 4,
      4,
      flagsFrom(0, "Valid Active"),
      field("Type", 2, 3, ["Volatile", "Non-volatile", "CDAT"]),
      field("Class", 5, 3, ["DRAM", "Storage", "CDAT"]),
      field("Interleave", 8, 5),
      field("Timeout", 13, 3),
      field("SizeLow", 28, 4, "hex"),
    ),
    register(`${name} BaseHigh`, at + 8, 4),
    register(`${name} Base`, at + 12, 4, field("Low", 28, 4, "hex")),
  ];
}

const GPF_TIME = [field("Value", 0, 4), field("Scale", 8, 4)];

const LAYOUTS: Readonly<Record<number, readonly RegisterLayout[]>> = {
  0x00: [
    register(
      "CXLCap",
      0x0a,
      2,
      flagsFrom(0, `${PROTOCOLS} MemHWInit`),
      field("HDMCount", 4, 2),
      flag("Viral", 14),
    ),
    register(
      "CXLCtl",
      0x0c,
      2,
      flagsFrom(0, PROTOCOLS),
      field("CacheSFCov", 3, 5),
      field("CacheSFGran", 8, 3),
      flag("CacheClean", 11),
      flag("Viral", 14),
    ),
    register("CXLSta", 0x0e, 2, flag("Viral", 14)),
    register(
      "CXLCtl2",
      0x10,
      2,
      flagsFrom(0, "DisableCaching InitCacheWB&Inval InitRst RstMemClrEn"),
    ),
    register(
      "CXLSta2",
      0x12,
      2,
      flagsFrom(0, "CacheInvalid ResetComplete ResetError"),
      flag("PMComplete", 15),
    ),
    register("CXLCap2", 0x16, 2, field("CacheUnit", 0, 4), field("CacheSize", 8, 8)),
    ...range("Range1", 0x18),
    ...range("Range2", 0x28),
    register(
      "CXLCap3",
      0x38,
      2,
      flagsFrom(0, "ColdReset WarmReset HotReset HotResetConfigurability"),
    ),
  ],
  0x02: Array.from({ length: 8 }, (_, i) => register(`FuncMap${i}`, 0x0c + 4 * i, 4)),
  0x03: [
    register("CXLPortSta", 0x0a, 2, flag("PMComplete", 0)),
    register(
      "CXLPortCtl",
      0x0c,
      2,
      flagsFrom(0, "UnmaskSBR UnmaskLinkDisable AltMem AltBME"),
      flag("ViralEnable", 14),
    ),
    register("AlternateBus", 0x0e, 2, field("Base", 0, 8, "hex"), field("Limit", 8, 8, "hex")),
    register("AlternateMem", 0x10, 4, field("Base", 0, 16, "hex"), field("Limit", 16, 16, "hex")),
  ],
  0x04: [
    register("GPFPhase1", 0x0c, 2, GPF_TIME),
    register("GPFPhase2", 0x0e, 2, GPF_TIME),
  ],
  0x05: [
    register("GPFPhase2", 0x0a, 2, GPF_TIME),
    register("GPFPower", 0x0c, 4, field("Milliwatts", 0, 32)),
  ],
  0x07: [
    register(
      "FBCap",
      0x0a,
      2,
      flagsFrom(0, PROTOCOLS),
      flagsFrom(5, "68BFlit MltLogDev"),
      flagsFrom(13, FLIT),
    ),
    register(
      "FBCtl",
      0x0c,
      2,
      flagsFrom(0, `${FLEX_BUS} RCD Retimer1 Retimer2`),
      flagsFrom(13, FLIT),
    ),
    register("FBSta", 0x0e, 2, flagsFrom(0, FLEX_BUS), flagsFrom(13, FLIT)),
    register("FBModTS", 0x10, 4, field("Received", 0, 24, "hex")),
  ],
  0x09: [register("LDs", 0x0a, 2, field("Count", 0, 16))],
};

/** The registers of CXL's capability `id`, as far as its `length` bytes reach. */
export function cxlLayout(id: number, length: number): RegisterLayout[] {
  const layout = id === 0x08 ? locator(length) : LAYOUTS[id] ?? [];
  return layout.filter(({ offset, width }) => offset + width <= length);
}

/** Register Locator: where in which BAR each block of registers is. */
function locator(length: number): RegisterLayout[] {
  const count = Math.max(Math.floor((length - LOCATOR_HEADER) / LOCATOR_BLOCK), 0);
  return Array.from({ length: count }, (_, i) => [
    register(
      `Block${i + 1}`,
      LOCATOR_HEADER + LOCATOR_BLOCK * i,
      4,
      field("BAR", 0, 3),
      field("ID", 8, 8, BLOCKS),
      field("OffsetLow", 16, 16, "hex"),
    ),
    register(`Block${i + 1} High`, LOCATOR_HEADER + LOCATOR_BLOCK * i + 4, 4),
  ]).flat();
}
