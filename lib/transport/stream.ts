/**
 * Messages over a UNIX stream socket: bytes are cut into messages with the file descriptors that belong to
 * them, and messages are put together into as few sends as the peers bear.
 *
 * Knows framing, not meaning: message ids, replies and states are the proxy's.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { EAGAIN, EINTR, SystemError } from "../../ffi/errno.ts";
import { closeAll, OwnedFd } from "../../ffi/fd.ts";
import { POLLOUT, PollSet } from "../../ffi/event.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { ConnectionError, ProtocolError } from "../base/errors.ts";
import { HEADER_SIZE, MAX_QUEUED_BYTES, WRITE_CHUNK_SIZE } from "../base/limits.ts";
import { HeaderLayout, MessageFlags, type MessageKey } from "../wire/header.ts";
import { commandName } from "../wire/command.ts";
import { Message, Receipt } from "./message.ts";

const { messageId: ID_AT, command: COMMAND_AT, size: SIZE_AT, flags: FLAGS_AT, error: ERROR_AT } =
  HeaderLayout.offsets;

/**
 * Bytes received at once: many small messages, which may share a buffer, or the start of a large
 * one.
 */
export const RECEIVE_SIZE = 64 << 10;

/**
 * What is sent at once. A send of this size is one segment in the kernel, so that a peer that reads a message's body
 * with a single recv finds it whole.
 */
const BATCH_SIZE = WRITE_CHUNK_SIZE + 256;

/** Data from this size on is sent from where it is; below, a copy costs less than taking its address. */
const COPY_LIMIT = 8 << 10;

/**
 * How often the rest of large data waits for room, a tenth of a millisecond each time, before what is left of it is copied: a peer that
 * reads has taken it by then, and one that does not costs its one wait.
 */
const PATIENT_SENDS = 16;

/** What a chunk of the backlog costs beside its bytes, counted in as if it were bytes: so many small ones are bounded, too. */
const CHUNK_OVERHEAD = 2 << 10;

/**
 * What a descriptor in the backlog costs, counted in as if it were bytes. A server holds some 300 of
 * them for a client that does not read.
 */
const FD_OVERHEAD = 12 << 10;

/** The largest message whose buffer is kept to receive the next large one into. */
const MAX_SPARE = (1 << 20) + (8 << 10);

const EMPTY = new Uint8Array(0);
const NO_FDS: readonly OwnedFd[] = Object.freeze([]);

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

/** Bytes that the kernel did not take yet, in memory of their own. */
interface Chunk {
  readonly buffer: IoBuffer;
  start: number;
  readonly end: number;
  fds: OwnedFd[];
}

/** Descriptors that came with one receive. */
interface ReceivedFds {
  readonly fds: OwnedFd[];
  /** The position in the buffer after the byte that they came with. */
  end: number;
  /** True if some of them did not make it. */
  readonly isTruncated: boolean;
}

/** Which end of a connection. */
export type Role = "client" | "server";

/** What a stream accepts. */
export interface StreamLimits {
  /** Bytes of a message, header included. */
  maxMessageSize: number;
  /** Descriptors with one message. */
  maxFds: number;
}

/** Sees every message: its direction, its bytes (a view, valid during the call) and its descriptor count. */
export type Trace = (direction: "sent" | "received", bytes: Uint8Array, fds: number) => void;

/** Cuts and joins messages over one socket. It owns the socket. */
export class MessageStream {
  readonly #socket: UnixSocket;
  readonly #peer: Role;
  /** May be changed at any time; holds from the next message on. */
  limits: StreamLimits;
  /** Called for each message, if set. */
  trace: Trace | undefined;
  /** Where the data of a large reply go, if its request wants them somewhere. */
  destination: ((messageId: number) => Uint8Array | undefined) | undefined;

