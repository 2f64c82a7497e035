/**
 * Eventfds and poll: how a thread, or the whole event loop, waits for file descriptors.
 *
 * @module
 */

import { IoBuffer } from "./buffer.ts";
import { EAGAIN, EINTR, EINVAL, SystemError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
import { addNow, readNow } from "./nowait.ts";
import { pollfd } from "./structs.ts";

/** Data can be read, or the peer has closed. */
export const POLLIN = 1;
/** Data can be written. */
export const POLLOUT = 4;
/** The descriptor has an error (output only). */
export const POLLERR = 8;
/** The peer hung up (output only). */
export const POLLHUP = 16;
/** The descriptor is not open (output only). */
export const POLLNVAL = 32;

/**
 * The nanoseconds of a brief wait: as long as a peer takes that is about to ask again. The event
 * loop does not mind so short a wait.
 */
export const BRIEF_NS = 100_000n;

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

const MAX_COUNT = 2n ** 64n - 2n;

/** The most that one call adds to an eventfd that others have as well. */
const MAX_SHARED_COUNT = 1024n;

// Made on first use, one for the thread, used only within a call.
let counter: IoBuffer | undefined;

/** The 8 bytes that eventfd reads and writes go through. */
function counterBuffer(): IoBuffer {
  return counter ??= new IoBuffer(8);
}

/**
 * An eventfd: a counter in the kernel that one side adds to and the other reads and clears.
 *
 * @example
 * ```ts
 * import { EventFd } from "./event.ts";
 * using event = new EventFd();
 * event.signal(2n);
 * event.signal();
 * console.assert(event.take() === 3n && event.take() === 0n);
 * ```
 */
export class EventFd implements Disposable {
  readonly #fd: OwnedFd;
  #isShared: boolean;

  /**
   * Makes an eventfd.
   *
   * @param fd one that came from elsewhere, to be taken over in place of a new one. Its other
   *   holders may do anything with the eventfd at any time: no call here waits
   */
  constructor(fd?: OwnedFd) {
    this.#isShared = fd !== undefined;
    this.#fd = fd ?? new OwnedFd(
      check("Cannot make an eventfd", "eventfd", libc().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
    );
  }

  /** The descriptor, for poll. */
  get fd(): number {
    return this.#fd.fd;
  }

  /**
   * The descriptor with its ownership, to be passed to a peer. The EventFd keeps the descriptor,
   * and from here on no longer trusts its flags.
   */
  get handle(): OwnedFd {
    this.#isShared = true;
    return this.#fd;
  }

  /** True if it has not been closed. */
  get isOpen(): boolean {
    return this.#fd.isOpen;
  }

  /**
   * Adds to the counter, which wakes whoever polls it. Never waits: a counter too full for `count`
   * is signalled already.
   *
   * @param count from 0 to 2^64 - 2, and to 1024 for an eventfd that others have as well
   * @throws {SystemError} as write(2) fails; EINVAL if a descriptor from elsewhere is no eventfd
   * @throws {RangeError} if the count is out of range
   */
  signal(count = 1n): void {
    const limit = this.#isShared ? MAX_SHARED_COUNT : MAX_COUNT;
    if (count < 0n || count > limit) throw new RangeError(`Not an eventfd count: ${count}`);
    const errno = this.#isShared ? -addNow(this.#fd.fd, Number(count)) : this.#write(count);
    if (errno === 0) return;
    const doing = errno === EINVAL
      ? "Cannot signal what is no eventfd"
      : "Cannot signal an eventfd";
    throw new SystemError("write", errno, doing);
  }

  /**
   * Adds to the counter of an eventfd that only this process has: there O_NONBLOCK is sure.
   *
   * @returns 0, or an errno
   */
  #write(count: bigint): number {
    const c = libc();
    const buffer = counterBuffer();
    buffer.view.setBigUint64(0, count, true);
    const result = c.write(this.#fd.fd, buffer.pointer, 8n);
    const errno = result < 0 ? c.errno[0]! : 0;
    return errno === EAGAIN ? 0 : errno;
  }

  /**
   * Reads the counter and sets it to 0, without waiting.
   *
   * @returns 0n if it was not signalled
   * @throws {SystemError} as read(2) fails
   * @throws {TypeError} if it is no eventfd, and gave less than a counter
   */
  take(): bigint {
    const buffer = counterBuffer();
    const result = this.#isShared ? readNow(this.#fd.fd, buffer) : this.#read(buffer);
    if (result === -EAGAIN || result === -EINTR) return 0n;
    if (result < 0) throw new SystemError("read", -result, "Cannot read an eventfd");
    if (result !== 8) {
      throw new TypeError(`Cannot read an eventfd: ${result} bytes came, its counter has 8`);
    }
    return buffer.view.getBigUint64(0, true);
  }

  /** Reads the counter of an eventfd that only this process has. */
  #read(buffer: IoBuffer): number {
    const c = libc();
    const result = c.read(this.#fd.fd, buffer.pointer, 8n);
    return result < 0 ? -c.errno[0]! : result;
  }

  /** Closes the descriptor. */
  close(): void {
    this.#fd.close();
  }

  /** Closes it if it is still open. */
  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

/** A set of pollfds with a known address. */
export class PollSet {
  readonly #allocate: (size: number) => Uint8Array<ArrayBuffer>;
  readonly #lasts: boolean;
  #buffer: IoBuffer;
  #count = 0;
  #brief: IoBuffer | undefined; // struct timespec

  /**
   * Makes an empty set.
   *
   * @param allocate where its memory comes from; `lastingBytes` for `waitAsync`
   */
  constructor(allocate?: (size: number) => Uint8Array<ArrayBuffer>) {
    this.#allocate = allocate ?? ((size) => new Uint8Array(size));
    this.#lasts = allocate !== undefined;
    this.#buffer = new IoBuffer(this.#allocate(8 * pollfd.SIZE));
  }

  /** The number of entries. */
  get count(): number {
    return this.#count;
  }

  /** Forgets all entries. Not while a `wait` is under way. */
  clear(): void {
    this.#count = 0;
  }

  /** Adds an entry: a descriptor and what to wait for (POLLIN, POLLOUT). */
  add(fd: number, events: number): void {
    if ((this.#count + 1) * pollfd.SIZE > this.#buffer.length) {
      const larger = new IoBuffer(this.#allocate(this.#buffer.length * 2));
      larger.bytes.set(this.#buffer.bytes);
      this.#buffer = larger;
    }
    const at = this.#count++ * pollfd.SIZE;
    this.#buffer.view.setInt32(at + pollfd.fd, fd, true);
    this.#buffer.view.setInt16(at + pollfd.events, events, true);
    this.#buffer.view.setInt16(at + pollfd.revents, 0, true);
  }

  /** Returns the events of entry `index`: a mask of POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL. */
  revents(index: number): number {
    return this.#buffer.view.getInt16(index * pollfd.SIZE + pollfd.revents, true);
  }

  /**
   * Blocks the thread until an entry is ready. Signal handlers and AbortSignals do not run
   * meanwhile.
   *
   * @param timeoutMs Infinity waits for ever; fractions are rounded up; below 0 (a deadline passed)
   * is 0
   * @returns how many entries are ready; 0 after the timeout, and after a signal (look at your
   * clock)
   * @throws {SystemError} as poll(2) fails
   */
  wait(timeoutMs: number): number {
    const c = libc();
    const result = c.poll(this.#buffer.pointer, BigInt(this.#count), pollTimeout(timeoutMs));
    const errno = result < 0 ? c.errno[0]! : 0;
    if (errno === EINTR) return 0;
    if (errno !== 0) throw new SystemError("poll", errno);
    return result;
  }

  /**
   * Blocks the thread until an entry is ready, for a moment at most.
   *
   * @param ns below a second; 0 only looks
   * @returns how many entries are ready; 0 if none is, or it failed
   */
  waitBriefly(ns = BRIEF_NS): number {
    this.#brief ??= new IoBuffer(16);
    this.#brief.view.setBigInt64(8, ns, true);
    return Math.max(
      0,
      libc().ppoll(this.#buffer.pointer, BigInt(this.#count), this.#brief.pointer, null),
    );
  }

  /**
   * Waits on Deno's thread pool, for `timeoutMs` as `wait` does. The set must not change until the
   * promise is settled. Below 0: it failed.
   *
   * @throws {TypeError} if the memory of the set is of the garbage collector: the kernel would
   *   write where something else may be by then
   */
  waitAsync(timeoutMs = Infinity): Promise<number> {
    if (!this.#lasts) throw new TypeError("Cannot wait on a set whose memory may be collected");
    const timeout = pollTimeout(timeoutMs);
    return libc().pollNonblocking(this.#buffer.pointer, BigInt(this.#count), timeout);
  }
}

function pollTimeout(timeoutMs: number): number {
  if (timeoutMs === Infinity) return -1;
  if (Number.isNaN(timeoutMs)) return 0;
  return Math.max(0, Math.min(Math.ceil(timeoutMs), 0x7fffffff));
}
