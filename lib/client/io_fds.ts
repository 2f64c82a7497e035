/**
 * Region I/O descriptors: eventfds, and sockets, that stand in for parts of a region.
 *
 * @module
 */

import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { EventFd } from "../../ffi/event.ts";
import { ProtocolError } from "../base/errors.ts";
import { IoFdType, NO_IO_FD, type RegionIoFdsReply, type SubRegion } from "../wire/io_fds.ts";
import { hex } from "../text/hex.ts";

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
      if (index === NO_IO_FD) return undefined;
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
   * @param value for a shadow ioeventfd: is put into the shadow memory first, `size` bytes of it.
   *   Default: what is there stays
   * @throws {TypeError} if the entry has no eventfd, or takes no value
   * @throws {RangeError} if the value has more bytes than the part
   * @throws {SystemError} if the shadow memory can't be written
   */
  kick(entry: RegionIoFd, value?: bigint): void {
    if (entry.fd === undefined || !entry.kind.endsWith("ioeventfd")) {
      throw new TypeError(
        `Cannot kick offset ${hex(entry.offset)}: its descriptor is no eventfd`,
      );
    }
    if (value !== undefined) putShadow(entry, value);
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

/** Puts a value into the shadow memory of an entry, by a call: the memory may become shorter. */
function putShadow({ kind, offset, size, shadowFd, shadowOffset }: RegionIoFd, value: bigint) {
  const doing = `Cannot kick offset ${hex(offset)} with a value`;
  if (kind !== "shadow ioeventfd" || shadowFd === undefined) {
    throw new TypeError(`${doing}: it has no shadow memory`);
  }
  if (size < 1n || size > 8n || value < 0n || value >= 1n << (8n * size)) {
    throw new RangeError(`${doing}: it takes ${size} bytes, and ${hex(value)} is no such value`);
  }
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  shadowFd.writeAt(bytes.subarray(0, Number(size)), shadowOffset);
}
