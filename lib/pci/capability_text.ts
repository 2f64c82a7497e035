/**
 * A capability as lines for a person.
 *
 * @module
 */

import { kindText, placeText } from "./bar_text.ts";
import type { Capability, CapabilityFields } from "./capability.ts";
import type { ExpressCapability, ExpressLink, ExpressSlot } from "./express.ts";
import type {
  AerCapability,
  AerRoot,
  ExtendedFields,
  ResizableBarCapability,
  SriovCapability,
} from "./extended.ts";
import {
  ACS_LABELS,
  DEVCTL2_LABELS,
  DEVCTL_LABELS,
  DEVSTA_LABELS,
  ERR_COR_LABELS,
  ERR_ROOT_COMMAND_LABELS,
  ERR_ROOT_STATUS_LABELS,
  ERR_UNC_LABELS,
  L1SS_LABELS,
  LNKCTL_LABELS,
  LNKSTA_LABELS,
  RTCTL_LABELS,
  sign,
  signs,
  SLTCAP_LABELS,
  SLTCTL_LABELS,
  SLTSTA_LABELS,
  SRIOV_CTRL_LABELS,
} from "./labels.ts";
import { registerWords } from "./layout.ts";
import { hexDigits } from "../text/hex.ts";
import { wrap } from "../text/wrap.ts";
import type { MsiCapability, PowerManagementCapability, VendorCapability } from "./standard.ts";

/** Words after the name of the capability, and rows below it: a label and words each. */
interface Description {
  head: string[];
  rows?: Row[];
}

type Row = readonly [label: string, words: readonly string[]];

const INDENT = "      ";
const WRAP_INDENT = 8;

/** The lines of one capability: its place and name, then its registers. */
export function capabilityText(capability: Capability): string[] {
  const { offset, version, name, notes } = capability;
  const place = version === undefined
    ? hexDigits(offset, 2)
    : `${hexDigits(offset, 3)} v${version}`;
  const { head, rows } = describeAll(capability);
  const title = `  [${place}] ${name}${head.length === 0 ? "" : ": "}`;
  return [
    ...wrap(title, head, WRAP_INDENT),
    ...rows.flatMap(([label, words]) => wrap(`${INDENT}${label}: `, words, WRAP_INDENT)),
    ...notes.flatMap((note) => wrap(`${INDENT}! `, note.split(" "), WRAP_INDENT)),
  ];
}

/** Words and rows; what is in the same register comes together. */
function describeAll(capability: Capability): { head: string[]; rows: Row[] } {
  const { registers = [] } = capability;
  const isBytes = (capability.kind === "named" || capability.kind === "unknown") &&
    registers.length > 0;
  const { head, rows = [] } = isBytes ? { head: [] } : describe(capability);
  const merged = new Map(rows.map(([label, words]) => [label, [...words]]));
  for (const register of registers) {
    const words = merged.get(register.name) ?? [];
    merged.set(register.name, [...words, ...registerWords(register)]);
  }
  return { head, rows: [...merged] };
}

/** The rows below the first line of a capability: a register's name, and its words. */
export function capabilityRows(capability: Capability): ReadonlyMap<string, readonly string[]> {
  return new Map(describeAll(capability).rows);
}

function describe(fields: CapabilityFields): Description {
  switch (fields.kind) {
    case "pm":
      return describePowerManagement(fields);
    case "agp":
      return { head: [`version ${fields.major}.${fields.minor}`] };
    case "vpd":
      return { head: [`address=${hexDigits(fields.address, 4)}`, sign("Flag", fields.flag)] };
    case "slot_id":
      return {
        head: [
          `${fields.numSlots} slots,`,
          sign("First", fields.firstInChassis),
          `chassis ${hexDigits(fields.chassis, 2)}`,
        ],
      };
    case "msi":
      return describeMsi(fields);
    case "msix":
      return {
        head: [
          sign("Enable", fields.enabled),
          `Count=${fields.tableSize}`,
          sign("Masked", fields.functionMasked),
        ],
        rows: [
          ["Vector table", [
            `BAR=${fields.tableBar}`,
            `offset=${hexDigits(fields.tableOffset, 8)}`,
          ]],
          ["PBA", [`BAR=${fields.pbaBar}`, `offset=${hexDigits(fields.pbaOffset, 8)}`]],
        ],
      };
    case "ht":
      return { head: [`type ${hexDigits(fields.htType, 2)}`] };
    case "vendor":
      return describeVendor(fields);
    case "debug_port":
      return { head: [`BAR=${fields.bar}`, `offset=${hexDigits(fields.barOffset, 4)}`] };
    case "ssvid":
      return {
        head: [`${hexDigits(fields.subsystemVendorId, 4)}:${hexDigits(fields.subsystemId, 4)}`],
      };
    case "exp":
      return describeExpress(fields);
    case "sata":
      return {
        head: [
          `version ${fields.major}.${fields.minor},`,
          sataPlace(fields.barLocation),
          `offset=${hexDigits(fields.barOffset, 8)}`,
        ],
      };
    case "af":
      return {
        head: [
          sign("TP", fields.transactionsPendingSupported),
          sign("FLR", fields.functionLevelReset),
          sign("TransPend", fields.transactionsPending),
        ],
      };
    case "ea":
      return { head: [`${fields.numEntries} entries`] };
    case "named":
    case "unknown":
      return { head: Array.from(fields.bytes, (byte) => hexDigits(byte, 2)) };
    default:
      return describeExtended(fields);
  }
}

