/**
 * Memory shared through file descriptors: memfds and mappings.
 *
 * @module
 */

import { addressSpace, mappings, type Purse } from "./budget.ts";
import { SystemError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { check, cString, libc } from "./libc.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_NORESERVE = 0x4000;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;

const MADV_DONTNEED = 4;

/** `type` of a {@linkcode FileSystem} in which pages are huge: 2 MiB or 1 GiB. */
export const HUGETLBFS = 0x958458f6;
/** `type` of a {@linkcode FileSystem} in memory, which memfds are in as well. */
export const TMPFS = 0x01021994;

/**
 * The unit of mappings' offsets. Where the kernel's pages are larger, more is mapped.
 */
export const PAGE_SIZE = 4096;

/**
 * The most that one mapping holds: 8 TiB, a sixteenth of the address space. One ArrayBuffer holds
 * so much.
 */
export const MAX_MAPPING = 2 ** 43;

/**
 * Makes an anonymous file in memory, of fixed size. No process can shrink or grow the file, so a
 * mapping of it never faults.
 *
 * @param size in bytes, at least 1
 * @param options.canGrow lets every process with the file grow it; default false
 * @throws {SystemError} as memfd_create(2), ftruncate(2) or fcntl(2) fail
 * @throws {RangeError} if the size is no whole number from 1, or there is a NUL in the name
 *
 * @example
 * ```ts
 * import { createMemfd, PAGE_SIZE } from "./memory.ts";
 *
 * const file = createMemfd("frame", PAGE_SIZE);
 * console.assert(Deno.statSync(`/proc/self/fd/${file.fd}`).size === PAGE_SIZE);
 * file.close();
 * ```
 */
export function createMemfd(
  name: string,
  size: number,
  { canGrow = false }: { readonly canGrow?: boolean } = {},
): OwnedFd {
  if (!Number.isSafeInteger(size) || size < 1) {
    throw new RangeError(`Cannot make a memfd of ${size} bytes: at least 1 is needed`);
  }
  const c = libc();
  const doing = `Cannot make a memfd of ${size} bytes`;
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const fd = new OwnedFd(check(doing, "memfd_create", c.memfd_create(cString(name), flags)));
  try {
    const seals = F_SEAL_SHRINK | F_SEAL_SEAL | (canGrow ? 0 : F_SEAL_GROW);
    check(doing, "ftruncate", c.ftruncate(fd.fd, BigInt(size)));
    check(doing, "fcntl", c.fcntl(fd.fd, F_ADD_SEALS, seals));
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/**
 * Grows a file that {@linkcode createMemfd} made with `canGrow`. Mappings of it stay valid.
 *
 * @param size in bytes, not less than before
 * @throws {SystemError} as ftruncate(2) fails: with EPERM for a lesser size or a fixed file
 * @throws {RangeError} if the size is no whole number from 1
 */
export function growMemfd(fd: OwnedFd, size: number): void {
  const doing = `Cannot grow a memfd to ${size} bytes`;
  if (!Number.isSafeInteger(size) || size < 1) {
    throw new RangeError(`${doing}: a whole number from 1 is needed`);
  }
  check(doing, "ftruncate", libc().ftruncate(fd.fd, BigInt(size)));
}

/**
 * Reports whether a process can truncate a file, so that a mapping of it faults. A memfd can be
 * sealed against that.
 */
export function canShrink(fd: OwnedFd): boolean {
  return ((fd.seals ?? 0) & F_SEAL_SHRINK) === 0;
}

/** The part of a file that is mapped, and how. */
export interface MappingOptions {
  /** In bytes. */
  length: number;
  /** The offset at which it begins in the file, a multiple of `PAGE_SIZE`; default 0. */
  offset?: bigint;
  /** True if writes go to the file; default true. */
  writable?: boolean;
}

/** Who has a mapped file. */
export interface MappingOwner {
  /** The budget of the mapping. */
  readonly mappings: Purse;
  /** The budget of its bytes of address space. */
  readonly addressSpace: Purse;
  /** Called when it is unmapped. */
  ended?(): void;
}

/** The owner of mappings that no client owns. */
const PROCESS: MappingOwner = { mappings, addressSpace };

/**
 * One mmap(2) of a part of a file, in which any number of {@linkcode Mapping} are. The last of them
 * that is closed unmaps it.
 *
 * Contract: a `Mapping` lies within the bytes that are mapped, and detaches its ArrayBuffer before
 * it says that it is done. So nothing can reach the memory once it is unmapped.
 *
 * @example
 * ```ts
 * import { createMemfd, MappedFile } from "./memory.ts";
 * using fd = createMemfd("example", 8192);
 * const file = MappedFile.create(fd, { length: 8192 });
 * using first = file.part(0, 4096);
 * using second = file.part(4096, 4096);
 * second.bytes[0] = 1;
 * ```
 */
export class MappedFile {
  readonly #pointer: Deno.PointerObject;
  readonly #skip: number; // bytes that are mapped ahead of what is wanted
  readonly #mapped: number; // bytes that are mapped
  /** The number of bytes that can be used. */
  readonly length: number;
  readonly #isPrivate: boolean;
  readonly #owner: MappingOwner;
  #users = 0;
  #isOpen = true;

  private constructor(
    pointer: Deno.PointerObject,
    skip: number,
    mapped: number,
    options: MappingOptions,
    owner: MappingOwner,
  ) {
    this.#pointer = pointer;
    this.#skip = skip;
    this.#mapped = mapped;
    this.length = options.length;
    this.#isPrivate = options.writable === false;
    this.#owner = owner;
  }

  /**
   * Maps `length` bytes of `fd` from `offset` on, and what of the first and last page is around
   * them: pages of hugetlbfs are large. The descriptor may be closed afterwards. It stays mapped
   * for as long as it has parts: the first is to be taken at once.
   *
   * @param owner who pays for it
   * @throws {RangeError} if the offset is not a multiple of `PAGE_SIZE`, or the file is shorter
   * @throws {SystemError} as mmap(2) fails; ENOSPC if this process has as many mappings as it may
   */
  static create(fd: OwnedFd, options: MappingOptions, owner: MappingOwner = PROCESS): MappedFile {
    const { length, offset = 0n, writable = true } = options;
    checkRange(fd, length, offset);
    const c = libc();
    const { type, blockSize } = fd.fileSystem();
    const isHuge = type === HUGETLBFS;
    const page = isHuge ? blockSize : c.getpagesize();
    const skip = Number(offset % BigInt(page));
    const mapped = Math.ceil((skip + length) / page) * page;
    const doing = `Cannot map ${length} bytes`;
    owner.mappings.take(1, doing);
    try {
      owner.addressSpace.take(mapped, doing);
    } catch (error) {
      owner.mappings.give(1);
      throw error;
    }
    // Reserves no memory for pages that are written to here only. Huge ones are few: without a
    // reservation the first access to one that is missing ends the process.
    const flags = writable ? MAP_SHARED : isHuge ? MAP_PRIVATE : MAP_PRIVATE | MAP_NORESERVE;
    const start = offset - BigInt(skip);
    const pointer = c.mmap(null, BigInt(mapped), PROT_READ | PROT_WRITE, flags, fd.fd, start);
    const errno = c.errno[0]!; // meant only if it failed, but it has to be read here
    if (pointer === null || Deno.UnsafePointer.value(pointer) === MAP_FAILED) {
      owner.mappings.give(1);
      owner.addressSpace.give(mapped);
      throw new SystemError("mmap", errno, doing);
    }
    boundAddressSpace(pointer);
    return new MappedFile(pointer, skip, mapped, options, owner);
  }

  /** True if it is mapped: it has parts, or had none yet. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /**
   * A part of it.
   *
   * @param start in bytes from where it begins
   * @throws {RangeError} if it is not all inside, or no part is left
   */
  part(start: number, length: number): Mapping {
    const isInside = Number.isSafeInteger(start) && start >= 0 && Number.isSafeInteger(length) &&
      length >= 1 && start + length <= this.length;
    if (!isInside || !this.#isOpen) {
      throw new RangeError(`Cannot use ${length} bytes at ${start} of ${this.length} mapped ones`);
    }
    this.#users++;
    return new Mapping(length, {
      makeBuffer: () => {
        const pointer = Deno.UnsafePointer.offset(this.#pointer, this.#skip + start);
        return Deno.UnsafePointerView.getArrayBuffer(pointer!, length);
      },
      done: (wasUsed) => this.#leave(wasUsed ? { start, length } : undefined),
    });
  }

  /**
   * Maps another file in place of this one, as writable. All views of its parts show that file from
   * then on.
   *
   * @param fd may be closed afterwards
   * @throws {RangeError} if this is no mapping from the start of a file, or the file is shorter
   * @throws {SystemError} as mmap(2) fails
   */
  replace(fd: OwnedFd): void {
    if (!this.#isOpen || this.#skip !== 0) {
      throw new RangeError("Cannot map another file in place of this one: it has no whole pages");
    }
    checkRange(fd, this.length, 0n);
    const c = libc();
    const flags = MAP_SHARED | MAP_FIXED;
    const size = BigInt(this.#mapped);
    const pointer = c.mmap(this.#pointer, size, PROT_READ | PROT_WRITE, flags, fd.fd, 0n);
    const errno = c.errno[0]!;
    if (pointer === null || Deno.UnsafePointer.value(pointer) === MAP_FAILED) {
      throw new SystemError("mmap", errno, `Cannot map ${this.length} bytes in place of others`);
    }
  }

  /** A part is closed; with its place, if another process may have written there. */
  #leave(used: { start: number; length: number } | undefined): void {
    this.#users--;
    if (this.#users > 0) {
      if (used !== undefined && this.#isPrivate) this.#forget(used.start, used.length);
      return;
    }
    this.#isOpen = false;
    libc().munmap(this.#pointer, BigInt(this.#mapped));
    this.#owner.mappings.give(1);
    this.#owner.addressSpace.give(this.#mapped);
    this.#owner.ended?.();
  }

  /** Drops pages that were written to here only: who maps them next sees the file. */
  #forget(start: number, length: number): void {
    const page = libc().getpagesize();
    const first = this.#skip + start - (this.#skip + start) % page;
    const pointer = Deno.UnsafePointer.offset(this.#pointer, first);
    const bytes = Math.ceil((this.#skip + start + length - first) / page) * page;
    libc().madvise(pointer, BigInt(bytes), MADV_DONTNEED);
  }
}

/** The part of its {@linkcode MappedFile} that a {@linkcode Mapping} has. */
interface MappedPart {
  makeBuffer(): ArrayBuffer;
  done(wasUsed: boolean): void;
}

/**
 * A shared mapping of a part of a file.
 *
 * Contract: there is one ArrayBuffer for it, made when it is first used. `close` detaches that
 * first, so every view of it has length 0 before the memory goes: an access after close finds
 * nothing, and never faults. A peer's file is checked to be long enough when it is mapped. A peer
 * that shrinks it later can still raise SIGBUS, which only a sealed file rules out.
 *
 * A mapping that is not writable shows what others write, until it is written to. Such a write
 * never faults and never leaves this process. The written page shows nothing of the others' any
 * more. (JavaScript has no read-only memory; a page that really can't be written would end the
 * process.)
 *
 * A caller that detaches the buffer (by transferring it to a Worker) takes the memory with it. The
 * memory stays mapped for good, and `buffer` is another one from then on.
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
  readonly #part: MappedPart;
  #buffer: ArrayBuffer | undefined;
  #isOpen = true;
  #isTaken = false; // whether another object holds a buffer of it
  /** The number of bytes that were mapped. */
  readonly length: number;

  /** @ignore made by `MappedFile.part` */
  constructor(length: number, part: MappedPart) {
    this.length = length;
    this.#part = part;
  }

  /** Maps a part of a file, as {@linkcode MappedFile.create}, by an mmap(2) of its own. */
  static create(fd: OwnedFd, options: MappingOptions): Mapping {
    return MappedFile.create(fd, options).part(0, options.length);
  }

  /** The memory. Its length is 0 after close. */
  get buffer(): ArrayBuffer {
    const buffer = this.#buffer;
    return buffer === undefined || buffer.detached ? this.#makeBuffer() : buffer;
  }

  /** The memory as bytes: a new view of the same. A TypeError after close. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.buffer);
  }

  /** True if it has not been closed. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Detaches every view, then unmaps. A second close does nothing. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const buffer = this.#buffer;
    if (buffer?.detached === false) buffer.transfer(0);
    else if (buffer !== undefined) this.#isTaken = true;
    if (!this.#isTaken) this.#part.done(buffer !== undefined);
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #makeBuffer(): ArrayBuffer {
    if (!this.#isOpen) return this.#buffer ??= detachedBuffer();
    if (this.#buffer !== undefined) this.#isTaken = true;
    return this.#buffer = this.#part.makeBuffer();
  }
}

function detachedBuffer(): ArrayBuffer {
  const buffer = new ArrayBuffer(0);
  buffer.transfer();
  return buffer;
}

function checkRange(fd: OwnedFd, length: number, offset: bigint): void {
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
      `Cannot map ${length} bytes from offset 0x${offset.toString(16)}: the file has ${size} bytes`,
    );
  }
}

let isBounded = false;

/**
 * The kernel maps from the top of the address space downwards: the first address tells how large
 * that is.
 */
function boundAddressSpace(pointer: Deno.PointerObject): void {
  if (isBounded) return;
  isBounded = true;
  addressSpace.bound(2 ** Math.ceil(Math.log2(Number(Deno.UnsafePointer.value(pointer)))) / 2);
}
