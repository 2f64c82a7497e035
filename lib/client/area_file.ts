/**
 * Files that a server shares parts of its regions by. The next access to their map ends the process
 * (SIGBUS) once a file is shorter, or finds no memory for a page. A file is therefore examined
 * before it is mapped, and its size is looked at again. Long accesses are calls, which only come up
 * short.
 *
 * @module
 */

import { SystemError } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { canShrink, HUGETLBFS } from "../../ffi/memory.ts";
import { reasonToWait } from "../base/file_systems.ts";

/** The most that one call moves: Linux moves a little less than 2 GiB at a time. */
const MAX_CALL = 1 << 30;

/**
 * Finds out whether a part of a file can be mapped without danger, as far as that can be known.
 *
 * @returns the part, to be looked at again; undefined if nothing can happen to it
 * @throws {RangeError} if it is not to be mapped; the message says why
 */
export function examineArea(fd: OwnedFd, offset: bigint, length: bigint): AreaFile | undefined {
  const { isFile, size } = fd.stat();
  if (!isFile) return undefined; // a device, or a dma-buf: of those the size tells nothing
  if (offset + length > size) throw new RangeError(`the file has ${size} bytes`);
  const waits = reasonToWait(fd);
  if (waits !== undefined) throw new RangeError(waits);
  checkRoom(fd);
  const isHuge = fd.fileSystem().type === HUGETLBFS;
  if (!isHuge && !canShrink(fd)) return undefined;
  return new AreaFile(fd, offset, length, !isHuge);
}

/**
 * Makes sure that a file system has room for the holes of a file: a page of them is found when it
 * is first accessed.
 *
 * @throws {RangeError} if it has not
 */
export function checkRoom(fd: OwnedFd): void {
  const { size, allocated } = fd.stat();
  const { type, blocks, blockSize, available } = fd.fileSystem();
  // Huge pages are reserved by mmap(2); nothing bounds a memfd.
  if (type === HUGETLBFS || blocks === 0n) return;
  const missing = size - allocated;
  if (missing <= available * BigInt(blockSize)) return;
  throw new RangeError(
    `the file has holes of ${missing} bytes, for which its file system has no room`,
  );
}

/**
 * A part of a file that its owner may make shorter. The descriptor is the caller's, and stays open
 * as long as this is used.
 */
export class AreaFile {
  readonly #fd: OwnedFd;
  readonly #offset: bigint;
  readonly #end: bigint;
  /** True if calls can write it: hugetlbfs has no write(2). */
  readonly canWrite: boolean;

  /** @ignore made by {@linkcode examineArea} */
  constructor(fd: OwnedFd, offset: bigint, length: bigint, canWrite: boolean) {
    this.#fd = fd;
    this.#offset = offset;
    this.#end = offset + length;
    this.canWrite = canWrite;
  }

  /** True if all of it is still in the file. */
  get isWhole(): boolean {
    return this.#fd.stat().size >= this.#end;
  }

  /**
   * Reads from `at` on.
   *
   * @returns how many bytes came: fewer than `into` has if the file has become shorter, or can't be
   *   read
   */
  read(at: number, into: Uint8Array): number {
    return this.#move(
      into,
      (part, done) => this.#fd.readAt(part, this.#offset + BigInt(at + done)),
    );
  }

  /**
   * Writes from `at` on.
   *
   * @returns how many bytes went: fewer than `data` has if the file has become shorter, or there is
   *   no room for them
   */
  write(at: number, data: Uint8Array): number {
    if (!this.isWhole) return 0; // a write would make it longer again
    return this.#move(
      data,
      (part, done) => this.#fd.writeAt(part, this.#offset + BigInt(at + done)),
    );
  }

  #move(bytes: Uint8Array, call: (part: Uint8Array, done: number) => number): number {
    let done = 0;
    try {
      while (done < bytes.length) {
        const count = call(bytes.subarray(done, done + MAX_CALL), done);
        if (count === 0) break;
        done += count;
      }
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
    }
    return done;
  }
}
