/**
 * Standard capabilities, apart from PCI Express: the value of each and its decoder.
 *
 * @module
 */

import type { CapabilityReader } from "./capability_reader.ts";
import { decodeExpress, type ExpressCapability } from "./express.ts";
import { bit, bits } from "./view.ts";
import { decodeVirtio, VIRTIO_VENDOR_ID, type VirtioStructure } from "./virtio.ts";

/** Power Management. */
export interface PowerManagementCapability {
  /** The kind of the capability. */
  kind: "pm";
  /** Version of the structure. */
  structureVersion: number;
  /** Needs the PCI clock to generate PME. */
  pmeClock: boolean;
  /** Needs initialization by its own driver. */
  deviceSpecificInit: boolean;
  /** Current from the auxiliary supply, milliamperes. */
  auxCurrentMa: number;
  /** State D1 is supported. */
  d1: boolean;
  /** State D2 is supported. */
  d2: boolean;
  /** States in which PME can be generated. */
  pmeSupport: string[];
  /** The state now. */
  powerState: string;
  /** The function keeps its state on the way from D3hot to D0. */
  noSoftReset: boolean;
  /** PME is enabled. */
  pmeEnabled: boolean;
  /** PME is pending. */
  pmeStatus: boolean;
}

/** AGP and AGP3. */
export interface AgpCapability {
  /** The kind of the capability. */
  kind: "agp";
  /** Major version. */
  major: number;
  /** Minor version. */
  minor: number;
}

/** Vital Product Data. */
export interface VpdCapability {
  /** The kind of the capability. */
  kind: "vpd";
  /** Address of the word that was asked for last. */
  address: number;
  /** Flag F: the transfer is complete (of a read) or not yet begun (of a write). */
  flag: boolean;
}

/** Slot identification. */
export interface SlotIdCapability {
  /** The kind of the capability. */
  kind: "slot_id";
  /** Expansion slots of the bridge. */
  numSlots: number;
  /** The bridge is the first of its chassis. */
  firstInChassis: boolean;
  /** Chassis number. */
  chassis: number;
}

/** Message signalled interrupts. */
export interface MsiCapability {
  /** The kind of the capability. */
  kind: "msi";
  /** Interrupts are signalled by messages. */
  enabled: boolean;
  /** Vectors that the function can use. */
  capableCount: number;
  /** Vectors that it was given. */
  enabledCount: number;
  /** Bits of the address. */
  addressBits: 32 | 64;
  /** Vectors can be masked one by one. */
  maskable: boolean;
  /** The address that messages are written to. */
  address: bigint;
  /** The data that is written, 16 bits. */
  data: number;
  /** Masked vectors, a bit each. */
  mask?: number;
  /** Pending vectors, a bit each. */
  pending?: number;
}

/** Extended message signalled interrupts. */
export interface MsixCapability {
  /** The kind of the capability. */
  kind: "msix";
  /** Interrupts are signalled by messages of the table. */
  enabled: boolean;
  /** All vectors are masked. */
  functionMasked: boolean;
  /** Entries of the table. */
  tableSize: number;
  /** BAR that holds the table. */
  tableBar: number;
  /** The offset in that BAR, in bytes. */
  tableOffset: number;
  /** BAR that holds the pending bits. */
  pbaBar: number;
  /** The offset in that BAR, in bytes. */
  pbaOffset: number;
}

/** HyperTransport. */
export interface HyperTransportCapability {
  /** The kind of the capability. */
  kind: "ht";
  /** Its capability type, 5 bits; 0 to 7 are slave or primary interfaces. */
  htType: number;
}

/** Vendor-specific. */
export interface VendorCapability {
  /** The kind of the capability. */
  kind: "vendor";
  /** Bytes of the structure, as it says. */
  length: number;
  /** The bytes after id, next pointer and length. */
  bytes: Uint8Array;
  /** The structure of virtio, if the function is a virtio device. */
  virtio?: VirtioStructure;
}

/** USB debug port. */
export interface DebugPortCapability {
  /** The kind of the capability. */
  kind: "debug_port";
  /** BAR that holds the registers. */
  bar: number;
  /** The offset in that BAR, in bytes. */
  barOffset: number;
}

/** Subsystem of a bridge. */
export interface SubsystemCapability {
  /** The kind of the capability. */
  kind: "ssvid";
  /** Subsystem vendor id. */
  subsystemVendorId: number;
  /** Subsystem id. */
  subsystemId: number;
}

