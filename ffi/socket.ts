/**
 * Connected UNIX stream sockets that carry file descriptors.
 *
 * Contract of `send` and `receive`: they return what the kernel did, and a negative errno where it
 * refused. They throw nothing and retry nothing, so that callers on the hot path decide. Buffers
 * are `IoBuffer`s, bounds are checked here, the pointers never leave this file.
 *
 * @module
 */

import { IoBuffer } from "./buffer.ts";
import { EAGAIN, EINPROGRESS, EINTR, SystemError } from "./errno.ts";
import { POLLERR, POLLHUP, PollSet } from "./event.ts";
import { closeAll, OwnedFd } from "./fd.ts";
import { check, type Libc, libc } from "./libc.ts";
import { cmsghdr, cmsgLength, cmsgSpace, iovec, msghdr, timeval } from "./structs.ts";
import { AF_UNIX, makeSocket, SOCK_CLOEXEC, SOCK_STREAM, socketAddress } from "./unix.ts";

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_TYPE = 3;
const SO_DOMAIN = 39;
const SO_SNDBUF = 7;
const SO_PEERCRED = 17;
/** Asks for the memory of what was sent and not received (linux/sockios.h). */
const SIOCOUTQ = 0x5411n;
const SO_RCVTIMEO = 20;
const SO_PEEK_OFF = 42;
const SHUT_RD = 0;
const SHUT_WR = 1;
const SHUT_RDWR = 2;
const F_SETFL = 4;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const MSG_PEEK = 0x02;
const MSG_DONTWAIT = 0x40;
const MSG_CTRUNC = 0x08;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

/**
 * SCM_MAX_FD: the most that Linux passes with one message. Room for all of them, so that surplus
 * ones are seen.
 */
export const MAX_FDS_PER_MESSAGE = 253;

/** A msghdr with two iovecs, whose addresses are taken once. */
class MessageHeader {
  readonly pointer: Deno.PointerObject;
  readonly #header = new IoBuffer(msghdr.SIZE);
  readonly #vectors = new IoBuffer(2 * iovec.SIZE);
  readonly #control: IoBuffer;
  readonly #words: Uint32Array;
  readonly #vectorWords: Uint32Array;
  readonly #vectorBases: BigUint64Array;
  readonly #flags: Int32Array;
  /** The buffers that the vectors point at: an address keeps nothing alive. */
  readonly #buffers: [IoBuffer?, IoBuffer?] = [];

  constructor(controlSize: number) {
    this.#control = new IoBuffer(controlSize);
    this.#words = new Uint32Array(this.#header.bytes.buffer);
    this.#flags = new Int32Array(this.#header.bytes.buffer);
    this.#vectorWords = new Uint32Array(this.#vectors.bytes.buffer);
    this.#vectorBases = new BigUint64Array(this.#vectors.bytes.buffer);
    this.#header.view.setBigUint64(msghdr.iov, this.#vectors.address, true);
    this.#header.view.setBigUint64(msghdr.control, this.#control.address, true);
    this.pointer = this.#header.pointer;
    this.vectorCount = 1;
  }

  set vectorCount(count: 1 | 2) {
    this.#words[msghdr.iovlen / 4] = count;
  }

  /**
   * Points vector `index` at `length` bytes of `buffer` from `start`; none at all would look like
   * the end of a stream.
   */
  setVector(index: 0 | 1, buffer: IoBuffer, start: number, length: number): void {
    if (!(start >= 0 && length >= 1 && start + length <= buffer.length)) {
      throw new RangeError(
        `Cannot use bytes ${start} to ${start + length} of a buffer of ${buffer.length}`,
      );
    }
    this.#buffers[index] = buffer;
    this.#vectorBases[index * 2] = start === 0 ? buffer.address : buffer.address + BigInt(start);
    this.#vectorWords[index * 4 + 2] = length; // low half; the high one stays 0
  }

  /** Bytes of control data: what is sent, what there is room for, what came. */
  get controlLength(): number {
    return this.#words[msghdr.controllen / 4]!;
  }
  set controlLength(length: number) {
    this.#words[msghdr.controllen / 4] = length;
  }

  /** Room for control data. */
  get controlSize(): number {
    return this.#control.length;
  }

