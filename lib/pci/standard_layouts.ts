/**
 * The registers of standard capabilities, as tables. Where a capability has typed fields as well,
 * these are the rest.
 *
 * @module
 */

import type { CapabilityReader } from "./capability_reader.ts";
import { DEVICE_TYPE } from "./express.ts";
import {
  type CapabilityLayout,
  field,
  flag,
  flagsFrom,
  register,
  type RegisterLayout,
} from "./layout.ts";
import { bit, bits } from "./view.ts";

const EXIT_L0S = ["<64ns", "<128ns", "<256ns", "<512ns", "<1us", "<2us", "<4us", "unlimited"];
const EXIT_L1 = ["<1us", "<2us", "<4us", "<8us", "<16us", "<32us", "<64us", "unlimited"];
/** The same of a port's own exit, where the last one differs. */
const PORT_L0S = [...EXIT_L0S.slice(0, 7), ">4us"];
const PORT_L1 = [...EXIT_L1.slice(0, 7), ">64us"];
const TIMEOUTS: Readonly<Record<number, string>> = {
  0: "50us-50ms",
  1: "50us-100us",
  2: "1ms-10ms",
  5: "16ms-55ms",
  6: "65ms-210ms",
  9: "260ms-900ms",
  10: "1s-3.5s",
  13: "4s-13s",
  14: "17s-64s",
};
const OBFF_CAP = ["no", "message", "WAKE#", "both"];
const OBFF_CTL = ["disabled", "message A", "message B", "WAKE#"];
const POWER_SCALES = [1, 0.1, 0.01, 0.001];

/** PCI Express: those of a device always, others as the type and the version have them. */
function express(at: CapabilityReader): RegisterLayout[] {
  const capabilities = at.u16(0x02);
  const type = bits(capabilities, 4, 4);
  const isEndpoint = [DEVICE_TYPE.ENDPOINT, DEVICE_TYPE.LEGACY, DEVICE_TYPE.RC_ENDPOINT]
    .some((each) => each === type);
  const isRoot = type === DEVICE_TYPE.ROOT_PORT || type === DEVICE_TYPE.RC_COLLECTOR;
  const hasLink = type !== DEVICE_TYPE.RC_ENDPOINT && type !== DEVICE_TYPE.RC_COLLECTOR;
  const isPowered = type === DEVICE_TYPE.ENDPOINT || type === DEVICE_TYPE.LEGACY ||
    type === DEVICE_TYPE.UPSTREAM;
  const isSecond = bits(capabilities, 0, 4) >= 2;
  return [
    register(
      "DevCap",
      0x04,
      4,
      isEndpoint ? [field("L0s", 6, 3, EXIT_L0S), field("L1", 9, 3, EXIT_L1)] : [],
      isPowered ? [...flagsFrom(12, "AttnBtn AttnInd PwrInd"), SLOT_POWER] : [],
      flag("TEE-IO", 30),
    ),
    ...(hasLink ? LINK : []),
    ...(isRoot ? ROOT : []),
    ...(isSecond ? DEVICE_2 : []),
    ...(isSecond && hasLink ? LINK_2 : []),
  ];
}

const SLOT_POWER = field("SlotPowerLimit", 18, 10, slotPower);

/** The value has 8 bits, the scale 2. */
function slotPower(value: number): string {
  const watts = bits(value, 0, 8) * POWER_SCALES[bits(value, 8, 2)]!;
  return `${Number(watts.toFixed(3))}W`;
}

const LINK: readonly RegisterLayout[] = [
  register(
    "LnkCap",
    0x0c,
    4,
    field("ExitL0s", 12, 3, PORT_L0S),
    field("ExitL1", 15, 3, PORT_L1),
    flagsFrom(18, "ClockPM Surprise LLActRep BwNot ASPMOptComp"),
  ),
  register("LnkCtl", 0x10, 2, flag("FltModeDis", 13)),
  register("LnkSta", 0x12, 2, flag("TrErr", 10)),
];

const ROOT: readonly RegisterLayout[] = [
  register("RootCap", 0x1e, 2, flag("CRSVisible", 0)),
  register("RootSta", 0x20, 4, field("ReqID", 0, 16, "hex"), flagsFrom(16, "PMEStatus PMEPending")),
];

const DEVICE_2: readonly RegisterLayout[] = [
  register(
    "DevCap2",
    0x24,
    4,
    flagsFrom(6, "AtomicRouting AtomicOps32 AtomicOps64 AtomicOps128 NROPrPrP"),
    flagsFrom(12, "TPHComp ExtTPHComp"),
    flagsFrom(16, "10BitTagComp 10BitTagReq"),
    field("OBFF", 18, 2, OBFF_CAP),
    flagsFrom(20, "ExtFmt EETLPPrefix"),
    field("MaxEETLPPrefixes", 22, 2, (value) => String(value || 4)),
    field("EmergencyPowerReduction", 24, 2),
    flag("EmergencyPowerReductionInit", 26),
    flag("FRS", 31),
  ),
  register(
    "DevCtl2",
    0x28,
    2,
    field("Timeout", 0, 4, (value) => TIMEOUTS[value] ?? "unknown"),
    flag("EmergencyPowerReductionReq", 11),
    field("OBFF", 13, 2, OBFF_CTL),
    flag("EETLPPrefixBlk", 15),
  ),
];

const DEEMPHASIS = ["-6dB", "-3.5dB"];

