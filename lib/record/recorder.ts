/**
 * A recorder: stands between clients and a server, passes on what they say, and reports it.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { describeErrno, SystemError } from "../../ffi/errno.ts";
import { Acceptor } from "../transport/acceptor.ts";
import { adoptSocket, listenAt } from "../transport/endpoint.ts";
import type { UnixListener } from "../../ffi/listener.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { ConnectionError } from "../base/errors.ts";
import { DEFAULT_TIMEOUT_MS } from "../base/limits.ts";
import { sleep } from "../base/sleep.ts";
import { asError, thrownText } from "../base/thrown.ts";
import { type EventSink, nowNs, RecordedConnection } from "./connection.ts";
import type { Interception } from "./intercept.ts";
import type { LinkEnd } from "./link.ts";
import { SideSocket } from "./side.ts";

/** A place where a server is found when a client has come. */
export interface ServerSource {
  /** Its name in the recording. */
  readonly name: string;
  /**
   * Connects to the server.
   *
   * @param signal aborted when the recorder ends, or the client has left
   * @returns the descriptor of a connected UNIX stream socket, which the recorder takes over
   */
  connect(signal: AbortSignal): Promise<number>;
  /** The connection has ended. */
  disconnected?(): void;
}

/** The options of a recorder. */
export interface RecorderOptions {
  /** Path to listen at, or the descriptor of a connected client. */
  readonly listen: string | number;
  /** The place of the server. */
  readonly server: ServerSource;
  /** Takes the events; their bytes are views that hold during the call. */
  readonly sink: EventSink;
  /** The kinds of traffic to make visible by altering messages. Default none. */
  readonly intercept?: Iterable<Interception>;
  /** Path of a socket at which others look at the device while a client uses it. */
  readonly side?: string;
  /** Lets commands in at the side that change the device. */
  readonly sideWrites?: boolean;
  /** A client has connected, and the server is there. */
  readonly onConnect?: (connection: number) => void;
  /** A connection has ended. */
  readonly onDisconnect?: (connection: number, end: LinkEnd) => void;
  /** A client could not be served: the recorder goes on. */
  readonly onError?: (error: Error) => void;
  /** A request at the side was refused. */
  readonly onRefuse?: (text: string) => void;
}

/** The interval in milliseconds at which a full queue, and a client that waits, are looked at. */
const CONNECT_RETRY_MS = 20;

/** A server that listens at a path. It is not connected to before a client has come. */
export class ListeningServer implements ServerSource {
  readonly name: string;

  /**
   * A server that may not be there yet.
   *
   * @param path of the server's socket
   */
  constructor(path: string) {
    this.name = path;
  }

  /**
   * Connects; waits while the queue of the server is full.
   *
   * @throws {ConnectionError} if no server listens there
   */
  async connect(signal: AbortSignal): Promise<number> {
    const deadline = monotonicMs() + DEFAULT_TIMEOUT_MS;
    while (true) {
      let socket: UnixSocket | undefined;
      try {
        socket = UnixSocket.connect(this.name);
      } catch (cause) {
        throw explainConnect(this.name, asError(cause));
      }
      if (socket !== undefined) return socket.release();
      if (monotonicMs() > deadline) {
        throw new ConnectionError(
          `Cannot connect to ${this.name}: its queue is full; the server may be busy with ` +
            `another ` +
            "client",
          { kind: "refused" },
        );
      }
      await sleep(CONNECT_RETRY_MS, signal);
    }
  }
}

/** A server at the other end of a descriptor, for one client. */
export class ConnectedServer implements ServerSource {
  readonly name: string;
  readonly #fd: number;
  #isUsed = false;

  /**
   * A server that is connected already.
   *
   * @param fd of a connected socket, taken over when the client comes
   */
  constructor(fd: number) {
    this.#fd = fd;
    this.name = `file descriptor ${fd}`;
  }

  /**
   * Hands the descriptor over.
   *
   * @throws {ConnectionError} if that was done before
   */
  connect(): Promise<number> {
    if (this.#isUsed) {
      const text =
        `Cannot connect to ${this.name}: its connection has ended; a descriptor serves ` +
        "one client, --connect PATH serves more";
      return Promise.reject(new ConnectionError(text, { kind: "refused" }));
    }
    this.#isUsed = true;
    return Promise.resolve(this.#fd);
  }
}

/**
 * Stands between clients and a server, passes on what they say, and reports all of it as events.
 * One connection is recorded after another; clients that come meanwhile wait in the socket's queue.
 *
 * @example A client reads a register of a device, and the recorder counts the messages
 * ```ts
 * import { ListeningServer, Recorder } from "./mod.ts";
 * import { connect, DemoDevice, Server } from "../../mod.ts";
 *
 * const folder = Deno.makeTempDirSync();
 * using server = Server.listen(`${folder}/device.sock`, new DemoDevice());
 * let messages = 0;
 * using recorder = Recorder.start({
 *   listen: `${folder}/recorded.sock`,
 *   server: new ListeningServer(`${folder}/device.sock`),
 *   sink: (event) => {
 *     if (event.kind === "message") messages++;
 *   },
 * });
 * using device = await connect(`${folder}/recorded.sock`);
 * await device.regionInfo(0);
 * console.assert(await device.region(0).read32Async(0) === 0x64756676);
 * console.assert(messages >= 6); // VERSION, region info and the read, with their replies
 * ```
 */
export class Recorder implements Disposable {
  readonly #options: RecorderOptions;
  readonly #intercept: ReadonlySet<Interception>;
  readonly #finished = Promise.withResolvers<void>();
  readonly #ended = new AbortController();
  #listener: UnixListener | undefined;
  #side: SideSocket | undefined;
  #acceptor: Acceptor | undefined;
  #connection: RecordedConnection | undefined;
  #count = 0;

