/**
 * The registers of a configuration header, and the bits of registers that are sets of flags. Their
 * names are those of `linux/pci_regs.h` without the prefix.
 *
 * @module
 */

/** Offsets of the registers that every header type has. */
export const HEADER = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  CLASS_REVISION: 0x08,
  CLASS_PROG: 0x09,
  CLASS_DEVICE: 0x0a,
  CACHE_LINE_SIZE: 0x0c,
  LATENCY_TIMER: 0x0d,
  HEADER_TYPE: 0x0e,
  BIST: 0x0f,
  CAPABILITY_LIST: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
} as const;

/** Offsets of the registers of a type 0 header: an ordinary function. */
export const HEADER_NORMAL = {
  BASE_ADDRESS_0: 0x10,
  BASE_ADDRESS_1: 0x14,
  BASE_ADDRESS_2: 0x18,
  BASE_ADDRESS_3: 0x1c,
  BASE_ADDRESS_4: 0x20,
  BASE_ADDRESS_5: 0x24,
  CARDBUS_CIS: 0x28,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  ROM_ADDRESS: 0x30,
  MIN_GNT: 0x3e,
  MAX_LAT: 0x3f,
} as const;

/** Offsets of the registers of a type 1 header: a PCI-to-PCI bridge. */
export const HEADER_BRIDGE = {
  PRIMARY_BUS: 0x18,
  SECONDARY_BUS: 0x19,
  SUBORDINATE_BUS: 0x1a,
  SEC_LATENCY_TIMER: 0x1b,
  IO_BASE: 0x1c,
  IO_LIMIT: 0x1d,
  SEC_STATUS: 0x1e,
  MEMORY_BASE: 0x20,
  MEMORY_LIMIT: 0x22,
  PREF_MEMORY_BASE: 0x24,
  PREF_MEMORY_LIMIT: 0x26,
  PREF_BASE_UPPER32: 0x28,
  PREF_LIMIT_UPPER32: 0x2c,
  IO_BASE_UPPER16: 0x30,
  IO_LIMIT_UPPER16: 0x32,
  ROM_ADDRESS1: 0x38,
  BRIDGE_CONTROL: 0x3e,
} as const;

/** Offsets of the registers of a type 2 header that are shown: a CardBus bridge. */
export const HEADER_CARDBUS = {
  CB_CAPABILITY_LIST: 0x14,
  CB_SEC_STATUS: 0x16,
  CB_PRIMARY_BUS: 0x18,
  CB_CARD_BUS: 0x19,
  CB_SUBORDINATE_BUS: 0x1a,
  CB_LATENCY_TIMER: 0x1b,
  CB_MEMORY_BASE_0: 0x1c,
  CB_IO_BASE_0: 0x2c,
  CB_BRIDGE_CONTROL: 0x3e,
  CB_SUBSYSTEM_VENDOR_ID: 0x40,
  CB_SUBSYSTEM_ID: 0x42,
  CB_LEGACY_MODE_BASE: 0x44,
} as const;

/** Bits of a base address register. */
export const BAR_BITS = {
  IO: 0x1,
  TYPE_MASK: 0x6,
  TYPE_64: 0x4,
} as const;

/** Bits of the command register. */
export const COMMAND = {
  IO: 0x0001,
  MEMORY: 0x0002,
  MASTER: 0x0004,
  SPECIAL: 0x0008,
  INVALIDATE: 0x0010,
  VGA_PALETTE: 0x0020,
  PARITY: 0x0040,
  WAIT: 0x0080,
  SERR: 0x0100,
  FAST_BACK: 0x0200,
  INTX_DISABLE: 0x0400,
} as const;

/** Bits of the status register; DEVSEL timing, two bits, is apart. */
export const STATUS = {
  IMM_READY: 0x0001,
  INTERRUPT: 0x0008,
  CAP_LIST: 0x0010,
  "66MHZ": 0x0020,
  UDF: 0x0040,
  FAST_BACK: 0x0080,
  PARITY: 0x0100,
  SIG_TARGET_ABORT: 0x0800,
  REC_TARGET_ABORT: 0x1000,
  REC_MASTER_ABORT: 0x2000,
  SIG_SYSTEM_ERROR: 0x4000,
  DETECTED_PARITY: 0x8000,
} as const;

/** Bits of the message control register of MSI. */
export const MSI_CONTROL = { ENABLE: 0x0001, ADDRESS_64: 0x0080 } as const;

/** Bits of the message control register of MSI-X. */
export const MSIX_CONTROL = { FUNCTION_MASK: 0x4000, ENABLE: 0x8000 } as const;

/** The size of the table of MSI-X in that register, less 1. */
export const MSIX_SIZE_MASK = 0x07ff;

