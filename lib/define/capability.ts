/**
 * A PCI capability of a defined device, and the options that declare one.
 *
 * @module
 */

import type { ConfigRegion } from "../server/config.ts";

/** A capability as it is declared. {@linkcode cap} makes them. */
export interface DeviceCapability {
  /** In which of the two lists it is. */
  readonly list: "standard" | "extended";
  /** Capability id. */
  readonly id: number;
  /** Version, of an extended one. */
  readonly version: number;
  /** Its name, for messages. */
  readonly name: string;
  /** Bytes, with its header. */
  readonly size: number;
  /**
   * Offset that the capability must have; default: wherever there is room, from 0x40 on, or 0x100.
   */
  readonly at?: number;
  /** MSI: how many vectors, and whether they have mask bits. */
  readonly msi?: { readonly vectors: number; readonly is64Bit: boolean; readonly masking: boolean };
  /** MSI-X: how many vectors, and where table and pending bits are. */
  readonly msix?: MsixPlace;
  /** Writing DevCtl's "Initiate Function Level Reset" resets the device. */
  readonly flr?: boolean;
  /** Declares the registers behind the header. */
  declare(config: ConfigRegion, at: number): void;
}

/** Hooks of accesses of a client to a capability. */
export interface CapabilityHooks {
  /** Bytes from the capability's start to those that are meant; default 0. */
  readonly offset?: number;
  /** Bytes that are meant; default all that follow. */
  readonly size?: number;
  /**
   * The client is about to read some of them: sets what it is to find. If that takes its time, the
   * client waits.
   */
  readonly read?: () => void | Promise<void>;
  /** The client has written to some of them, as far as they are writable. */
  readonly write?: () => void | Promise<void>;
}

/** The places of the table and the pending bits of MSI-X. */
export interface MsixPlace {
  /** The number of vectors: 1 to 2048. */
  readonly vectors: number;
  /** The BAR that holds them. */
  readonly bar: number;
  /** Bytes from its start to the table. */
  readonly table: number;
  /** Bytes from its start to the pending bits. */
  readonly pba: number;
}

/** A capability's place. */
export interface CapabilityPlace {
  /**
   * Offset that the capability must have in configuration space; default: wherever there is room.
   */
  at?: number;
}

/** Power management. */
export interface PmOptions extends CapabilityPlace {
  /** Version of the specification: 1 to 3. Default 3. */
  version?: number;
  /** Keeps its state when it goes back from D3 to D0. Default true. */
  noSoftReset?: boolean;
}

/** Message signalled interrupts. */
export interface MsiOptions extends CapabilityPlace {
  /** The number of vectors: 1, 2, 4, 8, 16 or 32. Default 1. */
  vectors?: number;
  /** Addresses have 64 bits. Default true. */
  is64Bit?: boolean;
  /** Has a mask bit and a pending bit for each vector. Default false. */
  masking?: boolean;
}

/** Message signalled interrupts with a table. */
export interface MsixOptions extends CapabilityPlace {
  /** The number of vectors: 1 to 2048. */
  vectors: number;
  /**
   * The BAR that holds table and pending bits. If the device has no region there, the BAR is made
   * for them alone.
   */
  bar: number;
  /** Bytes from its start to the table, a multiple of 8. Default 0. */
  table?: number;
  /**
   * Bytes from its start to the pending bits, a multiple of 8. Default: right behind the table, at
   * a multiple of 0x800.
   */
  pba?: number;
}

/** PCI Express. */
export interface ExpressOptions extends CapabilityPlace {
  /** Can be reset by its Device Control register. Default true. */
  flr?: boolean;
  /**
   * Speed of the link, by its code from 1 to 6: 2.5, 5, 8, 16, 32 and 64 GT/s. Default 3.
   */
  speed?: number;
  /** Lanes of the link. Default 1. */
  lanes?: number;
}

/** A capability of bytes. */
export interface BytesCapabilityOptions extends CapabilityPlace {
  /** For each byte which bits a client may write. Default none. */
  writable?: ArrayLike<number>;
}

/** Makes capabilities: see {@linkcode cap}. */
export interface CapabilityMakers {
  /** Power management. */
  pm(options?: PmOptions): DeviceCapability;
  /**
   * Message signalled interrupts.
   *
   * @throws {RangeError} if there can't be so many vectors
   */
  msi(options?: MsiOptions): DeviceCapability;
  /**
   * Message signalled interrupts with a table.
   *
   * @throws {RangeError} if there can't be so many vectors, or table and pending bits can't be
   *   there
   */
  msix(options: MsixOptions): DeviceCapability;
  /** PCI Express: an endpoint, version 2. Configuration space has 4 KiB then. */
  express(options?: ExpressOptions): DeviceCapability;
  /** Vendor-specific: `bytes` come behind id, next and length. */
  vendor(bytes: ArrayLike<number>, options?: BytesCapabilityOptions): DeviceCapability;
  /** Any standard capability: `bytes` come behind id and next. */
  standard(
    options: { id: number; bytes: ArrayLike<number> } & BytesCapabilityOptions,
  ): DeviceCapability;
  /** Device serial number, 64 bits; extended. */
  serialNumber(value: bigint): DeviceCapability;
  /** Advanced error reporting; extended. */
  aer(place?: CapabilityPlace): DeviceCapability;
  /**
   * Any extended capability: `bytes` come behind the header of 4 bytes. The default version is 1.
   */
  extended(
    options:
      & { id: number; version?: number; bytes: ArrayLike<number> }
      & BytesCapabilityOptions,
  ): DeviceCapability;
}
