/**
 * Listens in place of a recorded server, and takes its part for one client after another.
 *
 * @module
 */

import type { UnixListener } from "../../ffi/listener.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { Acceptor } from "../transport/acceptor.ts";
import { listenAt } from "../transport/endpoint.ts";
import { Actor, type ActorCounts, type Deviation, type Omission } from "./actor.ts";
import type { ServerPart } from "./part.ts";

/** Options of a {@linkcode Stage}. */
export interface StageOptions {
  /** The path to listen at. */
  readonly path: string;
  /** The part of the recorded server. */
  readonly part: ServerPart;
  /** The time in milliseconds for a client's answers; default 5000. */
  readonly timeoutMs?: number;
  /** Ends after the first client. */
  readonly once?: boolean;
  /** Called when a client came. */
  readonly onConnect?: () => void;
  /** Called where a client leaves the recorded path: once for each client. */
  readonly onDeviation?: (deviation: Deviation) => void;
  /** Called for the first DMA that is left out: once for each client. */
  readonly onOmission?: (omission: Omission) => void;
  /** Called when a client left, with what was done for it. */
  readonly onDisconnect?: (counts: Readonly<ActorCounts>, cause: Error | undefined) => void;
  /** Called when a client could not be accepted. */
  readonly onError?: (error: unknown) => void;
}

/** A mock of a recorded server. */
export class Stage implements Disposable {
  readonly #options: StageOptions;
  readonly #listener: UnixListener;
  readonly #finished = Promise.withResolvers<void>();
  readonly #acceptor: Acceptor;
  #actor: Actor | undefined;
  #isClosed = false;

  private constructor(options: StageOptions) {
    this.#options = options;
    this.#listener = listenAt(options.path);
    this.#acceptor = new Acceptor(
      this.#listener,
      (socket) => this.#serve(socket),
      (error) => options.onError?.(error),
    );
    this.#acceptor.next();
  }

  /**
   * Begins to listen.
   *
   * @throws {ConnectionError} if the path can't be listened on
   */
  static open(options: StageOptions): Stage {
    return new Stage(options);
  }

  /** Settled when it is closed. */
  get closed(): Promise<void> {
    return this.#finished.promise;
  }

  /** Ends the connection, stops listening and removes the socket. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#acceptor.stop();
    this.#listener[Symbol.dispose]();
    this.#actor?.[Symbol.dispose]();
    this.#finished.resolve();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #serve(socket: UnixSocket): void {
    const { part, timeoutMs = 5000, once = false, onDeviation, onOmission } = this.#options;
    this.#options.onConnect?.();
    const actor = this.#actor = new Actor(socket, {
      part,
      timeoutMs,
      onDeviation,
      onOmission,
      onEnd: (cause) => {
        if (this.#actor !== actor) return;
        this.#actor = undefined;
        this.#options.onDisconnect?.(actor.counts, cause);
        actor[Symbol.dispose]();
        if (once) this.close();
        else if (!this.#isClosed) this.#acceptor.next();
      },
    });
  }
}