/** SATA index and data registers. */
export interface SataCapability {
  /** The kind of the capability. */
  kind: "sata";
  /** Major revision. */
  major: number;
  /** Minor revision. */
  minor: number;
  /** The place of the registers: 4 to 9 for BAR 0 to 5, 15 for the configuration space itself. */
  barLocation: number;
  /** The offset in that BAR, in bytes. */
  barOffset: number;
}

/** Advanced Features of conventional PCI. */
export interface AdvancedFeaturesCapability {
  /** The kind of the capability. */
  kind: "af";
  /** Bytes of the structure, as it says. */
  length: number;
  /** Transactions Pending is supported. */
  transactionsPendingSupported: boolean;
  /** Function Level Reset is supported. */
  functionLevelReset: boolean;
  /** Transactions are pending. */
  transactionsPending: boolean;
}

/** Enhanced Allocation: regions at fixed addresses. */
export interface EnhancedAllocationCapability {
  /** The kind of the capability. */
  kind: "ea";
  /** Entries that follow. */
  numEntries: number;
}

/** A capability that has a name, but no typed fields; its `registers` may be decoded. */
export interface NamedCapability {
  /** The kind of the capability. */
  kind: "named";
  /** Its first bytes, 16 at most, the header among them. */
  bytes: Uint8Array;
}

/** A capability whose id has no name. */
export interface UnknownCapability {
  /** The kind of the capability. */
  kind: "unknown";
  /** Its first bytes, 16 at most, the header among them. */
  bytes: Uint8Array;
}

/** The registers of a standard capability. */
export type StandardFields =
  | PowerManagementCapability
  | AgpCapability
  | VpdCapability
  | SlotIdCapability
  | MsiCapability
  | MsixCapability
  | HyperTransportCapability
  | VendorCapability
  | DebugPortCapability
  | SubsystemCapability
  | ExpressCapability
  | SataCapability
  | AdvancedFeaturesCapability
  | EnhancedAllocationCapability;

/** Decoders of the standard capabilities, by id. */
export const STANDARD_DECODERS: Readonly<
  Record<number, (at: CapabilityReader) => StandardFields>
> = {
  0x01: decodePowerManagement,
  0x02: decodeAgp,
  0x03: decodeVpd,
  0x04: decodeSlotId,
  0x05: decodeMsi,
  0x08: decodeHyperTransport,
  0x09: decodeVendor,
  0x0a: decodeDebugPort,
  0x0d: decodeSubsystem,
  0x0e: decodeAgp,
  0x10: decodeExpress,
  0x11: decodeMsix,
  0x12: decodeSata,
  0x13: decodeAdvancedFeatures,
  0x14: decodeEnhancedAllocation,
};

const AUX_CURRENT_MA = [0, 55, 100, 160, 220, 270, 320, 375];
const PME_STATES = ["D0", "D1", "D2", "D3hot", "D3cold"];
const POWER_STATES = ["D0", "D1", "D2", "D3"];

function decodePowerManagement(at: CapabilityReader): PowerManagementCapability {
  const capabilities = at.u16(0x02);
  const control = at.u16(0x04);
  return {
    kind: "pm",
    structureVersion: bits(capabilities, 0, 3),
    pmeClock: bit(capabilities, 3),
    deviceSpecificInit: bit(capabilities, 5),
    auxCurrentMa: AUX_CURRENT_MA[bits(capabilities, 6, 3)]!,
    d1: bit(capabilities, 9),
    d2: bit(capabilities, 10),
    pmeSupport: PME_STATES.filter((_, index) => bit(capabilities, 11 + index)),
    powerState: POWER_STATES[bits(control, 0, 2)]!,
    noSoftReset: bit(control, 3),
    pmeEnabled: bit(control, 8),
    pmeStatus: bit(control, 15),
  };
}

function decodeAgp(at: CapabilityReader): AgpCapability {
  const version = at.u8(0x02);
  return { kind: "agp", major: bits(version, 4, 4), minor: bits(version, 0, 4) };
}

function decodeVpd(at: CapabilityReader): VpdCapability {
  const address = at.u16(0x02);
  return { kind: "vpd", address: bits(address, 0, 15), flag: bit(address, 15) };
}

