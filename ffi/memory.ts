/**
 * Memory shared through file descriptors: memfds and mappings.
 *
 * @module
 */

import { SystemError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { check, cString, libc } from "./libc.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_NORESERVE = 0x4000;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;

/** The page size that mappings are aligned to here: 4 KiB on x86_64; aarch64 kernels refuse what does not fit theirs. */
export const PAGE_SIZE = 4096;

/** The most that one mapping holds: what fits one ArrayBuffer. */
export const MAX_MAPPING = 2 ** 32;

/**
 * Makes an anonymous file in memory, of fixed size: it can be neither shrunk nor grown by anybody, so a mapping of it
 * never faults.
 *
 * @param size in bytes, at least 1
 * @throws {SystemError} as memfd_create(2), ftruncate(2) or fcntl(2) fail
 * @throws {RangeError} if the size is no whole number from 1, or there is a NUL in the name
 */
export function createMemfd(name: string, size: number): OwnedFd {
  if (!Number.isSafeInteger(size) || size < 1) {
    throw new RangeError(`Cannot make a memfd of ${size} bytes: at least 1 is needed`);
  }
  const c = libc();
  const doing = `Cannot make a memfd of ${size} bytes`;
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const fd = new OwnedFd(check(doing, "memfd_create", c.memfd_create(cString(name), flags)));
  try {
    const seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    check(doing, "ftruncate", c.ftruncate(fd.fd, BigInt(size)));
    check(doing, "fcntl", c.fcntl(fd.fd, F_ADD_SEALS, seals));
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Whether somebody can make a file shorter, so that a mapping of it faults. Nobody can if it is a memfd sealed against that. */
export function canShrink(fd: OwnedFd): boolean {
  const seals = libc().fcntl(fd.fd, F_GET_SEALS, 0);
  return seals < 0 || (seals & F_SEAL_SHRINK) === 0; // below 0: a file that can't be sealed
}

/**
 * A shared mapping of a part of a file.
 *
 * Contract: there is exactly one ArrayBuffer for it. `close` detaches that first, so every view of it has length 0
 * before the memory goes: an access after close finds nothing, and never faults. A peer's file is checked to be long enough
 * when it is mapped; a peer that shrinks it later can still raise SIGBUS, which only a sealed file rules out.
 *
 * A mapping that is not writable shows what others write, until it is written to: that never faults and never leaves
 * this process, but the page written to shows nothing of the others' any more. (JavaScript has no read-only memory;
 * a page that really can't be written would end the process.)
 *
 * Who detaches the buffer (by transferring it to a Worker) takes the memory with it: it stays mapped, and `close` throws.
 *
 * @example
 * ```ts
 * import { createMemfd, Mapping } from "./memory.ts";
 * using fd = createMemfd("example", 4096);
 * using mapping = Mapping.create(fd, { length: 4096 });
 * mapping.bytes[0] = 1;
 * ```
 */
export class Mapping implements Disposable {
  #pointer: Deno.PointerObject | null;
  readonly #buffer: ArrayBuffer;
  /** How many bytes were mapped. */
  readonly length: number;

  private constructor(pointer: Deno.PointerObject, length: number) {
    this.#pointer = pointer;
    this.length = length;
    this.#buffer = Deno.UnsafePointerView.getArrayBuffer(pointer, length);
  }

  /**
   * Maps `length` bytes of `fd` from `offset`. The descriptor may be closed afterwards.
   *
   * @throws {RangeError} if the offset is not a multiple of the page size, or the file is shorter
   * @throws {SystemError} as mmap(2) fails
   */
  static create(
    fd: OwnedFd,
    options: { length: number; offset?: bigint; writable?: boolean },
  ): Mapping {
    const { length, offset = 0n, writable = true } = options;
    if (!Number.isInteger(length) || length < 1 || length > MAX_MAPPING) {
      throw new RangeError(`Cannot map ${length} bytes: from 1 to ${MAX_MAPPING} are possible`);
    }
    if (offset < 0n || offset % BigInt(PAGE_SIZE) !== 0n) {
      throw new RangeError(
        `Cannot map from offset 0x${offset.toString(16)}: it is not a multiple of ${PAGE_SIZE}`,
      );
    }
    const { isFile, size } = fd.stat();
    if (isFile && offset + BigInt(length) > size) {
      throw new RangeError(
        `Cannot map ${length} bytes from offset 0x${
          offset.toString(16)
        }: the file has ${size} bytes`,
      );
    }
    const c = libc();
    const prot = PROT_READ | PROT_WRITE;
    const flags = writable ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
    const pointer = c.mmap(null, BigInt(length), prot, flags, fd.fd, offset);
    const errno = c.errno[0]!; // meant only if it failed, but it has to be read here
    if (pointer === null || Deno.UnsafePointer.value(pointer) === MAP_FAILED) {
      throw new SystemError("mmap", errno, `Cannot map ${length} bytes`);
    }
    return new Mapping(pointer, length);
  }

  /** The memory. Its length is 0 after close. */
  get buffer(): ArrayBuffer {
    return this.#buffer;
  }

  /** The memory as bytes: a new view of the same. A TypeError after close. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#buffer);
  }

  /** Whether it has not been closed. */
  get isOpen(): boolean {
    return this.#pointer !== null;
  }

  /**
   * Detaches every view, then unmaps. A second close does nothing.
   *
   * @throws {TypeError} if somebody else detached the buffer
   */
  close(): void {
    if (this.#pointer === null) return;
    this.#buffer.transfer(0);
    libc().munmap(this.#pointer, BigInt(this.length));
    this.#pointer = null;
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