  private constructor(options: RecorderOptions) {
    this.#options = options;
    this.#intercept = new Set(options.intercept ?? []);
  }

  /**
   * Listens, or takes the client that is connected already.
   *
   * @param options places, interception, and what takes the events
   * @returns the recorder, which goes on until `close`, or until its only client has left
   * @throws {ConnectionError} if a path can't be listened on, or the descriptor is no socket
   */
  static start(options: RecorderOptions): Recorder {
    const recorder = new Recorder(options);
    const { listen, side } = options;
    if (typeof listen === "string") recorder.#listen(listen);
    try {
      if (side !== undefined) recorder.#side = listenAt(side, (path) => recorder.#listenSide(path));
      if (typeof listen === "number") recorder.#connect(adoptSocket(listen));
      else recorder.#accept();
    } catch (error) {
      recorder.close();
      throw error;
    }
    return recorder;
  }

  /** Settled when it is closed. */
  get closed(): Promise<void> {
    return this.#finished.promise;
  }

  /** Connections that were recorded, the present one included. */
  get connections(): number {
    return this.#count;
  }

  /** Ends the connection, stops listening and removes the sockets, at once. */
  close(): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    this.#acceptor?.stop();
    this.#listener?.[Symbol.dispose]();
    this.#connection?.close({ side: "recorder", reason: "stopped", text: "the recorder stopped" });
    this.#side?.[Symbol.dispose]();
    this.#finished.resolve();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #listenSide(path: string): SideSocket {
    return SideSocket.listen(path, {
      allowsWrites: this.#options.sideWrites ?? false,
      current: () => this.#connection,
      onRefuse: (text) => this.#options.onRefuse?.(text),
    });
  }

  #listen(path: string): void {
    this.#listener = listenAt(path);
    this.#acceptor = new Acceptor(
      this.#listener,
      (socket) => this.#connect(socket),
      (error) => this.#options.onError?.(asError(error)),
    );
  }

  /** Waits for the next client. */
  #accept(): void {
    if (this.#listener?.isOpen) this.#acceptor!.next();
    else this.close();
  }

  async #connect(client: UnixSocket): Promise<void> {
    const { server, sink, onConnect, onDisconnect, onError } = this.#options;
    const number = this.#count++;
    let socket: UnixSocket;
    const left = new AbortController();
    const looking = setInterval(() => {
      if (!client.isHungUp()) return;
      clearInterval(looking);
      left.abort(new ConnectionError("The client left before the server was there"));
    }, CONNECT_RETRY_MS);
    try {
      const signal = AbortSignal.any([this.#ended.signal, left.signal]);
      socket = adoptSocket(await server.connect(signal));
    } catch (error) {
      clearInterval(looking);
      client.close();
      if (this.#ended.signal.aborted) return;
      const text = thrownText(error);
      sink({ kind: "note", timeNs: nowNs(), connection: number, socket: "main", text });
      onError?.(asError(error));
      return this.#accept();
    }
    clearInterval(looking);
    if (this.#ended.signal.aborted) {
      client.close();
      socket.close();
      return;
    }
    onConnect?.(number);
    this.#connection = new RecordedConnection(client, socket, {
      number,
      intercept: this.#intercept,
      server: server.name,
      hasSide: this.#side !== undefined,
      sink,
      onEnd: (end) => {
        this.#connection = undefined;
        this.#side?.disconnectAll();
        server.disconnected?.();
        onDisconnect?.(number, end);
        if (!this.#ended.signal.aborted) this.#accept();
      },
    });
  }
}

function explainConnect(path: string, cause: Error): Error {
  const reason = cause instanceof RangeError
    ? cause.message
    : cause instanceof SystemError
    ? CONNECT_HINTS[cause.code] ?? describeErrno(cause.errno)
    : undefined;
  if (reason === undefined) return cause;
  return new ConnectionError(`Cannot connect to ${path}: ${reason}`, { kind: "refused", cause });
}

const CONNECT_HINTS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such socket; start the server first",
  ECONNREFUSED: "no server listens there any more; start the server first",
  EACCES: "permission denied; it takes write permission on the socket",
};