  get flags(): number {
    return this.#flags[msghdr.flags / 4]!;
  }

  /** Makes the control data one SCM_RIGHTS with `fds`. */
  putFds(fds: readonly number[]): void {
    const { view, bytes } = this.#control;
    const space = cmsgSpace(fds.length);
    bytes.fill(0, 0, space);
    view.setBigUint64(cmsghdr.len, BigInt(cmsgLength(fds.length)), true);
    view.setInt32(cmsghdr.level, SOL_SOCKET, true);
    view.setInt32(cmsghdr.type, SCM_RIGHTS, true);
    fds.forEach((fd, i) => view.setInt32(cmsghdr.data + i * 4, fd, true));
    this.controlLength = space;
  }

  /**
   * The descriptors of every SCM_RIGHTS in the control data that came. Each is open and now ours.
   */
  takeFds(): OwnedFd[] {
    const fds: OwnedFd[] = [];
    const { view } = this.#control;
    const end = Math.min(this.controlLength, this.controlSize);
    for (let at = 0; at + cmsghdr.SIZE <= end;) {
      const length = Number(view.getBigUint64(at + cmsghdr.len, true));
      if (length < cmsghdr.SIZE || at + length > end) break; // the kernel never writes this
      const isRights = view.getInt32(at + cmsghdr.level, true) === SOL_SOCKET &&
        view.getInt32(at + cmsghdr.type, true) === SCM_RIGHTS;
      if (isRights) {
        for (let data = at + cmsghdr.data; data + 4 <= at + length; data += 4) {
          fds.push(OwnedFd.received(view.getInt32(data, true)));
        }
      }
      at += (length + 7) & ~7;
    }
    return fds;
  }
}

/** Segments that one look at what waits in a socket goes through. */
const MAX_PEEKS = 4096;

const NO_FDS: readonly OwnedFd[] = Object.freeze([]);

/** One end of a connected UNIX stream socket. */
export class UnixSocket implements Disposable {
  readonly #fd: OwnedFd;
  readonly #libc: Libc = libc();
  readonly #out = new MessageHeader(cmsgSpace(MAX_FDS_PER_MESSAGE));
  readonly #in = new MessageHeader(cmsgSpace(MAX_FDS_PER_MESSAGE));
  #receiveTimeoutMs = 0; // what SO_RCVTIMEO is set to; 0 is the kernel's own default, none

  /**
   * The descriptors that came with the last `receive`. They are the caller's, before the next
   * `receive` forgets them.
   */
  receivedFds: readonly OwnedFd[] = NO_FDS;
  /**
   * True if the last `receive` lost descriptors (MSG_CTRUNC), as when this process has too many
   * open.
   */
  fdsLost = false;

  /** Takes over a connected socket. */
  constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /**
   * Takes over a descriptor that someone else connected, as systemd and `--fd=` hand them over.
   *
   * @throws {SystemError} if it is no open socket
   * @throws {TypeError} if it is a socket of another kind
   */
  static adopt(fd: number): UnixSocket {
    const c = libc();
    const doing = `Cannot use file descriptor ${fd}`;
    const option = (name: number) => {
      const value = new Int32Array(1);
      const length = new Uint32Array([4]);
      check(doing, "getsockopt", c.getsockopt(fd, SOL_SOCKET, name, value, length));
      return value[0];
    };
    if (option(SO_DOMAIN) !== AF_UNIX || option(SO_TYPE) !== SOCK_STREAM) {
      throw new TypeError(`${doing}: it is not a UNIX stream socket`);
    }
    check(doing, "fcntl", c.fcntl(fd, F_SETFD, FD_CLOEXEC));
    return new UnixSocket(new OwnedFd(fd));
  }

