/**
 * The registers of extended capabilities, as tables (PCI Express Base Specification, "PCI Express
 * Extended Capabilities"). Where a capability has typed fields as well, these are the rest.
 *
 * @module
 */

import { CXL_VENDOR_ID, cxlLayout } from "./cxl.ts";
import type { CapabilityReader } from "./capability_reader.ts";
import {
  type CapabilityLayout,
  field,
  type FieldLayout,
  flag,
  flagsFrom,
  register,
  type RegisterLayout,
} from "./layout.ts";
import { bit, bits } from "./view.ts";

const plusOne = (value: number) => String(value + 1);
const ARBITRATION = ["Fixed", "WRR32", "WRR64", "WRR128", "TWRR128", "WRR256"];
const EQUALIZATION = "EquComplete EquPhase1 EquPhase2 EquPhase3 LinkEquRequest";
const LINK_WIDTHS = ["x1", "x2", "x4", "x8", "x16"];
const ideAlgorithm = (value: number) => value === 0 ? "AES-GCM-256-96b" : "reserved";

/** Virtual Channel: registers of the port, then three of each channel. */
function virtualChannel(at: CapabilityReader): RegisterLayout[] {
  const channels = Array.from({ length: bits(at.u32(0x04), 0, 3) + 1 }, (_, i) => {
    const base = 0x10 + 0x0c * i;
    return [
      register(
        `VC${i} Caps`,
        base,
        4,
        field("PATOffset", 24, 8, "hex"),
        field("MaxTimeSlots", 16, 7, plusOne),
        flag("RejSnoopTrans", 15),
        flagsFrom(0, "Fixed WRR32 WRR64 WRR128 TWRR128 WRR256"),
      ),
      register(
        `VC${i} Ctrl`,
        base + 4,
        4,
        flag("Enable", 31),
        field("ID", 24, 3),
        field("ArbSelect", 17, 3, ARBITRATION),
        field("TC/VC", 0, 8, "hex"),
      ),
      register(`VC${i} Status`, base + 0x0a, 2, flag("NegoPending", 1), flag("InProgress", 0)),
    ];
  });
  return [
    register(
      "Caps",
      0x04,
      4,
      field("LPEVC", 4, 3),
      field("RefClk", 8, 2, ["100ns"]),
      field("PATEntryBits", 10, 2, (value) => String(1 << value)),
    ),
    register("Arb", 0x08, 4, flagsFrom(0, "Fixed WRR32 WRR64 WRR128")),
    register("Ctrl", 0x0c, 2, field("ArbSelect", 1, 3, ARBITRATION.slice(0, 4))),
    register("Status", 0x0e, 2, flag("InProgress", 0)),
    ...channels.flat(),
  ];
}

/** Root Complex Link Declaration: the element, then its links. */
function rootComplexLink(at: CapabilityReader): RegisterLayout[] {
  const count = bits(at.u32(0x04), 8, 8);
  const links = Array.from({ length: count }, (_, i) => [
    register(
      `Link${i} Desc`,
      0x10 + 0x10 * i,
      4,
      field("TargetPort", 24, 8, "hex"),
      field("TargetComponent", 16, 8, "hex"),
      flag("AssocRCRB", 2),
      field("LinkType", 1, 1, ["MemMapped", "Config"]),
      flag("LinkValid", 0),
    ),
    register(`Link${i} Addr`, 0x18 + 0x10 * i, 8),
  ]);
  return [
    register(
      "Desc",
      0x04,
      4,
      field("PortNumber", 24, 8, "hex"),
      field("ComponentID", 16, 8, "hex"),
      field("EltType", 0, 4, ["Config", "Egress", "Internal"]),
      field("Links", 8, 8),
    ),
    ...links.flat(),
  ];
}

/** Downstream Port Containment; a root port may have its errors of programmed I/O, too. */
function downstreamPortContainment(at: CapabilityReader): RegisterLayout[] {
  const hasRootPort = bit(at.u16(0x04), 5);
  return [
    register(
      "DpcCap",
      0x04,
      2,
      field("IntMsgNum", 0, 5),
      flagsFrom(5, "RPExt PoisonedTLP SwTrigger"),
      field("PioLog", 8, 4),
      flag("DL_ActiveErr", 12),
    ),
    register(
      "DpcCtl",
      0x06,
      2,
      field("Trigger", 0, 2),
      flagsFrom(2, "Cmpl INT ErrCor PoisonedTLP SwTrigger DL_ActiveErr"),
    ),
    register(
      "DpcSta",
      0x08,
      2,
      flag("Trigger", 0),
      field("Reason", 1, 2, "hex"),
      flagsFrom(3, "INT RPBusy"),
      field("TriggerExt", 5, 2, "hex"),
      field("PioErrPtr", 8, 5, "hex"),
    ),
    register("Source", 0x0a, 2),
    ...(hasRootPort
      ? ["Status", "Mask", "Severity", "SysError", "Exception"].map((name, i) =>
        register(`Pio${name}`, 0x0c + 4 * i, 4)
      )
      : []),
  ];
}