function describeExtended(fields: ExtendedFields): Description {
  switch (fields.kind) {
    case "aer":
      return describeAer(fields);
    case "vc":
      return {
        head: [`${fields.extendedCount} more channels,`, `${fields.lowPriorityCount} low priority`],
      };
    case "dsn":
      return { head: [fields.serialNumber] };
    case "vsec":
      return {
        head: [
          `ID=${hexDigits(fields.vsecId, 4)}`,
          `Rev=${fields.vsecRevision}`,
          `Len=${hexDigits(fields.length, 3)}`,
        ],
      };
    case "dvsec":
      return {
        head: [
          `Vendor=${hexDigits(fields.dvsecVendorId, 4)}`,
          `ID=${hexDigits(fields.dvsecId, 4)}`,
          `Rev=${fields.dvsecRevision}`,
          `Len=${hexDigits(fields.length, 3)}`,
        ],
      };
    case "acs":
      return {
        head: [],
        rows: [
          ["ACSCap", signs(fields.capabilities, ACS_LABELS)],
          ["ACSCtl", signs(fields.control, ACS_LABELS)],
        ],
      };
    case "ari":
      return {
        head: [
          `next function ${fields.nextFunction},`,
          `group ${fields.functionGroup}`,
        ],
      };
    case "ats":
      return {
        head: [
          sign("Enable", fields.enabled),
          `queue depth ${fields.invalidateQueueDepth},`,
          `smallest translation unit 2^${fields.smallestTranslationUnitLog2} bytes`,
        ],
      };
    case "sriov":
      return describeSriov(fields);
    case "pri":
      return {
        head: [
          `capacity ${fields.capacity},`,
          `allocation ${fields.allocation}`,
        ],
      };
    case "rebar":
      return { head: [], rows: rebarRows(fields) };
    case "tph":
      return {
        head: [
          sign("IntVec", fields.interruptVectorMode),
          sign("DevSpec", fields.deviceSpecificMode),
          ["no table", `table of ${fields.stTableSize} here`, "table in MSI-X", "table reserved"][
            fields.stTableLocation
          ]!,
        ],
      };
    case "ltr":
      return {
        head: [`max snoop ${fields.maxSnoopNs}ns,`, `max no snoop ${fields.maxNoSnoopNs}ns`],
      };
    case "secpci":
      return {
        head: [
          `LnkCtl3=${hexDigits(fields.linkControl3, 8)}`,
          `LaneErr=${hexDigits(fields.laneErrorStatus, 8)}`,
        ],
      };
    case "pasid":
      return { head: [`${fields.widthBits} bits`] };
    case "dpc":
      return { head: [sign("Triggered", fields.triggered)] };
    case "l1pm":
      return {
        head: [],
        rows: [
          ["L1SubCap", signs(fields.capabilities, L1SS_LABELS)],
          ["L1SubCtl1", signs(fields.control, L1SS_LABELS).slice(0, 4)],
        ],
      };
    case "ptm":
      return {
        head: [
          sign("Requester", fields.requester),
          sign("Responder", fields.responder),
          sign("Root", fields.root),
          sign("Enabled", fields.enabled),
          sign("RootSelected", fields.rootSelected),
          `clock granularity ${granularityText(fields.clockGranularityNs)}`,
        ],
      };
  }
}

function granularityText(ns: number): string {
  if (ns === 0) return "unimplemented";
  return ns === 255 ? "over 254ns" : `${ns}ns`;
}

