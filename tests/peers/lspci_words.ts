/**
 * The words of `lspci` for bits and capabilities, and where it is not to be believed.
 *
 * @module
 */

/**
 * Bits that `lspci` takes from another place than the specification: DOE's up to 3.9, CXL's up to
 * 3.15. Of those it mostly has the number of the bit for its mask.
 */
export const WRONG: ReadonlySet<string> = new Set([
  "DOESta Error",
  "CXLCtl2 InitRst",
  "CXLCtl2 RstMemClrEn",
  "CXLPortSta PMComplete",
  "CXLCap3 HotReset",
  "CXLCap3 HotResetConfigurability",
]);

export const LATER_WORDS: Readonly<Record<string, string>> = { Disabled: "LnkDisable" };
export const LATE_SPEEDS = ["32GT/s", "64GT/s", "128GT/s"];

export const CONTROL = {
  IO: "I/O",
  MEMORY: "Mem",
  MASTER: "BusMaster",
  SPECIAL: "SpecCycle",
  INVALIDATE: "MemWINV",
  VGA_PALETTE: "VGASnoop",
  PARITY: "ParErr",
  WAIT: "Stepping",
  SERR: "SERR",
  FAST_BACK: "FastB2B",
  INTX_DISABLE: "DisINTx",
};

export const STATUS = {
  INTERRUPT: "INTx",
  CAP_LIST: "Cap",
  "66MHZ": "66MHz",
  UDF: "UDF",
  FAST_BACK: "FastB2B",
  PARITY: "ParErr",
  SIG_TARGET_ABORT: ">TAbort",
  REC_TARGET_ABORT: "<TAbort",
  REC_MASTER_ABORT: "<MAbort",
  SIG_SYSTEM_ERROR: ">SERR",
  DETECTED_PARITY: "<PERR",
};

export const SECONDARY_STATUS = {
  "66MHZ": "66MHz",
  FAST_BACK: "FastB2B",
  PARITY: "ParErr",
  SIG_TARGET_ABORT: ">TAbort",
  REC_TARGET_ABORT: "<TAbort",
  REC_MASTER_ABORT: "<MAbort",
  REC_SYSTEM_ERROR: "<SERR",
  DETECTED_PARITY: "<PERR",
};

export const BRIDGE_CONTROL = {
  PARITY: "Parity",
  SERR: "SERR",
  ISA: "NoISA",
  VGA: "VGA",
  VGA_16BIT: "VGA16",
  MASTER_ABORT: "MAbort",
  BUS_RESET: ">Reset",
  FAST_BACK: "FastB2B",
};

export const CARDBUS_CONTROL = {
  PARITY: "Parity",
  SERR: "SERR",
  ISA: "ISA",
  VGA: "VGA",
  MASTER_ABORT: "MAbort",
  CB_RESET: ">Reset",
  "16BIT_INT": "16bInt",
  POST_WRITES: "PostWrite",
};

export const DEVICE_CONTROL = {
  CERE: "CorrErr",
  NFERE: "NonFatalErr",
  FERE: "FatalErr",
  URRE: "UnsupReq",
  RELAX_EN: "RlxdOrd",
  EXT_TAG: "ExtTag",
  PHANTOM: "PhantFunc",
  AUX_PME: "AuxPwr",
  NOSNOOP_EN: "NoSnoop",
};

export const DEVICE_STATUS = {
  CED: "CorrErr",
  NFED: "NonFatalErr",
  FED: "FatalErr",
  URD: "UnsupReq",
  AUXPD: "AuxPwr",
  TRPND: "TransPend",
};

export const LINK_CONTROL = {
  LD: "Disabled",
  CCC: "CommClk",
  ES: "ExtSynch",
  CLKREQ_EN: "ClockPM",
  HAWD: "AutWidDis",
  LBMIE: "BWInt",
  LABIE: "AutBWInt",
};

export const LINK_STATUS = {
  LT: "Train",
  SLC: "SlotClk",
  DLLLA: "DLActive",
  LBMS: "BWMgmt",
  LABS: "ABWMgmt",
};

export const UNCORRECTABLE = {
  DLP: "DLP",
  SURPDN: "SDES",
  POISON_TLP: "TLP",
  FCP: "FCP",
  COMP_TIME: "CmpltTO",
  COMP_ABORT: "CmpltAbrt",
  UNX_COMP: "UnxCmplt",
  RX_OVER: "RxOF",
  MALF_TLP: "MalfTLP",
  ECRC: "ECRC",
  UNSUP: "UnsupReq",
  ACSV: "ACSViol",
};

export const CORRECTABLE = {
  RCVR: "RxErr",
  BAD_TLP: "BadTLP",
  BAD_DLLP: "BadDLLP",
  REP_ROLL: "Rollover",
  REP_TIMER: "Timeout",
};

export const VIRTIO_NAMES: Readonly<Record<number, string>> = {
  1: "CommonCfg",
  2: "Notify",
  3: "ISR",
  4: "DeviceCfg",
};

/** The beginning of `lspci`'s line of each standard capability. */
export const STANDARD_HEADS: Readonly<Record<number, RegExp>> = {
  0x00: /^Null/,
  0x01: /^Power Management version/,
  0x02: /^AGP version/,
  0x03: /^Vital Product Data/,
  0x04: /^Slot ID:/,
  0x05: /^MSI:/,
  0x06: /^CompactPCI hot-swap/,
  0x07: /^PCI-X/,
  0x08: /^HyperTransport:/,
  0x09: /^Vendor Specific Information:/,
  0x0a: /^Debug port:/,
  0x0b: /^CompactPCI central/,
  0x0c: /^Hot-plug capable/,
  0x0d: /^(Bridge s|S)ubsystem:/,
  0x0e: /^AGP3/,
  0x0f: /^Secure device/,
  0x10: /^Express/,
  0x11: /^MSI-X:/,
  0x12: /^SATA HBA/,
  0x13: /^PCI Advanced Features/,
  0x14: /^Enhanced Allocation/,
};

/** The beginning of `lspci`'s line of each extended capability. */
export const EXTENDED_HEADS: Readonly<Record<number, RegExp>> = {
  0x00: /^Null/,
  0x01: /^Advanced Error Reporting/,
  0x02: /^Virtual Channel/,
  0x03: /^Device Serial Number/,
  0x04: /^Power Budgeting/,
  0x09: /^Virtual Channel/,
  0x0b: /^Vendor Specific Information/,
  0x0d: /^Access Control Services/,
  0x0e: /^Alternative Routing-ID/,
  0x0f: /^Address Translation Service/,
  0x10: /^Single Root I\/O Virtualization/,
  0x12: /^Multicast/,
  0x13: /^Page Request Interface/,
  0x15: /Resizable BAR/,
  0x17: /^Transaction Processing Hints/,
  0x18: /^Latency Tolerance Reporting/,
  0x19: /^Secondary PCI Express/,
  0x1b: /^Process Address Space ID/,
  0x1d: /^Downstream Port Containment/,
  0x1e: /^L1 PM Substates/,
  0x1f: /^Precision Time Measurement/,
  0x23: /^Designated Vendor-Specific/,
  0x24: /Resizable BAR/,
  0x25: /^Data Link Feature/,
  0x26: /^Physical Layer 16/,
  0x27: /^Lane Margining/,
};
