/**
 * A function's configuration space, decoded.
 *
 * @module
 */

import { ProtocolError } from "../base/errors.ts";
import { type Bar, parseBars, parseRomBar, type RegionSizes, type RomBar } from "./bar.ts";
import { type BridgeHeader, type CardbusHeader, parseBridge, parseCardbus } from "./bridge.ts";
import {
  type Capability,
  type CapabilityChain,
  parseCapabilities,
  parseExtendedCapabilities,
} from "./capability.ts";
import {
  COMMAND,
  type DevselTiming,
  devselTiming,
  type Flags,
  flags,
  HEADER,
  HEADER_BRIDGE,
  HEADER_CARDBUS,
  HEADER_NORMAL,
  STATUS,
} from "./registers.ts";
import { bit, bits, ConfigView } from "./view.ts";

/** Bytes that every configuration space has: the header. */
export const CONFIG_HEADER_SIZE = 64;

/** A subsystem: whose board or product the device is on. */
export interface Subsystem {
  /** Subsystem vendor id. */
  vendorId: number;
  /** Subsystem id. */
  id: number;
}

/** Built-in self test register. */
export interface Bist {
  /** The function can test itself. */
  capable: boolean;
  /** The test is running. */
  running: boolean;
  /** The result of the last test, 4 bits; 0 is good. */
  completionCode: number;
}

/** The part of the header that an ordinary function has. */
export interface NormalHeader {
  /** The kind of the header. */
  layout: "normal";
  /** Offset of the CardBus CIS; 0 if there is none. */
  cardbusCis: number;
  /** The length of a burst that it needs, in quarter microseconds. */
  minGnt: number;
  /** The interval at which it needs the bus, in quarter microseconds. */
  maxLat: number;
}

/** A header of a type that is not known. */
export interface UnknownHeader {
  /** The kind of the header. */
  layout: "unknown";
}

/** A configuration space. */
export interface ConfigSpace {
  /** Bytes that were looked at. */
  size: number;
  /** The header reads as ones only: there is no function. */
  absent: boolean;
  /** Vendor id. */
  vendorId: number;
  /** Device id. */
  deviceId: number;
  /** Subsystem; a bridge says it in a capability, if at all. */
  subsystem?: Subsystem;
  /** Revision id. */
  revisionId: number;
  /** Class code, 24 bits: base class, subclass, programming interface. */
  classCode: number;
  /** Command register. */
  command: Flags;
  /** Status register. */
  status: Flags;
  /** DEVSEL timing, of the status register. */
  devsel: DevselTiming;
  /** Cache line size, dwords. */
  cacheLineSize: number;
  /** Latency timer, bus clocks. */
  latencyTimer: number;
  /** Header type, 7 bits: 0 ordinary, 1 bridge, 2 CardBus bridge. */
  headerType: number;
  /** The device has more functions than this one. */
  multifunction: boolean;
  /** Built-in self test. */
  bist: Bist;
  /** The value that software wrote into the interrupt line register. */
  interruptLine: number;
  /** Interrupt pin: 0 none, 1 INTA to 4 INTD. */
  interruptPin: number;
  /** The part of the header that depends on its kind. */
  header: NormalHeader | BridgeHeader | CardbusHeader | UnknownHeader;
  /** Base address registers that are there. */
  bars: Bar[];
  /** Expansion ROM. */
  rom?: RomBar;
  /** Standard capabilities, in the order of their list. */
  capabilities: Capability[];
  /** Extended capabilities, in the order of their list. */
  extendedCapabilities: Capability[];
  /** Mistakes found in the space as a whole, as a broken list of capabilities. */
  notes: string[];
}

/** Options of {@linkcode parseConfigSpace}. */
export interface ParseConfigSpaceOptions {
  /** Sizes of the regions behind the BARs, if they are known: the registers alone do not tell. */
  regionSizes?: RegionSizes;
}

const HEADER_TYPE_BRIDGE = 1;
const HEADER_TYPE_CARDBUS = 2;

/**
 * Decodes a configuration space of any size from 64 bytes up: 256 of conventional PCI, 4096 of PCI
 * Express. Whatever the bytes are, the result is a value: what is wrong is said in `notes`, here
 * and with each capability and BAR.
 *
 * @throws {ProtocolError} if there are fewer than 64 bytes, which is not even a header
 *
 * @example
 * ```ts
 * import { parseConfigSpace } from "./config_space.ts";
 *
 * const config = new Uint8Array(256);
 * config.set([0x36, 0x1b, 0x10, 0x00, 0x06, 0x04, 0x00, 0x00, 0x02, 0x02, 0x08, 0x01]);
 * const space = parseConfigSpace(config);
 * if (space.vendorId !== 0x1b36 || space.classCode !== 0x010802) throw new Error();
 * if (space.command.set.join() !== "MEMORY,MASTER,INTX_DISABLE") throw new Error();
 * ```
 */
export function parseConfigSpace(
  bytes: Uint8Array,
  options: ParseConfigSpaceOptions = {},
): ConfigSpace {
  if (bytes.length < CONFIG_HEADER_SIZE) {
    throw new ProtocolError(
      `Cannot decode the PCI configuration space: it has ${bytes.length} bytes, ` +
        `${CONFIG_HEADER_SIZE} are needed for its header`,
    );
  }
  const view = new ConfigView(bytes);
  const regionSizes = options.regionSizes ?? (() => undefined);
  const absent = bytes.subarray(0, CONFIG_HEADER_SIZE).every((byte) => byte === 0xff);
  const common = parseCommon(view);
  const notes: string[] = [];
  if (absent) notes.push("There is no function: the header reads as ones only");
  const header = parseHeader(view, common.headerType, notes);
  const lists = absent
    ? { standard: noList(), extended: noList() }
    : parseLists(view, common, regionSizes);
  const subsystem = absent ? undefined : findSubsystem(view, header, lists.standard.capabilities);
  const { bars, rom } = absent ? { bars: [] } : parseAddresses(view, header, regionSizes);
  return {
    size: bytes.length,
    absent,
    ...common,
    ...(subsystem ? { subsystem } : {}),
    header,
    bars,
    ...(rom ? { rom } : {}),
    capabilities: lists.standard.capabilities,
    extendedCapabilities: lists.extended.capabilities,
    notes: [...notes, ...lists.standard.notes, ...lists.extended.notes],
  };
}

