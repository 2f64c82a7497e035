/**
 * `MessageStream`: messages over a UNIX stream socket, with the file descriptors that belong to
 * them.
 *
 * Knows framing, not meaning: message ids, replies and states are the dispatcher's.
 *
 * @module
 */

import type { UnixSocket } from "../../ffi/socket.ts";
import type { Trace } from "./message.ts";
import type { Role } from "./peer.ts";
import { Receiver, type StreamLimits } from "./receiver.ts";
import { Sender } from "./sender.ts";

/** The two ways of one socket. The stream owns the socket. */
export class MessageStream {
  readonly #socket: UnixSocket;
  /** Cuts what comes into messages. */
  readonly receiver: Receiver;
  /** Joins what leaves. */
  readonly sender: Sender;

  /** @param peer the other end */
  constructor(socket: UnixSocket, peer: Role, limits: StreamLimits) {
    this.#socket = socket;
    this.receiver = new Receiver(socket, peer, limits);
    this.sender = new Sender(socket, peer);
  }

  /** The socket's descriptor, for poll. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** Finds out whether a socket waits among what was not received yet. */
  holdsSocket(): boolean {
    return this.#socket.holdsSocket();
  }

  /** Has a trace see every message. */
  set trace(trace: Trace | undefined) {
    this.sender.trace = this.receiver.trace = trace;
  }

  /** Closes the socket and every descriptor that was not handed on. What is queued is not sent. */
  close(): void {
    this.receiver.close();
    this.sender.close();
    if (!this.#socket.isOpen) return;
    this.#socket.shutdown(); // a poll of ours that still has it in its set wakes
    this.#socket.close();
  }
}
