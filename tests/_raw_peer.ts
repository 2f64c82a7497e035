/**
 * The other end of a connection, by hand: raw bytes and descriptors out, raw messages in.
 * For peers that do what no well-behaved peer does.
 *
 * @module
 */

import { IoBuffer } from "../ffi/buffer.ts";
import { EAGAIN } from "../ffi/errno.ts";
import { closeAll, type OwnedFd } from "../ffi/fd.ts";
import { UnixSocket } from "../ffi/socket.ts";
import { Command } from "../lib/wire/command.ts";
import { encodeMessage, type Header, HeaderLayout, MessageFlags } from "../lib/wire/header.ts";
import { encodeVersion } from "../lib/wire/version.ts";
import { PATIENCE_MS } from "./_until.ts";

/** A message as it came. */
export interface RawMessage extends Header {
  payload: Uint8Array;
  fds: OwnedFd[];
}

/** One end of a socket, driven by hand. */
export class RawPeer implements Disposable {
  #received = new Uint8Array();
  #fds: OwnedFd[] = [];
  readonly #buffer = new IoBuffer(1 << 16);

  constructor(readonly socket: UnixSocket) {}

  /** Two ends: one by hand, one for the proxy under test. */
  static pair(): [RawPeer, UnixSocket] {
    const [a, b] = UnixSocket.pair();
    return [new RawPeer(a), b];
  }

  /** Sends bytes as they are, as one segment. They must fit the socket's buffer. */
  send(bytes: Uint8Array, fds: readonly OwnedFd[] = []): void {
    const buffer = new IoBuffer(bytes.slice());
    const sent = this.socket.send(buffer, 0, bytes.length, fds.map((fd) => fd.fd));
    if (sent !== bytes.length) throw new Error(`Sent ${sent} of ${bytes.length} bytes`);
  }

  /** Sends a reply to a request. */
  reply(
    request: Pick<Header, "messageId" | "command">,
    payload?: Uint8Array,
    fds?: readonly OwnedFd[],
  ): void {
    const { messageId, command } = request;
    this.send(encodeMessage({ messageId, command, flags: MessageFlags.REPLY }, payload), fds);
  }

  /** Sends an error reply. */
  fail(request: Pick<Header, "messageId" | "command">, error: number): void {
    const { messageId, command } = request;
    const flags = MessageFlags.REPLY | MessageFlags.ERROR;
    this.send(encodeMessage({ messageId, command, flags, error }));
  }

  /** Sends a command. */
  command(
    messageId: number,
    command: number,
    payload?: Uint8Array,
    fds?: readonly OwnedFd[],
    flags = 0,
  ): void {
    this.send(encodeMessage({ messageId, command, flags }, payload), fds);
  }

  /**
   * Waits for the next message on the event loop, for `PATIENCE_MS` at most.
   * Undefined at the end of the stream.
   */
  async receive(): Promise<RawMessage | undefined> {
    const deadline = performance.now() + PATIENCE_MS;
    while (true) {
      const message = this.#take();
      if (message) return message;
      const count = this.socket.receive(this.#buffer, 0, this.#buffer.length);
      if (count === 0 || (count < 0 && count !== -EAGAIN)) return undefined;
      if (count > 0) {
        const joined = new Uint8Array(this.#received.length + count);
        joined.set(this.#received);
        joined.set(this.#buffer.bytes.subarray(0, count), this.#received.length);
        this.#received = joined;
        this.#fds.push(...this.socket.receivedFds);
        continue;
      }
      if (performance.now() > deadline) {
        throw new Error(`No message came within ${PATIENCE_MS / 1000} s`);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** The next message, which must be there. */
  async expect(command: number): Promise<RawMessage> {
    const message = await this.receive();
    if (message === undefined) throw new Error("The connection ended");
    if (message.command !== command) {
      throw new Error(`Expected command ${command}, got ${message.command}`);
    }
    return message;
  }

  /** Answers the VERSION that a client sends first. */
  async acceptVersion(capabilities = {}): Promise<RawMessage> {
    const request = await this.expect(Command.VERSION);
    this.reply(request, encodeVersion({ major: 0, minor: 1, capabilities }));
    return request;
  }

  /** Bytes that came and are no whole message. */
  get untaken(): Uint8Array {
    return this.#received;
  }

  #take(): RawMessage | undefined {
    if (this.#received.length < 16) return undefined;
    const header = HeaderLayout.decode(this.#received);
    if (this.#received.length < header.size) return undefined;
    const payload = this.#received.slice(16, header.size);
    this.#received = this.#received.slice(header.size);
    const fds = this.#fds;
    this.#fds = [];
    return { ...header, payload, fds };
  }

  /** Closes the socket and the descriptors that no test took. */
  close(): void {
    closeAll(this.#fds);
    this.socket[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
