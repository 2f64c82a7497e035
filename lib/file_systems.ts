/**
 * File systems that files of a peer may be on.
 *
 * @module
 */

import { HUGETLBFS, TMPFS } from "../ffi/memory.ts";

/**
 * File systems that answer by themselves. On others (FUSE, NFS, 9p) it is up to somebody else when
 * an access ends, the client itself perhaps, and the thread would wait for it.
 */
const ANSWERING = new Set([
  TMPFS,
  HUGETLBFS,
  0x858458f6, // ramfs
  0xef53, // ext2, ext3, ext4
  0x58465342, // XFS
  0x9123683e, // Btrfs
  0xf2f52010, // F2FS
  0x2fc12fc1, // ZFS
  0xca451a4e, // bcachefs
  0x794c7630, // overlayfs: as what lies below it
]);

/**
 * Whether accesses to files of a file system end by themselves.
 *
 * @param type its magic number, as statfs(2) tells
 */
export function answersByItself(type: number): boolean {
  return ANSWERING.has(type);
}
