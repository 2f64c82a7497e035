/**
 * The labels of register flags on the screen: short, and known from `lspci`.
 *
 * @module
 */

import type {
  ACS,
  BRIDGE_CTL,
  CARDBUS_CTL,
  COMMAND,
  ERR_COR,
  ERR_ROOT_COMMAND,
  ERR_ROOT_STATUS,
  ERR_UNC,
  EXP_DEVCTL,
  EXP_DEVCTL2,
  EXP_DEVSTA,
  EXP_LNKCTL,
  EXP_LNKSTA,
  EXP_RTCTL,
  EXP_SLTCAP,
  EXP_SLTCTL,
  EXP_SLTSTA,
  Flags,
  L1SS,
  SEC_STATUS,
  SRIOV_CTRL,
  STATUS,
} from "./registers.ts";

/** A word for each bit of a table. */
export type Labels<Table> = Readonly<Record<keyof Table, string>>;

/** Words for the command register. */
export const COMMAND_LABELS: Labels<typeof COMMAND> = {
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

/** Words for the status register; > is sent, < is received. */
export const STATUS_LABELS: Labels<typeof STATUS> = {
  IMM_READY: "ImmReady",
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

/** Words for the secondary status register. */
export const SEC_STATUS_LABELS: Labels<typeof SEC_STATUS> = {
  "66MHZ": "66MHz",
  FAST_BACK: "FastB2B",
  PARITY: "ParErr",
  SIG_TARGET_ABORT: ">TAbort",
  REC_TARGET_ABORT: "<TAbort",
  REC_MASTER_ABORT: "<MAbort",
  REC_SYSTEM_ERROR: "<SERR",
  DETECTED_PARITY: "<PERR",
};

/** Words for the bridge control register. */
export const BRIDGE_CTL_LABELS: Labels<typeof BRIDGE_CTL> = {
  PARITY: "Parity",
  SERR: "SERR",
  ISA: "NoISA",
  VGA: "VGA",
  VGA_16BIT: "VGA16",
  MASTER_ABORT: "MAbort",
  BUS_RESET: "Reset",
  FAST_BACK: "FastB2B",
  PRI_DISCARD_TIMER: "PriDiscTmr",
  SEC_DISCARD_TIMER: "SecDiscTmr",
  DISCARD_TIMER_STATUS: "DiscTmrStat",
  DISCARD_TIMER_SERR: "DiscTmrSERREn",
};

/** Words for a CardBus bridge's control register. */
export const CARDBUS_CTL_LABELS: Labels<typeof CARDBUS_CTL> = {
  PARITY: "Parity",
  SERR: "SERR",
  ISA: "ISA",
  VGA: "VGA",
  MASTER_ABORT: "MAbort",
  CB_RESET: "Reset",
  "16BIT_INT": "16bInt",
  PREFETCH_MEM0: "PrefMem0",
  PREFETCH_MEM1: "PrefMem1",
  POST_WRITES: "PostWrite",
};

/** Words for PCI Express Device Control. */
export const DEVCTL_LABELS: Labels<typeof EXP_DEVCTL> = {
  CERE: "CorrErr",
  NFERE: "NonFatalErr",
  FERE: "FatalErr",
  URRE: "UnsupReq",
  RELAX_EN: "RlxdOrd",
  EXT_TAG: "ExtTag",
  PHANTOM: "PhantFunc",
  AUX_PME: "AuxPwr",
  NOSNOOP_EN: "NoSnoop",
  BCR_FLR: "FLReset",
};

/** Words for PCI Express Device Status. */
export const DEVSTA_LABELS: Labels<typeof EXP_DEVSTA> = {
  CED: "CorrErr",
  NFED: "NonFatalErr",
  FED: "FatalErr",
  URD: "UnsupReq",
  AUXPD: "AuxPwr",
  TRPND: "TransPend",
};

/** Words for PCI Express Link Control. */
export const LNKCTL_LABELS: Labels<typeof EXP_LNKCTL> = {
  RCB: "RCB128",
  LD: "Disabled",
  RL: "Retrain",
  CCC: "CommClk",
  ES: "ExtSynch",
  CLKREQ_EN: "ClockPM",
  HAWD: "AutWidDis",
  LBMIE: "BWInt",
  LABIE: "AutBWInt",
};

/** Words for PCI Express Link Status. */
export const LNKSTA_LABELS: Labels<typeof EXP_LNKSTA> = {
  LT: "Train",
  SLC: "SlotClk",
  DLLLA: "DLActive",
  LBMS: "BWMgmt",
  LABS: "ABWMgmt",
};

/** Words for PCI Express Slot Capabilities. */
export const SLTCAP_LABELS: Labels<typeof EXP_SLTCAP> = {
  ABP: "AttnBtn",
  PCP: "PwrCtrl",
  MRLSP: "MRL",
  AIP: "AttnInd",
  PIP: "PwrInd",
  HPS: "Surprise",
  HPC: "HotPlug",
  EIP: "Interlock",
  NCCS: "NoCompl",
};

/** Words for Slot Control. */
export const SLTCTL_LABELS: Labels<typeof EXP_SLTCTL> = {
  ABPE: "AttnBtn",
  PFDE: "PwrFlt",
  MRLSCE: "MRL",
  PDCE: "PresDet",
  CCIE: "CmdCplt",
  HPIE: "HPIrq",
  PCC: "Power",
  EIC: "Interlock",
  DLLSCE: "LinkChg",
};

/** Words for the root's error command. */
export const ERR_ROOT_COMMAND_LABELS: Labels<typeof ERR_ROOT_COMMAND> = {
  COR_EN: "CERptEn",
  NONFATAL_EN: "NFERptEn",
  FATAL_EN: "FERptEn",
};

/** Words for the root's error status. */
export const ERR_ROOT_STATUS_LABELS: Labels<typeof ERR_ROOT_STATUS> = {
  COR_RCV: "CERcvd",
  MULTI_COR_RCV: "MultCERcvd",
  UNCOR_RCV: "UERcvd",
  MULTI_UNCOR_RCV: "MultUERcvd",
  FIRST_FATAL: "FirstFatal",
  NONFATAL_RCV: "NonFatalMsg",
  FATAL_RCV: "FatalMsg",
};

/** Words for PCI Express Slot Status. */
export const SLTSTA_LABELS: Labels<typeof EXP_SLTSTA> = {
  ABP: "AttnBtn",
  PFD: "PowerFlt",
  MRLSC: "MRLChg",
  PDC: "PresDetChg",
  CC: "CmdCplt",
  MRLSS: "MRLOpen",
  PDS: "PresDet",
  EIS: "Interlock",
  DLLSC: "LinkStateChg",
};

/** Words for PCI Express Root Control. */
export const RTCTL_LABELS: Labels<typeof EXP_RTCTL> = {
  SECEE: "ErrCorrectable",
  SENFEE: "ErrNonFatal",
  SEFEE: "ErrFatal",
  PMEIE: "PMEInt",
  CRSSVE: "CRSVisible",
};

/** Words for PCI Express Device Control 2. */
export const DEVCTL2_LABELS: Labels<typeof EXP_DEVCTL2> = {
  COMP_TMOUT_DIS: "TimeoutDis",
  ARI: "ARIFwd",
  ATOMIC_REQ: "AtomicReq",
  ATOMIC_EGRESS_BLOCK: "AtomicBlk",
  IDO_REQ_EN: "IDOReq",
  IDO_CMP_EN: "IDOCompl",
  LTR_EN: "LTR",
  "10BIT_TAG_REQ_EN": "10BitTagReq",
};

/** Words for uncorrectable errors. */
export const ERR_UNC_LABELS: Labels<typeof ERR_UNC> = {
  UND: "Undef",
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
  INTN: "UncorrInt",
  MCBTLP: "MCBlocked",
  ATOMEG: "AtomicBlk",
  TLPPRE: "TLPPrefix",
  POISON_BLK: "PoisonTLPBlocked",
  DMWR_BLK: "DMWrReqBlocked",
  IDE_CHECK: "IDECheck",
  IDE_TLP: "MisIDETLP",
  PCRC_CHECK: "PCRC_CHECK",
  XLAT_BLK: "TLPXlatBlocked",
};

/** Words for correctable errors. */
export const ERR_COR_LABELS: Labels<typeof ERR_COR> = {
  RCVR: "RxErr",
  BAD_TLP: "BadTLP",
  BAD_DLLP: "BadDLLP",
  REP_ROLL: "Rollover",
  REP_TIMER: "Timeout",
  ADV_NFAT: "AdvNonFatal",
  INTERNAL: "CorrInt",
  LOG_OVER: "LogOverflow",
};

/** Words for Access Control Services. */
export const ACS_LABELS: Labels<typeof ACS> = {
  SV: "SrcValid",
  TB: "TransBlk",
  RR: "ReqRedir",
  CR: "CmpltRedir",
  UF: "UpstreamFwd",
  EC: "EgressCtrl",
  DT: "DirectTrans",
};

/** Words for SR-IOV Control. */
export const SRIOV_CTRL_LABELS: Labels<typeof SRIOV_CTRL> = {
  VFE: "Enable",
  VFM: "Migration",
  INTR: "Interrupt",
  MSE: "MSE",
  ARI: "ARIHierarchy",
};

/** Words for L1 PM Substates. */
export const L1SS_LABELS: Labels<typeof L1SS> = {
  PCIPM_L1_2: "PCI-PM_L1.2",
  PCIPM_L1_1: "PCI-PM_L1.1",
  ASPM_L1_2: "ASPM_L1.2",
  ASPM_L1_1: "ASPM_L1.1",
  L1_PM_SS: "L1_PM_Substates",
};

/** One word, with a + if it is so and a - if not. */
export function sign(label: string, set: boolean): string {
  return label + (set ? "+" : "-");
}

/** A word for each flag that has a label, with a + if it is set and a - if not. */
export function signs(register: Flags, labels: Readonly<Record<string, string>>): string[] {
  return Object.entries(labels).map(([name, label]) => sign(label, register.set.includes(name)));
}
