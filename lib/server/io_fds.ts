/**
 * File descriptors that stand in for parts of the device's regions, for one client (specification:
 * "VFIO_USER_DEVICE_GET_REGION_IO_FDS").
 *
 * @module
 */

import { EventFd, POLLIN } from "../../ffi/event.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { createMemfd, PAGE_SIZE } from "../../ffi/memory.ts";
import { watch } from "../../ffi/poller.ts";
import {
  IoFdType,
  NO_IO_FD,
  RegionIoFdsReply,
  type RegionIoFdsRequest,
  type SubRegion,
} from "../wire/io_fds.ts";
import { RegionFlags } from "../wire/region.ts";
import { type IoRegionCommand, IoRegionSocket } from "./io_region.ts";
import type { ServedIoFd, ServedRegion, ShadowPlace } from "./served_device.ts";

/** Bytes of an answer without its sub-regions. */
const HEAD_SIZE = 16;

/** Bytes of a value in shadow memory. */
const SHADOW_SIZE = 8;

/** The region that descriptors stand for: another one, once the device was replaced. */
export interface IoFdPlace {
  readonly region: ServedRegion;
}

/**
 * Accesses of a client that are no messages. The region is the one of the place when their turn has
 * come. Promises are never rejected.
 */
export interface SideAccess {
  /** Does the write that a signalled ioeventfd stands for, or that came over an ioregionfd. */
  write(place: IoFdPlace, offset: number, data: Uint8Array): Promise<void>;
  /** Does a read that came over an ioregionfd; false if it failed. */
  read(place: IoFdPlace, offset: number, into: Uint8Array): Promise<boolean>;
}

/** The answer to a client: a payload, and descriptors, which the server keeps. */
interface Answer {
  payload: Uint8Array;
  fds: OwnedFd[];
}

/** Descriptors that the server has made for a part. */
interface Made extends Disposable {
  readonly fd: OwnedFd;
}

/** The same, and the region that they stand for. */
interface Placed {
  readonly made: Made;
  readonly place: { region: ServedRegion };
}

/** The descriptors that the server has made for one client. */
export class ClientIoFds {
  readonly #access: SideAccess;
  readonly #made = new Map<ServedIoFd, Placed>();
  readonly #shadows = new Map<ServedRegion, OwnedFd>();

  constructor(access: SideAccess) {
    this.#access = access;
  }

  /**
   * DEVICE_GET_REGION_IO_FDS. Asked again, the answer is the same.
   *
   * @param maxFds how many descriptors the client takes: parts that would need more are left out
   * @throws {SystemError} if no descriptors can be made
   */
  answer(request: RegionIoFdsRequest, region: ServedRegion | undefined, maxFds: number): Answer {
    const { argsz, index } = request;
    const parts = region?.ioFds?.slice(0, countParts(region, maxFds)) ?? [];
    const head = { flags: 0, index, count: parts.length };
    // A sub-region takes 40 bytes, or more: the size is that of the answer itself.
    const blank = parts.map((part) => describePart(part, NO_IO_FD, NO_IO_FD, 0n));
    const whole = RegionIoFdsReply.encode({ ...head, argsz: 0, subRegions: blank });
    if (argsz < whole.length) {
      const cut = RegionIoFdsReply.encode({ ...head, argsz: whole.length, subRegions: [] });
      return { payload: cut.subarray(0, HEAD_SIZE), fds: [] };
    }
    const fds: OwnedFd[] = [];
    const indexOf = (fd: OwnedFd | undefined) => {
      if (fd === undefined) return NO_IO_FD;
      const at = fds.indexOf(fd);
      return at < 0 ? fds.push(fd) - 1 : at;
    };
    const subRegions = parts.map((part) => {
      const shadow = this.#shadowOf(region!, part);
      const fd = part.fd === null ? undefined : part.fd ?? this.#make(region!, part, shadow);
      return describePart(part, indexOf(fd), shadow ? indexOf(shadow.fd) : 0, shadow?.offset ?? 0n);
    });
    const payload = RegionIoFdsReply.encode({ ...head, argsz: whole.length, subRegions });
    return { payload, fds };
  }

  /** From here on the descriptors stand for the same parts of other regions, of the same shapes. */
  rebind(
    old: readonly (ServedRegion | undefined)[],
    next: readonly (ServedRegion | undefined)[],
  ): void {
    for (const [index, before] of old.entries()) {
      const region = next[index];
      if (before === undefined || region === undefined) continue;
      const shadow = this.#shadows.get(before);
      this.#shadows.delete(before);
      if (shadow !== undefined) this.#shadows.set(region, shadow);
      for (const [i, part] of before.ioFds?.entries() ?? []) {
        const placed = this.#made.get(part);
        if (placed === undefined) continue;
        placed.place.region = region;
        this.#made.delete(part);
        this.#made.set(region.ioFds![i]!, placed);
      }
    }
  }