  // Received: bytes of #small from #start to #end, or of #large, which holds exactly one message.
  #small = new IoBuffer(RECEIVE_SIZE);
  #start = 0;
  #end = 0;
  #large: IoBuffer | undefined;
  #largeSize = 0;
  #largeEnd = 0;
  #placed: Placed | undefined;
  #spare: { buffer: IoBuffer; message: Message } | undefined; // of the last large message, to be received into again
  #receipt: Receipt | undefined;
  #isDrained = false;
  #fds: ReceivedFds[] = []; // of messages not taken yet
  #rejected: MessageKey | undefined;

  // To be sent: #backlog first, then #batch up to #batchEnd.
  readonly #batch = new IoBuffer(BATCH_SIZE);
  #batchEnd = 0;
  #backlog: Chunk[] = [];
  #room: PollSet | undefined; // the socket, for writing
  #spareRest: IoBuffer | undefined; // of the backlog's last large chunk, to be filled again
  #backlogBytes = 0;

  /** @param peer the other end */
  constructor(socket: UnixSocket, peer: Role, limits: StreamLimits) {
    this.#socket = socket;
    this.#peer = peer;
    this.limits = limits;
  }

  /** The socket's descriptor, for poll. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** Finds out whether a socket waits among what was not received yet. */
  holdsSocket(): boolean {
    return this.#socket.holdsSocket();
  }

  /** Whether bytes wait for the kernel to take them. */
  get isBlocked(): boolean {
    return this.#backlog.length > 0;
  }

  /** Bytes not yet taken by the kernel. */
  get queuedBytes(): number {
    return this.#backlogBytes + this.#batchEnd;
  }

