/**
 * File descriptors that are owned: closed exactly once, by their owner.
 *
 * @module
 */

import { IoBuffer } from "./buffer.ts";
import { EAGAIN, EINTR, EINVAL, ENOSYS, ENOTSUP, SystemError } from "./errno.ts";
import { check, cString, libc } from "./libc.ts";
import { iovec, statfs, statx as statxStruct } from "./structs.ts";
import { systemCalls } from "./system_calls.ts";

const F_GETFD = 1;
const F_GETFL = 3;
const F_DUPFD_CLOEXEC = 1030;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const AT_STATX_DONT_SYNC = 0x4000;
const STATX_BASIC_STATS = 0x7ff;
const STATX_MNT_ID = 0x1000; // Linux 5.8; 0 where the kernel has none
const F_GET_SEALS = 1034;
const S_IFMT = 0o170000;
const FILE_KINDS: Readonly<Record<number, FileKind>> = {
  0o010000: "pipe",
  0o020000: "character device",
  0o040000: "directory",
  0o060000: "block device",
  0o100000: "file",
  0o120000: "symbolic link",
  0o140000: "socket",
};
/** Bytes of a block as `struct statx` counts them, whatever the file system's own are. */
const STAT_BLOCK = 512n;
const MAX_PATH = 4096;
const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_WRONLY = 1;
const O_RDWR = 2;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const O_APPEND = 0o2000;
const O_NOCTTY = 0o400;
const O_NONBLOCK = 0o4000;
const RWF_NOAPPEND = 0x20;

/** Closes the descriptors of owners that were dropped without being closed. */
const forgotten = new FinalizationRegistry<number>((fd) => {
  libc().close(fd);
});

const SOL_SOCKET = 1;
const SO_LINGER = 13;

/** The number of threads that closing may hold, of the 32 of Deno's pool. */
const MAX_CLOSING = 8;

const toClose: number[] = []; // descriptors whose turn has not come
let closing = 0;
let allClosed: PromiseWithResolvers<void> | undefined; // while any is being closed

/** Closes a descriptor on another thread: however long that takes, this one goes on. */
function closeElsewhere(fd: number): void {
  toClose.push(fd);
  allClosed ??= Promise.withResolvers();
  while (closing < MAX_CLOSING && toClose.length > 0) {
    closing++;
    libc().closeNonblocking(toClose.shift()!).then(() => {
      closing--;
      const next = toClose.shift();
      if (next !== undefined) closeElsewhere(next);
      if (closing > 0) return;
      allClosed?.resolve();
      allClosed = undefined;
    });
  }
}

/** Waits until other threads have closed what was given to them. */
export async function closedElsewhere(): Promise<void> {
  while (allClosed !== undefined) await allClosed.promise;
}