  /** Closes the descriptors: the client is gone. */
  close(): void {
    for (const { made } of this.#made.values()) made[Symbol.dispose]();
    for (const fd of this.#shadows.values()) fd.close();
    this.#made.clear();
    this.#shadows.clear();
  }

  /** The place of a part's value, if it has one. The client's memory has one for each part. */
  #shadowOf(region: ServedRegion, part: ServedIoFd): ShadowPlace | undefined {
    if (part.type !== IoFdType.SHADOW_IOEVENTFD || part.fd === null) return undefined;
    if (part.shadow !== undefined) return part.shadow;
    const parts = region.ioFds!.filter((each) =>
      each.type === IoFdType.SHADOW_IOEVENTFD && each.fd !== null && each.shadow === undefined
    );
    let fd = this.#shadows.get(region);
    if (fd === undefined) {
      const size = Math.ceil(parts.length * SHADOW_SIZE / PAGE_SIZE) * PAGE_SIZE;
      this.#shadows.set(region, fd = createMemfd("vfu-shadow", size));
    }
    return { fd, offset: BigInt(parts.indexOf(part) * SHADOW_SIZE) };
  }

  /** The client's descriptor for a part. From here on the server listens to it. */
  #make(region: ServedRegion, part: ServedIoFd, shadow: ShadowPlace | undefined): OwnedFd {
    const known = this.#made.get(part);
    if (known !== undefined) return known.made.fd;
    const place = { region };
    const made = part.type === IoFdType.IOREGIONFD
      ? new IoRegionSocket((command) => this.#perform(place, part, command))
      : this.#eventFd(place, part, shadow);
    this.#made.set(part, { made, place });
    return made.fd;
  }

  #eventFd(place: IoFdPlace, part: ServedIoFd, shadow: ShadowPlace | undefined): Made {
    const event = new EventFd();
    // Kicks during a kick count as one more, however many: nothing piles up behind a slow hook.
    let isBusy = false;
    let isDue = false;
    const kick = async () => {
      isBusy = true;
      while (isDue) {
        isDue = false;
        await this.#access.write(place, part.offset, valueOf(part, shadow));
      }
      isBusy = false;
    };
    const watching = watch(event.fd, POLLIN, () => {
      if (event.take() === 0n) return;
      isDue = true;
      if (!isBusy) kick();
    });
    return {
      fd: event.handle,
      [Symbol.dispose]() {
        isDue = false;
        watching.close();
        event.close();
      },
    };
  }

  /**
   * Does an access of an ioregionfd. There is no way to refuse one: as on a bus, a read that fails
   * is all ones, and a write is lost.
   */
  async #perform(
    place: IoFdPlace,
    part: ServedIoFd,
    { isWrite, offset, size, data }: IoRegionCommand,
  ): Promise<bigint> {
    const ones = (1n << BigInt(8 * size)) - 1n;
    const right = isWrite ? RegionFlags.WRITE : RegionFlags.READ;
    if (offset + BigInt(size) > BigInt(part.size) || (place.region.flags & right) === 0) {
      return ones;
    }
    const at = part.offset + Number(offset);
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    if (isWrite) {
      view.setBigUint64(0, data, true);
      await this.#access.write(place, at, bytes.subarray(0, size));
      return 0n;
    }
    const isRead = await this.#access.read(place, at, bytes.subarray(0, size));
    return isRead && !bytes.buffer.detached ? view.getBigUint64(0, true) : ones;
  }
}

/** Counts the parts of a region that can be reported with at most `maxFds` descriptors. */
function countParts(region: ServedRegion, maxFds: number): number {
  const needed = new Set<unknown>();
  let count = 0;
  for (const part of region.ioFds ?? []) {
    if (part.fd !== null) {
      needed.add(part.fd ?? part);
      if (part.type === IoFdType.SHADOW_IOEVENTFD) needed.add(part.shadow?.fd ?? region);
    }
    if (needed.size > maxFds) break;
    count++;
  }
  return count;
}

function describePart(
  part: ServedIoFd,
  fdIndex: number,
  shadowFdIndex: number,
  shadowOffset: bigint,
): SubRegion {
  const isShadow = part.type === IoFdType.SHADOW_IOEVENTFD;
  return {
    offset: BigInt(part.offset),
    size: BigInt(part.size),
    fdIndex,
    type: part.type,
    flags: part.flags ?? 0,
    shadowFdIndex: isShadow && part.fd === null ? NO_IO_FD : shadowFdIndex,
    data: (part.type === IoFdType.IOREGIONFD ? part.userData : part.datamatch) ?? 0n,
    shadowOffset,
  };
}

/** The bytes that a signalled ioeventfd says were written. */
function valueOf(part: ServedIoFd, shadow: ShadowPlace | undefined): Uint8Array {
  const bytes = new Uint8Array(8);
  if (shadow !== undefined) shadow.fd.readAt(bytes, shadow.offset);
  else if (part.type === IoFdType.IOEVENTFD) {
    new DataView(bytes.buffer).setBigUint64(0, part.datamatch ?? 0n, true);
  }
  return bytes.subarray(0, part.size);
}
