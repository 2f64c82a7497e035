/**
 * Extended capabilities: the value of each one that is decoded, and its decoder.
 *
 * @module
 */

import type { Bar } from "./bar.ts";
import type { CapabilityReader } from "./capability_reader.ts";
import {
  ACS,
  ERR_COR,
  ERR_ROOT_COMMAND,
  ERR_ROOT_STATUS,
  ERR_UNC,
  type Flags,
  flags,
  L1SS,
  SRIOV_CTRL,
} from "./registers.ts";
import { bit, bits } from "./view.ts";
import { hexDigits } from "../text/hex.ts";

/** Advanced Error Reporting. */
export interface AerCapability {
  /** The kind of the capability. */
  kind: "aer";
  /** Uncorrectable errors that happened. */
  uncorrectableStatus: Flags;
  /** Uncorrectable errors that are not reported. */
  uncorrectableMask: Flags;
  /** Uncorrectable errors that are fatal. */
  uncorrectableSeverity: Flags;
  /** Correctable errors that happened. */
  correctableStatus: Flags;
  /** Correctable errors that are not reported. */
  correctableMask: Flags;
  /** The uncorrectable status bit of the first error. */
  firstErrorPointer: number;
  /** ECRC can be generated. */
  ecrcGenerationCapable: boolean;
  /** ECRC is generated. */
  ecrcGenerationEnabled: boolean;
  /** ECRC can be checked. */
  ecrcCheckCapable: boolean;
  /** ECRC is checked. */
  ecrcCheckEnabled: boolean;
  /** The header of the first error's packet: four dwords. */
  headerLog: number[];
  /** Errors that a root port or an event collector has collected. */
  root?: AerRoot;
}

/** The registers of a root in Advanced Error Reporting. */
export interface AerRoot {
  /** Errors that are reported by an interrupt. */
  command: Flags;
  /** Errors that came. */
  status: Flags;
  /** Interrupt message number. */
  interruptMessage: number;
  /** Routing id of the first function with a correctable error. */
  correctableSource: number;
  /** Routing id of the first function with an uncorrectable error. */
  uncorrectableSource: number;
}

/** Virtual Channel, alone or with the Multi-Function one. */
export interface VirtualChannelCapability {
  /** The kind of the capability. */
  kind: "vc";
  /** Channels beside channel 0. */
  extendedCount: number;
  /** The number of them in the low priority group. */
  lowPriorityCount: number;
}

/** Device Serial Number. */
export interface SerialNumberCapability {
  /** The kind of the capability. */
  kind: "dsn";
  /** The EUI-64, as "01-02-03-04-05-06-07-08". */
  serialNumber: string;
}

/** Vendor-specific extended capability. */
export interface VsecCapability {
  /** The kind of the capability. */
  kind: "vsec";
  /** The vendor's id of it. */
  vsecId: number;
  /** The vendor's revision of it. */
  vsecRevision: number;
  /** Bytes of the structure, as it says, both headers included. */
  length: number;
}

/** Designated vendor-specific extended capability. */
export interface DvsecCapability {
  /** The kind of the capability. */
  kind: "dvsec";
  /** The vendor that defines it; 0x1e98 is CXL. */
  dvsecVendorId: number;
  /** The vendor's id of it. */
  dvsecId: number;
  /** The vendor's revision of it. */
  dvsecRevision: number;
  /** Bytes of the structure, as it says, the headers included. */
  length: number;
}

/** Access Control Services. */
export interface AcsCapability {
  /** The kind of the capability. */
  kind: "acs";
  /** Features that are supported. */
  capabilities: Flags;
  /** Features that are enabled. */
  control: Flags;
}

/** Alternative Routing-ID Interpretation. */
export interface AriCapability {
  /** The kind of the capability. */
  kind: "ari";
  /** Function groups of MFVC are supported. */
  mfvcGroups: boolean;
  /** Function groups of ACS are supported. */
  acsGroups: boolean;
  /** The next function of the device; 0 after the last. */
  nextFunction: number;
  /** Group of this function. */
  functionGroup: number;
}

/** Address Translation Services. */
export interface AtsCapability {
  /** The kind of the capability. */
  kind: "ats";
  /** Translations are asked for. */
  enabled: boolean;
  /** Invalidate requests that can be queued. */
  invalidateQueueDepth: number;
  /** Smallest translation unit, bytes as a power of two. */
  smallestTranslationUnitLog2: number;
}

