/**
 * Descriptors by which a peer signals, or is signalled: eventfds and pipes.
 *
 * @module
 */

import { IoBuffer } from "./buffer.ts";
import type { Purse } from "./budget.ts";
import { EAGAIN, EINTR } from "./errno.ts";
import type { OwnedFd } from "./fd.ts";
import { addNow, isEventFd, readNow, writeNow } from "./nowait.ts";

/** Bytes that one look takes out of a pipe: however many there are, they are one signal. */
const PIPE_CHUNK = 4096;

/** Result of a look: a signal since the last look, none, or the end: none will come. */
export type Look = "signalled" | "quiet" | "ended";

// Made on first use, one for the thread, used only within a call.
let one: IoBuffer | undefined; // what a pipe gets for a signal: 1, in 64 bits, little-endian
let chunk: IoBuffer | undefined;

/**
 * An eventfd or a pipe that came from a peer. The peer goes on holding the open file, and may do
 * anything with it at any time: no call here waits, and none throws.
 *
 * Everything else is refused. A socket may be the peer's own end of the connection, or hold that
 * end in its queue. A holder of such a socket never learns that the peer is gone. A regular file or
 * a device may block, or always be readable.
 *
 * @example
 * ```ts
 * import { EventFd } from "./event.ts";
 * import { PeerEvent } from "./peer_event.ts";
 * using theirs = new EventFd();
 * using ours = PeerEvent.adopt(theirs.handle.duplicate(), "signal");
 * ours.signal();
 * console.assert(theirs.take() === 1n);
 * ```
 */
export class PeerEvent implements Disposable {
  readonly #fd: OwnedFd;
  readonly #isPipe: boolean;
  readonly #purse: Purse | undefined;

  private constructor(fd: OwnedFd, isPipe: boolean, purse?: Purse) {
    purse?.take(1, "Cannot keep a descriptor for interrupts");
    this.#fd = fd;
    this.#isPipe = isPipe;
    this.#purse = purse;
  }

  /**
   * Takes over a descriptor.
   *
   * @param use "signal" to write to it, "listen" to read it
   * @param purse what pays for it, while it is open
   * @throws {TypeError} if it is not good for that, with the reason; the caller keeps it then
   * @throws {SystemError} ENOSPC if the purse has no more; the caller keeps it then
   */
  static adopt(fd: OwnedFd, use: "signal" | "listen", purse?: Purse): PeerEvent {
    // The stream closes sockets as they come.
    if (!fd.isOpen) throw new TypeError("it is a socket, not an eventfd");
    const { kind } = fd.stat();
    if (kind === "pipe") {
      const { canRead, canWrite } = fd.access;
      if (use === "signal" && !canWrite) throw new TypeError("it can't be written to");
      if (use === "listen" && !canRead) throw new TypeError("it can't be read");
      return new PeerEvent(fd, true, purse);
    }
    if (kind === "anonymous" && isEventFd(fd.fd)) return new PeerEvent(fd, false, purse);
    const what = kind === "anonymous" ? "no eventfd" : `a ${kind}, not an eventfd`;
    throw new TypeError(`it is ${what}`);
  }

  /** The descriptor, for poll. */
  get fd(): number {
    return this.#fd.fd;
  }

  /**
   * Signals the peer: adds to an eventfd, or 8 bytes to a pipe. A full one counts as signalled.
   *
   * @param count how often, from 1; each costs an eventfd's signal, and a pipe gets one for all
   * @returns false if the peer can't be signalled any more
   */
  signal(count = 1): boolean {
    if (!this.#isPipe) return addNow(this.#fd.fd, count) === 0;
    if (one === undefined) {
      one = new IoBuffer(8);
      one.bytes[0] = 1;
    }
    const result = writeNow(this.#fd.fd, one);
    return result >= 0 || result === -EAGAIN;
  }

  /** Takes what the peer has signalled. */
  take(): Look {
    const buffer = chunk ??= new IoBuffer(PIPE_CHUNK);
    const result = readNow(this.#fd.fd, buffer);
    if (result > 0) return "signalled";
    return result === -EAGAIN || result === -EINTR ? "quiet" : "ended";
  }

  /** Closes the descriptor, if it is open. */
  [Symbol.dispose](): void {
    if (!this.#fd.isOpen) return;
    this.#purse?.give(1);
    this.#fd.close();
  }
}
