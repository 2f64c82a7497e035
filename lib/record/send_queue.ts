/**
 * Bytes and descriptors for a receiver, and those of them that it does not take yet.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { EAGAIN, EINTR, ETOOMANYREFS } from "../../ffi/errno.ts";
import { POLLOUT, PollSet } from "../../ffi/event.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import type { UnixSocket } from "../../ffi/socket.ts";

export const NO_FDS: readonly OwnedFd[] = Object.freeze([]);

/** Bytes that the receiver did not take yet, in memory of their own. */
interface Chunk {
  readonly buffer: IoBuffer;
  start: number;
  readonly end: number;
  fds: readonly OwnedFd[];
}

/** Sends in order, and never waits. The socket belongs to the caller. */
export class SendQueue {
  readonly #to: UnixSocket;
  readonly #onGone: (errno: number) => void;
  #chunks: Chunk[] = [];
  #isCrowded = false;
  #isGone = false;
  #room: PollSet | undefined; // the receiver's socket, for writing

  /** @param onGone called when the receiver takes no more, with the reason */
  constructor(to: UnixSocket, onGone: (errno: number) => void) {
    this.#to = to;
    this.#onGone = onGone;
  }

  /** True if the receiver has taken all. */
  get isEmpty(): boolean {
    return this.#chunks.length === 0;
  }

  /** True if what waits has descriptors, and the kernel passes no more of them for now. */
  get isCrowded(): boolean {
    return this.#isCrowded;
  }

  /** True once the receiver takes no more. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /** Sends, and keeps what the receiver does not take. Descriptors are closed when they went. */
  send(buffer: IoBuffer, start: number, end: number, fds: readonly OwnedFd[]): void {
    let sent = this.isEmpty ? this.sendOnce(buffer, start, end, fds) : 0;
    if (sent === end - start || this.#isGone) return closeAll(fds);
    sent = Math.max(sent, 0);
    if (sent > 0) closeAll(fds);
    const rest = buffer.bytes.slice(start + sent, end);
    this.#chunks.push({
      buffer: new IoBuffer(rest),
      start: 0,
      end: rest.length,
      fds: sent > 0 ? NO_FDS : fds,
    });
  }

  /**
   * Sends without keeping anything.
   *
   * @returns how many bytes went; below 0: the receiver took none
   */
  sendOnce(buffer: IoBuffer, start: number, end: number, fds: readonly OwnedFd[]): number {
    const numbers = fds.length === 0 ? undefined : fds.map(({ fd }) => fd);
    let count: number;
    do count = this.#to.send(buffer, start, end - start, numbers); while (count === -EINTR);
    // The receiver has to take some of the descriptors first.
    this.#isCrowded = count === -ETOOMANYREFS;
    if (this.#isCrowded) return -EAGAIN;
    if (count < 0 && count !== -EAGAIN && !this.#isGone) {
      this.#isGone = true;
      this.#onGone(-count);
    }
    return count;
  }

  /**
   * Sends what was kept, as far as the receiver takes it.
   *
   * @returns true if nothing is left
   */
  flush(): boolean {
    while (this.#chunks.length > 0) {
      const chunk = this.#chunks[0]!;
      const count = this.sendOnce(chunk.buffer, chunk.start, chunk.end, chunk.fds);
      if (count < 0) return false;
      if (count > 0) {
        closeAll(chunk.fds);
        chunk.fds = NO_FDS;
      }
      chunk.start += count;
      if (chunk.start < chunk.end) return false;
      this.#chunks.shift();
    }
    return true;
  }

  /** Waits for a moment, blocking, until the receiver takes more. */
  hasRoomSoon(): boolean {
    if (this.#room === undefined) {
      this.#room = new PollSet();
      this.#room.add(this.#to.fd, POLLOUT);
    }
    return !this.#isGone && this.#room.waitBriefly() > 0;
  }

  /** Closes the descriptors that were not sent. */
  close(): void {
    for (const { fds } of this.#chunks) closeAll(fds);
    this.#chunks = [];
  }
}
