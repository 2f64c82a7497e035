/**
 * Listening UNIX stream sockets, and the files of such sockets.
 *
 * @module
 */

import { EAGAIN, EBUSY, ECONNREFUSED, EINTR, SystemError } from "./errno.ts";
import { PollSet } from "./event.ts";
import { type FileStat, OwnedFd, statPath } from "./fd.ts";
import { check, cString, libc } from "./libc.ts";
import { UnixSocket } from "./socket.ts";
import { makeSocket, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_STREAM, socketAddress } from "./unix.ts";

const O_DIRECTORY = Deno.build.arch === "aarch64" ? 0o40000 : 0o200000;
const O_CLOEXEC = 0o2000000;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** Its holders need microseconds; together with the pauses this is more than a second. */
const LOCK_ATTEMPTS = 1000;
const LOCK_PAUSE_NS = 1_000_000n;

/** The file of a socket. A file of the same path and another inode is another socket's. */
export interface SocketFile {
  /** Its path. */
  readonly path: string;
  /** Its inode number. */
  readonly inode: bigint;
}

/** A listening UNIX stream socket. Its file is removed when it is closed. */
export class UnixListener implements Disposable {
  /** Its file. */
  readonly file: SocketFile;
  readonly #fd: OwnedFd;

  private constructor(fd: OwnedFd, path: string) {
    this.#fd = fd;
    this.file = { path, inode: statPath(path).inode };
  }

  /**
   * Listens at `path`. A socket file on which no process listens any more is replaced. Of several
   * processes that try this at once one succeeds: each looks, removes and binds under the folder's
   * lock. For a moment of bind(2) the kernel shows a file to which no socket belongs yet. Whoever
   * looked then without the lock would take it for a stale one.
   *
   * @throws {SystemError} EADDRINUSE if a process listens there or the file is no socket. EBUSY if
   *   the file is stale and its folder can't be locked. Else as bind(2) fails
   * @throws {RangeError} if the path is empty or too long for an address
   */
  static listen(path: string, backlog = 16): UnixListener {
    const c = libc();
    const doing = `Cannot listen on ${path}`;
    const address = socketAddress(path);
    using lock = lockFolder(path);
    if (isStale(doing, path, address)) removeStale(doing, path, lock);
    const fd = makeSocket(doing, SOCK_STREAM);
    try {
      check(doing, "bind", c.bind(fd.fd, address, address.length));
      check(doing, "listen", c.listen(fd.fd, backlog));
      return new UnixListener(fd, path);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** The path at which it listens. */
  get path(): string {
    return this.file.path;
  }

  /** The descriptor, for poll. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** True if it has not been closed. */
  get isOpen(): boolean {
    return this.#fd.isOpen;
  }

  /**
   * Takes the next connection without waiting.
   *
   * @returns undefined if there is none
   * @throws {SystemError} as accept4(2) fails, EMFILE for one
   */
  accept(): UnixSocket | undefined {
    const c = libc();
    const fd = c.accept4(this.#fd.fd, null, null, SOCK_CLOEXEC);
    if (fd >= 0) return new UnixSocket(new OwnedFd(fd));
    const errno = c.errno[0]!;
    if (errno === EAGAIN || errno === EINTR) return undefined;
    throw new SystemError("accept4", errno, `Cannot accept a connection on ${this.path}`);
  }

  /** Stops listening and removes the socket's file, unless another one has taken its place. */
  close(): void {
    // First the file, then the socket: while that is open, no other file gets its inode number.
    if (this.isOpen) removeSocketFile(this.file);
    this.#fd.close();
  }

  /** Closes it if it is still open. */
  [Symbol.dispose](): void {
    if (this.isOpen) this.close();
  }
}

/**
 * Removes the file of a socket, unless another file has taken its place.
 *
 * Contract: the socket is open in this process, so that no other file has its inode number.
 */
export function removeSocketFile({ path, inode }: SocketFile): void {
  if (statIfAny(path)?.inode === inode) libc().unlink(cString(path));
}

/**
 * Removes the file of a socket whose process is gone, unless another file has taken its place.
 *
 * @throws {SystemError} EBUSY if its folder can't be locked
 */
export function removeDeadSocketFile({ path, inode }: SocketFile): void {
  if (statIfAny(path)?.inode !== inode) return;
  const doing = `Cannot remove ${path}`;
  using lock = lockFolder(path);
  if (isStale(doing, path, socketAddress(path))) removeStale(doing, path, lock);
}

/**
 * Removes a stale socket file. Looking and removing are one step for all processes that do so: they
 * hold the folder's lock meanwhile. Without it a process could remove the socket of another one
 * that has just replaced the stale file.
 *
 * @throws {SystemError} EBUSY if there is no lock
 */
function removeStale(doing: string, path: string, lock: OwnedFd | undefined): void {
  if (lock === undefined) throw new SystemError("flock", EBUSY, doing);
  // If unlink fails, so does bind, which says why.
  libc().unlink(cString(path));
}

/**
 * Locks the folder of a path, for as long as the descriptor is open. The lock leaves no file, and
 * ends with its holder.
 *
 * @returns undefined if the lock is held for too long, or the folder can't be locked
 */
function lockFolder(path: string): OwnedFd | undefined {
  const end = path.lastIndexOf("/");
  const folder = end < 0 ? "." : path.slice(0, end + 1);
  const c = libc();
  const number = c.open(cString(folder), O_DIRECTORY | O_CLOEXEC, 0);
  if (number < 0) return undefined;
  const fd = new OwnedFd(number);
  const pause = new PollSet();
  for (let attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
    if (c.flock(fd.fd, LOCK_EX | LOCK_NB) === 0) return fd;
    const errno = c.errno[0]!;
    if (errno !== EAGAIN && errno !== EINTR) break; // the file system knows no locks
    pause.waitBriefly(LOCK_PAUSE_NS);
  }
  fd.close();
  return undefined;
}

/**
 * Reports whether a socket file belongs to no open socket. The function asks with a socket of
 * another type. A live one refuses that (EPROTOTYPE) without its owner, which might serve one
 * connection only. So does one that is bound and about to listen. What else is wrong with the path,
 * bind will say.
 */
function isStale(doing: string, path: string, address: Uint8Array<ArrayBuffer>): boolean {
  const c = libc();
  using probe = makeSocket(doing, SOCK_DGRAM);
  const result = c.connect(probe.fd, address, address.length);
  const errno = result < 0 ? c.errno[0]! : 0;
  return errno === ECONNREFUSED && statIfAny(path)?.isSocket === true;
}

function statIfAny(path: string): FileStat | undefined {
  try {
    return statPath(path);
  } catch {
    return undefined;
  }
}
