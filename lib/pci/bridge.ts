/**
 * The headers of bridges: to PCI, and to CardBus.
 *
 * @module
 */

import {
  BRIDGE_CTL,
  CARDBUS_CTL,
  type DevselTiming,
  devselTiming,
  type Flags,
  flags,
  HEADER_BRIDGE,
  HEADER_CARDBUS,
  SEC_STATUS,
} from "./registers.ts";
import { bit, type ConfigView } from "./view.ts";

/** A range of addresses that a bridge passes on. */
export interface BridgeWindow {
  /** First address. */
  base: bigint;
  /** Last address. */
  limit: bigint;
  /** Bits of its addresses. */
  widthBits: 16 | 32 | 64;
  /** It passes something on: base is not above limit. */
  enabled: boolean;
}

/** The part of the header that a PCI-to-PCI bridge has. */
export interface BridgeHeader {
  /** The kind of the header. */
  layout: "bridge";
  /** Bus above the bridge. */
  primaryBus: number;
  /** Bus right below it. */
  secondaryBus: number;
  /** Highest bus below it. */
  subordinateBus: number;
  /** Latency timer of the bus below. */
  secondaryLatencyTimer: number;
  /** I/O ports below the bridge. */
  ioWindow: BridgeWindow;
  /** Memory below the bridge. */
  memoryWindow: BridgeWindow;
  /** Prefetchable memory below the bridge. */
  prefetchableWindow: BridgeWindow;
  /** Status of the bus below. */
  secondaryStatus: Flags;
  /** DEVSEL timing of the bus below. */
  secondaryDevsel: DevselTiming;
  /** Bridge control. */
  bridgeControl: Flags;
}

/** A range of addresses that a CardBus bridge passes on. */
export interface CardbusWindow extends BridgeWindow {
  /** Memory may be read ahead; false of I/O ports. */
  prefetchable: boolean;
}

/** The part of the header that a CardBus bridge has. */
export interface CardbusHeader {
  /** The kind of the header. */
  layout: "cardbus";
  /** Bus above the bridge. */
  primaryBus: number;
  /** Bus of the card. */
  cardBus: number;
  /** Highest bus below it. */
  subordinateBus: number;
  /** Latency timer of the card's bus. */
  cardLatencyTimer: number;
  /** Memory of the card, two windows. */
  memoryWindows: CardbusWindow[];
  /** I/O ports of the card, two windows. */
  ioWindows: CardbusWindow[];
  /** Status of the card's bus. */
  secondaryStatus: Flags;
  /** DEVSEL timing of the card's bus. */
  secondaryDevsel: DevselTiming;
  /** Bridge control, 16 bits. */
  bridgeControl: number;
  /** Its flags. */
  bridgeControlFlags: Flags;
  /** Base of the ports by which 16-bit cards are controlled; 0 if a space has no room for it. */
  legacyPort: number;
}

/** Decodes the header of a PCI-to-PCI bridge; types of windows that differ are noted. */
export function parseBridge(view: ConfigView, notes: string[]): BridgeHeader {
  const secondaryStatus = view.u16(HEADER_BRIDGE.SEC_STATUS);
  return {
    layout: "bridge",
    primaryBus: view.u8(HEADER_BRIDGE.PRIMARY_BUS),
    secondaryBus: view.u8(HEADER_BRIDGE.SECONDARY_BUS),
    subordinateBus: view.u8(HEADER_BRIDGE.SUBORDINATE_BUS),
    secondaryLatencyTimer: view.u8(HEADER_BRIDGE.SEC_LATENCY_TIMER),
    ioWindow: parseIoWindow(view, notes),
    memoryWindow: bridgeWindow(
      BigInt(view.u16(HEADER_BRIDGE.MEMORY_BASE) & 0xfff0) << 16n,
      BigInt(view.u16(HEADER_BRIDGE.MEMORY_LIMIT) & 0xfff0) << 16n | 0xfffffn,
      32,
    ),
    prefetchableWindow: parsePrefetchableWindow(view, notes),
    secondaryStatus: flags(secondaryStatus, SEC_STATUS),
    secondaryDevsel: devselTiming(secondaryStatus),
    bridgeControl: flags(view.u16(HEADER_BRIDGE.BRIDGE_CONTROL), BRIDGE_CTL),
  };
}

function bridgeWindow(base: bigint, limit: bigint, widthBits: 16 | 32 | 64): BridgeWindow {
  return { base, limit, widthBits, enabled: base <= limit };
}