/**
 * A file descriptor and the duty to close it. `using` closes it at the end of the block; one that
 * is forgotten is closed when the owner is collected.
 *
 * Contract: the number handed to the constructor is open, and no other code closes it.
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
  #closesElsewhere = false;

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

  /**
   * Opens a pipe or a character device for writing. Neither the call nor `writeSome` waits for a
   * reader: O_NONBLOCK is of this open file alone.
   *
   * @throws {SystemError} as open(2) fails: ENXIO if no process reads the pipe
   */
  static openOutlet(path: string): OwnedFd {
    return OwnedFd.open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  }

  /**
   * Takes over a descriptor that came from a peer.
   *
   * The last close of a file can wait: for a socket's SO_LINGER, the lock of a pipe, a terminal's
   * output. A peer can see to it that ours is the last. Any close of a file waits for the server of
   * its file system, if that has one. So another thread closes all but files in memory and files
   * without a type, such as memfds and eventfds.
   */
  static received(fd: number): OwnedFd {
    const owned = new OwnedFd(fd);
    const { kind } = owned.stat();
    owned.#closesElsewhere = kind !== "anonymous" && owned.seals === undefined;
    // Mostly there is nothing to wait for then. The peer can set SO_LINGER again.
    if (kind === "socket") libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, new Int32Array(2), 8);
    return owned;
  }

  /** The number, for a system call that only borrows it. Throws once closed. */
  get fd(): number {
    if (this.#fd < 0) throw new Error("File descriptor is closed");
    return this.#fd;
  }

  /** True if it is still ours to close. */
  get isOpen(): boolean {
    return this.#fd >= 0;
  }

  /** Closes it. A second close is refused: by then the number may be someone else's. */
  close(): void {
    const fd = this.release();
    if (this.#closesElsewhere) closeElsewhere(fd);
    else libc().close(fd);
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
   * Writes as much as goes without waiting.
   *
   * Contract: the descriptor is of `openOutlet`; any other one may wait.
   *
   * @returns how many bytes went; 0 if there is no room
   * @throws {SystemError} as write(2) fails
   */
  writeSome(bytes: Uint8Array<ArrayBuffer>): number {
    if (bytes.length === 0) return 0;
    const { pointer, length } = new IoBuffer(bytes);
    const c = libc();
    const count = c.write(this.fd, pointer, BigInt(length));
    if (count >= 0) return count;
    const errno = c.errno[0]!;
    if (errno === EAGAIN || errno === EINTR) return 0;
    throw new SystemError("write", errno, "Cannot write to a file descriptor");
  }

  /**
   * Reads from an offset on, as much as comes with one call.
   *
   * @param offset in bytes, below 2^63
   * @returns how many bytes came; 0 at the end of the file, less than `into` holds near it
   * @throws {SystemError} as pread(2) fails
   */
  readAt(into: Uint8Array, offset: bigint): number {
    const doing = `Cannot read ${into.length} bytes of a file`;
    return check(
      doing,
      "pread",
      libc().pread(this.fd, into as BufferSource, BigInt(into.length), offset),
    );
  }

  /**
   * Writes from an offset on, as much as goes with one call. O_APPEND, which any holder of the open
   * file can set, does not move the bytes to its end. Linux before 6.9 refuses O_APPEND with EINVAL
   * here; there a holder that sets it between that look and the call is not noticed.
   *
   * @param offset in bytes, below 2^63
   * @returns how many bytes went
   * @throws {SystemError} as pwrite(2) fails
   */
  writeAt(data: Uint8Array, offset: bigint): number {
    if (data.length === 0) return 0;
    const doing = `Cannot write ${data.length} bytes of a file`;
    // To pwritev2(2), -1 is the current position.
    if (offset < 0n) throw new SystemError("pwrite", EINVAL, doing);
    const c = libc();
    const { pwritev2 } = systemCalls();
    const { address, length } = new IoBuffer(data as Uint8Array<ArrayBuffer>);
    const vector = vectorOf(address, length);
    const result = c.pwritev2(pwritev2, this.fd, vector, 1, offset, 0n, RWF_NOAPPEND);
    const errno = result < 0 ? c.errno[0]! : 0;
    if (errno === 0) return result;
    if (errno !== ENOTSUP && errno !== ENOSYS) throw new SystemError("pwritev2", errno, doing);
    if ((this.#flags & O_APPEND) !== 0) throw new SystemError("pwrite", EINVAL, doing);
    return check(
      doing,
      "pwrite",
      c.pwrite(this.fd, data as BufferSource, BigInt(length), offset),
    );
  }

  /**
   * The access that it was opened for.
   *
   * @throws {SystemError} as fcntl(2) fails
   */
  get access(): FileAccess {
    const flags = this.#flags;
    const isPath = (flags & O_PATH) !== 0;
    const mode = flags & O_ACCMODE;
    return {
      canRead: !isPath && mode !== O_WRONLY,
      canWrite: !isPath && (mode === O_WRONLY || mode === O_RDWR),
    };
  }

  get #flags(): number {
    const doing = "Cannot examine a file descriptor";
    return check(doing, "fcntl", libc().fcntl(this.fd, F_GETFL, 0));
  }

  /**
   * Returns the path of its file, as the kernel says: "/proc/1/mem", "pipe:[1234]", "/memfd:ram
   * (deleted)". The kernel alone names its own files; any process may choose other names.
   *
   * @throws {SystemError} as readlink(2) fails
   */
  path(): string {
    const link = cString(`/proc/self/fd/${this.fd}`);
    const buffer = new Uint8Array(MAX_PATH);
    const doing = "Cannot find out what a file is called";
    const c = libc();
    const length = check(doing, "readlink", c.readlink(link, buffer, BigInt(buffer.length)));
    return new TextDecoder().decode(buffer.subarray(0, length));
  }

  /**
   * Seals of a file in memory, a bit mask: a memfd, or any other file on tmpfs or hugetlbfs.
   * Undefined for all other files.
   */
  get seals(): number | undefined {
    const seals = libc().fcntl(this.fd, F_GET_SEALS, 0);
    return seals < 0 ? undefined : seals;
  }

  /**
   * Returns the file system that its file is on. FUSE and network file systems have their server
   * answer.
   *
   * @throws {SystemError} as fstatfs(2) fails
   */
  fileSystem(): FileSystem {
    const buffer = new Uint8Array(statfs.SIZE);
    check("Cannot examine a file system", "fstatfs", libc().fstatfs(this.fd, buffer));
    const view = new DataView(buffer.buffer);
    return {
      type: view.getUint32(statfs.type, true),
      blockSize: Number(view.getBigInt64(statfs.bsize, true)),
      blocks: view.getBigUint64(statfs.blocks, true),
      available: view.getBigUint64(statfs.bavail, true),
    };
  }

  /**
   * The facts of the file, as this kernel knows them: no server of a file system is asked.
   *
   * @throws {SystemError} as statx(2) fails
   */
  stat(): FileStat {
    return statx(this.fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC);
  }

  /** Closes it if it is still open. */
  [Symbol.dispose](): void {
    if (this.isOpen) this.close();
  }
}

/** The kind of a file; an eventfd is "anonymous". */
export type FileKind =
  | "file"
  | "directory"
  | "socket"
  | "pipe"
  | "character device"
  | "block device"
  | "symbolic link"
  | "anonymous";

/** The access that a descriptor was opened for. */
export interface FileAccess {
  /** Reading. */
  readonly canRead: boolean;
  /** Writing. */
  readonly canWrite: boolean;
}

/** A file system. */
export interface FileSystem {
  /** Its magic number, as statfs(2) lists them. */
  readonly type: number;
  /** Bytes of a block; on hugetlbfs of a page. */
  readonly blockSize: number;
  /** The number of blocks; 0 if nothing bounds them, as with memfds. */
  readonly blocks: bigint;
  /** The number of them that an ordinary process can still have. */
  readonly available: bigint;
}

/** The facts that the kernel keeps about a file. */
export interface FileStat {
  /** The kind. */
  kind: FileKind;
  /** True if it is a regular file; a memfd is one. */
  isFile: boolean;
  /** True if it is a socket. */
  isSocket: boolean;
  /** Its inode number, which one file of its device has at a time. */
  inode: bigint;
  /** The device that its inode number is of. */
  device: bigint;
  /** The number of its mount; 0 if the kernel does not say. */
  mount: bigint;
  /** Bytes of a regular file. */
  size: bigint;
  /** Bytes that it occupies: less than `size` if it has holes. */
  allocated: bigint;
}

/**
 * Reads the kind of the file at a path; a symbolic link is not followed. Unlike Deno.lstat this
 * needs no permission but FFI.
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
    libc().statx(dirFd, cString(path), flags, STATX_BASIC_STATS | STATX_MNT_ID, buffer),
  );
  const view = new DataView(buffer.buffer);
  const kind = FILE_KINDS[view.getUint16(statxStruct.mode, true) & S_IFMT] ?? "anonymous";
  const major = BigInt(view.getUint32(statxStruct.dev_major, true));
  const minor = BigInt(view.getUint32(statxStruct.dev_minor, true));
  return {
    kind,
    isFile: kind === "file",
    isSocket: kind === "socket",
    inode: view.getBigUint64(statxStruct.ino, true),
    device: major << 32n | minor,
    mount: view.getBigUint64(statxStruct.mnt_id, true),
    size: view.getBigUint64(statxStruct.size, true),
    allocated: view.getBigUint64(statxStruct.blocks, true) * STAT_BLOCK,
  };
}

/**
 * Reads a file whose size the kernel does not say, as those of /proc.
 *
 * @throws {SystemError} as open(2) or pread(2) fails
 */
export function readWhole(path: string): string {
  using file = OwnedFd.open(path, O_RDONLY);
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(64 << 10);
  let text = "";
  for (let at = 0n;;) {
    const count = file.readAt(bytes, at);
    if (count === 0) return text;
    text += decoder.decode(bytes.subarray(0, count), { stream: true });
    at += BigInt(count);
  }
}

// Made on first use, one for the thread, used only within a call.
let vector: IoBuffer | undefined;

/** Describes memory to a call that takes a struct iovec. */
function vectorOf(address: bigint, length: number): Deno.PointerObject {
  vector ??= new IoBuffer(iovec.SIZE);
  vector.view.setBigUint64(iovec.base, address, true);
  vector.view.setBigUint64(iovec.len, BigInt(length), true);
  return vector.pointer;
}

/** Closes every one that is still open. */
export function closeAll(fds: Iterable<OwnedFd>): void {
  for (const fd of fds) fd[Symbol.dispose]();
}

/**
 * Counts the descriptors of this process from 0 to `limit` - 1 that are open, for tests that look
 * for leaks.
 */
export function countOpenFds(limit = 1024): number {
  let count = 0;
  for (let fd = 0; fd < limit; fd++) if (libc().fcntl(fd, F_GETFD, 0) >= 0) count++;
  return count;
}