function describePowerManagement(fields: PowerManagementCapability): Description {
  return {
    head: [`version ${fields.structureVersion}`],
    rows: [
      ["Flags", [
        sign("PMEClk", fields.pmeClock),
        sign("DSI", fields.deviceSpecificInit),
        sign("D1", fields.d1),
        sign("D2", fields.d2),
        `AuxCurrent=${fields.auxCurrentMa}mA`,
        `PME(${fields.pmeSupport.join(",") || "none"})`,
      ]],
      ["Status", [
        fields.powerState,
        sign("NoSoftRst", fields.noSoftReset),
        sign("PME-Enable", fields.pmeEnabled),
        sign("PME", fields.pmeStatus),
      ]],
    ],
  };
}

function describeMsi(fields: MsiCapability): Description {
  const digits = fields.addressBits / 4;
  const masks: Row[] = fields.mask === undefined || fields.pending === undefined
    ? []
    : [["Masking", [`${hexDigits(fields.mask, 8)}`, `Pending: ${hexDigits(fields.pending, 8)}`]]];
  return {
    head: [
      sign("Enable", fields.enabled),
      `Count=${fields.enabledCount}/${fields.capableCount}`,
      sign("Maskable", fields.maskable),
      sign("64bit", fields.addressBits === 64),
    ],
    rows: [
      ["Address", [hexDigits(fields.address, digits), `Data: ${hexDigits(fields.data, 4)}`]],
      ...masks,
    ],
  };
}

function describeVendor({ length, bytes, virtio }: VendorCapability): Description {
  if (!virtio) {
    return {
      head: [`Len=${hexDigits(length, 2)}`, ...Array.from(bytes, (byte) => hexDigits(byte, 2))],
    };
  }
  const multiplier = virtio.notifyOffMultiplier === undefined
    ? []
    : [`multiplier=${hexDigits(virtio.notifyOffMultiplier, 8)}`];
  return {
    head: [`VirtIO ${virtio.cfgTypeName}`],
    rows: [["Place", [
      `BAR=${virtio.bar}`,
      `offset=${hexDigits(virtio.barOffset, 8)}`,
      `size=${hexDigits(virtio.structureLength, 8)}`,
      ...multiplier,
    ]]],
  };
}

/** Locations 4 to 9 are BARs 0 to 5. */
function sataPlace(location: number): string {
  if (location === 15) return "in config space,";
  return location >= 4 && location <= 9 ? `BAR=${location - 4}` : `location ${location},`;
}

function describeExpress(fields: ExpressCapability): Description {
  const { device, device2, link, link2, slot, rootControl } = fields;
  const type = fields.deviceTypeName + (fields.slotImplemented ? " (Slot+)" : "");
  const rows: Row[] = [
    ["DevCap", [
      `MaxPayload ${device.maxPayloadSupported} bytes,`,
      `PhantFunc ${(1 << device.phantomFunctions) - 1},`,
      sign("ExtTag", device.extendedTag),
      sign("RBE", device.roleBasedErrors),
      sign("FLReset", device.functionLevelReset),
    ]],
    ["DevCtl", [
      `MaxPayload ${device.maxPayload} bytes,`,
      `MaxReadReq ${device.maxReadRequest} bytes,`,
      ...signs(device.control, DEVCTL_LABELS),
    ]],
    ["DevSta", signs(device.status, DEVSTA_LABELS)],
  ];
  if (link) rows.push(...linkRows(link));
  if (slot) rows.push(...slotRows(slot));
  if (rootControl) rows.push(["RootCtl", signs(rootControl, RTCTL_LABELS)]);
  if (device2) {
    rows.push(["DevCap2", [
      `completion timeout ranges ${hexDigits(device2.completionTimeoutRanges, 1)},`,
      sign("TimeoutDis", device2.completionTimeoutDisable),
      sign("ARIFwd", device2.ariForwarding),
      sign("LTR", device2.ltr),
    ]]);
    rows.push(["DevCtl2", signs(device2.control, DEVCTL2_LABELS)]);
  }
  if (link2) {
    rows.push(["LnkCap2", ["speeds", link2.supportedSpeeds.join(" ") || "not given"]]);
    rows.push(["LnkCtl2", [`target speed ${link2.targetSpeed}`]]);
  }
  const message = `MSI ${hexDigits(fields.interruptMessage, 2)}`;
  return { head: [`v${fields.structureVersion},`, `${type},`, message], rows };
}

