/**
 * What a server serves: the interface that a device implements.
 *
 * @module
 */

import { describeErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import type { RegionCapability } from "../wire/region.ts";

/** A device refuses an access: the client gets `errno` as the answer. Anything else that a hook throws becomes EIO. */
export class DeviceError extends Error {
  /** The name of the class. */
  override readonly name = "DeviceError";
  /** Linux's error number for the client, above 0. */
  readonly errno: number;

  /**
   * A refusal.
   *
   * @param errno Linux's error number, above 0
   */
  constructor(errno: number, message?: string) {
    super(message ?? describeErrno(errno));
    this.errno = errno;
  }
}

/** A region of a served device. */
export interface ServedRegion {
  /** `RegionFlags`: READ and WRITE are enforced; MMAP goes with `fds`. */
  readonly flags: number;
  /** Bytes of the region, above 0. */
  readonly size: number;
  /** Where it begins in the file that a client maps; default 0. */
  readonly fdOffset?: number;
  /** What a client may map: with flag MMAP. They stay the device's. */
  readonly fds?: readonly OwnedFd[];
  /** Says which areas may be mapped, and more. */
  readonly capabilities?: readonly RegionCapability[];
  /**
   * Fills `into` with the bytes from `offset` on, all of which are in the region. A hook that returns a promise is
   * answered when that is settled; the client's next request waits.
   *
   * @throws {DeviceError} to refuse
   */
  read(offset: number, into: Uint8Array): void | Promise<void>;
  /** Takes the bytes written from `offset` on, all of which are in the region. As `read`. `data` holds until the hook is done. */
  write(offset: number, data: Uint8Array): void | Promise<void>;
}

/** Vectors of an IRQ index of a served device. */
export interface ServedIrq {
  /** `IrqFlags`. */
  readonly flags: number;
  /** How many; 0 if the device does not have the index. */
  readonly count: number;
}

/** A device that can be served. Its state outlives its clients. */
export interface ServedDevice {
  /** `DeviceFlags`: RESET, PCI. */
  readonly flags: number;
  /** By region index; undefined where the device has none. */
  readonly regions: readonly (ServedRegion | undefined)[];
  /** By IRQ index. */
  readonly irqs: readonly ServedIrq[];
  /** Resets it. */
  reset(): void | Promise<void>;
  /** Frees what it holds. No client is connected any more. */
  close?(): void;
}
