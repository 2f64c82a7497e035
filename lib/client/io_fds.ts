/**
 * Region I/O descriptors: eventfds, and sockets, that stand in for parts of a region.
 *
 * @module
 */

import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { EventFd } from "../../ffi/event.ts";
import { ProtocolError } from "../base/errors.ts";
import { IoFdType, type RegionIoFdsReply, type SubRegion } from "../wire/io_fds.ts";
import { hex } from "../text/hex.ts";

/** libvfio-user's word for a part without a descriptor. */
const NO_FD = 0xffff_ffff;

/** Kinds of descriptors. */
export type IoFdKind = "ioeventfd" | "ioregionfd" | "shadow ioeventfd" | `type ${number}`;

/** A part of a region that a descriptor stands in for. */
export interface RegionIoFd {
  /** Bytes from the start of the region. */
  readonly offset: bigint;
  /** Bytes of the part. */
  readonly size: bigint;
  /** Kind of its descriptor. */
  readonly kind: IoFdKind;
  /** Flags of the kernel's ioeventfd or ioregionfd. */
  readonly flags: number;
  /** The value that an ioeventfd matches; the user data of an ioregionfd. */
  readonly data: bigint;
  /** Offset of the value in the shadow memory, for a shadow ioeventfd. */
  readonly shadowOffset: bigint;
  /** The descriptor; undefined if the server gave none. It belongs to the RegionIoFds. */
  readonly fd: OwnedFd | undefined;
  /** The shadow memory of a shadow ioeventfd. It belongs to the RegionIoFds. */
  readonly shadowFd: OwnedFd | undefined;
}

const KINDS: Readonly<Record<number, IoFdKind>> = {
  [IoFdType.IOEVENTFD]: "ioeventfd",
  [IoFdType.IOREGIONFD]: "ioregionfd",
  [IoFdType.SHADOW_IOEVENTFD]: "shadow ioeventfd",
};

/**
 * The descriptors of a region, and the parts that they stand in for. `Device.regionIoFds` returns
 * them.
 */
export class RegionIoFds implements Disposable {
  /** The parts that they stand in for. */
  readonly entries: readonly RegionIoFd[];
  readonly #fds: readonly OwnedFd[];

  /**
   * Takes over the descriptors of a reply.
   *
   * @ignore made by `Device.regionIoFds`
   * @throws {ProtocolError} if an entry's descriptor did not come; the caller keeps the descriptors
   *   then
   */
  constructor(reply: RegionIoFdsReply, fds: readonly OwnedFd[]) {
    this.#fds = fds;
    const find = (index: number, offset: bigint): OwnedFd | undefined => {
      if (index === NO_FD) return undefined;
      const fd = fds[index];
      if (fd === undefined) {
        throw new ProtocolError(
          `The server says that descriptor ${index} is for offset ${
            hex(offset)
          }, but passed ${fds.length}`,
        );
      }
      return fd;
    };
    this.entries = reply.subRegions.map((each: SubRegion) => ({
      offset: each.offset,
      size: each.size,
      kind: KINDS[each.type] ?? `type ${each.type}`,
      flags: each.flags,
      data: each.data,
      shadowOffset: each.shadowOffset,
      fd: find(each.fdIndex, each.offset),
      shadowFd: each.type === IoFdType.SHADOW_IOEVENTFD
        ? find(each.shadowFdIndex, each.offset)
        : undefined,
    }));
  }

  /**
   * Signals the eventfd of an entry, as KVM does when the guest writes there.
   *
   * @throws {TypeError} if the entry has no eventfd
   */
  kick(entry: RegionIoFd): void {
    if (entry.fd === undefined || !entry.kind.endsWith("ioeventfd")) {
      throw new TypeError(
        `Cannot kick offset ${hex(entry.offset)}: its descriptor is no eventfd`,
      );
    }
    // Borrowed for one write: the duplicate is closed, the original stays.
    using event = new EventFd(entry.fd.duplicate());
    event.signal();
  }

  /** Closes the descriptors. */
  close(): void {
    closeAll(this.#fds);
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
