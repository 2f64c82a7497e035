/**
 * Facts about a device, its regions and its interrupts, as a client knows them.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import type { PciIrq } from "../wire/irq.ts";
import type { PciRegion, RegionCapability } from "../wire/region.ts";
import type { Capabilities } from "../wire/version.ts";

export type { WaitOptions } from "../base/wait.ts";

/** Version and limits that both ends agreed on. */
export interface Negotiated {
  /** The major version: 0. */
  readonly major: number;
  /** The minor version: the server's, not above ours. */
  readonly minor: number;
  /** Capabilities of the server, as they came. */
  readonly server: Capabilities;
  /** Capabilities of this client, as they were sent. */
  readonly client: Capabilities;
  /** Descriptors that the server takes in one message. */
  readonly maxMsgFds: number;
  /** Bytes of data in one message that both take. */
  readonly maxDataXferSize: number;
  /** DMA maps that the server holds at one time. */
  readonly maxDmaMaps: number;
  /** Page sizes that the server takes, as a bit mask. */
  readonly pgsizes: bigint;
  /** True if REGION_WRITE_MULTI may be used. */
  readonly writeMultiple: boolean;
  /** True if the server's commands come on a twin socket. */
  readonly twinSocket: boolean;
}

/** Facts about a device. */
export interface DeviceInfo {
  /** `DeviceFlags`: RESET, PCI; bits that are not known as they came. */
  readonly flags: number;
  /** Region indexes: 0 to this, exclusive. */
  readonly numRegions: number;
  /** IRQ indexes: 0 to this, exclusive. */
  readonly numIrqs: number;
}

/** Facts about a region. */
export interface RegionInfo {
  /** The region index. */
  readonly index: number;
  /** `RegionFlags`: READ, WRITE, MMAP; bits that are not known as they came. */
  readonly flags: number;
  /** Bytes of the region; 0 if the device does not have it. */
  readonly size: bigint;
  /** Start of the region in the file to be mapped, in bytes. */
  readonly offset: bigint;
  /** Its capabilities in the order of the chain. */
  readonly capabilities: readonly RegionCapability[];
  /** The files to be mapped. They belong to the Device, which closes them. */
  readonly fds: readonly OwnedFd[];
}

/** Facts about an IRQ index. */
export interface IrqInfo {
  /** The IRQ index. */
  readonly index: number;
  /** `IrqFlags`: EVENTFD, MASKABLE, AUTOMASKED, NORESIZE. */
  readonly flags: number;
  /** Vectors; 0 if the device does not have it. */
  readonly count: number;
}

/** A region by name or by index. */
export type RegionId = Lowercase<keyof typeof PciRegion> | `region${number}` | number;

/** An IRQ index by name or by number. */
export type IrqId = Lowercase<keyof typeof PciIrq> | `irq${number}` | number;

/** Bytes of one access to a register. */
export type Width = 1 | 2 | 4 | 8;
