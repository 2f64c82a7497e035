/**
 * Eventfds and poll: how a thread, or the whole event loop, waits for file descriptors.
 *
 * @module
 */

import { IoBuffer } from "./buffer.ts";
import { EAGAIN, EINTR, SystemError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
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

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

const scratch = { counter: undefined as IoBuffer | undefined };

/** The 8 bytes that eventfd reads and writes go through; one for the thread, used only within a call. */
function counterBuffer(): IoBuffer {
  return scratch.counter ??= new IoBuffer(8);
}

/**
 * An eventfd: a counter in the kernel that one side adds to and the other reads and clears.
 *
 * @example
 * ```ts
 * import { EventFd } from "./ffi/event.ts";
 * using event = new EventFd();
 * event.signal(2n);
 * event.signal();
 * console.assert(event.take() === 3n && event.take() === 0n);
 * ```
 */
export class EventFd implements Disposable {
  readonly #fd: OwnedFd;

  /** @param fd an eventfd that came from elsewhere, to be taken over; without it a new one is made */
  constructor(fd?: OwnedFd) {
    this.#fd = fd ?? new OwnedFd(check(libc().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"));
  }

  /** The descriptor, for poll or to be passed on. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** The descriptor with its ownership, to be passed to a peer. It stays the EventFd's. */
  get handle(): OwnedFd {
    return this.#fd;
  }

  /** Whether it has not been closed. */
  get isOpen(): boolean {
    return this.#fd.isOpen;
  }

  /**
   * Adds to the counter, which wakes whoever polls it.
   *
   * @throws {SystemError} as write(2) fails; not if the counter is full, which is signalled as it can be
   */
  signal(count = 1n): void {
    const c = libc();
    const buffer = counterBuffer();
    buffer.view.setBigUint64(0, count, true);
    const result = c.write(this.#fd.fd, buffer.pointer, 8n);
    const errno = result < 0 ? c.errno[0]! : 0;
    if (errno !== 0 && errno !== EAGAIN) {
      throw new SystemError("write", errno, "Cannot signal an eventfd");
    }
  }

  /**
   * Reads the counter and sets it to 0, without waiting.
   *
   * @returns 0n if it was not signalled
   * @throws {SystemError} as read(2) fails
   */
  take(): bigint {
    const c = libc();
    const buffer = counterBuffer();
    const result = c.read(this.#fd.fd, buffer.pointer, 8n);
    const errno = result < 0 ? c.errno[0]! : 0;
    if (errno === EAGAIN || errno === EINTR) return 0n;
    if (errno !== 0) throw new SystemError("read", errno, "Cannot read an eventfd");
    return buffer.view.getBigUint64(0, true);
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
  #buffer = new IoBuffer(8 * pollfd.SIZE);
  #count = 0;

  /** How many entries there are. */
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
      const larger = new IoBuffer(this.#buffer.length * 2);
      larger.bytes.set(this.#buffer.bytes);
      this.#buffer = larger;
    }
    const at = this.#count++ * pollfd.SIZE;
    this.#buffer.view.setInt32(at + pollfd.fd, fd, true);
    this.#buffer.view.setInt16(at + pollfd.events, events, true);
    this.#buffer.view.setInt16(at + pollfd.revents, 0, true);
  }

  /** What happened to entry `index`: a mask of POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL. */
  revents(index: number): number {
    return this.#buffer.view.getInt16(index * pollfd.SIZE + pollfd.revents, true);
  }

  /**
   * Blocks the thread until an entry is ready. Signal handlers and AbortSignals do not run meanwhile.
   *
   * @param timeoutMs -1 waits for ever; fractions are rounded up
   * @returns how many entries are ready; 0 after the timeout, and after a signal (look at your clock)
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

  /** Waits on Deno's thread pool. The set must not change until the promise is settled. Below 0: it failed. */
  waitAsync(): Promise<number> {
    return libc().pollNonblocking(this.#buffer.pointer, BigInt(this.#count), -1);
  }
}

function pollTimeout(timeoutMs: number): number {
  return timeoutMs < 0 ? -1 : Math.min(Math.ceil(timeoutMs), 0x7fffffff);
}
