/**
 * The names by which `setpci` addresses registers and capabilities.
 *
 * @module
 */

/** The header types in which a register is found. */
export type RegisterHeader = "common" | "normal" | "bridge" | "cardbus";

/** A register of the configuration header. */
export interface RegisterName {
  /** As `setpci` spells it. */
  name: string;
  /** Bytes from the start of the configuration space. */
  offset: number;
  /** Bytes of one access. */
  width: 1 | 2 | 4;
  /** The offset at which it is found. */
  header: RegisterHeader;
}

type Row = readonly [name: string, offset: number, width: 1 | 2 | 4];

const COMMON: readonly Row[] = [
  ["VENDOR_ID", 0x00, 2],
  ["DEVICE_ID", 0x02, 2],
  ["COMMAND", 0x04, 2],
  ["STATUS", 0x06, 2],
  ["REVISION", 0x08, 1],
  ["CLASS_PROG", 0x09, 1],
  ["CLASS_DEVICE", 0x0a, 2],
  ["CACHE_LINE_SIZE", 0x0c, 1],
  ["LATENCY_TIMER", 0x0d, 1],
  ["HEADER_TYPE", 0x0e, 1],
  ["BIST", 0x0f, 1],
  ["CAPABILITIES", 0x34, 1],
  ["INTERRUPT_LINE", 0x3c, 1],
  ["INTERRUPT_PIN", 0x3d, 1],
];

const NORMAL: readonly Row[] = [
  ["BASE_ADDRESS_0", 0x10, 4],
  ["BASE_ADDRESS_1", 0x14, 4],
  ["BASE_ADDRESS_2", 0x18, 4],
  ["BASE_ADDRESS_3", 0x1c, 4],
  ["BASE_ADDRESS_4", 0x20, 4],
  ["BASE_ADDRESS_5", 0x24, 4],
  ["CARDBUS_CIS", 0x28, 4],
  ["SUBSYSTEM_VENDOR_ID", 0x2c, 2],
  ["SUBSYSTEM_ID", 0x2e, 2],
  ["ROM_ADDRESS", 0x30, 4],
  ["MIN_GNT", 0x3e, 1],
  ["MAX_LAT", 0x3f, 1],
];

const BRIDGE: readonly Row[] = [
  ["PRIMARY_BUS", 0x18, 1],
  ["SECONDARY_BUS", 0x19, 1],
  ["SUBORDINATE_BUS", 0x1a, 1],
  ["SEC_LATENCY_TIMER", 0x1b, 1],
  ["IO_BASE", 0x1c, 1],
  ["IO_LIMIT", 0x1d, 1],
  ["SEC_STATUS", 0x1e, 2],
  ["MEMORY_BASE", 0x20, 2],
  ["MEMORY_LIMIT", 0x22, 2],
  ["PREF_MEMORY_BASE", 0x24, 2],
  ["PREF_MEMORY_LIMIT", 0x26, 2],
  ["PREF_BASE_UPPER32", 0x28, 4],
  ["PREF_LIMIT_UPPER32", 0x2c, 4],
  ["IO_BASE_UPPER16", 0x30, 2],
  ["IO_LIMIT_UPPER16", 0x32, 2],
  ["BRIDGE_ROM_ADDRESS", 0x38, 4],
  ["BRIDGE_CONTROL", 0x3e, 2],
];

