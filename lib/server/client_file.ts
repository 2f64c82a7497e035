/**
 * Files that clients share their memory by: which descriptors are taken, and how their bytes are
 * reached.
 *
 * @module
 */

import { EACCES, EINVAL } from "../../ffi/errno.ts";
import type { FileStat, OwnedFd } from "../../ffi/fd.ts";
import { canShrink, HUGETLBFS } from "../../ffi/memory.ts";
import { reasonToWait } from "../base/file_systems.ts";
import { DmaMapFlags, type DmaMapRequest } from "../wire/dma.ts";
import { DeviceError } from "./served_device.ts";

/** The way to a file's bytes: a mapping, or calls of pread(2) and pwrite(2). */
export type FileMode = "map" | "call";

/** A file that was found to hold the memory of a request. */
export interface ClientFile {
  /** The descriptor. */
  readonly fd: OwnedFd;
  /** The file's identity and size. */
  readonly stat: FileStat;
  /** The way to its bytes. */
  readonly mode: FileMode;
  /** Bytes of its pages, if they are huge. */
  readonly hugePage?: number;
}

/** `type` of the file system of processes, with their memory. */
const PROCFS = 0x9fa0;
/** The files that are memory there. Others may keep the reader waiting, as /proc/kmsg does. */
const PROCESS_MEMORY = /(^|\/)\d+(\/task\/\d+)?\/mem$/;
/** The largest offset of a file, and one. */
const OFFSET_END = 1n << 63n;

/**
 * Finds out whether a descriptor can be the memory of a request, and how that is reached. By calls
 * if the client wants that alone, and where a mapping could end this process (SIGBUS) when no
 * memory is left. That concerns huge pages that are only read, of which a private mapping has none
 * of its own. It also concerns a file with holes on a file system that can fill up.
 *
 * @param requireSealed true to map only memory that the client cannot take away
 * @throws {DeviceError} EINVAL if it is not a file that holds the range, or a file that answers
 *   late. EACCES if it was not opened for what the device may do
 */
export function examineFile(
  fd: OwnedFd,
  request: DmaMapRequest,
  requireSealed: boolean,
): ClientFile {
  const stat = fd.stat();
  if (!stat.isFile) {
    const kind = stat.kind === "anonymous" ? "no file" : `a ${stat.kind}`;
    throw new DeviceError(EINVAL, `the descriptor is ${kind}: memory is shared by regular files`);
  }
  checkAccess(fd, request.flags);
  const waits = reasonToWait(fd, "proc"); // of which processes' memory is taken
  if (waits !== undefined) {
    throw new DeviceError(
      EINVAL,
      `${waits}; memory is shared by memfds, and by files in memory or on local disks`,
    );
  }
  const { type, blocks, blockSize } = fd.fileSystem();
  const mayMap = (request.flags & MODES) !== DmaMapFlags.FILE_IO;
  const mayCall = (request.flags & DmaMapFlags.FILE_IO) !== 0;
  if (request.offset + request.size > OFFSET_END) {
    throw new DeviceError(EINVAL, "no file has such offsets");
  }
  if (type === PROCFS) {
    if (!PROCESS_MEMORY.test(fd.path())) throw new DeviceError(EINVAL, "the file is no memory");
    if (mayCall) return { fd, stat, mode: "call" };
    throw new DeviceError(EINVAL, "the file can't be mapped, and the client allows no file I/O");
  }
  if (request.offset + request.size > stat.size) {
    throw new DeviceError(EINVAL, `the file has ${stat.size} bytes`);
  }
  const isHuge = type === HUGETLBFS;
  const isRead = (request.flags & DmaMapFlags.WRITE) === 0;
  const mayRunOut = isHuge ? isRead : blocks > 0n && stat.allocated < stat.size;
  const canCall = !isHuge || isRead; // hugetlbfs has no write(2)
  if (!mayMap && !canCall) throw new DeviceError(EINVAL, "huge pages can't be written by file I/O");
  if (!mayMap || mayRunOut) return { fd, stat, mode: "call" };
  if (!requireSealed || (!isHuge && !canShrink(fd))) {
    return { fd, stat, mode: "map", ...(isHuge && { hugePage: blockSize }) };
  }
  if (mayCall && canCall) return { fd, stat, mode: "call" };
  throw new DeviceError(
    EINVAL,
    isHuge
      ? "huge pages can be taken away from a file, sealed or not"
      : "the file is not sealed against shrinking",
  );
}

const MODES = DmaMapFlags.MMAP | DmaMapFlags.FILE_IO;

function checkAccess(fd: OwnedFd, flags: number): void {
  const { canRead, canWrite } = fd.access;
  const isCalled = (flags & MODES) === DmaMapFlags.FILE_IO;
  // mmap(2) wants files that can be read, whatever is done with them.
  const mustRead = !isCalled || (flags & DmaMapFlags.READ) !== 0;
  if (mustRead && !canRead) throw new DeviceError(EACCES, "the file is not open for reading");
  if ((flags & DmaMapFlags.WRITE) !== 0 && !canWrite) {
    throw new DeviceError(EACCES, "the file is not open for writing, which the device may do");
  }
}