/** Single Root I/O Virtualization. */
export interface SriovCapability {
  /** The kind of the capability. */
  kind: "sriov";
  /** Flags of its control register. */
  control: Flags;
  /** Virtual functions at first. */
  initialVfs: number;
  /** Virtual functions at most. */
  totalVfs: number;
  /** Virtual functions now. */
  numVfs: number;
  /** Routing id of the first virtual function, from this one's. */
  firstVfOffset: number;
  /** Routing ids from one virtual function to the next. */
  vfStride: number;
  /** Device id of virtual functions. */
  vfDeviceId: number;
  /** Page sizes that are supported: bit n for 4 KiB << n. */
  supportedPageSizes: number;
  /** Page size in use, in the same way. */
  systemPageSize: number;
  /** BAR registers of the virtual functions, six. */
  vfBarRegisters: number[];
  /** The same decoded, as far as they are there. */
  vfBars: Bar[];
}

/** Page Request Interface. */
export interface PriCapability {
  /** The kind of the capability. */
  kind: "pri";
  /** Requests may be made. */
  enabled: boolean;
  /** The function has stopped making requests. */
  stopped: boolean;
  /** Requests that the function can have under way. */
  capacity: number;
  /** Requests that it is allowed. */
  allocation: number;
}

/** One BAR that can be resized. */
export interface ResizableBar {
  /** Index of the BAR. */
  bar: number;
  /** Size now, bytes. */
  size: bigint;
  /** Sizes that are supported, bytes. */
  supportedSizes: bigint[];
}

/** Resizable BAR, of the function or its virtual functions. */
export interface ResizableBarCapability {
  /** The kind of the capability. */
  kind: "rebar";
  /** The BARs that can be resized. */
  resizable: ResizableBar[];
}

/** TPH Requester. */
export interface TphCapability {
  /** The kind of the capability. */
  kind: "tph";
  /** Interrupt vector mode is supported. */
  interruptVectorMode: boolean;
  /** Device specific mode is supported. */
  deviceSpecificMode: boolean;
  /** The place of the steering tag table: 0 nowhere, 1 in this capability, 2 in the MSI-X table. */
  stTableLocation: number;
  /** Entries of the steering tag table. */
  stTableSize: number;
}

/** Latency Tolerance Reporting. */
export interface LtrCapability {
  /** The kind of the capability. */
  kind: "ltr";
  /** Longest latency of snooped requests, nanoseconds. */
  maxSnoopNs: number;
  /** Longest latency of requests without snoop, nanoseconds. */
  maxNoSnoopNs: number;
}

/** Secondary PCI Express. */
export interface SecondaryExpressCapability {
  /** The kind of the capability. */
  kind: "secpci";
  /** Link Control 3. */
  linkControl3: number;
  /** Lanes that had errors, a bit each. */
  laneErrorStatus: number;
}

/** Process Address Space ID. */
export interface PasidCapability {
  /** The kind of the capability. */
  kind: "pasid";
  /** Execute permission is supported. */
  execute: boolean;
  /** Privileged mode is supported. */
  privileged: boolean;
  /** Bits of an id. */
  widthBits: number;
  /** Ids are used. */
  enabled: boolean;
}

/** Downstream Port Containment. */
export interface DpcCapability {
  /** The kind of the capability. */
  kind: "dpc";
  /** Interrupt message number. */
  interruptMessage: number;
  /** The errors that trigger it: 0 none, 1 fatal ones, 2 non-fatal ones too. */
  triggerEnable: number;
  /** It was triggered. */
  triggered: boolean;
}

/** L1 PM Substates. */
export interface L1PmCapability {
  /** The kind of the capability. */
  kind: "l1pm";
  /** Features that are supported. */
  capabilities: Flags;
  /** Features that are enabled. */
  control: Flags;
}

/** Precision Time Measurement. */
export interface PtmCapability {
  /** The kind of the capability. */
  kind: "ptm";
  /** Can ask for the time. */
  requester: boolean;
  /** Can answer. */
  responder: boolean;
  /** Can be the root of time. */
  root: boolean;
  /** Granularity of the local clock, nanoseconds; 0 none, 255 more than 254. */
  clockGranularityNs: number;
  /** Measurement is enabled. */
  enabled: boolean;
  /** This one is the root of time. */
  rootSelected: boolean;
}

/** The registers of an extended capability. */
export type ExtendedFields =
  | AerCapability
  | VirtualChannelCapability
  | SerialNumberCapability
  | VsecCapability
  | DvsecCapability
  | AcsCapability
  | AriCapability
  | AtsCapability
  | SriovCapability
  | PriCapability
  | ResizableBarCapability
  | TphCapability
  | LtrCapability
  | SecondaryExpressCapability
  | PasidCapability
  | DpcCapability
  | L1PmCapability
  | PtmCapability;

