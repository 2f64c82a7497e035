/**
 * `Sender`: puts messages together into as few sends as the peers bear, and keeps what the kernel
 * does not take yet.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { EAGAIN, EINTR } from "../../ffi/errno.ts";
import { POLLOUT, PollSet } from "../../ffi/event.ts";
import { closeAll, OwnedFd } from "../../ffi/fd.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { ConnectionError } from "../base/errors.ts";
import { joined } from "../base/bytes.ts";
import { HEADER_SIZE, MAX_QUEUED_BYTES, WRITE_CHUNK_SIZE } from "../base/limits.ts";
import { HeaderLayout } from "../wire/header.ts";
import type { Trace } from "./message.ts";
import { lostError, type Role } from "./peer.ts";

const { messageId: ID_AT, command: COMMAND_AT, size: SIZE_AT, flags: FLAGS_AT, error: ERROR_AT } =
  HeaderLayout.offsets;

/**
 * Bytes that are sent at once. A send of this size is one segment in the kernel. A peer that reads
 * the body of a message with a single recv finds all of it.
 */
const BATCH_SIZE = WRITE_CHUNK_SIZE + 256;

/** Smaller data are copied, which costs less than taking their address. */
const COPY_LIMIT = 8 << 10;

/**
 * The number of times that the rest of large data waits for room, a tenth of a millisecond each.
 * Then it is copied. A peer that reads has taken it by then; a peer that does not read costs one
 * wait.
 */
const PATIENT_SENDS = 16;

/** Bytes that a chunk of the backlog counts for beside its own: small chunks are bounded, too. */
const CHUNK_OVERHEAD = 2 << 10;

/**
 * Bytes that a descriptor in the backlog counts for. A server holds some 300 descriptors for a
 * client that does not read.
 */
const FD_OVERHEAD = 12 << 10;

/** The largest chunk whose buffer is kept for the next one. */
const MAX_SPARE = (1 << 20) + (8 << 10);

const EMPTY = new Uint8Array(0);

/** Bytes that the kernel did not take yet, in memory of their own. */
interface Chunk {
  readonly buffer: IoBuffer;
  start: number;
  readonly end: number;
  fds: OwnedFd[];
}

/** Joins messages, and sends them over one socket. */
export class Sender {
  readonly #socket: UnixSocket;
  readonly #peer: Role;
  /** Called for each message, if set. */
  trace: Trace | undefined;

  // #backlog is sent first, then #batch up to #batchEnd.
  readonly #batch = new IoBuffer(BATCH_SIZE);
  #batchEnd = 0;
  #backlog: Chunk[] = [];
  #room: PollSet | undefined; // the socket, for writing
  #spareRest: IoBuffer | undefined; // of the backlog's last large chunk, to be filled again
  #backlogBytes = 0;

  constructor(socket: UnixSocket, peer: Role) {
    this.#socket = socket;
    this.#peer = peer;
  }

  /** True if bytes wait for the kernel to take them. */
  get isBlocked(): boolean {
    return this.#backlog.length > 0;
  }

  /** Bytes not yet taken by the kernel. */
  get queuedBytes(): number {
    return this.#backlogBytes + this.#batchEnd;
  }

  /**
   * Queues a message; `flush` sends it. Its bytes are copied, or sent right away where they are
   * large: the caller's buffers are free afterwards.
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
      // Only we build long payloads, as VERSION or capabilities; the data part is for bulk.
      return this.write(messageId, command, flags, error, EMPTY, joined([payload, data]), fds);
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
      this.trace("sent", inBatch === size ? head : joined([head, data]), fds?.length ?? 0);
    }
    this.#batchEnd = start + inBatch;
    if (inBatch < size) this.#sendBatch(fds, data);
    else if (hasFds) this.#sendBatch(fds);
  }

  /**
   * Queues bytes as they are: the beginning of a message whose rest will not follow. The stream is
   * out of step afterwards.
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
   * @returns true if everything is sent
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
        // Behind the backlog: the batch has to be free again.
        if (this.#batchEnd > 0) this.#sendBatch();
        return false;
      }
      if (count === -EINTR) continue;
      if (count < 0) throw lostError(this.#peer, "sendmsg", -count);
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
      const tail = data.length > 0 ? new IoBuffer(data as Uint8Array<ArrayBuffer>) : undefined;
      do sent = this.#socket.send(this.#batch, 0, batchSize, fds, tail); while (sent === -EINTR);
      if (sent < 0 && sent !== -EAGAIN) throw lostError(this.#peer, "sendmsg", -sent);
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
        `The ${this.#peer} does not read: ${this.#backlogBytes} bytes wait to be sent, ` +
          `${MAX_QUEUED_BYTES} is the limit`,
        { kind: "stuck" },
      );
    }
  }

  /**
   * Sends large data from `start` on, from where they are, while the peer makes room at once.
   *
   * @returns how many bytes were sent
   */
  #sendRest(data: IoBuffer, start: number): number {
    let at = start;
    for (let i = 0; i < PATIENT_SENDS && at < data.length && this.#hasRoomSoon(); i++) {
      const count = this.#socket.send(data, at, data.length - at);
      if (count >= 0) at += count;
      else if (count !== -EAGAIN && count !== -EINTR) {
        throw lostError(this.#peer, "sendmsg", -count);
      }
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

  /** Drops what is queued, and closes its descriptors. */
  close(): void {
    for (const chunk of this.#backlog) closeAll(chunk.fds);
    this.#backlog = [];
    this.#backlogBytes = 0;
    this.#batchEnd = 0;
  }
}

function duplicateFd(fd: number): OwnedFd {
  const borrowed = new OwnedFd(fd);
  try {
    return borrowed.duplicate();
  } finally {
    borrowed.release();
  }
}
