/**
 * Memory for a device: made in this process or shared through a file descriptor.
 *
 * @module
 */

import { OwnedFd } from "../../ffi/fd.ts";
import { createMemfd, Mapping } from "../../ffi/memory.ts";
import { checkRoom } from "./area_file.ts";
import { hex } from "../text/hex.ts";

/** Source of memory for a device. */
export type DmaSource =
  /** New memory that is shared with the device; it can't shrink. */
  | "memfd"
  /** New memory of this process; the device's accesses come as messages. */
  | "message"
  /**
   * These bytes of this process; the device's accesses come as messages. The map has their length.
   */
  | { readonly bytes: Uint8Array<ArrayBuffer> }
  /**
   * A file, shared with the device from `offset` on. A file that shrinks meanwhile ends this
   * process with SIGBUS.
   */
  | { readonly file: string; readonly offset?: bigint };

/** Bytes, and how they are shared. */
export interface Memory {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The descriptor for the server, if the memory is shared. */
  readonly fd?: OwnedFd;
  readonly fdOffset: bigint;
  readonly mapping?: Mapping;
  /** "leaving" while the server is asked to let go of it: until it has, its accesses are served. */
  state: "mapped" | "leaving" | "gone";
}

/** Makes or maps memory for a device. */
export function makeMemory(share: DmaSource, size: number, iova: bigint): Memory {
  const state = "mapped";
  if (share === "message") return { bytes: allocate(size, iova), fdOffset: 0n, state };
  if (share === "memfd") return mapMemory(createMemfd("vfu-dma", size), size, 0n);
  if ("file" in share) return mapFile(share.file, size, share.offset ?? 0n);
  if (share.bytes.length !== size) {
    throw new RangeError(
      `Cannot map ${share.bytes.length} bytes as ${size}: a map has the size of its bytes`,
    );
  }
  return { bytes: share.bytes, fdOffset: 0n, state };
}

function allocate(size: number, iova: bigint): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(size);
  } catch (cause) {
    throw new RangeError(
      `Cannot map ${
        describeRange(iova, size)
      }: this process can't have so much memory of its own; share it as "memfd"`,
      { cause },
    );
  }
}

function mapFile(path: string, size: number, offset: bigint): Memory {
  const fd = OwnedFd.open(path);
  try {
    if (!fd.stat().isFile) throw new RangeError("it is no regular file");
    checkRoom(fd);
  } catch (cause) {
    fd.close();
    if (!(cause instanceof RangeError)) throw cause;
    throw new RangeError(`Cannot share memory of ${path}: ${cause.message}`, { cause });
  }
  return mapMemory(fd, size, offset);
}

function mapMemory(fd: OwnedFd, size: number, fdOffset: bigint): Memory {
  try {
    const mapping = Mapping.create(fd, { length: size, offset: fdOffset });
    return { bytes: mapping.bytes, fd, fdOffset, mapping, state: "mapped" };
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** A range of addresses in words, for errors. */
export function describeRange(iova: bigint, size: number): string {
  return `${Number.isInteger(size) ? hex(BigInt(size)) : size} bytes at IOVA ${hex(iova)}`;
}