/** Decoders of the extended capabilities, by id. */
export const EXTENDED_DECODERS: Readonly<
  Record<number, (at: CapabilityReader) => ExtendedFields>
> = {
  0x01: decodeAer,
  0x02: decodeVirtualChannel,
  0x03: decodeSerialNumber,
  0x08: decodeVirtualChannel,
  0x09: decodeVirtualChannel,
  0x0b: decodeVsec,
  0x0d: decodeAcs,
  0x0e: decodeAri,
  0x0f: decodeAts,
  0x10: decodeSriov,
  0x13: decodePri,
  0x15: decodeResizableBar,
  0x17: decodeTph,
  0x18: decodeLtr,
  0x19: decodeSecondaryExpress,
  0x1b: decodePasid,
  0x1d: decodeDpc,
  0x1e: decodeL1Pm,
  0x1f: decodePtm,
  0x23: decodeDvsec,
  0x24: decodeResizableBar,
};

function decodeAer(at: CapabilityReader): AerCapability {
  const control = at.u32(0x18);
  return {
    kind: "aer",
    uncorrectableStatus: flags(at.u32(0x04), ERR_UNC),
    uncorrectableMask: flags(at.u32(0x08), ERR_UNC),
    uncorrectableSeverity: flags(at.u32(0x0c), ERR_UNC),
    correctableStatus: flags(at.u32(0x10), ERR_COR),
    correctableMask: flags(at.u32(0x14), ERR_COR),
    firstErrorPointer: bits(control, 0, 5),
    ecrcGenerationCapable: bit(control, 5),
    ecrcGenerationEnabled: bit(control, 6),
    ecrcCheckCapable: bit(control, 7),
    ecrcCheckEnabled: bit(control, 8),
    headerLog: [at.u32(0x1c), at.u32(0x20), at.u32(0x24), at.u32(0x28)],
    ...(at.context.isRoot && { root: decodeAerRoot(at) }),
  };
}

function decodeAerRoot(at: CapabilityReader): AerRoot {
  const status = at.u32(0x30);
  return {
    command: flags(at.u32(0x2c), ERR_ROOT_COMMAND),
    status: flags(status, ERR_ROOT_STATUS),
    interruptMessage: bits(status, 27, 5),
    correctableSource: at.u16(0x34),
    uncorrectableSource: at.u16(0x36),
  };
}

function decodeVirtualChannel(at: CapabilityReader): VirtualChannelCapability {
  const capability = at.u32(0x04);
  return {
    kind: "vc",
    extendedCount: bits(capability, 0, 3),
    lowPriorityCount: bits(capability, 4, 3),
  };
}

function decodeSerialNumber(at: CapabilityReader): SerialNumberCapability {
  const digits = hexDigits(at.u64(0x04), 16);
  return { kind: "dsn", serialNumber: digits.match(/../g)!.join("-") };
}

function decodeVsec(at: CapabilityReader): VsecCapability {
  const header = at.u32(0x04);
  return {
    kind: "vsec",
    vsecId: bits(header, 0, 16),
    vsecRevision: bits(header, 16, 4),
    length: bits(header, 20, 12),
  };
}

function decodeDvsec(at: CapabilityReader): DvsecCapability {
  const header = at.u32(0x04);
  return {
    kind: "dvsec",
    dvsecVendorId: bits(header, 0, 16),
    dvsecId: at.u16(0x08),
    dvsecRevision: bits(header, 16, 4),
    length: bits(header, 20, 12),
  };
}

function decodeAcs(at: CapabilityReader): AcsCapability {
  return {
    kind: "acs",
    capabilities: flags(at.u16(0x04), ACS),
    control: flags(at.u16(0x06), ACS),
  };
}

function decodeAri(at: CapabilityReader): AriCapability {
  const capability = at.u16(0x04);
  return {
    kind: "ari",
    mfvcGroups: bit(capability, 0),
    acsGroups: bit(capability, 1),
    nextFunction: bits(capability, 8, 8),
    functionGroup: bits(at.u16(0x06), 4, 3),
  };
}

function decodeAts(at: CapabilityReader): AtsCapability {
  const control = at.u16(0x06);
  return {
    kind: "ats",
    enabled: bit(control, 15),
    invalidateQueueDepth: bits(at.u16(0x04), 0, 5) || 32,
    smallestTranslationUnitLog2: 12 + bits(control, 0, 5),
  };
}