const CARDBUS: readonly Row[] = [
  ["CB_CARDBUS_BASE", 0x10, 4],
  ["CB_CAPABILITIES", 0x14, 2],
  ["CB_SEC_STATUS", 0x16, 2],
  ["CB_BUS_NUMBER", 0x18, 1],
  ["CB_CARDBUS_NUMBER", 0x19, 1],
  ["CB_SUBORDINATE_BUS", 0x1a, 1],
  ["CB_CARDBUS_LATENCY", 0x1b, 1],
  ["CB_MEMORY_BASE_0", 0x1c, 4],
  ["CB_MEMORY_LIMIT_0", 0x20, 4],
  ["CB_MEMORY_BASE_1", 0x24, 4],
  ["CB_MEMORY_LIMIT_1", 0x28, 4],
  ["CB_IO_BASE_0", 0x2c, 2],
  ["CB_IO_BASE_0_HI", 0x2e, 2],
  ["CB_IO_LIMIT_0", 0x30, 2],
  ["CB_IO_LIMIT_0_HI", 0x32, 2],
  ["CB_IO_BASE_1", 0x34, 2],
  ["CB_IO_BASE_1_HI", 0x36, 2],
  ["CB_IO_LIMIT_1", 0x38, 2],
  ["CB_IO_LIMIT_1_HI", 0x3a, 2],
  ["CB_SUBSYSTEM_VENDOR_ID", 0x40, 2],
  ["CB_SUBSYSTEM_ID", 0x42, 2],
  ["CB_LEGACY_MODE_BASE", 0x44, 4],
];

function named(header: RegisterHeader, rows: readonly Row[]): RegisterName[] {
  return rows.map(([name, offset, width]) => ({ name, offset, width, header }));
}

/** Every named register of the configuration header. */
export const REGISTER_NAMES: readonly RegisterName[] = [
  ...named("common", COMMON),
  ...named("normal", NORMAL),
  ...named("bridge", BRIDGE),
  ...named("cardbus", CARDBUS),
];

/**
 * Looks up a register of the configuration header by its `setpci` name, in upper or lower case.
 *
 * @returns the register, its offset and width in bytes; undefined if none has the name
 *
 * @example
 * ```ts
 * import { findRegister } from "./names.ts";
 *
 * const command = findRegister("command");
 * if (command?.offset !== 4 || command.width !== 2) throw new Error();
 * if (findRegister("COMAND") !== undefined) throw new Error();
 * ```
 */
export function findRegister(name: string): RegisterName | undefined {
  const upper = name.toUpperCase();
  return REGISTER_NAMES.find((register) => register.name === upper);
}

/** The names of a capability. */
export interface CapabilityName {
  /** For a person, as "Power Management". */
  name: string;
  /** As `setpci` spells it. It has no name for a few newer ones, which get one of the same form. */
  setpciName?: string;
}

/** Standard capabilities, by their id of one byte. */
export const CAPABILITY_NAMES: Readonly<Record<number, CapabilityName>> = {
  0x00: { name: "Null" },
  0x01: { name: "Power Management", setpciName: "CAP_PM" },
  0x02: { name: "AGP", setpciName: "CAP_AGP" },
  0x03: { name: "Vital Product Data", setpciName: "CAP_VPD" },
  0x04: { name: "Slot ID", setpciName: "CAP_SLOTID" },
  0x05: { name: "MSI", setpciName: "CAP_MSI" },
  0x06: { name: "CompactPCI hot-swap", setpciName: "CAP_CHSWP" },
  0x07: { name: "PCI-X", setpciName: "CAP_PCIX" },
  0x08: { name: "HyperTransport", setpciName: "CAP_HT" },
  0x09: { name: "Vendor Specific", setpciName: "CAP_VNDR" },
  0x0a: { name: "Debug port", setpciName: "CAP_DBG" },
  0x0b: { name: "CompactPCI central resource control", setpciName: "CAP_CCRC" },
  0x0c: { name: "Standard Hot-Plug Controller", setpciName: "CAP_HOTPLUG" },
  0x0d: { name: "Bridge subsystem ID", setpciName: "CAP_SSVID" },
  0x0e: { name: "AGP3", setpciName: "CAP_AGP3" },
  0x0f: { name: "Secure device", setpciName: "CAP_SECURE" },
  0x10: { name: "PCI Express", setpciName: "CAP_EXP" },
  0x11: { name: "MSI-X", setpciName: "CAP_MSIX" },
  0x12: { name: "SATA HBA", setpciName: "CAP_SATA" },
  0x13: { name: "PCI Advanced Features", setpciName: "CAP_AF" },
  0x14: { name: "Enhanced Allocation", setpciName: "CAP_EA" },
  0x15: { name: "Flattening Portal Bridge" },
};

