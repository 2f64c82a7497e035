/**
 * A hostile client: one connection after another, over which it sends what is no longer right, with descriptors that nobody
 * asked for.
 *
 * @module
 */

import { assert } from "@std/assert";
import { IoBuffer } from "../../ffi/buffer.ts";
import { EAGAIN, EINVAL } from "../../ffi/errno.ts";
import { EventFd } from "../../ffi/event.ts";
import { closeAll, OwnedFd } from "../../ffi/fd.ts";
import { createMemfd } from "../../ffi/memory.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { monotonicMs } from "../../ffi/clock.ts";
import {
  Command,
  DeviceFeatureRequest,
  DeviceInfoRequest,
  DeviceState,
  DeviceStateData,
  encodeMessage,
  Feature,
  FeatureFlags,
} from "../../lib/wire/mod.ts";
import { greeting, mutant } from "./_messages.ts";
import { Random } from "./_random.ts";

/** How long the server may take for anything: it is far more than it needs. */
const PATIENCE_MS = 60_000;

/** Messages over one connection, if that lasts. */
const PER_CONNECTION = 400;

/** Bytes that leave together. */
const BURST = 4096;

const RUN = encodeMessage(
  { messageId: 2, command: Command.DEVICE_FEATURE },
  DeviceFeatureRequest.encode({
    argsz: 16,
    flags: FeatureFlags.SET | Feature.MIG_DEVICE_STATE,
    data: DeviceStateData.encode({ state: DeviceState.RUNNING, dataFd: 0 }),
  }),
);
const LAST_ID = 0xbeef;
const LAST_REQUEST = encodeMessage(
  { messageId: LAST_ID, command: Command.DEVICE_GET_INFO },
  DeviceInfoRequest.encode({ argsz: 16 }),
);
/** What an answer to it ends the stream with: the info, or, of a device that was stopped to migrate, an error. */
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

/** What it has done. */
export interface Tally {
  messages: number;
  descriptors: number;
  connections: number;
  /** Bytes of answers. */
  received: number;
}

/** A client that means no good. */
export class HostileClient implements Disposable {
  readonly #path: string;
  readonly #random: Random;
  readonly #in = new IoBuffer(1 << 16);
  readonly #out = new IoBuffer(1 << 18);
  readonly #things: OwnedFd[];
  readonly #resources = new DisposableStack();
  readonly #last = new Uint8Array(32); // that came
  readonly tally: Tally = { messages: 0, descriptors: 0, connections: 0, received: 0 };

  constructor(path: string, seed: number) {
    this.#path = path;
    this.#random = new Random(seed);
    const event = this.#resources.use(new EventFd());
    const [a, b] = UnixSocket.pair();
    const open = [
      ...[0x1000, 0x2000, 0x10000].map((size) => createMemfd("vfu-hostile", size)),
      new OwnedFd(a.release()),
      new OwnedFd(b.release()),
      ...["/dev/null", "/dev/zero", "/proc/self/maps"].map((path) => OwnedFd.open(path, 0)),
    ];
    for (const fd of open) this.#resources.use(fd);
    // What belongs there is there most often.
    this.#things = [...open.slice(0, 3), event.handle, event.handle, ...open];
  }

  /**
   * Sends so many messages, over as many connections as it takes. The event loop has its turn whenever this waits: it reads what the
   * server writes to standard error, for which that would wait.
   */
  async send(count: number): Promise<void> {
    const end = this.tally.messages + count;
    while (this.tally.messages < end) {
      await turn();
      using socket = await this.#connect();
      this.tally.connections++;
      await this.#talk(socket, Math.min(PER_CONNECTION, end - this.tally.messages));
    }
  }

  async #connect(): Promise<UnixSocket> {
    const deadline = monotonicMs() + PATIENCE_MS;
    while (monotonicMs() < deadline) {
      const socket = UnixSocket.connect(this.#path);
      if (socket !== undefined) return socket;
      await turn();
    }
    throw new Error("The server accepts nobody any more");
  }

  /** Until so many are sent, or the server has enough. */
  async #talk(socket: UnixSocket, count: number): Promise<void> {
    const random = this.#random;
    if (!random.oneIn(20) && !await this.#write(socket, greeting(random))) return;
    // A device that is stopped to migrate refuses nearly all: mostly it is to go on first.
    if (!random.oneIn(4) && !await this.#write(socket, RUN)) return;
    let end = 0;
    for (let sent = 0; sent < count; sent++) {
      const { bytes, fdCount, isFatal } = mutant(random);
      this.tally.messages++;
      this.tally.descriptors += fdCount;
      // What has descriptors is a segment of its own, as the protocol wants it, or for once not.
      const isAlone = fdCount > 0 && !random.oneIn(10);
      if (end > 0 && (isAlone || end + bytes.length > BURST)) {
        if (!await this.#push(socket, end)) return;
        end = 0;
      }
      this.#out.bytes.set(bytes, end);
      end += bytes.length;
      if (fdCount > 0 || isFatal) {
        const fds = Array.from({ length: fdCount }, () => random.pick(this.#things).fd);
        if (!await this.#push(socket, end, fds)) return;
        end = 0;
      }
    }
    // Now and then the last one is cut off, or the answers are not waited for.
    if (end > 0 && random.oneIn(10)) await this.#push(socket, 1 + random.below(end));
    else if ((end === 0 || await this.#push(socket, end)) && !random.oneIn(10)) {
      await this.#awaitLast(socket);
    }
  }

  /** Asks what can always be answered, and waits for that: then all is answered. */
  async #awaitLast(socket: UnixSocket): Promise<void> {
    const deadline = monotonicMs() + PATIENCE_MS;
    while (await this.#write(socket, LAST_REQUEST)) {
      // One of the device's own commands may come behind it: then it is asked again.
      for (let i = 0; i < 100; i++) {
        if (!this.#drain(socket) || this.#hasAnswered()) return;
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

  #write(socket: UnixSocket, bytes: Uint8Array): Promise<boolean> {
    this.#out.bytes.set(bytes);
    return this.#push(socket, bytes.length);
  }

  /** Sends what is there, and takes answers meanwhile. False if the server has closed. */
  async #push(
    socket: UnixSocket,
    end: number,
    fds: readonly number[] = [],
  ): Promise<boolean> {
    const deadline = monotonicMs() + PATIENCE_MS;
    for (let start = 0; start < end;) {
      const sent = socket.send(this.#out, start, end - start, start === 0 ? fds : []);
      if (sent > 0) start += sent;
      else if (sent !== -EAGAIN) return false;
      if (!this.#drain(socket)) return false;
      if (sent > 0) continue;
      assert(monotonicMs() < deadline, "the server does not read any more");
      await turn();
    }
    return true;
  }

  /** Takes what is there. False at the end of the stream. */
  #drain(socket: UnixSocket): boolean {
    while (true) {
      const count = socket.receive(this.#in, 0, this.#in.length);
      closeAll(socket.receivedFds);
      if (count === -EAGAIN) return true;
      if (count <= 0) return false;
      this.tally.received += count;
      const size = Math.min(count, this.#last.length);
      this.#last.copyWithin(0, size);
      this.#last.set(this.#in.bytes.subarray(count - size, count), this.#last.length - size);
    }
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}
