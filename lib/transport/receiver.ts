/**
 * `Receiver`: cuts the bytes of a UNIX stream socket into messages, with the file descriptors that
 * belong to them.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { EAGAIN, EINTR } from "../../ffi/errno.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { ConnectionError, ProtocolError } from "../base/errors.ts";
import { HEADER_SIZE } from "../base/limits.ts";
import { commandName } from "../wire/command.ts";
import { HeaderLayout, MessageFlags, type MessageKey } from "../wire/header.ts";
import { Message, Receipt, type Trace } from "./message.ts";
import { lostError, type Role } from "./peer.ts";

const { messageId: ID_AT, command: COMMAND_AT, size: SIZE_AT, flags: FLAGS_AT } =
  HeaderLayout.offsets;

/**
 * Bytes received at once: many small messages, which may share a buffer, or the start of a large
 * one.
 */
export const RECEIVE_SIZE = 64 << 10;

/** The largest message whose buffer is kept to receive the next large one into. */
const MAX_SPARE = (1 << 20) + (8 << 10);

const NO_FDS: readonly OwnedFd[] = Object.freeze([]);

/** The limits of messages that are accepted from the other end. */
export interface StreamLimits {
  /** Bytes of a message, header included. */
  maxMessageSize: number;
  /** Descriptors with one message. */
  maxFds: number;
}

/** A large message whose data are received where they are wanted. */
interface Placed {
  readonly messageId: number;
  /** Header and the fixed part of the payload. */
  readonly head: Uint8Array;
  readonly data: IoBuffer;
  /** Bytes of the data when the message began: the caller may detach or resize the buffer. */
  readonly size: number;
  end: number;
}

/** Descriptors that came with one receive. */
interface ReceivedFds {
  readonly fds: OwnedFd[];
  /** The position in the buffer after the byte that they came with. */
  end: number;
  /** True if some of them did not make it. */
  readonly isTruncated: boolean;
}

/** Cuts messages out of what a socket receives. */
export class Receiver {
  readonly #socket: UnixSocket;
  readonly #peer: Role;
  /** May be changed at any time; holds from the next message on. */
  limits: StreamLimits;
  /** Called for each message, if set. */
  trace: Trace | undefined;
  /** Returns the buffer for the data of a large reply, if its request has one. */
  destination: ((messageId: number) => Uint8Array | undefined) | undefined;

  // Bytes of #small from #start to #end, or of #large, which holds exactly one message.
  #small = new IoBuffer(RECEIVE_SIZE);
  #start = 0;
  #end = 0;
  #large: IoBuffer | undefined;
  #largeSize = 0;
  #largeEnd = 0;
  #placed: Placed | undefined;
  /** The last large message and its buffer, which may be received into again. */
  #spare: { buffer: IoBuffer; message: Message } | undefined;
  #receipt: Receipt | undefined;
  #isDrained = false;
  #fds: ReceivedFds[] = []; // of messages not taken yet
  #rejected: MessageKey | undefined;

  constructor(socket: UnixSocket, peer: Role, limits: StreamLimits) {
    this.#socket = socket;
    this.#peer = peer;
    this.limits = limits;
  }

