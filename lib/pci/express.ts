/**
 * The PCI Express capability: what the function is, its link, slot and root port.
 *
 * @module
 */

import type { CapabilityReader } from "./capability_reader.ts";
import {
  EXP_DEVCTL,
  EXP_DEVCTL2,
  EXP_DEVSTA,
  EXP_LNKCTL,
  EXP_LNKSTA,
  EXP_RTCTL,
  EXP_SLTCAP,
  EXP_SLTCTL,
  EXP_SLTSTA,
  type Flags,
  flags,
} from "./registers.ts";
import { bit, bits } from "./view.ts";

/** Device Capabilities, Control and Status. */
export interface ExpressDevice {
  /** Largest payload that the function supports, bytes. */
  maxPayloadSupported: number;
  /** Bits of the function number that are free for phantom functions, 0 to 3. */
  phantomFunctions: number;
  /** Tags of 8 bits are supported. */
  extendedTag: boolean;
  /** Role-based error reporting. */
  roleBasedErrors: boolean;
  /** Function Level Reset is supported. */
  functionLevelReset: boolean;
  /** Flags of Device Control. */
  control: Flags;
  /** Largest payload that the function sends now, bytes. */
  maxPayload: number;
  /** Largest read request that the function sends now, bytes. */
  maxReadRequest: number;
  /** Flags of Device Status. */
  status: Flags;
}

/** Link Capabilities, Control and Status. */
export interface ExpressLink {
  /** Port number. */
  port: number;
  /** Highest speed, as "8GT/s"; "unknown" for a code that has no meaning yet. */
  maxSpeed: string;
  /** Most lanes. */
  maxWidth: number;
  /** Active State Power Management that is supported. */
  aspmSupport: AspmStates;
  /** Flags of Link Control. */
  control: Flags;
  /** Active State Power Management that is enabled. */
  aspmEnabled: AspmStates;
  /** Speed now; "unknown" for 0 too, which is what many an emulated device has. */
  speed: string;
  /** Lanes now. */
  width: number;
  /** Flags of Link Status. */
  status: Flags;
}

/** States of Active State Power Management. */
export type AspmStates = "none" | "L0s" | "L1" | "L0s L1";

/** Slot Capabilities, Control and Status. */
export interface ExpressSlot {
  /** Physical slot number. */
  number: number;
  /** Flags of Slot Capabilities. */
  capabilities: Flags;
  /** The largest power that the slot supplies, milliwatts. */
  powerLimitMilliwatts: number;
  /** Flags of Slot Control. */
  control: Flags;
  /** The attention indicator. */
  attentionIndicator: IndicatorState;
  /** The power indicator. */
  powerIndicator: IndicatorState;
  /** Flags of Slot Status. */
  status: Flags;
}

/** The state of a slot's indicator. */
export type IndicatorState = "unknown" | "on" | "blink" | "off";

/** Device Capabilities 2 and Control 2. */
export interface ExpressDevice2 {
  /** Completion timeout ranges, four bits: 50 us - 10 ms, - 250 ms, - 4 s, - 64 s. */
  completionTimeoutRanges: number;
  /** Completion timeouts can be switched off. */
  completionTimeoutDisable: boolean;
  /** ARI forwarding is supported. */
  ariForwarding: boolean;
  /** Latency Tolerance Reporting is supported. */
  ltr: boolean;
  /** Flags of Device Control 2. */
  control: Flags;
}

/** Link Capabilities 2 and Control 2. */
export interface ExpressLink2 {
  /** Speeds that are supported, as "2.5GT/s". */
  supportedSpeeds: string[];
  /** Speed that is aimed at. */
  targetSpeed: string;
}

/** PCI Express. */
export interface ExpressCapability {
  /** The kind of the capability. */
  kind: "exp";
  /** Version of the structure. */
  structureVersion: number;
  /** Device/port type, 4 bits. */
  deviceType: number;
  /** Its name, as "Root Port". */
  deviceTypeName: string;
  /** A port that is connected to a slot. */
  slotImplemented: boolean;
  /** Interrupt message number. */
  interruptMessage: number;
  /** Device registers. */
  device: ExpressDevice;
  /** Link registers; a function that is integrated in the root complex has none. */
  link?: ExpressLink;
  /** Slot registers, of a port with a slot. */
  slot?: ExpressSlot;
  /** Root Control, of a root port or an event collector. */
  rootControl?: Flags;
  /** Second set of device registers, from structure version 2 on. */
  device2?: ExpressDevice2;
  /** Second set of link registers, from structure version 2 on. */
  link2?: ExpressLink2;
}

/** Device and port types. */
export const DEVICE_TYPE = {
  ENDPOINT: 0,
  LEGACY: 1,
  ROOT_PORT: 4,
  UPSTREAM: 5,
  DOWNSTREAM: 6,
  TO_CONVENTIONAL: 7,
  TO_EXPRESS: 8,
  RC_ENDPOINT: 9,
  RC_COLLECTOR: 10,
} as const;

const DEVICE_TYPES: Readonly<Record<number, string>> = {
  [DEVICE_TYPE.ENDPOINT]: "Endpoint",
  [DEVICE_TYPE.LEGACY]: "Legacy Endpoint",
  [DEVICE_TYPE.ROOT_PORT]: "Root Port",
  [DEVICE_TYPE.UPSTREAM]: "Upstream Port",
  [DEVICE_TYPE.DOWNSTREAM]: "Downstream Port",
  [DEVICE_TYPE.TO_CONVENTIONAL]: "PCI Express to PCI/PCI-X Bridge",
  [DEVICE_TYPE.TO_EXPRESS]: "PCI/PCI-X to PCI Express Bridge",
  [DEVICE_TYPE.RC_ENDPOINT]: "Root Complex Integrated Endpoint",
  [DEVICE_TYPE.RC_COLLECTOR]: "Root Complex Event Collector",
};

