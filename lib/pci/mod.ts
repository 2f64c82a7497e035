/**
 * PCI configuration space: decoding it, naming what is in it, and showing it.
 *
 * @example
 * ```ts
 * import { configSpaceText, findCapability, parseConfigSpace } from "./mod.ts";
 *
 * const config = new Uint8Array(256);
 * config.set([0x36, 0x1b, 0x10, 0x00, 0x06, 0x04, 0x10, 0x00, 0x02, 0x02, 0x08, 0x01]);
 * config[0x34] = 0x40;
 * config.set([0x11, 0x00, 0x40, 0x80, 0x00, 0x20, 0x00, 0x00, 0x00, 0x30], 0x40);
 *
 * const space = parseConfigSpace(config);
 * if (findCapability(space, "CAP_MSIX") !== 0x40) throw new Error();
 * const lines = configSpaceText(space);
 * if (!lines.includes("  [40] MSI-X: Enable+ Count=65 Masked-")) throw new Error();
 * ```
 *
 * @module
 */

export {
  type Bar,
  type BarCommon,
  type IoBar,
  type MemoryBar,
  type RegionSizes,
  ROM_REGION_INDEX,
  type RomBar,
} from "./bar.ts";
export type { BridgeHeader, BridgeWindow, CardbusHeader, CardbusWindow } from "./bridge.ts";
export type { Capability, CapabilityCommon, CapabilityFields } from "./capability.ts";
export { type ClassNames, classNames } from "./class.ts";
export {
  type Bist,
  CONFIG_HEADER_SIZE,
  type ConfigSpace,
  type NormalHeader,
  parseConfigSpace,
  type ParseConfigSpaceOptions,
  type Subsystem,
  type UnknownHeader,
} from "./config_space.ts";
export { lspciDump, type LspciDumpEntry, type LspciDumpOptions, parseLspciDump } from "./dump.ts";
export type {
  AspmStates,
  ExpressCapability,
  ExpressDevice,
  ExpressDevice2,
  ExpressLink,
  ExpressLink2,
  ExpressSlot,
  IndicatorState,
} from "./express.ts";
export type {
  AcsCapability,
  AerCapability,
  AerRoot,
  AriCapability,
  AtsCapability,
  DpcCapability,
  DvsecCapability,
  ExtendedFields,
  L1PmCapability,
  LtrCapability,
  PasidCapability,
  PriCapability,
  PtmCapability,
  ResizableBar,
  ResizableBarCapability,
  SecondaryExpressCapability,
  SerialNumberCapability,
  SriovCapability,
  TphCapability,
  VirtualChannelCapability,
  VsecCapability,
} from "./extended.ts";
export { configSpaceJson, type JsonValue } from "./json.ts";
export type { DecodedField, DecodedRegister } from "./layout.ts";
export {
  CAPABILITY_NAMES,
  type CapabilityKey,
  capabilityKey,
  type CapabilityLists,
  type CapabilityName,
  EXTENDED_CAPABILITY_NAMES,
  findCapability,
  findRegister,
  type ListedCapability,
  REGISTER_NAMES,
  type RegisterHeader,
  type RegisterName,
} from "./names.ts";
export { PCI_IDS_PATHS, PciIds } from "./pci_ids.ts";
export {
  BRIDGE_CTL,
  COMMAND,
  type DevselTiming,
  type Flags,
  HEADER,
  HEADER_BRIDGE,
  HEADER_CARDBUS,
  HEADER_NORMAL,
  SEC_STATUS,
  STATUS,
} from "./registers.ts";
export { parseRom, type Rom, type RomImage } from "./rom.ts";
export type {
  AdvancedFeaturesCapability,
  AgpCapability,
  DebugPortCapability,
  EnhancedAllocationCapability,
  HyperTransportCapability,
  MsiCapability,
  MsixCapability,
  NamedCapability,
  PowerManagementCapability,
  SataCapability,
  SlotIdCapability,
  StandardFields,
  SubsystemCapability,
  UnknownCapability,
  VendorCapability,
  VpdCapability,
} from "./standard.ts";
export { type ConfigSpaceNames, configSpaceText } from "./text.ts";
export type { VirtioStructure } from "./virtio.ts";
export { parseVpd, type Vpd, type VpdField, type VpdResource } from "./vpd.ts";