  /**
   * Receives once. Then `next` returns the messages. The caller takes all of them before it
   * receives again.
   *
   * @param timeoutMs as in `UnixSocket.receive`: 0 does not wait
   * @returns true if anything came
   * @throws {ConnectionError} at the end of the stream or if the socket fails
   */
  receive(timeoutMs = 0): boolean {
    if (this.#placed !== undefined && this.#placed.data.length !== this.#placed.size) {
      this.forget(this.#placed.messageId); // the memory may be a Worker's by now, or freed
    }
    const large = this.#large;
    const placed = this.#placed;
    let count: number;
    this.#isDrained = false;
    if (placed !== undefined) {
      const { data, size, end } = placed;
      count = this.#socket.receive(data, end, size - end, timeoutMs);
      if (count > 0) placed.end += count;
      this.#isDrained = placed.end === size;
    } else if (large !== undefined) {
      count = this.#socket.receive(
        large,
        this.#largeEnd,
        this.#largeSize - this.#largeEnd,
        timeoutMs,
      );
      if (count > 0) this.#largeEnd += count;
      this.#isDrained = this.#largeEnd === this.#largeSize;
    } else {
      this.#makeRoom();
      const room = RECEIVE_SIZE - this.#end;
      count = this.#socket.receive(this.#small, this.#end, room, timeoutMs);
      if (count > 0) this.#end += count;
      this.#isDrained = count < room && this.#socket.receivedFds.length === 0;
      this.#receipt = undefined;
    }
    if (this.#socket.receivedFds.length > 0 || this.#socket.fdsLost) this.#keepFds();
    if (count > 0) return true;
    if (count === -EAGAIN || count === -EINTR) return false;
    throw count === 0 ? this.#endOfStream() : lostError(this.#peer, "recvmsg", -count);
  }

  /**
   * True if the last `receive` probably left nothing in the socket. Either there was room for more,
   * and no descriptors ended the receive early. Or it brought the end of a large message, which
   * rarely has another message behind it.
   */
  get isDrained(): boolean {
    return this.#isDrained;
  }

  /** Moves an incomplete message to the front, where it has the most room. */
  #makeRoom(): void {
    if (this.#small.length === 0 && this.#start === this.#end) {
      // A handler has transferred its payload elsewhere, and the whole buffer with it.
      this.#small = new IoBuffer(RECEIVE_SIZE);
      this.#start = this.#end = 0;
    }
    if (this.#start === 0) return;
    if (this.#start < this.#end) this.#small.bytes.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    for (const came of this.#fds) came.end -= this.#start;
    this.#start = 0;
  }

  /**
   * Notes which message descriptors belong to: the message with the last byte that was received
   * with them. A receive that meets descriptors ends with their segment, and every message with
   * descriptors has a segment of its own.
   */
  #keepFds(): void {
    const { receivedFds, fdsLost } = this.#socket;
    this.#socket.receivedFds = [];
    if (this.#peer === "client") refuseSockets(receivedFds);
    this.#fds.push({ fds: [...receivedFds], end: this.#end, isTruncated: fdsLost });
  }

  /** Checks the descriptors that are left: they belong to the message that is incomplete. */
  #incomplete(): undefined {
    if (this.#fds.length > 0) this.#checkFds(this.#fds);
  }

  /** Rejects the next message if its descriptors are too many, or not all there. */
  #checkFds(came: readonly ReceivedFds[]): void {
    const count = came.reduce((sum, { fds }) => sum + fds.length, 0);
    const isTruncated = came.some((each) => each.isTruncated);
    if (!isTruncated && count <= this.limits.maxFds) return;
    throw this.#reject(
      isTruncated
        ? `File descriptors that the ${this.#peer} passed were lost (MSG_CTRUNC): ` +
          "it passed too many, or this process has too many open"
        : `The ${this.#peer} passed ${count} file descriptors with a message, ` +
          `${this.limits.maxFds} are allowed`,
    );
  }

