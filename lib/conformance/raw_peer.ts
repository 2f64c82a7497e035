/**
 * A connection that hides nothing: bytes and descriptors out, messages in, all of them noted.
 *
 * @module
 */

import { keptDescriptors } from "../../ffi/budget.ts";
import { IoBuffer } from "../../ffi/buffer.ts";
import { monotonicMs } from "../../ffi/clock.ts";
import { describeErrno, EAGAIN, EINTR } from "../../ffi/errno.ts";
import { POLLIN, POLLOUT } from "../../ffi/event.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { sleep } from "../base/sleep.ts";
import { describeMessage } from "../wire/describe.ts";
import { type Header, HEADER_SIZE, HeaderLayout } from "../wire/header.ts";
import { ConnectionEnded, Deviation, Silence } from "./deviation.ts";
import { whenReady } from "./ready.ts";
import { plural } from "../text/plural.ts";

/** Larger messages are never read: no peer has a reason to send one. */
const MAX_MESSAGE = 80 << 20;
/** The time between two looks at what the peer has received, in milliseconds: no event tells. */
const LOOK_MS = 1;
/** Messages of a peer on one connection, more than any check asks for. */
const MAX_MESSAGES = 1 << 17;
/** Messages that are noted of one check. */
const MAX_NOTES = 200;

/** A message as it came. */
export interface CameMessage extends Header {
  /** The bytes behind the header. */
  readonly payload: Uint8Array;
  /** Descriptors that came with it, closed at the end of the check. */
  readonly fds: readonly OwnedFd[];
  /** The message as a line. */
  readonly text: string;
}

/** The part of the other end. */
export type PeerRole = "server" | "client";

/** A message that was sent or came. */
export interface Note {
  /** The sender. */
  readonly from: "us" | PeerRole;
  /** The message as a line. */
  readonly text: string;
}

/** Settings of a {@linkcode RawPeer}. */
export interface RawPeerOptions {
  /** The longest wait for anything, in milliseconds. */
  readonly timeoutMs: () => number;
  /** Ends every wait. */
  readonly signal: AbortSignal;
  /** The list in which messages are noted. */
  readonly notes: Note[];
  /** The other end; default "server". */
  readonly from?: PeerRole;
}

/** One end of a connection. */
export class RawPeer implements Disposable {
  readonly #socket: UnixSocket;
  readonly #options: RawPeerOptions;
  readonly #buffer = new IoBuffer(1 << 16);
  /** Bytes that came and are not taken, at the start of a larger array. */
  #bytes = new Uint8Array(1 << 12);
  #length = 0;
  /** Descriptors of messages that are not taken, each with the place behind its receive. */
  #fds: { readonly fd: OwnedFd; end: number }[] = [];
  #taken: OwnedFd[] = [];
  #messages = 0;
  #hasEnded = false;

  /** Takes over a connected socket. */
  constructor(socket: UnixSocket, options: RawPeerOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  get #from(): PeerRole {
    return this.#options.from ?? "server";
  }

  /** The socket's descriptor. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** True until the stream has ended, or was closed here. */
  get isOpen(): boolean {
    return this.#socket.isOpen && !this.#hasEnded;
  }

  /** The process that listens; undefined if the kernel does not say. */
  process(): number | undefined {
    return this.#socket.peerProcess();
  }