/** An entry of the table of MSI-X: its size, and the register with its mask bit, in bytes. */
export const MSIX_ENTRY = { SIZE: 16, CONTROL: 12 } as const;

/** Bits of a bridge's secondary status register. */
export const SEC_STATUS = {
  "66MHZ": 0x0020,
  FAST_BACK: 0x0080,
  PARITY: 0x0100,
  SIG_TARGET_ABORT: 0x0800,
  REC_TARGET_ABORT: 0x1000,
  REC_MASTER_ABORT: 0x2000,
  REC_SYSTEM_ERROR: 0x4000,
  DETECTED_PARITY: 0x8000,
} as const;

/** Bits of the bridge control register. */
export const BRIDGE_CTL = {
  PARITY: 0x0001,
  SERR: 0x0002,
  ISA: 0x0004,
  VGA: 0x0008,
  VGA_16BIT: 0x0010,
  MASTER_ABORT: 0x0020,
  BUS_RESET: 0x0040,
  FAST_BACK: 0x0080,
  PRI_DISCARD_TIMER: 0x0100,
  SEC_DISCARD_TIMER: 0x0200,
  DISCARD_TIMER_STATUS: 0x0400,
  DISCARD_TIMER_SERR: 0x0800,
} as const;

/** Bits of a CardBus bridge's control register. */
export const CARDBUS_CTL = {
  PARITY: 0x0001,
  SERR: 0x0002,
  ISA: 0x0004,
  VGA: 0x0008,
  MASTER_ABORT: 0x0020,
  CB_RESET: 0x0040,
  "16BIT_INT": 0x0080,
  PREFETCH_MEM0: 0x0100,
  PREFETCH_MEM1: 0x0200,
  POST_WRITES: 0x0400,
} as const;

/** Flags of PCI Express Device Control; the payload and read request sizes are apart. */
export const EXP_DEVCTL = {
  CERE: 0x0001,
  NFERE: 0x0002,
  FERE: 0x0004,
  URRE: 0x0008,
  RELAX_EN: 0x0010,
  EXT_TAG: 0x0100,
  PHANTOM: 0x0200,
  AUX_PME: 0x0400,
  NOSNOOP_EN: 0x0800,
  /** Initiate Function Level Reset; of a bridge to PCI: Bridge Configuration Retry Enable. */
  BCR_FLR: 0x8000,
} as const;

/** Bits of PCI Express Device Status. */
export const EXP_DEVSTA = {
  CED: 0x0001,
  NFED: 0x0002,
  FED: 0x0004,
  URD: 0x0008,
  AUXPD: 0x0010,
  TRPND: 0x0020,
} as const;

/** Flags of PCI Express Link Control; ASPM control is apart. */
export const EXP_LNKCTL = {
  RCB: 0x0008,
  LD: 0x0010,
  RL: 0x0020,
  CCC: 0x0040,
  ES: 0x0080,
  CLKREQ_EN: 0x0100,
  HAWD: 0x0200,
  LBMIE: 0x0400,
  LABIE: 0x0800,
} as const;

/** Flags of PCI Express Link Status; speed and width are apart. */
export const EXP_LNKSTA = {
  LT: 0x0800,
  SLC: 0x1000,
  DLLLA: 0x2000,
  LBMS: 0x4000,
  LABS: 0x8000,
} as const;

/** Flags of PCI Express Slot Capabilities; power limit and slot number are apart. */
export const EXP_SLTCAP = {
  ABP: 0x01,
  PCP: 0x02,
  MRLSP: 0x04,
  AIP: 0x08,
  PIP: 0x10,
  HPS: 0x20,
  HPC: 0x40,
  EIP: 0x20000,
  NCCS: 0x40000,
} as const;

/** Flags of PCI Express Slot Control; the indicators are apart. */
export const EXP_SLTCTL = {
  ABPE: 0x0001,
  PFDE: 0x0002,
  MRLSCE: 0x0004,
  PDCE: 0x0008,
  CCIE: 0x0010,
  HPIE: 0x0020,
  PCC: 0x0400,
  EIC: 0x0800,
  DLLSCE: 0x1000,
} as const;

/** Flags of Root Control in AER: errors that are reported by an interrupt. */
export const ERR_ROOT_COMMAND = { COR_EN: 0x1, NONFATAL_EN: 0x2, FATAL_EN: 0x4 } as const;

/** Flags of Root Error Status in AER; the interrupt message is apart. */
export const ERR_ROOT_STATUS = {
  COR_RCV: 0x01,
  MULTI_COR_RCV: 0x02,
  UNCOR_RCV: 0x04,
  MULTI_UNCOR_RCV: 0x08,
  FIRST_FATAL: 0x10,
  NONFATAL_RCV: 0x20,
  FATAL_RCV: 0x40,
} as const;