function linkRows(link: ExpressLink): Row[] {
  return [
    ["LnkCap", [
      `Port #${link.port},`,
      `Speed ${link.maxSpeed},`,
      `Width x${link.maxWidth},`,
      `ASPM ${link.aspmSupport}`,
    ]],
    ["LnkCtl", [`ASPM ${link.aspmEnabled},`, ...signs(link.control, LNKCTL_LABELS)]],
    ["LnkSta", [
      `Speed ${link.speed},`,
      `Width x${link.width},`,
      ...signs(link.status, LNKSTA_LABELS),
    ]],
  ];
}

function slotRows(slot: ExpressSlot): Row[] {
  return [
    ["SltCap", [
      `Slot #${slot.number},`,
      `PowerLimit ${slot.powerLimitMilliwatts / 1000}W,`,
      ...signs(slot.capabilities, SLTCAP_LABELS),
    ]],
    ["SltCtl", [
      ...signs(slot.control, SLTCTL_LABELS),
      `AttnInd ${slot.attentionIndicator},`,
      `PwrInd ${slot.powerIndicator}`,
    ]],
    ["SltSta", signs(slot.status, SLTSTA_LABELS)],
  ];
}

function describeAer(fields: AerCapability): Description {
  return {
    head: [],
    rows: [
      ["UESta", signs(fields.uncorrectableStatus, ERR_UNC_LABELS)],
      ["UEMsk", signs(fields.uncorrectableMask, ERR_UNC_LABELS)],
      ["UESvrt", signs(fields.uncorrectableSeverity, ERR_UNC_LABELS)],
      ["CESta", signs(fields.correctableStatus, ERR_COR_LABELS)],
      ["CEMsk", signs(fields.correctableMask, ERR_COR_LABELS)],
      ["AERCap", [
        `First Error Pointer: ${hexDigits(fields.firstErrorPointer, 2)},`,
        sign("ECRCGenCap", fields.ecrcGenerationCapable),
        sign("ECRCGenEn", fields.ecrcGenerationEnabled),
        sign("ECRCChkCap", fields.ecrcCheckCapable),
        sign("ECRCChkEn", fields.ecrcCheckEnabled),
      ]],
      ["HeaderLog", fields.headerLog.map((dword) => hexDigits(dword, 8))],
      ...(fields.root === undefined ? [] : rootErrorRows(fields.root)),
    ],
  };
}

function rootErrorRows(root: AerRoot): Row[] {
  return [
    ["RootCmd", signs(root.command, ERR_ROOT_COMMAND_LABELS)],
    ["RootSta", [
      ...signs(root.status, ERR_ROOT_STATUS_LABELS),
      `IntMsg ${root.interruptMessage}`,
    ]],
    ["ErrorSrc", [
      `ERR_COR: ${hexDigits(root.correctableSource, 4)}`,
      `ERR_FATAL/NONFATAL: ${hexDigits(root.uncorrectableSource, 4)}`,
    ]],
  ];
}

function describeSriov(fields: SriovCapability): Description {
  return {
    head: [],
    rows: [
      ["IOVCtl", signs(fields.control, SRIOV_CTRL_LABELS)],
      ["VFs", [
        `initial ${fields.initialVfs},`,
        `total ${fields.totalVfs},`,
        `now ${fields.numVfs},`,
        `offset ${fields.firstVfOffset},`,
        `stride ${fields.vfStride},`,
        `device ID ${hexDigits(fields.vfDeviceId, 4)}`,
      ]],
      ...fields.vfBars.map((
        bar,
      ): Row => [`VF BAR ${bar.index}`, [`${kindText(bar)},`, placeText(bar)]]),
      ["Page sizes", [
        `supported ${hexDigits(fields.supportedPageSizes, 8)},`,
        `system ${hexDigits(fields.systemPageSize, 8)}`,
      ]],
    ],
  };
}

function rebarRows({ resizable }: ResizableBarCapability): Row[] {
  return resizable.map((bar) => [
    `BAR ${bar.bar}`,
    [`current size: ${sizeText(bar.size)},`, "supported:", ...bar.supportedSizes.map(sizeText)],
  ]);
}

/** Sizes of more than this have a code that is reserved. */
const MAX_REBAR_SIZE = 1n << 63n;
const SIZE_UNITS = ["MB", "GB", "TB", "PB", "EB"];

/** A size of 1 MiB or more, a power of two, in the largest unit. */
function sizeText(bytes: bigint): string {
  if (bytes > MAX_REBAR_SIZE) return "unknown";
  const megabytes = bytes >> 20n;
  const unit = Math.floor((megabytes.toString(2).length - 1) / 10);
  return `${megabytes >> BigInt(10 * unit)}${SIZE_UNITS[unit]}`;
}