/** T_PwrOn: a value in steps of 2, 10 or 100 us. */
function powerOnTime(register: number, valueLow: number, scaleLow: number): string {
  const scale = [2, 10, 100][bits(register, scaleLow, 2)];
  return scale === undefined ? "reserved" : `${bits(register, valueLow, 5) * scale}us`;
}

const LTR_SCALES = [1, 32, 1024, 32768, 1048576, 33554432];

const L1_SUBSTATES: CapabilityLayout = [
  register(
    "L1SubCap",
    0x04,
    4,
    field("CommonModeRestoreTime", 8, 8, (value) => `${value}us`),
    field("PwrOnTime", 16, 8, (value) => powerOnTime(value, 3, 0)),
  ),
  register(
    "L1SubCtl1",
    0x08,
    4,
    field("T_CommonMode", 8, 8, (value) => `${value}us`),
    field("LTR1.2_Threshold", 16, 16, (value) => {
      const scale = LTR_SCALES[bits(value, 13, 3)];
      return scale === undefined ? "reserved" : `${bits(value, 0, 10) * scale}ns`;
    }),
  ),
  register("L1SubCtl2", 0x0c, 4, field("T_PwrOn", 0, 8, (value) => powerOnTime(value, 3, 0))),
];

const MULTICAST: CapabilityLayout = [
  register(
    "McastCap",
    0x04,
    2,
    field("MaxGroups", 0, 6, plusOne),
    field("WindowSize", 8, 6),
    flag("ECRCRegen", 15),
  ),
  register("McastCtl", 0x06, 2, field("NumGroups", 0, 6, plusOne), flag("Enable", 15)),
  register("McastBAR", 0x08, 8, field("IndexPos", 0, 6), field("BasePage", 12, 52)),
  register("McastReceiveVec", 0x10, 8),
  register("McastBlockAllVec", 0x18, 8),
  register("McastBlockUntransVec", 0x20, 8),
  register("McastOverlayBAR", 0x28, 8, field("OverlaySize", 0, 6), field("BaseUnit", 6, 58)),
];

const IDE_STREAM_STATES: Readonly<Record<number, string>> = { 0: "insecure", 2: "secure" };
const ideState = (value: number) => IDE_STREAM_STATES[value] ?? `unknown(${value})`;

/** The fields of control and status that streams of links and selective ones share. */
function ideStream(name: string, at: number, ...more: FieldLayout[]): RegisterLayout[] {
  return [
    register(
      `${name} Ctl`,
      at,
      4,
      flagsFrom(0, "En XT"),
      flag("PCRC", 8),
      more,
      field("Alg", 14, 5, ideAlgorithm),
      field("TC", 19, 3),
      field("ID", 24, 8),
    ),
    register(`${name} Sta`, at + 4, 4, field("State", 0, 4, ideState), flag("RecvChkFail", 31)),
  ];
}

/** Integrity and Data Encryption: streams of the link, then selective ones of varying length. */
function integrityEncryption(at: CapabilityReader): RegisterLayout[] {
  const capability = at.u32(0x04);
  const registers = [
    register(
      "IDECap",
      0x04,
      4,
      flagsFrom(0, "Lnk Sel FlowThru PartHdr Aggr PCRC IDE_KM SelCfg"),
      field("Alg", 8, 5, ideAlgorithm),
      field("TCs", 13, 3, plusOne),
      field("Streams", 16, 8, plusOne),
      flagsFrom(24, "TeeLim XT"),
    ),
    register("IDECtl", 0x08, 4, flag("FTEn", 2)),
  ];
  let offset = 0x0c;
  if (bit(capability, 0)) {
    for (let i = 0; i <= bits(capability, 13, 3); i++, offset += 8) {
      registers.push(...ideStream(`LinkIDE${i}`, offset));
    }
  }
  if (!bit(capability, 1)) return registers;
  for (let i = 0; i <= bits(capability, 16, 8) && at.has(offset, 20); i++) {
    const name = `SelectiveIDE${i}`;
    const blocks = bits(at.u32(offset), 0, 4);
    registers.push(
      register(`${name} Cap`, offset, 4, field("AddrBlocks", 0, 4)),
      ...ideStream(name, offset + 4, flag("CFG", 9), ...flagsFrom(22, "Default TeeLim")),
      register(`${name} RID1`, offset + 12, 4, field("Limit", 8, 16, "hex")),
      register(
        `${name} RID2`,
        offset + 16,
        4,
        flag("Valid", 0),
        field("Base", 8, 16, "hex"),
        field("SegBase", 24, 8, "hex"),
      ),
    );
    offset += 20 + 12 * blocks;
  }
  return registers;
}

