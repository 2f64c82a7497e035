/**
 * Clients of a listener, accepted one after another.
 *
 * @module
 */

import { POLLIN } from "../../ffi/event.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import type { UnixListener } from "../../ffi/listener.ts";
import type { UnixSocket } from "../../ffi/socket.ts";

/** The milliseconds until accepting is tried again when this process has no descriptor left. */
const RETRY_MS = 100;

/** Accepts one client at a time; the others wait in the listener's queue. */
export class Acceptor {
  readonly #listener: UnixListener;
  readonly #onAccept: (socket: UnixSocket) => void;
  readonly #onError: (error: unknown) => void;
  #watch: Watch | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param listener the listener, which stays its owner's
   * @param onAccept called with a client, which is taken over; no other one is accepted after it
   * @param onError called when a client could not be accepted, before that is tried again
   */
  constructor(
    listener: UnixListener,
    onAccept: (socket: UnixSocket) => void,
    onError: (error: unknown) => void,
  ) {
    this.#listener = listener;
    this.#onAccept = onAccept;
    this.#onError = onError;
  }

  /** Waits for the next client. The listener is open. */
  next(): void {
    this.#watch = watch(this.#listener.fd, POLLIN, () => {
      let socket: UnixSocket | undefined;
      try {
        socket = this.#listener.accept();
      } catch (error) {
        this.#onError(error);
        this.#watch?.close();
        this.#retry = setTimeout(() => this.#tryAgain(), RETRY_MS);
        return;
      }
      if (socket === undefined) return;
      this.#watch?.close();
      this.#onAccept(socket);
    });
  }

  /** Waits no longer. */
  stop(): void {
    clearTimeout(this.#retry);
    this.#watch?.close();
  }

  #tryAgain(): void {
    if (this.#listener.isOpen) this.next();
  }
}