/**
 * The low four bits of base and limit say whether the upper halves count; both must say the same.
 */
function isWide(what: string, baseType: number, limitType: number, notes: string[]): boolean {
  if (baseType !== limitType || baseType > 1) {
    notes.push(`The ${what} window has types ${baseType} of base and ${limitType} of limit`);
  }
  return baseType === 1;
}

function parseIoWindow(view: ConfigView, notes: string[]): BridgeWindow {
  const base = view.u8(HEADER_BRIDGE.IO_BASE);
  const limit = view.u8(HEADER_BRIDGE.IO_LIMIT);
  const wide = isWide("I/O", base & 0xf, limit & 0xf, notes);
  const upper = (offset: number) => wide ? BigInt(view.u16(offset)) << 16n : 0n;
  return bridgeWindow(
    upper(HEADER_BRIDGE.IO_BASE_UPPER16) | BigInt((base & 0xf0) << 8),
    upper(HEADER_BRIDGE.IO_LIMIT_UPPER16) | BigInt((limit & 0xf0) << 8 | 0xfff),
    wide ? 32 : 16,
  );
}

function parsePrefetchableWindow(view: ConfigView, notes: string[]): BridgeWindow {
  const base = view.u16(HEADER_BRIDGE.PREF_MEMORY_BASE);
  const limit = view.u16(HEADER_BRIDGE.PREF_MEMORY_LIMIT);
  const wide = isWide("prefetchable memory", base & 0xf, limit & 0xf, notes);
  const upper = (offset: number) => wide ? BigInt(view.u32(offset)) << 32n : 0n;
  return bridgeWindow(
    upper(HEADER_BRIDGE.PREF_BASE_UPPER32) | BigInt(base & 0xfff0) << 16n,
    upper(HEADER_BRIDGE.PREF_LIMIT_UPPER32) | BigInt(limit & 0xfff0) << 16n | 0xfffffn,
    wide ? 64 : 32,
  );
}

/** Decodes the header of a CardBus bridge. */
export function parseCardbus(view: ConfigView): CardbusHeader {
  const secondaryStatus = view.u16(HEADER_CARDBUS.CB_SEC_STATUS);
  const control = view.u16(HEADER_CARDBUS.CB_BRIDGE_CONTROL);
  return {
    layout: "cardbus",
    primaryBus: view.u8(HEADER_CARDBUS.CB_PRIMARY_BUS),
    cardBus: view.u8(HEADER_CARDBUS.CB_CARD_BUS),
    subordinateBus: view.u8(HEADER_CARDBUS.CB_SUBORDINATE_BUS),
    cardLatencyTimer: view.u8(HEADER_CARDBUS.CB_LATENCY_TIMER),
    memoryWindows: [0, 1].map((index) => {
      const [base, limit] = windowAt(view, HEADER_CARDBUS.CB_MEMORY_BASE_0, index);
      // A window is of pages; bit 8 or 9 of bridge control says that it may be read ahead.
      const window = bridgeWindow(BigInt(base) & 0xffff_f000n, BigInt(limit) | 0xfffn, 32);
      return { ...window, prefetchable: bit(control, 8 + index) };
    }),
    ioWindows: [0, 1].map((index) => {
      const [base, limit] = windowAt(view, HEADER_CARDBUS.CB_IO_BASE_0, index);
      const isWide = bit(base, 0);
      const mask = isWide ? 0xffff_fffcn : 0xfffcn;
      const window = bridgeWindow(BigInt(base) & mask, BigInt(limit) & mask | 3n, isWide ? 32 : 16);
      return { ...window, prefetchable: false };
    }),
    secondaryStatus: flags(secondaryStatus, SEC_STATUS),
    secondaryDevsel: devselTiming(secondaryStatus),
    bridgeControl: control,
    bridgeControlFlags: flags(control, CARDBUS_CTL),
    // It is behind the header, in a space of more than that.
    legacyPort: view.size > HEADER_CARDBUS.CB_LEGACY_MODE_BASE + 3
      ? view.u32(HEADER_CARDBUS.CB_LEGACY_MODE_BASE)
      : 0,
  };
}

/** Base and limit of one of two windows. */
function windowAt(view: ConfigView, start: number, index: number): [base: number, limit: number] {
  return [view.u32(start + 8 * index), view.u32(start + 8 * index + 4)];
}
