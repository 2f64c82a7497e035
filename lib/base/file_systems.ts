/**
 * File systems that files of a peer may be on.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { mountedType } from "../../ffi/mounts.ts";

/**
 * File systems that answer by themselves, by the names that /proc/filesystems has. On others (FUSE,
 * NFS, 9p) the server of the file system decides when a call ends. That may be the peer.
 */
const ANSWERING = new Set([
  "tmpfs",
  "hugetlbfs",
  "ramfs",
  "ext2",
  "ext3",
  "ext4",
  "xfs",
  "btrfs",
  "f2fs",
  "zfs",
  "bcachefs",
  "overlay", // as what lies below it
]);

/**
 * Finds out why calls on a file, statfs(2) among them, might not end by themselves. The file system
 * is not asked. A file on a mount that this process does not see is not trusted.
 *
 * @param also another type that ends them, if the caller knows the file
 * @returns the reason; undefined if they end
 */
export function reasonToWait(fd: OwnedFd, also?: string): string | undefined {
  if (fd.seals !== undefined) return undefined; // in memory, in whatever mount
  const type = mountedType(fd.stat());
  if (type !== undefined && (ANSWERING.has(type) || type === also)) return undefined;
  const which = type === undefined ? "which this process has not mounted" : type;
  return `its file system (${which}) may keep this process waiting`;
}