function decodeSriov(at: CapabilityReader): SriovCapability {
  return {
    kind: "sriov",
    control: flags(at.u16(0x08), SRIOV_CTRL),
    initialVfs: at.u16(0x0c),
    totalVfs: at.u16(0x0e),
    numVfs: at.u16(0x10),
    firstVfOffset: at.u16(0x14),
    vfStride: at.u16(0x16),
    vfDeviceId: at.u16(0x1a),
    supportedPageSizes: at.u32(0x1c),
    systemPageSize: at.u32(0x20),
    vfBarRegisters: Array.from({ length: 6 }, (_, index) => at.u32(0x24 + 4 * index)),
    vfBars: at.bars(0x24, 6),
  };
}

function decodePri(at: CapabilityReader): PriCapability {
  return {
    kind: "pri",
    enabled: bit(at.u16(0x04), 0),
    stopped: bit(at.u16(0x06), 8),
    capacity: at.u32(0x08),
    allocation: at.u32(0x0c),
  };
}

/** Sizes begin at 1 MiB. */
const REBAR_SIZE_LOG2 = 20n;

function decodeResizableBar(at: CapabilityReader): ResizableBarCapability {
  const count = bits(at.u32(0x08), 5, 3);
  if (count === 0 || count > 6) at.notes.push(`it says that ${count} BARs can be resized`);
  const resizable = Array.from({ length: Math.min(count, 6) }, (_, index): ResizableBar => {
    // Bits 31:4 of the first register are 1 MiB to 128 TiB; 31:16 of the second go on from there.
    const capability = BigInt(at.u32(0x04 + 8 * index) >>> 4);
    const control = at.u32(0x08 + 8 * index);
    const supported = capability | BigInt(control >>> 16) << 28n;
    const supportedSizes: bigint[] = [];
    for (let power = 0n; power < 44n; power++) {
      if (supported >> power & 1n) supportedSizes.push(1n << (REBAR_SIZE_LOG2 + power));
    }
    const size = 1n << (REBAR_SIZE_LOG2 + BigInt(bits(control, 8, 6)));
    return { bar: bits(control, 0, 3), size, supportedSizes };
  });
  return { kind: "rebar", resizable };
}

function decodeTph(at: CapabilityReader): TphCapability {
  const capability = at.u32(0x04);
  return {
    kind: "tph",
    interruptVectorMode: bit(capability, 1),
    deviceSpecificMode: bit(capability, 2),
    stTableLocation: bits(capability, 9, 2),
    stTableSize: bits(capability, 16, 11) + 1,
  };
}

/** A latency is 10 bits of value and 3 of scale, which is a power of 32. */
function latencyNs(register: number): number {
  return bits(register, 0, 10) * 32 ** bits(register, 10, 3);
}

function decodeLtr(at: CapabilityReader): LtrCapability {
  return {
    kind: "ltr",
    maxSnoopNs: latencyNs(at.u16(0x04)),
    maxNoSnoopNs: latencyNs(at.u16(0x06)),
  };
}

function decodeSecondaryExpress(at: CapabilityReader): SecondaryExpressCapability {
  return { kind: "secpci", linkControl3: at.u32(0x04), laneErrorStatus: at.u32(0x08) };
}

function decodePasid(at: CapabilityReader): PasidCapability {
  const capability = at.u16(0x04);
  return {
    kind: "pasid",
    execute: bit(capability, 1),
    privileged: bit(capability, 2),
    widthBits: bits(capability, 8, 5),
    enabled: bit(at.u16(0x06), 0),
  };
}

function decodeDpc(at: CapabilityReader): DpcCapability {
  return {
    kind: "dpc",
    interruptMessage: bits(at.u16(0x04), 0, 5),
    triggerEnable: bits(at.u16(0x06), 0, 2),
    triggered: bit(at.u16(0x08), 0),
  };
}

function decodeL1Pm(at: CapabilityReader): L1PmCapability {
  return {
    kind: "l1pm",
    capabilities: flags(at.u32(0x04), L1SS),
    control: flags(at.u32(0x08) & 0xf, L1SS),
  };
}

function decodePtm(at: CapabilityReader): PtmCapability {
  const capability = at.u32(0x04);
  const control = at.u32(0x08);
  return {
    kind: "ptm",
    requester: bit(capability, 0),
    responder: bit(capability, 1),
    root: bit(capability, 2),
    clockGranularityNs: bits(capability, 8, 8),
    enabled: bit(control, 0),
    rootSelected: bit(control, 1),
  };
}