  /** Remembers the header of the next message, as far as it has come, for the error reply. */
  #reject(problem: string): ProtocolError {
    const isLarge = this.#large !== undefined;
    const { view } = this.#large ?? this.#small;
    const start = isLarge ? 0 : this.#start;
    const came = isLarge ? this.#largeEnd : this.#end - start;
    const flags = came < HEADER_SIZE ? MessageFlags.REPLY : view.getUint32(start + FLAGS_AT, true);
    const isReply = (flags & MessageFlags.TYPE_MASK) === MessageFlags.REPLY;
    const isPosted = (flags & MessageFlags.NO_REPLY) !== 0;
    // Not answered are replies, messages that are received as one, and what wants no reply.
    if (!isReply && !isPosted && this.#placed === undefined) {
      this.#rejected = {
        messageId: view.getUint16(start + ID_AT, true),
        command: view.getUint16(start + COMMAND_AT, true),
      };
    }
    return new ProtocolError(problem);
  }

  /**
   * The next whole message among the bytes received, or undefined.
   *
   * @throws {ProtocolError} if its size or type is impossible, or its descriptors are too many or
   *   were lost. `rejected` is its header's key then
   */
  next(): Message | undefined {
    if (this.#placed !== undefined) return this.#nextPlaced(this.#placed);
    if (this.#large !== undefined) return this.#nextLarge(this.#large);
    const start = this.#start;
    const available = this.#end - start;
    if (available < HEADER_SIZE) {
      if (available === 0) this.#start = this.#end = 0;
      return this.#incomplete();
    }
    const { view, bytes } = this.#small;
    const size = view.getUint32(start + SIZE_AT, true);
    this.#checkHeader(view, start, size);
    if (available < size) {
      if (size > RECEIVE_SIZE) this.#beginLarge(size);
      return this.#incomplete();
    }
    const end = start + size;
    this.#receipt ??= new Receipt(bytes, this.#end);
    const message = new Message(bytes, view, start, end, this.#claimFds(end), this.#receipt);
    this.#start = end;
    this.trace?.("received", message.bytes, message.fdCount);
    return message;
  }

  /** Keeps the views of messages that were taken for good, by receiving into another buffer. */
  keepViews(): void {
    const fresh = new IoBuffer(RECEIVE_SIZE);
    fresh.bytes.set(this.#small.bytes.subarray(this.#start, this.#end), this.#start);
    this.#small = fresh;
    this.#receipt = undefined;
    this.#spare = undefined;
  }

  /** Receives the rest of a message elsewhere, because its request does not want the data. */
  forget(messageId: number): void {
    const placed = this.#placed;
    if (placed?.messageId !== messageId) return;
    this.#placed = undefined;
    const { head, data, size, end } = placed;
    const large = new IoBuffer(head.length + size);
    large.bytes.set(head);
    if (data.length === size) large.bytes.set(data.bytes.subarray(0, end), head.length);
    this.#large = large;
    this.#largeSize = large.length;
    this.#largeEnd = head.length + end;
  }

  #beginLarge(size: number): void {
    if (this.#place(size)) return;
    const spare = this.#spare;
    this.#spare = undefined;
    const isReusable = spare !== undefined && !spare.message.isOwned && spare.buffer.length >= size;
    const large = isReusable ? spare.buffer : new IoBuffer(size);
    this.#largeSize = size;
    large.bytes.set(this.#small.bytes.subarray(this.#start, this.#end));
    this.#large = large;
    this.#largeEnd = this.#end - this.#start;
    this.#start = this.#end = 0;
  }

  /** Begins to receive the data of a large message where its request wants them, if it does. */
  #place(size: number): boolean {
    // A trace is shown whole messages.
    if (this.destination === undefined || this.trace !== undefined) return false;
    const { bytes, view } = this.#small;
    const messageId = view.getUint16(this.#start + ID_AT, true);
    const isReply = view.getUint32(this.#start + FLAGS_AT, true) === MessageFlags.REPLY;
    const into = isReply ? this.destination(messageId) : undefined;
    const headSize = into === undefined ? Infinity : size - into.length;
    if (into === undefined || headSize < HEADER_SIZE || this.#end - this.#start < headSize) {
      return false;
    }
    const head = bytes.slice(this.#start, this.#start + headSize);
    const came = bytes.subarray(this.#start + headSize, this.#end);
    into.set(came);
    const data = new IoBuffer(into as Uint8Array<ArrayBuffer>);
    this.#placed = { messageId, head, data, size: into.length, end: came.length };
    this.#start = this.#end = 0;
    return true;
  }

  #nextPlaced({ head, size, end }: Placed): Message | undefined {
    if (end < size) return this.#incomplete();
    const fds = this.#claimFds(Infinity);
    this.#placed = undefined;
    const view = new DataView(head.buffer);
    return new Message(head, view, 0, head.length, fds, undefined, true);
  }

  #nextLarge(large: IoBuffer): Message | undefined {
    const size = this.#largeSize;
    if (this.#largeEnd < size) return this.#incomplete();
    const fds = this.#claimFds(Infinity);
    this.#large = undefined;
    const message = new Message(large.bytes, large.view, 0, size, fds);
    if (large.length <= MAX_SPARE) this.#spare = { buffer: large, message };
    this.trace?.("received", message.bytes, message.fdCount);
    return message;
  }

  #claimFds(end: number): readonly OwnedFd[] {
    if (this.#fds.length === 0) return NO_FDS;
    const next = this.#fds.findIndex((each) => each.end > end);
    const count = next < 0 ? this.#fds.length : next;
    if (count === 0) return NO_FDS;
    this.#checkFds(this.#fds.slice(0, count));
    return this.#fds.splice(0, count).flatMap(({ fds }) => fds);
  }

  #checkHeader(view: DataView, start: number, size: number): void {
    const type = view.getUint32(start + FLAGS_AT, true) & MessageFlags.TYPE_MASK;
    const { maxMessageSize } = this.limits;
    if (size >= HEADER_SIZE && size <= maxMessageSize && type <= MessageFlags.REPLY) return;
    const command = view.getUint16(start + COMMAND_AT, true);
    const what = type === MessageFlags.REPLY ? "reply" : "message";
    let problem: string;
    if (size < HEADER_SIZE) problem = `its size is ${size}, less than a header's ${HEADER_SIZE}`;
    else if (size > maxMessageSize) {
      problem = `its size is ${size}, at most ${maxMessageSize} are allowed`;
    } else problem = `its type is ${type}, neither command nor reply`;
    throw this.#reject(
      `The ${this.#peer} sent an impossible ${what} (${commandName(command)}): ${problem}`,
    );
  }

  /** A copy of the bytes behind the last message: incomplete, or rejected by `next`. */
  get untaken(): Uint8Array {
    return this.#small.bytes.slice(this.#start, this.#end);
  }

  /** The message that `next` rejected, for an error reply; undefined if it is no command. */
  get rejected(): MessageKey | undefined {
    return this.#rejected;
  }

  #endOfStream(): ConnectionError {
    if (this.#placed !== undefined) this.forget(this.#placed.messageId);
    const partial = this.#large ? this.#largeEnd : this.#end - this.#start;
    if (partial === 0) {
      return new ConnectionError(`The ${this.#peer} closed the connection`, { kind: "left" });
    }
    const size = this.#large !== undefined
      ? this.#largeSize
      : (partial >= HEADER_SIZE
        ? this.#small.view.getUint32(this.#start + SIZE_AT, true)
        : undefined);
    return new ConnectionError(
      `The ${this.#peer} closed the connection in the middle of a message: ${partial} of ${
        size === undefined ? `a header's ${HEADER_SIZE}` : size
      } bytes came`,
      { kind: "cut" },
    );
  }

  /** Closes every descriptor that was not handed on. */
  close(): void {
    for (const { fds } of this.#fds) closeAll(fds);
    this.#fds = [];
  }
}

/**
 * Closes the sockets among descriptors, which go on being counted. No client has a reason to pass a
 * socket. A socket may be the client's own end of this connection, or hold that end in its queue.
 * While it is open here, perhaps with a message that never becomes whole, the client's end goes
 * unnoticed.
 */
function refuseSockets(fds: readonly OwnedFd[]): void {
  for (const fd of fds) if (fd.stat().isSocket) fd.close();
}