/** Link speeds by their code, from 1. */
const SPEEDS = ["2.5GT/s", "5GT/s", "8GT/s", "16GT/s", "32GT/s", "64GT/s", "128GT/s"];

const ASPM: readonly AspmStates[] = ["none", "L0s", "L1", "L0s L1"];

function speedName(code: number): string {
  return SPEEDS[code - 1] ?? "unknown";
}

/** Decodes the PCI Express capability. */
export function decodeExpress(at: CapabilityReader): ExpressCapability {
  const capabilities = at.u16(0x02);
  const structureVersion = bits(capabilities, 0, 4);
  const deviceType = bits(capabilities, 4, 4);
  const isPort = deviceType === DEVICE_TYPE.ROOT_PORT || deviceType === DEVICE_TYPE.DOWNSTREAM ||
    deviceType === DEVICE_TYPE.TO_EXPRESS;
  const isRoot = deviceType === DEVICE_TYPE.ROOT_PORT || deviceType === DEVICE_TYPE.RC_COLLECTOR;
  const hasLink = deviceType !== DEVICE_TYPE.RC_ENDPOINT && deviceType !== DEVICE_TYPE.RC_COLLECTOR;
  const slotImplemented = bit(capabilities, 8);
  return {
    kind: "exp",
    structureVersion,
    deviceType,
    deviceTypeName: DEVICE_TYPES[deviceType] ?? `Unknown type ${deviceType}`,
    slotImplemented,
    interruptMessage: bits(capabilities, 9, 5),
    device: decodeDevice(at),
    ...(hasLink ? { link: decodeLink(at) } : {}),
    ...(isPort && slotImplemented ? { slot: decodeSlot(at) } : {}),
    ...(isRoot ? { rootControl: flags(at.u16(0x1c), EXP_RTCTL) } : {}),
    ...(structureVersion >= 2 ? { device2: decodeDevice2(at) } : {}),
    ...(structureVersion >= 2 && hasLink ? { link2: decodeLink2(at) } : {}),
  };
}

function decodeDevice(at: CapabilityReader): ExpressDevice {
  const capabilities = at.u32(0x04);
  const control = at.u16(0x08);
  return {
    maxPayloadSupported: 128 << bits(capabilities, 0, 3),
    phantomFunctions: bits(capabilities, 3, 2),
    extendedTag: bit(capabilities, 5),
    roleBasedErrors: bit(capabilities, 15),
    functionLevelReset: bit(capabilities, 28),
    control: flags(control, EXP_DEVCTL),
    maxPayload: 128 << bits(control, 5, 3),
    maxReadRequest: 128 << bits(control, 12, 3),
    status: flags(at.u16(0x0a), EXP_DEVSTA),
  };
}

function decodeLink(at: CapabilityReader): ExpressLink {
  const capabilities = at.u32(0x0c);
  const control = at.u16(0x10);
  const status = at.u16(0x12);
  return {
    port: bits(capabilities, 24, 8),
    maxSpeed: speedName(bits(capabilities, 0, 4)),
    maxWidth: bits(capabilities, 4, 6),
    aspmSupport: ASPM[bits(capabilities, 10, 2)]!,
    control: flags(control, EXP_LNKCTL),
    aspmEnabled: ASPM[bits(control, 0, 2)]!,
    speed: speedName(bits(status, 0, 4)),
    width: bits(status, 4, 6),
    status: flags(status, EXP_LNKSTA),
  };
}

const INDICATORS: readonly IndicatorState[] = ["unknown", "on", "blink", "off"];
/** Values of the power limit that stand for more than 239 W, at a scale of 1. */
const HIGH_POWER = [250, 275, 300];

/** Milliwatts of a power limit, whose scale is 1, 0.1, 0.01 or 0.001 W. */
function slotPower(value: number, scale: number): number {
  const watts = scale === 0 ? HIGH_POWER[value - 0xf0] ?? value : value;
  return watts * 10 ** (3 - scale);
}

function decodeSlot(at: CapabilityReader): ExpressSlot {
  const capabilities = at.u32(0x14);
  const control = at.u16(0x18);
  return {
    number: bits(capabilities, 19, 13),
    capabilities: flags(capabilities, EXP_SLTCAP),
    powerLimitMilliwatts: slotPower(bits(capabilities, 7, 8), bits(capabilities, 15, 2)),
    control: flags(control, EXP_SLTCTL),
    attentionIndicator: INDICATORS[bits(control, 6, 2)]!,
    powerIndicator: INDICATORS[bits(control, 8, 2)]!,
    status: flags(at.u16(0x1a), EXP_SLTSTA),
  };
}

function decodeDevice2(at: CapabilityReader): ExpressDevice2 {
  const capabilities = at.u32(0x24);
  return {
    completionTimeoutRanges: bits(capabilities, 0, 4),
    completionTimeoutDisable: bit(capabilities, 4),
    ariForwarding: bit(capabilities, 5),
    ltr: bit(capabilities, 11),
    control: flags(at.u16(0x28), EXP_DEVCTL2),
  };
}

function decodeLink2(at: CapabilityReader): ExpressLink2 {
  const supported = bits(at.u32(0x2c), 1, 7);
  return {
    supportedSpeeds: SPEEDS.filter((_, index) => bit(supported, index)),
    // 0 is what functions of 2.5 GT/s alone may have.
    targetSpeed: speedName(bits(at.u16(0x30), 0, 4) || 1),
  };
}
