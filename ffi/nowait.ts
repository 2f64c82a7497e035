/**
 * Reads, writes and signals that never wait, on descriptors whose open file a peer holds as well.
 *
 * O_NONBLOCK belongs to the open file: any holder can clear it. What poll reports, any holder can
 * undo before the next call. Here the call itself carries the condition:
 * - `preadv2` and `pwritev2` with RWF_NOWAIT: Linux reads eventfds so since 5.8, and reads and
 *   writes pipes since 6.4.
 * - An asynchronous read that the kernel completes at once, with an error, and reports to the
 *   eventfd (IOCB_FLAG_RESFD). The report adds 1 to the counter, and leaves a full counter as it
 *   is.
 * - An older kernel, a sandbox or an emulator may have neither, and fs.aio-max-nr may be used up.
 *   There an `Alarm` interrupts a call that waits, after 10 ms.
 *
 * Contract: results are counts, or negative errnos; nothing is thrown. The caller's descriptors are
 * open. An IoBuffer is used within the call only.
 *
 * @module
 */

import { Alarm } from "./alarm.ts";
import { IoBuffer } from "./buffer.ts";
import { EAGAIN, EBADF, EINTR, EINVAL, ENOSYS, ENOTSUP, EPERM } from "./errno.ts";
import { cString, type Libc, libc } from "./libc.ts";
import { iocb, ioEvent, iovec, pollfd } from "./structs.ts";
import { systemCalls } from "./system_calls.ts";

const RWF_NOWAIT = 8;
/** A flag that Linux does not have. */
const RWF_UNKNOWN = 0x8000_0000;
const IOCB_FLAG_RESFD = 1;
/** The offset that means the current position. */
const CURRENT = -1n;
const POLLOUT = 4;
const F_GETFL = 3;
const O_PATH = 0o10000000;

/** Signals that one io_submit carries. */
const BATCH = 32;
/** Completions that one io_getevents takes: a kernel's smallest ring has fewer. */
const REAPED = 128;

let vector: IoBuffer | undefined; // a struct iovec, one for the thread
let vectored: IoBuffer | undefined; // what it points at
let alarm: Alarm | undefined;
let aio: Aio | undefined;

/**
 * Reads what is there now.
 *
 * @returns how many bytes came, 0 at the end of a pipe, or a negative errno: -EAGAIN if none is
 *   there
 */
export function readNow(fd: number, buffer: IoBuffer): number {
  const c = libc();
  const { preadv2 } = systemCalls();
  const result = c.preadv2(preadv2, fd, vectorOf(buffer), 1, CURRENT, 0n, RWF_NOWAIT);
  const errno = result < 0 ? c.errno[0]! : 0;
  if (!isMissing(errno)) return result < 0 ? -errno : result;
  return cutShort(c, () => c.read(fd, buffer.pointer, BigInt(buffer.length)));
}

/**
 * Writes into a pipe what fits now.
 *
 * @returns how many bytes it took, or a negative errno: -EAGAIN if it is full
 */
export function writeNow(fd: number, buffer: IoBuffer): number {
  const c = libc();
  const { pwritev2 } = systemCalls();
  const result = c.pwritev2(pwritev2, fd, vectorOf(buffer), 1, CURRENT, 0n, RWF_NOWAIT);
  const errno = result < 0 ? c.errno[0]! : 0;
  if (!isMissing(errno)) return result < 0 ? -errno : result;
  return cutShort(c, () => c.write(fd, buffer.pointer, BigInt(buffer.length)));
}

/**
 * Adds to an eventfd's counter, as far as that has room.
 *
 * @param count how often 1 is added, from 1; each costs
 * @returns 0, or a negative errno: -EINVAL if it is no eventfd
 */
export function addNow(fd: number, count: number): number {
  aio ??= new Aio();
  for (let left = count; left > 0;) {
    const added = aio.add(fd, Math.min(left, BATCH));
    if (added > 0) left -= added;
    else return addSlowly(fd, left);
  }
  return 0;
}

/** Finds out whether a descriptor is an eventfd, without a change to its counter. */
export function isEventFd(fd: number): boolean {
  aio ??= new Aio();
  return aio.knows(fd) ?? isCalledEventFd(fd);
}

/** Adds to an eventfd's counter without asynchronous reads. */
function addSlowly(fd: number, count: number): number {
  if (!isCalledEventFd(fd)) return -EINVAL;
  const c = libc();
  const polled = new IoBuffer(pollfd.SIZE);
  polled.view.setInt32(pollfd.fd, fd, true);
  polled.view.setInt16(pollfd.events, POLLOUT, true);
  if (c.poll(polled.pointer, 1n, 0) === 0) return 0; // a full counter is signalled already
  const buffer = new IoBuffer(8);
  buffer.view.setBigUint64(0, BigInt(count), true);
  const result = cutShort(c, () => c.write(fd, buffer.pointer, 8n));
  return result === -EAGAIN ? 0 : Math.min(0, result);
}