function parseCommon(view: ConfigView) {
  const status = view.u16(HEADER.STATUS);
  const classRevision = view.u32(HEADER.CLASS_REVISION);
  const headerType = view.u8(HEADER.HEADER_TYPE);
  const bist = view.u8(HEADER.BIST);
  return {
    vendorId: view.u16(HEADER.VENDOR_ID),
    deviceId: view.u16(HEADER.DEVICE_ID),
    revisionId: classRevision & 0xff,
    classCode: classRevision >>> 8,
    command: flags(view.u16(HEADER.COMMAND), COMMAND),
    status: flags(status, STATUS),
    devsel: devselTiming(status),
    cacheLineSize: view.u8(HEADER.CACHE_LINE_SIZE),
    latencyTimer: view.u8(HEADER.LATENCY_TIMER),
    headerType: bits(headerType, 0, 7),
    multifunction: bit(headerType, 7),
    bist: { capable: bit(bist, 7), running: bit(bist, 6), completionCode: bits(bist, 0, 4) },
    interruptLine: view.u8(HEADER.INTERRUPT_LINE),
    interruptPin: view.u8(HEADER.INTERRUPT_PIN),
  };
}

function parseHeader(view: ConfigView, headerType: number, notes: string[]): ConfigSpace["header"] {
  switch (headerType) {
    case 0:
      return {
        layout: "normal",
        cardbusCis: view.u32(HEADER_NORMAL.CARDBUS_CIS),
        minGnt: view.u8(HEADER_NORMAL.MIN_GNT),
        maxLat: view.u8(HEADER_NORMAL.MAX_LAT),
      };
    case HEADER_TYPE_BRIDGE:
      return parseBridge(view, notes);
    case HEADER_TYPE_CARDBUS:
      return parseCardbus(view);
    default:
      return { layout: "unknown" };
  }
}

/** Bytes of the space of conventional PCI. */
const CONVENTIONAL_SIZE = 256;
/** The ids of PCI-X and PCI Express, with which extended capabilities come. */
const EXTENDING: readonly number[] = [0x07, 0x10];

interface Lists {
  standard: CapabilityChain;
  extended: CapabilityChain;
}

function noList(): CapabilityChain {
  return { capabilities: [], notes: [] };
}

function parseLists(
  view: ConfigView,
  { vendorId, headerType }: { vendorId: number; headerType: number },
  regionSizes: RegionSizes,
): Lists {
  const context = { vendorId, regionSizes, isBridge: headerType === HEADER_TYPE_BRIDGE };
  // A standard capability ends where the extended ones begin.
  const conventional = new ConfigView(view.bytes(0, CONVENTIONAL_SIZE));
  const standard = parseCapabilities(conventional, context);
  const isRoot = standard.capabilities.some((each) =>
    each.kind === "exp" && each.rootControl !== undefined
  );
  const extended = parseExtendedCapabilities(view, { ...context, isRoot });
  const isExpress = standard.capabilities.some(({ id }) => EXTENDING.includes(id));
  if (extended.capabilities.length === 0 || isExpress) return { standard, extended };
  const note = "There are extended capabilities, though none of PCI Express or PCI-X";
  return { standard, extended: { ...extended, notes: [...extended.notes, note] } };
}

function findSubsystem(
  view: ConfigView,
  header: ConfigSpace["header"],
  capabilities: Capability[],
): Subsystem | undefined {
  const at = (vendorOffset: number, offset: number) => {
    const subsystem = { vendorId: view.u16(vendorOffset), id: view.u16(offset) };
    return isVendor(subsystem.vendorId) ? subsystem : undefined;
  };
  switch (header.layout) {
    case "normal":
      return at(HEADER_NORMAL.SUBSYSTEM_VENDOR_ID, HEADER_NORMAL.SUBSYSTEM_ID);
    case "cardbus":
      return at(HEADER_CARDBUS.CB_SUBSYSTEM_VENDOR_ID, HEADER_CARDBUS.CB_SUBSYSTEM_ID);
    default: {
      const ssvid = capabilities.find((capability) => capability.kind === "ssvid");
      return ssvid && isVendor(ssvid.subsystemVendorId)
        ? { vendorId: ssvid.subsystemVendorId, id: ssvid.subsystemId }
        : undefined;
    }
  }
}

/** An id of no vendor says nothing: a register that is not there reads as zeros or ones. */
function isVendor(id: number): boolean {
  return id !== 0 && id !== 0xffff;
}

function parseAddresses(
  view: ConfigView,
  header: ConfigSpace["header"],
  regionSizes: RegionSizes,
): { bars: Bar[]; rom?: RomBar | undefined } {
  switch (header.layout) {
    case "normal":
      return {
        bars: parseBars(view, 6, regionSizes),
        rom: parseRomBar(view, HEADER_NORMAL.ROM_ADDRESS, regionSizes),
      };
    case "bridge":
      return {
        bars: parseBars(view, 2, regionSizes),
        rom: parseRomBar(view, HEADER_BRIDGE.ROM_ADDRESS1, regionSizes),
      };
    case "cardbus":
      return { bars: parseBars(view, 1, regionSizes) };
    default:
      return { bars: [] };
  }
}