/** Root Complex Event Collector: from version 2 on it says on which buses its endpoints are. */
function eventCollector(at: CapabilityReader): RegisterLayout[] {
  const isSecond = bits(at.u32(0), 16, 4) >= 2;
  const buses = register("Buses", 0x08, 4, field("First", 8, 8), field("Last", 16, 8));
  return [register("RCiEPBitmap", 0x04, 4), ...(isSecond ? [buses] : [])];
}

/** A designated vendor's capability: CXL's are known. */
function designated(at: CapabilityReader): RegisterLayout[] {
  const header = at.u32(0x04);
  if (bits(header, 0, 16) !== CXL_VENDOR_ID) return [];
  return cxlLayout(at.u16(0x08), bits(header, 20, 12));
}

const NPEM = "Enable Reset OK Locate Fail Rebuild PFA HotSpare Critical Failed Invalid Disabled";

/** Layouts of the extended capabilities, by id. */
export const EXTENDED_LAYOUTS: Readonly<Record<number, CapabilityLayout>> = {
  0x01: [
    register(
      "AERCap",
      0x18,
      4,
      flagsFrom(9, "MultHdrRecCap MultHdrRecEn TLPPfxPres HdrLogCap"),
    ),
  ],
  0x02: virtualChannel,
  0x04: [
    register("Select", 0x04, 1),
    register(
      "Data",
      0x08,
      4,
      field("Power", 0, 8),
      field("Scale", 8, 2, ["1W", "0.1W", "0.01W", "0.001W"]),
      field("SubState", 10, 3),
      field("State", 13, 2, ["D0", "D1", "D2", "D3"]),
      field("Type", 15, 3),
      field("Rail", 18, 3),
    ),
    register("Cap", 0x0c, 1, flag("SystemAllocated", 0)),
  ],
  0x05: rootComplexLink,
  0x07: eventCollector,
  0x08: virtualChannel,
  0x09: virtualChannel,
  0x0e: [
    register("ARICap", 0x04, 2, flagsFrom(0, "MFVC ACS"), field("NextFunction", 8, 8)),
    register("ARICtl", 0x06, 2, flagsFrom(0, "MFVC ACS"), field("FunctionGroup", 4, 3)),
  ],
  0x0f: [
    register("ATSCap", 0x04, 2, flagsFrom(5, "PageAligned GlobalInval RelaxedOrd")),
    register("ATSCtl", 0x06, 2, flag("Enable", 15)),
  ],
  0x10: [
    register(
      "IOVCap",
      0x04,
      4,
      flagsFrom(0, "Migration _ 10BitTagReq"),
      field("IntMsgNum", 21, 11),
    ),
    register("IOVCtl", 0x08, 2, flag("10BitTagReq", 5)),
    register("IOVSta", 0x0a, 2, flag("Migration", 0)),
    register("VFs", 0x12, 1, field("DependencyLink", 0, 8, "hex")),
    register("VF Migration", 0x3c, 4, field("BIR", 0, 3), field("Offset", 3, 29, eightBytes)),
  ],
  0x12: MULTICAST,
  0x13: [
    register("PRICtl", 0x04, 2, flagsFrom(0, "Enable Reset")),
    register("PRISta", 0x06, 2, flagsFrom(0, "RF UPRGI"), flag("Stopped", 8), flag("PASID", 15)),
  ],
  0x16: [
    register("DPACap", 0x04, 4, field("MaxSubState", 0, 5), field("Scale", 12, 2)),
    register("DPASta", 0x0c, 2, field("SubState", 0, 5), flag("Enabled", 8)),
    register("DPACtl", 0x0e, 2, field("SubState", 0, 5)),
  ],
  0x17: [
    register("TPHCtl", 0x08, 4, field("Mode", 0, 3), field("Enable", 8, 2)),
  ],
  0x19: [register("LnkCtl3", 0x04, 4, flagsFrom(0, "PerformEqu LnkEquIntrruptEn"))],
  0x1b: [
    register("PASIDCap", 0x04, 2, flagsFrom(1, "Exec Priv"), field("Width", 8, 5)),
    register("PASIDCtl", 0x06, 2, flagsFrom(0, "Enable Exec Priv")),
  ],
  0x1d: downstreamPortContainment,
  0x1e: L1_SUBSTATES,
  0x21: [
    register("FRSCap", 0x04, 4, field("MaxDepth", 0, 12), field("IntMsgNum", 16, 5)),
    register("FRSSta", 0x08, 2, flagsFrom(0, "Received Overflow")),
    register("FRSCtl", 0x0a, 2, flag("IntEn", 0)),
  ],
  0x22: [
    register("RTR1", 0x04, 4, field("Reset", 0, 12), field("DLUp", 12, 12), flag("Valid", 31)),
    register("RTR2", 0x08, 4, field("FLR", 0, 12), field("D3hotToD0", 12, 12)),
  ],
  0x23: designated,
  0x25: [
    register("DLFCap", 0x04, 4, flag("ScaledFlow", 0), flag("Exchange", 31)),
    register("DLFSta", 0x08, 4, flag("ScaledFlow", 0), flag("Valid", 31)),
  ],
  0x26: [
    register("Phy16Sta", 0x0c, 4, flagsFrom(0, EQUALIZATION)),
    register("Parity", 0x10, 4),
  ],
  0x27: [
    register("PortCap", 0x04, 2, flag("Driver", 0)),
    register("PortSta", 0x06, 2, flagsFrom(0, "MargReady MargSoftReady")),
  ],
  0x29: [
    register("NPEMCap", 0x04, 4, flagsFrom(0, NPEM)),
    register("NPEMCtl", 0x08, 4, flagsFrom(0, NPEM)),
    register("NPEMSta", 0x0c, 4, flag("Completed", 0)),
  ],
  0x2a: [
    register(
      "Phy32Cap",
      0x04,
      4,
      flagsFrom(0, "EqualizationBypass NoEqualizationNeeded"),
      flagsFrom(8, "ModTsMode0 ModTsMode1 ModTsMode2"),
    ),
    register(
      "Phy32Ctl",
      0x08,
      4,
      flagsFrom(0, "EqualizationBypassDis NoEqualizationNeededDis"),
      field("ModTsUsage", 8, 3),
    ),
    register(
      "Phy32Sta",
      0x0c,
      4,
      flagsFrom(0, `${EQUALIZATION} ModTsRecv`),
      field("EnhLinkBehavior", 6, 2),
      flagsFrom(8, "TxPrecodeOn TxPrecodeReq NoEqualizationNeededRecv"),
    ),
  ],
  0x2e: [
    register("DOECap", 0x04, 4, flag("IntSup", 0), field("IntMsgNum", 1, 11)),
    register("DOECtl", 0x08, 4, flag("IntEn", 1)),
    register("DOESta", 0x0c, 4, flagsFrom(0, "Busy IntSta Error"), flag("ObjectReady", 31)),
  ],
  0x2f: [
    register(
      "DevCap3",
      0x04,
      4,
      flagsFrom(0, "DMWrRouting 14BitTagComp 14BitTagReq L0p"),
      flagsFrom(10, "UIOCompleter UIORequester"),
    ),
    register(
      "DevCtl3",
      0x08,
      4,
      flagsFrom(0, "DMWrRequester DMWrEgressBlk 14BitTagReq L0p"),
      field("TargetWidth", 4, 3, LINK_WIDTHS),
      flagsFrom(7, "UIORequester UIO256BDis"),
    ),
    register(
      "DevSta3",
      0x0c,
      4,
      field("InitialWidth", 0, 3, LINK_WIDTHS),
      flagsFrom(3, "SegmentCaptured RemoteL0p"),
    ),
  ],
  0x30: integrityEncryption,
  0x31: [
    register(
      "Phy64Sta",
      0x0c,
      4,
      flagsFrom(0, `${EQUALIZATION} TxPrecodeOn TxPrecodeReq NoEqualizationNeededRecv`),
    ),
  ],
};

/** An offset whose low three bits hold something else. */
function eightBytes(value: number): string {
  return (8 * value).toString(16).padStart(8, "0");
}
