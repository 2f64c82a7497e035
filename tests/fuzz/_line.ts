/**
 * A connection of a hostile client: bytes and descriptors out, whatever comes in.
 *
 * @module
 */

import { assert } from "@std/assert";
import { IoBuffer } from "../../ffi/buffer.ts";
import { monotonicMs } from "../../ffi/clock.ts";
import { EAGAIN, EINVAL } from "../../ffi/errno.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import {
  Command,
  DeviceInfoRequest,
  encodeMessage,
  type Header,
  HEADER_SIZE,
  HeaderLayout,
} from "../../lib/wire/mod.ts";

/** The time that the server may take for anything: it is far more than it needs. */
const PATIENCE_MS = 60_000;

const LAST_ID = 0xbeef;
const LAST_REQUEST = encodeMessage(
  { messageId: LAST_ID, command: Command.DEVICE_GET_INFO },
  DeviceInfoRequest.encode({ argsz: 16 }),
);
/** The last bytes of its answers: the info, or an error if the device is stopped to migrate. */
const LAST_REPLIES = [
  encodeMessage(
    { messageId: LAST_ID, command: Command.DEVICE_GET_INFO, flags: 1 },
    new Uint8Array(16),
  )
    .subarray(0, 16),
  encodeMessage({
    messageId: LAST_ID,
    command: Command.DEVICE_GET_INFO,
    flags: 0x21,
    error: EINVAL,
  }),
];

/** The tally of what hostile clients have done. */
export interface Tally {
  messages: number;
  descriptors: number;
  connections: number;
  /** Bytes of answers. */
  received: number;
}

/** A message of the server. */
export interface Answer extends Header {
  readonly payload: Uint8Array;
}

/** One connection. */
export class Line implements Disposable {
  readonly #socket: UnixSocket;
  readonly #tally: Tally;
  readonly #in = new IoBuffer(1 << 16);
  readonly #out = new IoBuffer(1 << 18);
  readonly #last = new Uint8Array(32); // that came
  #kept: Uint8Array | undefined; // answers that were not read, if they are
  /** Descriptors that came with answers that are read. */
  readonly fds: OwnedFd[] = [];

  private constructor(socket: UnixSocket, tally: Tally) {
    this.#socket = socket;
    this.#tally = tally;
  }

  /** Connects, when the server has time. */
  static async open(path: string, tally: Tally): Promise<Line> {
    const deadline = monotonicMs() + PATIENCE_MS;
    while (monotonicMs() < deadline) {
      const socket = UnixSocket.connect(path);
      if (socket !== undefined) {
        tally.connections++;
        return new Line(socket, tally);
      }
      await turn();
    }
    throw new Error("The server accepts nobody any more");
  }

  /** The socket's own descriptor. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** From here on answers are kept, to be read by `next`. */
  read(): void {
    this.#kept ??= new Uint8Array();
  }

  /** The next answer; undefined at the end of the stream. */
  async next(): Promise<Answer | undefined> {
    this.read();
    const deadline = monotonicMs() + PATIENCE_MS;
    for (let isOpen = true;;) {
      const bytes = this.#kept!;
      const header = bytes.length < HEADER_SIZE ? undefined : HeaderLayout.decode(bytes);
      if (header !== undefined && bytes.length >= header.size) {
        this.#kept = bytes.subarray(header.size);
        return { ...header, payload: bytes.subarray(HEADER_SIZE, header.size) };
      }
      if (!isOpen) return undefined;
      isOpen = this.#drain();
      assert(monotonicMs() < deadline, "the server does not answer any more");
      if (isOpen) await turn();
    }
  }

  /** Sends, and takes answers meanwhile. False if the server has closed. */
  async send(bytes: Uint8Array, fds: readonly number[] = []): Promise<boolean> {
    this.#out.bytes.set(bytes);
    const end = bytes.length;
    const deadline = monotonicMs() + PATIENCE_MS;
    for (let start = 0; start < end;) {
      const sent = this.#socket.send(this.#out, start, end - start, start === 0 ? fds : []);
      if (sent > 0) start += sent;
      else if (sent !== -EAGAIN) return false;
      if (!this.#drain()) return false;
      if (sent > 0) continue;
      assert(monotonicMs() < deadline, "the server does not read any more");
      await turn();
    }
    return true;
  }

  /** Asks what can always be answered, and waits for that: then all is answered. */
  async settle(): Promise<void> {
    const deadline = monotonicMs() + PATIENCE_MS;
    while (await this.send(LAST_REQUEST)) {
      // One of the device's own commands may come behind it: then it is asked again.
      for (let i = 0; i < 100; i++) {
        if (!this.#drain() || this.#hasAnswered()) return;
        await turn();
      }
      assert(monotonicMs() < deadline, "the server does not answer any more");
    }
  }

  #hasAnswered(): boolean {
    const [info, refusal] = LAST_REPLIES;
    const isAt = (bytes: Uint8Array, start: number) =>
      bytes.every((byte, i) => this.#last[start + i] === byte);
    return isAt(info!, 0) || isAt(refusal!, 16);
  }

  /** Takes what is there. False at the end of the stream. */
  #drain(): boolean {
    while (true) {
      const count = this.#socket.receive(this.#in, 0, this.#in.length);
      if (this.#kept === undefined) closeAll(this.#socket.receivedFds);
      else this.fds.push(...this.#socket.receivedFds);
      if (count === -EAGAIN) return true;
      if (count <= 0) return false;
      this.#tally.received += count;
      const came = this.#in.bytes.subarray(0, count);
      if (this.#kept !== undefined) this.#kept = join(this.#kept, came);
      const size = Math.min(count, this.#last.length);
      this.#last.copyWithin(0, size);
      this.#last.set(came.subarray(count - size), this.#last.length - size);
    }
  }

  [Symbol.dispose](): void {
    closeAll(this.fds);
    this.#socket.close();
  }
}

/** The next turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

/** Bytes one after another. */
export function join(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