  /**
   * Receives once. Then `next` gives the messages, all of which are to be taken before the next call.
   *
   * @param timeoutMs as in `UnixSocket.receive`: 0 does not wait
   * @returns whether anything came
   * @throws {ConnectionError} at the end of the stream or if the socket fails
   */
  receive(timeoutMs = 0): boolean {
    if (this.#placed !== undefined && this.#placed.data.length !== this.#placed.size) {
      this.forget(this.#placed.messageId); // the memory may be a Worker's by now, or nothing's
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
    throw count === 0 ? this.#endOfStream() : this.#lost("recvmsg", -count);
  }

  /**
   * Whether the last `receive` probably left nothing in the socket: there was room for more, and no descriptors ended it early; or it
   * brought the end of a large message, behind which there is rarely another one.
   */
  get isDrained(): boolean {
    return this.#isDrained;
  }

  /** Moves an incomplete message to the front, where all of the buffer lies before it. */
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
   * Descriptors belong to the message that holds the last byte received with them: a receive that meets some ends
   * with their segment, and every message with descriptors has a segment of its own.
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

  /** Refuses the next message if its descriptors are too many, or not all there. */
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
    const type = came < HEADER_SIZE ? MessageFlags.REPLY : view.getUint32(start + FLAGS_AT, true);
    // What is a reply, or is received as one, is not answered.
    if ((type & MessageFlags.TYPE_MASK) !== MessageFlags.REPLY && this.#placed === undefined) {
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

  /** Makes the views of messages that were taken hold for good: from here on another buffer is received into. */
  keepViews(): void {
    const fresh = new IoBuffer(RECEIVE_SIZE);
    fresh.bytes.set(this.#small.bytes.subarray(this.#start, this.#end), this.#start);
    this.#small = fresh;
    this.#receipt = undefined;
    this.#spare = undefined;
  }

  /** Whether a message that is larger than the receive buffer has come in part. */
  get isReceivingLarge(): boolean {
    return this.#large !== undefined || this.#placed !== undefined;
  }

  /** The data of a message are not wanted any more: what has yet to come goes elsewhere. */
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
    if (this.destination === undefined || this.trace !== undefined) return false; // a trace is shown whole messages
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
    const data = asIoBuffer(into);
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

  /** A copy of the bytes behind the last message: an incomplete one, or one that `next` refused. */
  get untaken(): Uint8Array {
    return this.#small.bytes.slice(this.#start, this.#end);
  }

  /** The message that `next` refused, for an error reply; undefined if it is no command. */
  get rejected(): MessageKey | undefined {
    return this.#rejected;
  }

  /**
   * Queues a message; `flush` sends it. Its bytes are copied, or sent right away where they are large, so the caller's
   * buffers are free afterwards.
   *
   * @param fds passed with it; they stay the caller's
   * @throws {ConnectionError} if the socket fails, or the peer has left too much unread
   */
  write(
    messageId: number,
    command: number,
    flags: number,
    error: number,
    payload: Uint8Array = EMPTY,
    data: Uint8Array = EMPTY,
    fds?: readonly number[],
  ): void {
    const headSize = HEADER_SIZE + payload.length;
    const size = headSize + data.length;
    const hasFds = fds !== undefined && fds.length > 0;
    if (hasFds || this.#batchEnd + size > BATCH_SIZE) this.flush();
    // Data that is large, or that does not fit the batch, is sent from where it is.
    const inBatch = headSize + (data.length < COPY_LIMIT ? data.length : 0);
    if (inBatch > BATCH_SIZE) {
      // A long payload: only we build those, as VERSION or capabilities, and the data part is for bulk.
      return this.write(messageId, command, flags, error, EMPTY, join(payload, data), fds);
    }
    const { view, bytes } = this.#batch;
    const start = this.#batchEnd;
    view.setUint16(start + ID_AT, messageId, true);
    view.setUint16(start + COMMAND_AT, command, true);
    view.setUint32(start + SIZE_AT, size, true);
    view.setUint32(start + FLAGS_AT, flags, true);
    view.setUint32(start + ERROR_AT, error, true);
    if (payload.length > 0) bytes.set(payload, start + HEADER_SIZE);
    if (data.length > 0 && data.length < COPY_LIMIT) bytes.set(data, start + headSize);
    if (this.trace !== undefined) {
      const head = bytes.subarray(start, start + inBatch);
      this.trace("sent", inBatch === size ? head : join(head, data), fds?.length ?? 0);
    }
    this.#batchEnd = start + inBatch;
    if (inBatch < size) this.#sendBatch(fds, data);
    else if (hasFds) this.#sendBatch(fds);
  }

  /**
   * Queues bytes as they are: the beginning of a message whose rest will not follow, after which the stream is out of step.
   *
   * @throws as `write`
   */
  writeBytes(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.trace?.("sent", bytes, 0);
    this.flush();
    this.#batchEnd = Math.min(bytes.length, BATCH_SIZE);
    this.#batch.bytes.set(bytes.subarray(0, this.#batchEnd));
    this.#sendBatch(undefined, bytes.subarray(this.#batchEnd));
  }

  /**
   * Sends what is queued, as far as the kernel takes it now.
   *
   * @returns whether everything is sent
   * @throws {ConnectionError} if the socket fails
   */
  flush(): boolean {
    while (this.#backlog.length > 0) {
      const chunk = this.#backlog[0]!;
      const count = this.#socket.send(
        chunk.buffer,
        chunk.start,
        chunk.end - chunk.start,
        chunk.fds.map((fd) => fd.fd),
      );
      if (count === -EAGAIN) {
        if (this.#batchEnd > 0) this.#sendBatch(); // behind the backlog: the batch has to be free again
        return false;
      }
      if (count === -EINTR) continue;
      if (count < 0) throw this.#lost("sendmsg", -count);
      closeAll(chunk.fds); // the first byte took them along
      this.#backlogBytes -= FD_OVERHEAD * chunk.fds.length;
      chunk.fds = [];
      chunk.start += count;
      this.#backlogBytes -= count;
      if (chunk.start === chunk.end) {
        this.#backlog.shift();
        this.#backlogBytes -= CHUNK_OVERHEAD;
        if (chunk.buffer.length <= MAX_SPARE) this.#spareRest = chunk.buffer;
      }
    }
    if (this.#batchEnd > 0) this.#sendBatch();
    return this.#backlog.length === 0;
  }

  /** Sends the batch, `data` right behind it; what the kernel leaves is kept in the backlog. */
  #sendBatch(fds?: readonly number[], data: Uint8Array = EMPTY): void {
    const batchSize = this.#batchEnd;
    this.#batchEnd = 0;
    let sent = 0;
    if (this.#backlog.length === 0) {
      const tail = data.length > 0 ? asIoBuffer(data) : undefined;
      do sent = this.#socket.send(this.#batch, 0, batchSize, fds, tail); while (sent === -EINTR);
      if (sent < 0 && sent !== -EAGAIN) throw this.#lost("sendmsg", -sent);
      sent = Math.max(sent, 0);
      if (tail !== undefined && sent >= batchSize) sent += this.#sendRest(tail, sent - batchSize);
      if (sent === batchSize + data.length) return;
    }
    const size = batchSize + data.length - sent;
    const rest = this.#restBuffer(size);
    rest.bytes.set(this.#batch.bytes.subarray(Math.min(sent, batchSize), batchSize));
    const dataSent = Math.max(0, sent - batchSize);
    rest.bytes.set(data.subarray(dataSent), size - (data.length - dataSent));
    const unsentFds = sent === 0 && fds ? fds.map(duplicateFd) : [];
    this.#backlog.push({ buffer: rest, start: 0, end: size, fds: unsentFds });
    this.#backlogBytes += size + CHUNK_OVERHEAD + FD_OVERHEAD * unsentFds.length;
    if (this.#backlogBytes > MAX_QUEUED_BYTES) {
      throw new ConnectionError(
        `The ${this.#peer} does not read: ${this.#backlogBytes} bytes wait to be sent, ${MAX_QUEUED_BYTES} is the limit`,
        { kind: "stuck" },
      );
    }
  }

  /** Sends large data from `start` on, from where they are, while the peer makes room at once. Gives how many bytes that were. */
  #sendRest(data: IoBuffer, start: number): number {
    let at = start;
    for (let i = 0; i < PATIENT_SENDS && at < data.length && this.#hasRoomSoon(); i++) {
      const count = this.#socket.send(data, at, data.length - at);
      if (count >= 0) at += count;
      else if (count !== -EAGAIN && count !== -EINTR) throw this.#lost("sendmsg", -count);
    }
    return at - start;
  }

  /** Waits for a moment, blocking, until the kernel takes more. */
  #hasRoomSoon(): boolean {
    if (this.#room === undefined) {
      this.#room = new PollSet();
      this.#room.add(this.#socket.fd, POLLOUT);
    }
    return this.#room.waitBriefly() > 0;
  }

  #restBuffer(size: number): IoBuffer {
    const spare = this.#spareRest;
    this.#spareRest = undefined;
    return spare !== undefined && spare.length >= size ? spare : new IoBuffer(size);
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

  #lost(syscall: string, errno: number): ConnectionError {
    const cause = new SystemError(syscall, errno);
    return new ConnectionError(`Lost the connection to the ${this.#peer}: ${cause.message}`, {
      kind: "lost",
      cause,
    });
  }

  /** Closes the socket and every descriptor that was not handed on. What is queued is not sent. */
  close(): void {
    for (const { fds } of this.#fds) closeAll(fds);
    this.#fds = [];
    for (const chunk of this.#backlog) closeAll(chunk.fds);
    this.#backlog = [];
    this.#backlogBytes = 0;
    this.#batchEnd = 0;
    if (!this.#socket.isOpen) return;
    this.#socket.shutdown(); // a poll of ours that still has it in its set wakes
    this.#socket.close();
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

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

function asIoBuffer(data: Uint8Array): IoBuffer {
  return new IoBuffer(data as Uint8Array<ArrayBuffer>);
}

function duplicateFd(fd: number): OwnedFd {
  const borrowed = new OwnedFd(fd);
  try {
    return borrowed.duplicate();
  } finally {
    borrowed.release();
  }
}