const LINK_2: readonly RegisterLayout[] = [
  register(
    "LnkCap2",
    0x2c,
    4,
    flag("Crosslink", 8),
    flagsFrom(23, "Retimer 2Retimers"),
    flag("DRS", 31),
  ),
  register(
    "LnkCtl2",
    0x30,
    2,
    flagsFrom(4, "EnterCompliance SpeedDis"),
    field("Deemphasis", 6, 1, DEEMPHASIS),
    field("TransmitMargin", 7, 3),
    flagsFrom(10, "EnterModifiedCompliance ComplianceSOS"),
    field("CompliancePreset", 12, 4),
  ),
  register(
    "LnkSta2",
    0x32,
    2,
    field("Deemphasis", 0, 1, DEEMPHASIS),
    flagsFrom(1, "EqualizationComplete EqualizationPhase1 EqualizationPhase2 EqualizationPhase3"),
    flagsFrom(5, "LinkEqualizationRequest Retimer 2Retimers"),
    field("Crosslink", 8, 2, ["unsupported", "upstream", "downstream", "incomplete"]),
    flag("FltMode", 10),
    field("DownstreamComp", 12, 3),
    flag("DRSReceived", 15),
  ),
];

const PCIX_READ = field("DMMRBC", 21, 2, (value) => String(512 << value));
const PCIX_SPLIT = [1, 2, 3, 4, 8, 12, 16, 32].map(String);

/** PCI-X: a bridge has other registers. */
function pcix(at: CapabilityReader): RegisterLayout[] {
  const place = [
    field("Function", 0, 3),
    field("Device", 3, 5, "hex"),
    field("Bus", 8, 8, "hex"),
    ...flagsFrom(16, "64bit 133MHz SCD USC"),
  ];
  if (at.context.isBridge) {
    return [
      register(
        "Secondary Status",
        0x02,
        2,
        flagsFrom(0, "64bit 133MHz SCD USC SCO SRD"),
        field("Freq", 6, 4, ["conv", "66MHz", "100MHz", "133MHz"]),
      ),
      register("Status", 0x04, 4, place, flagsFrom(20, "SCO SRD")),
      register("Upstream", 0x08, 4, field("Capacity", 0, 16), field("CommitmentLimit", 16, 16)),
      register("Downstream", 0x0c, 4, field("Capacity", 0, 16), field("CommitmentLimit", 16, 16)),
    ];
  }
  return [
    register(
      "Command",
      0x02,
      2,
      flagsFrom(0, "DPERE ERO"),
      field("RBC", 2, 2, (value) => String(512 << value)),
      field("OST", 4, 3, PCIX_SPLIT),
    ),
    register(
      "Status",
      0x04,
      4,
      place,
      field("DC", 20, 1, ["simple", "bridge"]),
      PCIX_READ,
      field("DMOST", 23, 3, PCIX_SPLIT),
      field("DMCRS", 26, 3, (value) => String(8 << value)),
      flagsFrom(29, "RSCEM 266MHz 533MHz"),
    ),
  ];
}

const PROPERTIES: Readonly<Record<number, string>> = {
  0: "non-prefetchable",
  1: "prefetchable",
  2: "I/O",
  3: "VF prefetchable",
  4: "VF non-prefetchable",
  5: "bridge non-prefetchable",
  6: "bridge prefetchable",
  7: "bridge I/O",
  0xfd: "unavailable memory",
  0xfe: "unavailable I/O",
  0xff: "unavailable",
};
const property = (value: number) => PROPERTIES[value] ?? `reserved(${value})`;
/** The low two bits of base and offset hold something else. */
const dwords = (value: number) => (4 * value).toString(16).padStart(8, "0");

/** Enhanced Allocation: entries of two dwords and more, whose upper halves come last. */
function enhancedAllocation(at: CapabilityReader): RegisterLayout[] {
  const registers: RegisterLayout[] = [];
  let offset = 4;
  if (at.context.isBridge) {
    registers.push(
      register("Buses", 4, 2, field("Secondary", 0, 8, "hex"), field("Subordinate", 8, 8, "hex")),
    );
    offset = 8;
  }
  for (let i = 0; i < bits(at.u8(0x02), 0, 6) && at.has(offset, 4); i++) {
    const name = `Entry ${i}`;
    const size = bits(at.u32(offset), 0, 3);
    const low = (what: string, start: number) =>
      register(`${name} ${what}`, start, 4, field("Low", 2, 30, dwords));
    const isWide = [4, 8].map((start) => bit(at.u32(offset + start), 1));
    const parts = [
      low("Base", offset + 4),
      low("MaxOffset", offset + 8),
      ...["Base", "MaxOffset"].filter((_, i) => isWide[i])
        .map((what, i) => register(`${name} ${what}High`, offset + 12 + 4 * i, 4)),
    ];
    registers.push(
      register(
        name,
        offset,
        4,
        flag("Enable", 31),
        flag("Writable", 30),
        field("EntrySize", 0, 3),
        field("BEI", 4, 4),
        field("Primary", 8, 8, property),
        field("Secondary", 16, 8, property),
      ),
      ...parts.slice(0, size), // the rest is of the next entry
    );
    // An entry may be longer than what is known of it.
    offset += 4 + 4 * size;
  }
  return registers;
}

/** Layouts of the standard capabilities, by id. */
export const STANDARD_LAYOUTS: Readonly<Record<number, CapabilityLayout>> = {
  0x06: [
    register("HotSwap", 0x02, 1, flagsFrom(0, "DHA EIM PIE LOO"), flagsFrom(6, "EXT INS")),
  ],
  0x07: pcix,
  0x0c: [
    register("Select", 0x02, 1),
    register("Pending", 0x03, 1, flagsFrom(6, "Controller SERR")),
    register("Data", 0x04, 4),
  ],
  0x10: express,
  0x14: enhancedAllocation,
  0x15: [
    register(
      "FPBCap",
      0x04,
      4,
      flagsFrom(0, "RID MemLow MemHigh"),
      field("RIDVectors", 4, 4),
      field("MemLowVectors", 8, 4),
      field("MemHighVectors", 12, 4),
    ),
  ],
};