/** Bits of PCI Express Slot Status. */
export const EXP_SLTSTA = {
  ABP: 0x0001,
  PFD: 0x0002,
  MRLSC: 0x0004,
  PDC: 0x0008,
  CC: 0x0010,
  MRLSS: 0x0020,
  PDS: 0x0040,
  EIS: 0x0080,
  DLLSC: 0x0100,
} as const;

/** Bits of PCI Express Root Control. */
export const EXP_RTCTL = {
  SECEE: 0x0001,
  SENFEE: 0x0002,
  SEFEE: 0x0004,
  PMEIE: 0x0008,
  CRSSVE: 0x0010,
} as const;

/** Flags of PCI Express Device Control 2; the completion timeout value and OBFF are apart. */
export const EXP_DEVCTL2 = {
  COMP_TMOUT_DIS: 0x0010,
  ARI: 0x0020,
  ATOMIC_REQ: 0x0040,
  ATOMIC_EGRESS_BLOCK: 0x0080,
  IDO_REQ_EN: 0x0100,
  IDO_CMP_EN: 0x0200,
  LTR_EN: 0x0400,
  "10BIT_TAG_REQ_EN": 0x1000,
} as const;

/**
 * Uncorrectable errors of Advanced Error Reporting: bits of its status, mask and severity
 * registers.
 */
export const ERR_UNC = {
  UND: 0x00000001,
  DLP: 0x00000010,
  SURPDN: 0x00000020,
  POISON_TLP: 0x00001000,
  FCP: 0x00002000,
  COMP_TIME: 0x00004000,
  COMP_ABORT: 0x00008000,
  UNX_COMP: 0x00010000,
  RX_OVER: 0x00020000,
  MALF_TLP: 0x00040000,
  ECRC: 0x00080000,
  UNSUP: 0x00100000,
  ACSV: 0x00200000,
  INTN: 0x00400000,
  MCBTLP: 0x00800000,
  ATOMEG: 0x01000000,
  TLPPRE: 0x02000000,
  POISON_BLK: 0x04000000,
  DMWR_BLK: 0x08000000,
  IDE_CHECK: 0x10000000,
  IDE_TLP: 0x20000000,
  PCRC_CHECK: 0x40000000,
  XLAT_BLK: 0x80000000,
} as const;

/** Correctable errors of Advanced Error Reporting: bits of its status and mask registers. */
export const ERR_COR = {
  RCVR: 0x0001,
  BAD_TLP: 0x0040,
  BAD_DLLP: 0x0080,
  REP_ROLL: 0x0100,
  REP_TIMER: 0x1000,
  ADV_NFAT: 0x2000,
  INTERNAL: 0x4000,
  LOG_OVER: 0x8000,
} as const;

/** Bits of Access Control Services: capability and control alike. */
export const ACS = {
  SV: 0x01,
  TB: 0x02,
  RR: 0x04,
  CR: 0x08,
  UF: 0x10,
  EC: 0x20,
  DT: 0x40,
} as const;

/** Bits of SR-IOV Control. */
export const SRIOV_CTRL = {
  VFE: 0x01,
  VFM: 0x02,
  INTR: 0x04,
  MSE: 0x08,
  ARI: 0x10,
} as const;

/** Bits of L1 PM Substates: the capability, and with the first four of them, control 1. */
export const L1SS = {
  PCIPM_L1_2: 0x01,
  PCIPM_L1_1: 0x02,
  ASPM_L1_2: 0x04,
  ASPM_L1_1: 0x08,
  L1_PM_SS: 0x10,
} as const;

/** A table of one of this file: bit masks by name. */
export type BitTable = Readonly<Record<string, number>>;

/** A register that is a set of flags. */
export interface Flags {
  /** The register as it is, with the bits that have no name. */
  value: number;
  /** The names of the bits that are set, from the lowest bit up. */
  set: string[];
}

/** Names the bits of `value` that are set, by a table of this file. */
export function flags(value: number, table: BitTable): Flags {
  const set = Object.keys(table).filter((name) => (value & table[name]!) !== 0);
  return { value, set };
}

/** The speed at which a function of conventional PCI answers. */
export type DevselTiming = "fast" | "medium" | "slow" | "reserved";

const DEVSEL: readonly DevselTiming[] = ["fast", "medium", "slow", "reserved"];

/** The timing in a status register of either bus. */
export function devselTiming(status: number): DevselTiming {
  return DEVSEL[(status >>> 9) & 3]!;
}