  /**
   * Sends bytes as they are.
   *
   * @param text the line under which they are noted; made of the bytes if it is left out
   * @throws {ConnectionEnded} if the peer takes no bytes any more
   */
  async send(
    bytes: Uint8Array,
    fds: readonly Pick<OwnedFd, "fd">[] = [],
    text: string = describeMessage(bytes, { fds: fds.length }),
  ): Promise<void> {
    if (!this.#socket.isOpen) throw new ConnectionEnded("an open connection", "one closed by us");
    this.#note("us", text);
    const buffer = new IoBuffer(Uint8Array.from(bytes));
    const deadline = monotonicMs() + this.#options.timeoutMs();
    let numbers: readonly number[] | undefined = fds.map(({ fd }) => fd);
    for (let at = 0; at < bytes.length;) {
      const sent = this.#socket.send(buffer, at, bytes.length - at, numbers);
      if (sent > 0) {
        at += sent;
        numbers = undefined;
      } else if (sent === -EAGAIN) {
        if (!await this.#wait(POLLOUT, deadline)) {
          throw new Deviation(
            `the ${this.#from} to read what is sent`,
            `a ${this.#from} that reads no more`,
          );
        }
      } else if (sent !== -EINTR) {
        throw new ConnectionEnded(
          "an open connection",
          `a closed connection (${describeErrno(-sent)})`,
        );
      }
    }
  }

  /**
   * Waits for the next message.
   *
   * @returns undefined if the stream has ended
   * @throws {Deviation} if none comes in time, or bytes that are none
   */
  async receive(timeoutMs: number = this.#options.timeoutMs()): Promise<CameMessage | undefined> {
    const deadline = monotonicMs() + timeoutMs;
    while (true) {
      const message = this.#take();
      if (message !== undefined) return message;
      if (this.#hasEnded) {
        if (this.#length === 0) return undefined;
        const text = describeMessage(this.#bytes.subarray(0, this.#length));
        this.#length = 0;
        throw new ConnectionEnded("a whole message", `${text}, then the end of the stream`);
      }
      if (this.#read()) continue;
      if (!await this.#wait(POLLIN, deadline)) {
        const rest = this.#length === 0
          ? "nothing"
          : describeMessage(this.#bytes.subarray(0, this.#length));
        throw new Silence("a message", `${rest} within ${timeoutMs / 1000} s`);
      }
    }
  }

  /** Takes a message that has come as a whole, without waiting; undefined if none has. */
  receiveNow(): CameMessage | undefined {
    let message = this.#take();
    while (message === undefined && this.#read()) message = this.#take();
    return message;
  }

  /**
   * Waits until the peer has received what was sent, so that more comes to it on its own. A peer
   * that does not within the longest wait receives both together.
   */
  async taken(): Promise<void> {
    const { timeoutMs, signal } = this.#options;
    const deadline = monotonicMs() + timeoutMs();
    while (this.#socket.isOpen && !this.#socket.isDrained() && monotonicMs() < deadline) {
      await sleep(LOOK_MS, signal);
    }
  }

  /** Ends the direction to the peer. */
  shutdownSending(): void {
    this.#note("us", "(end of the stream)");
    this.#socket.shutdownSending();
  }

  /** Ends both directions, even if a peer that was sent this very socket keeps it open. */
  shutdown(): void {
    if (this.#socket.isOpen) this.#socket.shutdown();
  }

  /** Reports whether bytes came that were not taken. */
  hasRest(): boolean {
    while (this.#read());
    return this.#length > 0;
  }

  /** Closes the socket and all descriptors that came. */
  [Symbol.dispose](): void {
    closeAll(this.#fds.splice(0).map(({ fd }) => fd));
    for (const fd of this.#taken.splice(0)) fd[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
  }

  /** Reads once without waiting; false if nothing came. */
  #read(): boolean {
    if (this.#hasEnded) return false;
    const count = this.#socket.receive(this.#buffer, 0, this.#buffer.length);
    if (count === -EAGAIN || count === -EINTR) return false;
    // A receive ends with the segment that has descriptors: they are of the message with its end.
    const end = this.#length + Math.max(0, count);
    if (this.#socket.receivedFds.length > 0) this.#keep(this.#socket.receivedFds, end);
    if (count <= 0) {
      this.#hasEnded = true;
      this.#note(this.#from, "(end of the stream)");
      return true;
    }
    if (this.#length + count > this.#bytes.length) {
      const larger = new Uint8Array(2 * (this.#length + count));
      larger.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = larger;
    }
    this.#bytes.set(this.#buffer.bytes.subarray(0, count), this.#length);
    this.#length += count;
    return true;
  }

  /** @throws {Deviation} if a server has more open than this process can spare for a connection */
  #keep(fds: readonly OwnedFd[], end: number): void {
    this.#taken = this.#taken.filter(({ isOpen }) => isOpen); // others were passed on, or closed
    const count = this.#taken.length + this.#fds.length + fds.length;
    const limit = keptDescriptors.limit >> 1;
    if (count > limit) {
      closeAll(fds);
      if (this.#from === "client") return; // that sets up as many vectors as it can
      const text = `${plural(count, "open descriptor")} of the ${this.#from}`;
      this.#note(this.#from, text);
      throw new Deviation(`${limit} descriptors on a connection at most`, text);
    }
    this.#fds.push(...fds.map((fd) => ({ fd, end })));
  }

  #take(): CameMessage | undefined {
    if (this.#length < HEADER_SIZE) return undefined;
    const header = HeaderLayout.decode(this.#bytes);
    if (header.size < HEADER_SIZE || header.size > MAX_MESSAGE) {
      const text = describeMessage(this.#bytes.subarray(0, this.#length));
      this.#note(this.#from, text);
      this.#length = 0;
      throw new Deviation("a message with a possible size", text);
    }
    if (this.#length < header.size) return undefined;
    if (++this.#messages > MAX_MESSAGES) {
      throw new Deviation("an end of the messages", `more than ${MAX_MESSAGES} on a connection`);
    }
    const bytes = this.#bytes.slice(0, header.size);
    this.#bytes.copyWithin(0, header.size, this.#length);
    this.#length -= header.size;
    const later = this.#fds.findIndex(({ end }) => end > header.size);
    const fds = this.#fds.splice(0, later < 0 ? this.#fds.length : later).map(({ fd }) => fd);
    for (const each of this.#fds) each.end -= header.size;
    this.#taken.push(...fds);
    const text = describeMessage(bytes, { fds: fds.length });
    this.#note(this.#from, text);
    return { ...header, payload: bytes.subarray(HEADER_SIZE), fds, text };
  }

  #wait(events: number, deadline: number): Promise<boolean> {
    return whenReady(this.#socket.fd, events, deadline, this.#options.signal);
  }

  #note(from: Note["from"], text: string): void {
    const { notes } = this.#options;
    if (notes.length < MAX_NOTES) notes.push({ from, text });
  }
}