/** Extended capabilities, by their id of two bytes. */
export const EXTENDED_CAPABILITY_NAMES: Readonly<Record<number, CapabilityName>> = {
  0x00: { name: "Null" },
  0x01: { name: "Advanced Error Reporting", setpciName: "ECAP_AER" },
  0x02: { name: "Virtual Channel", setpciName: "ECAP_VC" },
  0x03: { name: "Device Serial Number", setpciName: "ECAP_DSN" },
  0x04: { name: "Power Budgeting", setpciName: "ECAP_PB" },
  0x05: { name: "Root Complex Link", setpciName: "ECAP_RCLINK" },
  0x06: { name: "Root Complex Internal Link", setpciName: "ECAP_RCILINK" },
  0x07: { name: "Root Complex Event Collector", setpciName: "ECAP_RCEC" },
  0x08: { name: "Multi-Function Virtual Channel", setpciName: "ECAP_MFVC" },
  0x09: { name: "Virtual Channel with MFVC", setpciName: "ECAP_VC2" },
  0x0a: { name: "Root Complex Register Block", setpciName: "ECAP_RBCB" },
  0x0b: { name: "Vendor Specific (extended)", setpciName: "ECAP_VNDR" },
  0x0d: { name: "Access Control Services", setpciName: "ECAP_ACS" },
  0x0e: { name: "Alternative Routing-ID", setpciName: "ECAP_ARI" },
  0x0f: { name: "Address Translation Service", setpciName: "ECAP_ATS" },
  0x10: { name: "Single Root I/O Virtualization", setpciName: "ECAP_SRIOV" },
  0x11: { name: "Multi-Root I/O Virtualization", setpciName: "ECAP_MRIOV" },
  0x12: { name: "Multicast", setpciName: "ECAP_MCAST" },
  0x13: { name: "Page Request Interface", setpciName: "ECAP_PRI" },
  0x15: { name: "Resizable BAR", setpciName: "ECAP_REBAR" },
  0x16: { name: "Dynamic Power Allocation", setpciName: "ECAP_DPA" },
  0x17: { name: "TPH Requester", setpciName: "ECAP_TPH" },
  0x18: { name: "Latency Tolerance Reporting", setpciName: "ECAP_LTR" },
  0x19: { name: "Secondary PCI Express", setpciName: "ECAP_SECPCI" },
  0x1a: { name: "Protocol Multiplexing", setpciName: "ECAP_PMUX" },
  0x1b: { name: "Process Address Space ID", setpciName: "ECAP_PASID" },
  0x1c: { name: "LN Requester", setpciName: "ECAP_LNR" },
  0x1d: { name: "Downstream Port Containment", setpciName: "ECAP_DPC" },
  0x1e: { name: "L1 PM Substates", setpciName: "ECAP_L1PM" },
  0x1f: { name: "Precision Time Measurement", setpciName: "ECAP_PTM" },
  0x20: { name: "PCI Express over M-PHY", setpciName: "ECAP_M_PCIE" },
  0x21: { name: "FRS Queueing", setpciName: "ECAP_FRS" },
  0x22: { name: "Readiness Time Reporting", setpciName: "ECAP_RTR" },
  0x23: { name: "Designated Vendor-Specific", setpciName: "ECAP_DVSEC" },
  0x24: { name: "VF Resizable BAR", setpciName: "ECAP_VF_REBAR" },
  0x25: { name: "Data Link Feature", setpciName: "ECAP_DLNK" },
  0x26: { name: "Physical Layer 16.0 GT/s", setpciName: "ECAP_16GT" },
  0x27: { name: "Lane Margining at the Receiver", setpciName: "ECAP_LMR" },
  0x28: { name: "Hierarchy ID", setpciName: "ECAP_HIER_ID" },
  0x29: { name: "Native PCIe Enclosure Management", setpciName: "ECAP_NPEM" },
  0x2a: { name: "Physical Layer 32.0 GT/s", setpciName: "ECAP_32GT" },
  0x2b: { name: "Alternate Protocol" },
  0x2c: { name: "System Firmware Intermediary" },
  0x2d: { name: "Shadow Functions" },
  0x2e: { name: "Data Object Exchange", setpciName: "ECAP_DOE" },
  0x2f: { name: "Device 3" },
  0x30: { name: "Integrity and Data Encryption", setpciName: "ECAP_IDE" },
  0x31: { name: "Physical Layer 64.0 GT/s", setpciName: "ECAP_64GT" },
  0x32: { name: "Flit Logging", setpciName: "ECAP_FL" },
  0x33: { name: "Flit Performance Measurement" },
  0x34: { name: "Flit Error Injection" },
  0x35: { name: "Streamlined Virtual Channel" },
  0x36: { name: "MMIO Register Block Locator" },
  0x37: { name: "NOP Flit" },
  0x38: { name: "Scalable I/O Virtualization" },
  0x39: { name: "Physical Layer 128.0 GT/s" },
  0x3a: { name: "Captured Data" },
};