  /**
   * Connects to a listening socket without waiting.
   *
   * @param path at most 107 bytes
   * @returns the socket, or undefined if the listener's queue is full: try again later
   * @throws {SystemError} as connect(2) fails
   * @throws {RangeError} if the path is empty or too long for an address
   */
  static connect(path: string): UnixSocket | undefined {
    const c = libc();
    const doing = `Cannot connect to ${path}`;
    const address = socketAddress(path);
    const fd = makeSocket(doing, SOCK_STREAM);
    const result = c.connect(fd.fd, address, address.length);
    const errno = result < 0 ? c.errno[0]! : 0;
    if (errno !== 0) {
      fd.close();
      if (errno === EAGAIN || errno === EINPROGRESS || errno === EINTR) return undefined;
      throw new SystemError("connect", errno, doing);
    }
    // Blocking again: `receive` says MSG_DONTWAIT where it means it.
    check(doing, "fcntl", c.fcntl(fd.fd, F_SETFL, 0));
    return new UnixSocket(fd);
  }

  /** Two sockets connected to each other. */
  static pair(): [UnixSocket, UnixSocket] {
    const fds = new Int32Array(2);
    check(
      "Cannot make a pair of sockets",
      "socketpair",
      libc().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds),
    );
    return [new UnixSocket(new OwnedFd(fds[0]!)), new UnixSocket(new OwnedFd(fds[1]!))];
  }

  /** The descriptor, for poll. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** True if it has not been closed here. */
  get isOpen(): boolean {
    return this.#fd.isOpen;
  }

  /**
   * Sends without waiting.
   *
   * @param buffer where the bytes are
   * @param start the first of them
   * @param length how many, at least 1: a RangeError else, and if the buffer does not hold them
   * @param fds descriptors to pass; the kernel duplicates them, they stay the caller's
   * @param tail more bytes to send right behind, whole
   * @returns how many bytes the kernel took, or a negative errno
   */
  send(
    buffer: IoBuffer,
    start: number,
    length: number,
    fds?: readonly number[],
    tail?: IoBuffer,
  ): number {
    const header = this.#out;
    header.setVector(0, buffer, start, length);
    if (tail !== undefined) header.setVector(1, tail, 0, tail.length);
    header.vectorCount = tail === undefined ? 1 : 2;
    if (fds !== undefined && fds.length > 0) {
      if (fds.length > MAX_FDS_PER_MESSAGE) {
        throw new RangeError(
          `Cannot pass ${fds.length} file descriptors at once: ${MAX_FDS_PER_MESSAGE} at most`,
        );
      }
      header.putFds(fds);
    } else {
      header.controlLength = 0;
    }
    const result = this.#libc.sendmsg(this.#fd.fd, header.pointer, MSG_DONTWAIT | MSG_NOSIGNAL);
    return result >= 0 ? result : -this.#libc.errno[0]!;
  }

  /**
   * Receives once. Afterwards `receivedFds` has the descriptors that came along, which are then the
   * caller's, and `fdsLost` tells whether some did not make it.
   *
   * @param timeoutMs 0: without waiting. Else the thread is blocked for up to so many milliseconds,
   * -EAGAIN after that. Ending early with -EAGAIN or -EINTR is possible: the caller looks at its
   * clock.
   * @returns how many bytes came, 0 at the end of the stream, or a negative errno
   */
  receive(buffer: IoBuffer, start: number, length: number, timeoutMs = 0): number {
    const header = this.#in;
    header.setVector(0, buffer, start, length);
    header.controlLength = header.controlSize;
    let flags = MSG_CMSG_CLOEXEC;
    if (timeoutMs === 0) flags |= MSG_DONTWAIT;
    else if (timeoutMs !== this.#receiveTimeoutMs) this.#setReceiveTimeout(timeoutMs);
    const result = this.#libc.recvmsg(this.#fd.fd, header.pointer, flags);
    if (result < 0) {
      const errno = this.#libc.errno[0]!;
      this.receivedFds = NO_FDS;
      this.fdsLost = false;
      return -errno;
    }
    this.receivedFds = header.controlLength === 0 ? NO_FDS : header.takeFds();
    this.fdsLost = (header.flags & MSG_CTRUNC) !== 0;
    return result;
  }

  #setReceiveTimeout(timeoutMs: number): void {
    const value = new BigInt64Array(2);
    value[timeval.sec / 8] = BigInt(Math.trunc(timeoutMs / 1000));
    value[timeval.usec / 8] = BigInt(Math.max(1, Math.trunc((timeoutMs % 1000) * 1000)));
    check(
      "Cannot set how long a receive waits",
      "setsockopt",
      this.#libc.setsockopt(this.#fd.fd, SOL_SOCKET, SO_RCVTIMEO, value, timeval.SIZE),
    );
    this.#receiveTimeoutMs = timeoutMs;
  }

  /**
   * Sets the number of unread bytes that the kernel holds for the peer: twice `size`, and no more
   * than the machine allows (/proc/sys/net/core/wmem_max). They take memory only while they are
   * held.
   *
   * @param size in bytes
   */
  setSendBuffer(size: number): void {
    const value = new Int32Array([size]);
    check(
      "Cannot set how much the peer may leave unread",
      "setsockopt",
      this.#libc.setsockopt(this.#fd.fd, SOL_SOCKET, SO_SNDBUF, value, value.byteLength),
    );
  }

  /**
   * Finds out whether a socket is among the descriptors that have come and were not received. What
   * has come stays as it is. Without SO_PEEK_OFF, which an emulator may lack, only the first ones
   * are seen.
   */
  holdsSocket(): boolean {
    const buffer = new IoBuffer(1 << 16);
    const header = new MessageHeader(cmsgSpace(MAX_FDS_PER_MESSAGE));
    header.setVector(0, buffer, 0, buffer.length);
    // From here on each look begins where the one before ended.
    const looks = this.#setPeekOffset(0) ? MAX_PEEKS : 1;
    let isFound = false;
    for (let i = 0; i < looks && !isFound; i++) {
      header.controlLength = header.controlSize;
      const flags = MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
      if (this.#libc.recvmsg(this.#fd.fd, header.pointer, flags) <= 0) break;
      const fds = header.controlLength === 0 ? NO_FDS : header.takeFds();
      isFound = fds.some((fd) => fd.stat().isSocket);
      closeAll(fds);
    }
    this.#setPeekOffset(-1);
    return isFound;
  }

  /** @returns false if the kernel has no such offset */
  #setPeekOffset(offset: number): boolean {
    const value = new Int32Array([offset]);
    const { byteLength } = value;
    return this.#libc.setsockopt(this.#fd.fd, SOL_SOCKET, SO_PEEK_OFF, value, byteLength) === 0;
  }

  /**
   * Ends both directions; whoever waits on either end wakes. The descriptor stays open until
   * `close`.
   */
  shutdown(): void {
    // Fails if the peer is gone already, which is as good
    this.#libc.shutdown(this.#fd.fd, SHUT_RDWR);
  }

  /** Ends the direction to the peer, who finds the end of the stream behind what was sent. */
  shutdownSending(): void {
    this.#libc.shutdown(this.#fd.fd, SHUT_WR); // fails if the peer is gone already
  }

  /** Ends the direction from the peer, whose next send fails. */
  shutdownReceiving(): void {
    this.#libc.shutdown(this.#fd.fd, SHUT_RD);
  }

  /** The process that connected, or made the pair; undefined if the kernel does not say. */
  peerProcess(): number | undefined {
    const credentials = new Int32Array(3); // struct ucred: pid, uid, gid
    const length = new Uint32Array([credentials.byteLength]);
    const { fd } = this.#fd;
    const result = this.#libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length);
    return result === 0 && credentials[0]! > 0 ? credentials[0] : undefined;
  }

  /**
   * Finds out whether the peer has received all that was sent, or is gone. The kernel counts memory
   * of segments: one of which the peer has received a part is not received.
   */
  isDrained(): boolean {
    const count = new Int32Array(1);
    const result = this.#libc.ioctl(this.#fd.fd, SIOCOUTQ, count);
    return result !== 0 || count[0] === 0;
  }

  /** Finds out whether the peer has closed its end: it neither sends nor receives any more. */
  isHungUp(): boolean {
    const set = new PollSet();
    set.add(this.#fd.fd, 0); // a hangup is reported unasked
    return set.waitBriefly(0n) > 0 && (set.revents(0) & (POLLHUP | POLLERR)) !== 0;
  }

  /** Closes the descriptor. Those received are the caller's, as ever. */
  close(): void {
    this.#fd.close();
  }

  /** Gives up ownership of the descriptor. */
  release(): number {
    return this.#fd.release();
  }

  /** Closes it if it is still open. */
  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}
