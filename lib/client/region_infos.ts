/**
 * Facts about a device's regions, with the files in which regions are.
 *
 * @module
 */

import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { ConnectionError } from "../base/errors.ts";
import type { Plan } from "../base/plan.ts";
import { plural } from "../text/plural.ts";
import type { Message } from "../transport/message.ts";
import {
  type RegionCapability,
  RegionFlags,
  RegionInfoReply,
  RegionInfoRequest,
} from "../wire/region.ts";
import type { RegionInfo } from "./info.ts";
import type { PlannedRequest, Replies } from "./replies.ts";

/** Bytes of the answer about a region without capabilities. */
const REGION_INFO_SIZE = 32;

/** The regions of one device as far as they are known. Each is asked for once. */
export class RegionInfos {
  readonly #replies: Replies;
  readonly #nameOf: (index: number) => string;
  readonly #known = new Map<number, RegionInfo>();
  #isClosed = false;

  /**
   * Learns from replies that pass these checks.
   *
   * @param nameOf the name of a region, as far as the device is known
   */
  constructor(replies: Replies, nameOf: (index: number) => string) {
    this.#replies = replies;
    this.#nameOf = nameOf;
  }

  /** Asks for the facts about a region, unless they are known. */
  *ask(index: number): Plan<PlannedRequest, Message, RegionInfo> {
    return this.#known.get(index) ?? (yield* this.#replies.askWithRoom({
      what: `the info of ${this.#nameOf(index)}`,
      index,
      room: REGION_INFO_SIZE,
      encode: (argsz) => RegionInfoRequest.encode({ argsz, index }),
      codec: RegionInfoReply,
      take: (info, fds) => this.#keep(info, fds),
    }));
  }

  /** Closes the files. What comes later is not kept. */
  close(): void {
    this.#isClosed = true;
    for (const { fds } of this.#known.values()) closeAll(fds);
    this.#known.clear();
  }

  /** Remembers what a region is, and those of the descriptors that are of use. */
  #keep(info: RegionInfoReply, fds: OwnedFd[]): RegionInfo {
    const { index, flags, size, offset, capabilities } = info;
    const name = this.#nameOf(index);
    if (fds.length > 0 && (flags & RegionFlags.MMAP) === 0) {
      throw this.#replies.broken(
        `passed ${plural(fds.length, "file descriptor")} with ${name}, which can't be mapped`,
      );
    }
    const fileCount = countFiles(capabilities);
    if (fileCount > Math.max(1, fds.length)) {
      throw this.#replies.broken(
        `says that areas of ${name} are in ${fileCount} files, but passed ${
          plural(fds.length, "file descriptor")
        }`,
      );
    }
    // libvfio-user passes the one file again and again, once for each area.
    closeAll(fds.splice(fileCount));
    const known = this.#known.get(index); // for another caller, who asked at the same time
    if (known !== undefined) {
      closeAll(fds);
      return known;
    }
    if (this.#isClosed) throw new ConnectionError("The connection to the server was closed");
    const region = { index, flags, size, offset, capabilities, fds };
    this.#known.set(index, region);
    return region;
  }
}

/** Counts the files that the areas of a region are in: one, unless its capabilities number them. */
function countFiles(capabilities: readonly RegionCapability[]): number {
  let count = 1;
  for (const capability of capabilities) {
    if (capability.kind !== "sparse_mmap_fds") continue;
    for (const { fdIndex } of capability.areas) count = Math.max(count, fdIndex + 1);
  }
  return count;
}