/** A capability by its kind and id. */
export interface CapabilityKey {
  /** True if it is in the extended list. */
  extended: boolean;
  /** Its id: one byte, or two if extended. */
  id: number;
}

/**
 * Finds the capability that a `setpci` name means, in upper or lower case: `CAP_MSIX`, `ECAP_AER`,
 * or by the id in hexadecimal digits as `CAP11`, `ECAP0001`. `undefined` if it means none.
 *
 * @example
 * ```ts
 * import { capabilityKey } from "./names.ts";
 *
 * const msix = capabilityKey("CAP_MSIX");
 * if (msix?.id !== 0x11 || msix.extended) throw new Error();
 * ```
 */
export function capabilityKey(name: string): CapabilityKey | undefined {
  const upper = name.toUpperCase();
  const digits = /^(E?)CAP([0-9A-F]{1,4})$/.exec(upper);
  if (digits) {
    const extended = digits[1] === "E";
    const id = Number.parseInt(digits[2]!, 16);
    return extended || id <= 0xff ? { extended, id } : undefined;
  }
  const extended = upper.startsWith("ECAP_");
  const table = extended ? EXTENDED_CAPABILITY_NAMES : CAPABILITY_NAMES;
  const row = Object.entries(table).find(([, names]) => names.setpciName === upper);
  return row && { extended, id: Number(row[0]) };
}

/** A capability in a list: its id and where it is. */
export interface ListedCapability {
  /** Its id: one byte, or two if extended. */
  readonly id: number;
  /** Bytes from the start of the configuration space. */
  readonly offset: number;
}

/** The lists that {@linkcode findCapability} looks in: a `ConfigSpace`, or only these two. */
export interface CapabilityLists {
  /** The standard capabilities. */
  capabilities: readonly ListedCapability[];
  /** The extended capabilities. */
  extendedCapabilities: readonly ListedCapability[];
}

/**
 * The offset of a capability of `space` by its `setpci` name, `undefined` if the device does not
 * have it.
 *
 * @param instance which of several with the same id, from 0
 *
 * @example
 * ```ts
 * import { parseConfigSpace } from "./config_space.ts";
 * import { findCapability } from "./names.ts";
 *
 * const config = new Uint8Array(256);
 * config[0x06] = 0x10; // the status register says that there is a list of capabilities
 * config[0x34] = 0x40; // which begins here
 * config[0x40] = 0x11; // with MSI-X
 * if (findCapability(parseConfigSpace(config), "CAP_MSIX") !== 0x40) throw new Error();
 * ```
 */
export function findCapability(
  space: CapabilityLists,
  name: string,
  instance = 0,
): number | undefined {
  const key = capabilityKey(name);
  if (!key) return undefined;
  const list = key.extended ? space.extendedCapabilities : space.capabilities;
  return list.filter((capability) => capability.id === key.id)[instance]?.offset;
}
