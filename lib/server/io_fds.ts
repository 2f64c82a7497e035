/**
 * File descriptors that stand in for parts of the device's regions, for one client (specification:
 * "VFIO_USER_DEVICE_GET_REGION_IO_FDS").
 *
 * @module
 */

import { EventFd, POLLIN } from "../../ffi/event.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { watch } from "../../ffi/poller.ts";
import {
  IoFdType,
  RegionIoFdsReply,
  type RegionIoFdsRequest,
  type SubRegion,
} from "../wire/io_fds.ts";
import type { ServedIoFd, ServedRegion } from "./served_device.ts";

/** Bytes of an answer without its sub-regions, and of one of them. */
const HEAD_SIZE = 16;
const SUB_REGION_SIZE = 40;

/**
 * Does the write that a signalled ioeventfd stands for. The promise is settled when the write is
 * done, and never rejected.
 */
export type Kick = (region: ServedRegion, offset: number, data: Uint8Array) => Promise<void>;

/** The answer to a client: a payload, and descriptors, which the server keeps. */
interface Answer {
  payload: Uint8Array;
  fds: OwnedFd[];
}

/** The eventfds that the server has made for one client. */
export class ClientIoFds {
  readonly #kick: Kick;
  readonly #events = new Map<ServedIoFd, Disposable & { fd: OwnedFd }>();

  constructor(kick: Kick) {
    this.#kick = kick;
  }

  /**
   * DEVICE_GET_REGION_IO_FDS. Asked again, the answer is the same.
   *
   * @param maxFds how many descriptors the client takes: parts that would need more are left out
   * @throws {SystemError} if no eventfd can be made
   */
  answer(request: RegionIoFdsRequest, region: ServedRegion | undefined, maxFds: number): Answer {
    const { argsz, index } = request;
    const fds: OwnedFd[] = [];
    const subRegions: SubRegion[] = [];
    const count = countParts(region, maxFds);
    const size = HEAD_SIZE + count * SUB_REGION_SIZE;
    const head = { argsz: size, flags: 0, index, count };
    if (argsz < size) return { payload: RegionIoFdsReply.encode({ ...head, subRegions }), fds };
    for (const part of region?.ioFds?.slice(0, count) ?? []) {
      const fd = part.fd ?? this.#eventFd(region!, part);
      let fdIndex = fds.indexOf(fd);
      if (fdIndex < 0) fdIndex = fds.push(fd) - 1;
      subRegions.push(describePart(part, fdIndex));
    }
    return { payload: RegionIoFdsReply.encode({ ...head, subRegions }), fds };
  }

  /** Closes the eventfds: the client is gone. */
  close(): void {
    for (const event of this.#events.values()) event[Symbol.dispose]();
    this.#events.clear();
  }

  /** The client's eventfd for a part. From here on the server listens to it. */
  #eventFd(region: ServedRegion, part: ServedIoFd): OwnedFd {
    const known = this.#events.get(part);
    if (known !== undefined) return known.fd;
    const event = new EventFd();
    // Kicks during a kick count as one more, however many: nothing piles up behind a slow hook.
    let isBusy = false;
    let isDue = false;
    const kick = async () => {
      isBusy = true;
      while (isDue) {
        isDue = false;
        await this.#kick(region, part.offset, valueOf(part));
      }
      isBusy = false;
    };
    const watching = watch(event.fd, POLLIN, () => {
      if (event.take() === 0n) return;
      isDue = true;
      if (!isBusy) kick();
    });
    this.#events.set(part, {
      fd: event.handle,
      [Symbol.dispose]() {
        isDue = false;
        watching.close();
        event.close();
      },
    });
    return event.handle;
  }
}

/** Counts the parts of a region that can be reported with at most `maxFds` descriptors. */
function countParts(region: ServedRegion | undefined, maxFds: number): number {
  const needed = new Set<unknown>();
  let count = 0;
  for (const part of region?.ioFds ?? []) {
    needed.add(part.fd ?? part);
    if (needed.size > maxFds) break;
    count++;
  }
  return count;
}

function describePart(part: ServedIoFd, fdIndex: number): SubRegion {
  const data = part.type === IoFdType.IOEVENTFD ? part.datamatch : part.userData;
  return {
    offset: BigInt(part.offset),
    size: BigInt(part.size),
    fdIndex,
    type: part.type,
    flags: part.flags ?? 0,
    shadowFdIndex: 0,
    data: data ?? 0n,
    shadowOffset: 0n,
  };
}

/** The bytes that a signalled ioeventfd says were written. */
function valueOf(part: ServedIoFd): Uint8Array {
  const value = part.type === IoFdType.IOEVENTFD ? part.datamatch ?? 0n : 0n;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes.subarray(0, part.size);
}
