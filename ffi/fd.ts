/**
 * File descriptors that are owned: closed exactly once, by the one who holds them.
 *
 * @module
 */

import { IoBuffer } from "./buffer.ts";
import { check, cString, libc } from "./libc.ts";
import { statx as statxStruct } from "./structs.ts";

const F_GETFD = 1;
const F_DUPFD_CLOEXEC = 1030;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC_STATS = 0x7ff;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFSOCK = 0o140000;
const O_RDWR = 2;
const O_CLOEXEC = 0o2000000;

/** Closes the descriptors of owners that were dropped without being closed. */
const forgotten = new FinalizationRegistry<number>((fd) => {
  libc().close(fd);
});

/**
 * A file descriptor and the duty to close it. `using` closes it at the end of the block; one that is forgotten is
 * closed when the owner is collected.
 *
 * Contract: the number handed to the constructor is open and nobody else closes it.
 *
 * @example
 * ```ts
 * import { OwnedFd } from "./fd.ts";
 * using file = OwnedFd.open("/dev/null");
 * console.assert(file.isOpen);
 * ```
 */
export class OwnedFd implements Disposable {
  #fd: number;

  /** Takes over an open descriptor. */
  constructor(fd: number) {
    if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`Not a file descriptor: ${fd}`);
    this.#fd = fd;
    forgotten.register(this, fd, this);
  }

  /**
   * Opens a file for reading and writing.
   *
   * @throws {SystemError} as open(2) fails
   * @throws {RangeError} if there is a NUL in the path
   */
  static open(path: string, flags = O_RDWR): OwnedFd {
    const c = libc();
    return new OwnedFd(
      check(`Cannot open ${path}`, "open", c.open(cString(path), flags | O_CLOEXEC, 0o600)),
    );
  }

  /** The number, for a system call that only borrows it. Throws once closed. */
  get fd(): number {
    if (this.#fd < 0) throw new Error("File descriptor is closed");
    return this.#fd;
  }

  /** Whether it is still ours to close. */
  get isOpen(): boolean {
    return this.#fd >= 0;
  }

  /** Closes it. A second close is refused: by then the number may be someone else's. */
  close(): void {
    libc().close(this.release());
  }

  /** Gives up ownership: the caller closes the number returned. */
  release(): number {
    const fd = this.fd;
    this.#fd = -1;
    forgotten.unregister(this);
    return fd;
  }

  /** A second descriptor of the same open file. */
  duplicate(): OwnedFd {
    const doing = "Cannot duplicate a file descriptor";
    return new OwnedFd(check(doing, "fcntl", libc().fcntl(this.fd, F_DUPFD_CLOEXEC, 0)));
  }

  /**
   * Writes bytes, all of them.
   *
   * @throws {SystemError} as write(2) fails
   */
  write(bytes: Uint8Array<ArrayBuffer>): void {
    for (let rest = bytes; rest.length > 0;) {
      const { pointer, length } = new IoBuffer(rest);
      const doing = "Cannot write to a file descriptor";
      const count = check(doing, "write", libc().write(this.fd, pointer, BigInt(length)));
      rest = rest.subarray(count);
    }
  }

  /**
   * What kind of file it is and how large.
   *
   * @throws {SystemError} as statx(2) fails
   */
  stat(): FileStat {
    return statx(this.fd, "", AT_EMPTY_PATH);
  }

  /** Closes it if it is still open. */
  [Symbol.dispose](): void {
    if (this.isOpen) this.close();
  }
}

/** What is known about a file. */
export interface FileStat {
  /** Whether it is a regular file; a memfd is one. */
  isFile: boolean;
  /** Whether it is a socket. */
  isSocket: boolean;
  /** Its inode number. */
  inode: bigint;
  /** Bytes of a regular file. */
  size: bigint;
}

/**
 * What kind of file is at a path; a symbolic link is not followed. Unlike Deno.lstat this needs no permission but FFI.
 *
 * @throws {SystemError} as statx(2) fails
 */
export function statPath(path: string): FileStat {
  return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
}

function statx(dirFd: number, path: string, flags: number): FileStat {
  const buffer = new Uint8Array(statxStruct.SIZE);
  check(
    path === "" ? "Cannot stat a file descriptor" : `Cannot stat ${path}`,
    "statx",
    libc().statx(dirFd, cString(path), flags, STATX_BASIC_STATS, buffer),
  );
  const view = new DataView(buffer.buffer);
  const type = view.getUint16(statxStruct.mode, true) & S_IFMT;
  return {
    isFile: type === S_IFREG,
    isSocket: type === S_IFSOCK,
    inode: view.getBigUint64(statxStruct.ino, true),
    size: view.getBigUint64(statxStruct.size, true),
  };
}

/** Closes every one that is still open. */
export function closeAll(fds: Iterable<OwnedFd>): void {
  for (const fd of fds) fd[Symbol.dispose]();
}

/** How many of this process's descriptors from 0 to `limit` - 1 are open: for tests that look for leaks. */
export function countOpenFds(limit = 1024): number {
  let count = 0;
  for (let fd = 0; fd < limit; fd++) if (libc().fcntl(fd, F_GETFD, 0) >= 0) count++;
  return count;
}