function decodeSlotId(at: CapabilityReader): SlotIdCapability {
  const slot = at.u8(0x02);
  return {
    kind: "slot_id",
    numSlots: bits(slot, 0, 5),
    firstInChassis: bit(slot, 5),
    chassis: at.u8(0x03),
  };
}

function decodeMsi(at: CapabilityReader): MsiCapability {
  const control = at.u16(0x02);
  const addressBits = bit(control, 7) ? 64 : 32;
  const maskable = bit(control, 8);
  const data = addressBits === 64 ? 0x0c : 0x08;
  return {
    kind: "msi",
    enabled: bit(control, 0),
    capableCount: 1 << bits(control, 1, 3),
    enabledCount: 1 << bits(control, 4, 3),
    addressBits,
    maskable,
    address: addressBits === 64 ? at.u64(0x04) : BigInt(at.u32(0x04)),
    data: at.u16(data),
    ...(maskable ? { mask: at.u32(data + 4), pending: at.u32(data + 8) } : {}),
  };
}

function decodeMsix(at: CapabilityReader): MsixCapability {
  const control = at.u16(0x02);
  const table = at.u32(0x04);
  const pba = at.u32(0x08);
  const value: MsixCapability = {
    kind: "msix",
    enabled: bit(control, 15),
    functionMasked: bit(control, 14),
    tableSize: bits(control, 0, 11) + 1,
    tableBar: bits(table, 0, 3),
    tableOffset: (table & ~7) >>> 0,
    pbaBar: bits(pba, 0, 3),
    pbaOffset: (pba & ~7) >>> 0,
  };
  const tableBytes = 16 * value.tableSize;
  const pbaBytes = 8 * Math.ceil(value.tableSize / 64);
  at.checkInBar("the vector table", value.tableBar, value.tableOffset, tableBytes);
  at.checkInBar("the pending bit array", value.pbaBar, value.pbaOffset, pbaBytes);
  const overlap = value.tableBar === value.pbaBar &&
    value.tableOffset < value.pbaOffset + pbaBytes &&
    value.pbaOffset < value.tableOffset + tableBytes;
  if (overlap) at.notes.push("the vector table and the pending bit array overlap");
  return value;
}

function decodeHyperTransport(at: CapabilityReader): HyperTransportCapability {
  return { kind: "ht", htType: bits(at.u16(0x02), 11, 5) };
}

function decodeVendor(at: CapabilityReader): VendorCapability {
  const length = at.u8(0x02);
  if (length < 3) at.notes.push(`it says that it has ${length} bytes; 3 are the least`);
  const value: VendorCapability = {
    kind: "vendor",
    length,
    bytes: at.bytes(0x03, Math.max(length - 3, 0)),
  };
  if (length >= 3 && value.bytes.length < length - 3) {
    at.notes.push("it reaches past the end of the configuration space");
  }
  const isVirtio = at.context.vendorId === VIRTIO_VENDOR_ID;
  return isVirtio ? { ...value, virtio: decodeVirtio(at, length) } : value;
}

function decodeDebugPort(at: CapabilityReader): DebugPortCapability {
  const port = at.u16(0x02);
  return { kind: "debug_port", bar: bits(port, 13, 3), barOffset: bits(port, 0, 13) };
}

function decodeSubsystem(at: CapabilityReader): SubsystemCapability {
  return { kind: "ssvid", subsystemVendorId: at.u16(0x04), subsystemId: at.u16(0x06) };
}

function decodeSata(at: CapabilityReader): SataCapability {
  const revision = at.u16(0x02);
  const location = at.u32(0x04);
  return {
    kind: "sata",
    major: bits(revision, 4, 4),
    minor: bits(revision, 0, 4),
    barLocation: bits(location, 0, 4),
    barOffset: 4 * bits(location, 4, 20),
  };
}

function decodeAdvancedFeatures(at: CapabilityReader): AdvancedFeaturesCapability {
  const capabilities = at.u8(0x03);
  return {
    kind: "af",
    length: at.u8(0x02),
    transactionsPendingSupported: bit(capabilities, 0),
    functionLevelReset: bit(capabilities, 1),
    transactionsPending: bit(at.u8(0x05), 0),
  };
}

function decodeEnhancedAllocation(at: CapabilityReader): EnhancedAllocationCapability {
  return { kind: "ea", numEntries: bits(at.u8(0x02), 0, 6) };
}
