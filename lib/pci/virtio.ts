/**
 * The vendor-specific capabilities of virtio over PCI (Virtio 1.2, "Virtio Structure PCI
 * Capabilities").
 *
 * @module
 */

import type { CapabilityReader } from "./capability_reader.ts";

/** Vendor id of virtio devices. */
export const VIRTIO_VENDOR_ID = 0x1af4;

/** The place of a structure of a virtio device. */
export interface VirtioStructure {
  /** cfg_type, 8 bits. */
  cfgType: number;
  /** Its name, as "COMMON_CFG". */
  cfgTypeName: string;
  /** BAR that holds the structure. */
  bar: number;
  /** Tells several structures of one type apart. */
  structureId: number;
  /** The offset in that BAR, in bytes. */
  barOffset: bigint;
  /** Bytes of the structure. */
  structureLength: bigint;
  /**
   * For NOTIFY_CFG: bytes from one queue's notify address to the next, if its offset is one higher.
   */
  notifyOffMultiplier?: number;
}

const NOTIFY_CFG = 2;
const PCI_CFG = 5;
const SHARED_MEMORY_CFG = 8;

const CFG_TYPES: Readonly<Record<number, string>> = {
  1: "COMMON_CFG",
  [NOTIFY_CFG]: "NOTIFY_CFG",
  3: "ISR_CFG",
  4: "DEVICE_CFG",
  [PCI_CFG]: "PCI_CFG",
  [SHARED_MEMORY_CFG]: "SHARED_MEMORY_CFG",
  9: "VENDOR_CFG",
};

/** Bytes of struct virtio_pci_cap, and of the longer form with 64-bit offset and length. */
const CAP_SIZE = 16;
const CAP64_SIZE = 24;

/** Decodes a virtio structure's capability of `length` bytes. */
export function decodeVirtio(at: CapabilityReader, length: number): VirtioStructure {
  const cfgType = at.u8(0x03);
  const needed = cfgType === SHARED_MEMORY_CFG
    ? CAP64_SIZE
    : cfgType === NOTIFY_CFG || cfgType === PCI_CFG
    ? CAP_SIZE + 4
    : CAP_SIZE;
  if (length < needed) at.notes.push(`a virtio structure has ${needed} bytes, this one ${length}`);
  const wide = cfgType === SHARED_MEMORY_CFG;
  const high = (offset: number) => wide ? BigInt(at.u32(offset)) << 32n : 0n;
  const value: VirtioStructure = {
    cfgType,
    cfgTypeName: CFG_TYPES[cfgType] ?? `unknown type ${cfgType}`,
    bar: at.u8(0x04),
    structureId: at.u8(0x05),
    barOffset: high(0x10) | BigInt(at.u32(0x08)),
    structureLength: high(0x14) | BigInt(at.u32(0x0c)),
    ...(cfgType === NOTIFY_CFG ? { notifyOffMultiplier: at.u32(0x10) } : {}),
  };
  // PCI_CFG is a window: the driver writes its bar, offset and length before each use.
  if (cfgType !== PCI_CFG) {
    at.checkInBar("the structure", value.bar, value.barOffset, value.structureLength);
  }
  return value;
}