/** Asks /proc whether a descriptor is an eventfd. */
function isCalledEventFd(fd: number): boolean {
  const flags = libc().fcntl(fd, F_GETFL, 0);
  if (flags < 0 || (flags & O_PATH) !== 0) return false;
  const name = new Uint8Array(64);
  const length = libc().readlink(cString(`/proc/self/fd/${fd}`), name, BigInt(name.length));
  return length > 0 &&
    new TextDecoder().decode(name.subarray(0, length)) === "anon_inode:[eventfd]";
}

/** Makes a call that may wait, for some milliseconds at most; -ENOSYS if it could not be ended. */
function cutShort(c: Libc, call: () => number): number {
  try {
    alarm ??= new Alarm();
  } catch {
    return -ENOSYS;
  }
  const result = alarm.during(() => {
    const result = call();
    return result < 0 ? -c.errno[0]! : result;
  });
  return result === -EINTR ? -EAGAIN : result;
}

function vectorOf(buffer: IoBuffer): Deno.PointerObject {
  vector ??= new IoBuffer(iovec.SIZE);
  if (buffer !== vectored) {
    vectored = buffer;
    vector.view.setBigUint64(iovec.base, buffer.address, true);
    vector.view.setBigUint64(iovec.len, BigInt(buffer.length), true);
  }
  return vector.pointer;
}

/** Tells errnos of a kernel that lacks a call, or lacks it for this kind of file. */
function isMissing(errno: number): boolean {
  return errno === ENOSYS || errno === ENOTSUP || errno === EPERM;
}

/**
 * The kernel's asynchronous I/O, as far as it signals eventfds.
 *
 * A thread has one context, which counts as one request of fs.aio-max-nr. The process keeps the
 * context until its end: destroying one takes milliseconds.
 */
class Aio {
  readonly #libc = libc();
  readonly #calls = systemCalls();
  readonly #block = new IoBuffer(iocb.SIZE);
  readonly #words = new Uint32Array(this.#block.bytes.buffer);
  readonly #blocks = new IoBuffer(8 * BATCH); // addresses of the same block
  readonly #events = new IoBuffer(ioEvent.SIZE * REAPED);
  #context = 0n;

  constructor() {
    this.#words[iocb.flags / 4] = IOCB_FLAG_RESFD;
    for (let i = 0; i < BATCH; i++) {
      this.#blocks.view.setBigUint64(8 * i, this.#block.address, true);
    }
  }

  /**
   * Adds 1 to an eventfd `count` times, `BATCH` at most.
   *
   * @returns how often it did, or a negative errno
   */
  add(fd: number, count: number): number {
    const submitted = this.#submit(fd, 0, count);
    if (submitted !== -EAGAIN || !this.#reap()) return submitted;
    return this.#submit(fd, 0, count);
  }

  /**
   * Finds out whether a descriptor is an eventfd.
   *
   * @returns undefined if the kernel does not say
   */
  knows(fd: number): boolean | undefined {
    // The kernel looks at the eventfd first, then refuses the flag.
    const refused = this.#submit(fd, RWF_UNKNOWN, 1);
    if (refused === -ENOTSUP) return true;
    // EBADF: opened with O_PATH.
    return refused === -EINVAL || refused === -EBADF ? false : undefined;
  }

  /** Reads no bytes of the eventfd itself: an error, which the kernel reports to the eventfd. */
  #submit(fd: number, rwFlags: number, count: number): number {
    if (this.#context === 0n) {
      const errno = this.#setUp();
      if (errno !== 0) return -errno;
    }
    const words = this.#words;
    words[iocb.rw_flags / 4] = rwFlags;
    words[iocb.fildes / 4] = words[iocb.resfd / 4] = fd;
    const c = this.#libc;
    const { io_submit } = this.#calls;
    const number = count === 1 ? 1n : BigInt(count);
    const result = c.io_submit(io_submit, this.#context, number, this.#blocks.pointer);
    return result < 0 ? -c.errno[0]! : result;
  }

  /** @returns 0, or why there is no context */
  #setUp(): number {
    const c = this.#libc;
    const context = new IoBuffer(8);
    const result = c.io_setup(this.#calls.io_setup, 1, context.pointer);
    const errno = result < 0 ? c.errno[0]! : 0;
    if (errno !== 0) return ENOSYS; // EAGAIN if fs.aio-max-nr is used up
    this.#context = context.view.getBigUint64(0, true);
    return 0;
  }

  /**
   * Takes the completions out of the kernel's ring.
   *
   * @returns false if there were none
   */
  #reap(): boolean {
    const c = this.#libc;
    const { io_getevents } = this.#calls;
    const { pointer } = this.#events;
    return c.io_getevents(io_getevents, this.#context, 0n, BigInt(REAPED), pointer, null) > 0;
  }
}
