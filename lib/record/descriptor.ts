/**
 * The facts of a descriptor that a recording keeps.
 *
 * @module
 */

import { SystemError } from "../../ffi/errno.ts";
import type { FileStat, OwnedFd } from "../../ffi/fd.ts";
import { isEventFd } from "../../ffi/nowait.ts";
import { type DescriptorKind, type RecordedDescriptor, SEALS } from "./event.ts";

/** Facts whose fate is decided after they were found. */
export type DescriptorFacts =
  & Omit<RecordedDescriptor, "fate">
  & { fate: RecordedDescriptor["fate"] };

/** Finds out what a descriptor is. No server of a file system is asked. */
export function factsOf(fd: OwnedFd): DescriptorFacts {
  try {
    const stat = fd.stat();
    const { canRead, canWrite } = fd.access;
    const seals = fd.seals;
    return {
      kind: kindOf(fd, stat, seals),
      size: stat.isFile ? stat.size : null,
      seals: SEALS.filter((_, bit) => ((seals ?? 0) & (1 << bit)) !== 0),
      access: canRead ? (canWrite ? "rw" : "r") : (canWrite ? "w" : null),
      identity: `${stat.device}:${stat.inode}`,
      fate: "passed",
    };
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const unknown = { size: null, seals: [], access: null, identity: null };
    return { kind: "other", ...unknown, fate: "passed" };
  }
}

function kindOf(fd: OwnedFd, { kind }: FileStat, seals: number | undefined): DescriptorKind {
  switch (kind) {
    case "file":
      return seals !== undefined && fd.path().startsWith("/memfd:") ? "memfd" : "file";
    case "pipe":
    case "socket":
      return kind;
    case "character device":
    case "block device":
      return "device";
    case "anonymous":
      return isEventFd(fd.fd) ? "eventfd" : "other";
    default:
      return "other";
  }
}
