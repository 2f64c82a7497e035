/**
 * A server: listens, and serves one device to one client after another.
 *
 * @module
 */

import { Acceptor } from "../transport/acceptor.ts";
import { adoptSocket, listenAt } from "../transport/endpoint.ts";
import type { SocketFile, UnixListener, UnixSocket } from "../../ffi/socket.ts";
import { ConnectionError } from "../base/errors.ts";
import { CLOSE_GRACE_MS } from "../base/limits.ts";
import type { Trace } from "../transport/message.ts";
import { type PeerProcess, peerProcess } from "../transport/peer_process.ts";
import { type Activity, Doing, during } from "./activity.ts";
import { type RefusedRequest, ServerConnection } from "./connection.ts";
import type { ServedDevice } from "./served_device.ts";
import type { DmaOptions } from "./client_memory.ts";
import { type FaultOptions, Faults } from "./faults.ts";
import { Offer, type ServerOffer } from "./offer.ts";
import { callHook } from "./device_hooks.ts";

/** Options of a server. */
export interface ServerOptions extends DmaOptions, ServerOffer {
  /** Sees every message. */
  trace?: Trace;
  /**
   * The time that a client may take to send its VERSION before the server cuts it off. In
   * milliseconds; default 5000.
   */
  handshakeTimeoutMs?: number;
  /**
   * The time that a device may take to become quiet for a DMA_MAP, a DMA_UNMAP, a reset, or a state
   * in which it stands still. In milliseconds; default 4000.
   */
  quiesceTimeoutMs?: number;
  /** Faults that are injected on purpose, for the author of a client to test it with. */
  faults?: FaultOptions;
  /**
   * The time that `close` waits for a hook that is under way before it closes the device. In
   * milliseconds; default 2000.
   */
  closeTimeoutMs?: number;
  /**
   * Called once no client uses the device, ahead of the device's close, which waits for it.
   *
   * @param isIdle false if a hook of the device still runs
   */
  beforeClose?: (isIdle: boolean) => Promise<void>;
  /** A client has connected, with the process that it is; null if the kernel does not say. */
  onConnect?: (client: PeerProcess | null) => void;
  /** A client is gone; with the reason unless it just left. */
  onDisconnect?: (cause: Error | undefined) => void;
  /**
   * A device hook threw an error other than DeviceError, and the client received EIO. Also called
   * if the device failed by itself, or has refused a state (`RefusedState`). Default: nothing.
   */
  onError?: (error: unknown, doing: string) => void;
  /** A request was refused: called with the reason, which the answer's errno does not tell. */
  onRefuse?: (refusal: RefusedRequest) => void;
  /** Hears when the thread enters and leaves the device's code. */
  activity?: Activity;
}

/**
 * Serves one device. While a client is connected, others wait in the socket's queue. When the
 * client goes, the next one is served, and finds the device as the last one left it. The process is
 * kept alive until `close`.
 *
 * @example
 * ```ts
 * import { DemoDevice } from "../devices/demo_device.ts";
 * import { Server } from "./server.ts";
 *
 * const server = Server.listen(Deno.makeTempDirSync() + "/demo.sock", new DemoDevice());
 * setTimeout(() => server.close(), 10);
 * await server.closed;
 * ```
 */
export class Server implements Disposable {
  readonly #device: ServedDevice;
  readonly #options: ServerOptions;
  readonly #faults: Faults | undefined;
  readonly #offer: Offer;
  readonly #listener: UnixListener | undefined;
  readonly #finished = Promise.withResolvers<void>();
  readonly #acceptor: Acceptor | undefined;
  #grace: ReturnType<typeof setTimeout> | undefined;
  #connection: ServerConnection | undefined;
  #isOpen = true;
  #isFinished = false;

  private constructor(
    listener: UnixListener | undefined,
    device: ServedDevice,
    options: ServerOptions,
    { faults, offer }: Checked,
  ) {
    this.#listener = listener;
    this.#acceptor = listener && new Acceptor(
      listener,
      (socket) => this.#connect(socket),
      (error) => options.onError?.(error, "accept a client"),
    );
    this.#device = device;
    this.#faults = faults;
    this.#offer = offer;
    this.#options = options;
    device.served?.((error, doing) => options.onError?.(error, doing), options.activity);
  }

  /**
   * Listens at a path. A socket file that a dead server left is replaced.
   *
   * @throws {ConnectionError} if another server listens there, the file is no socket, or the path
   *   can't be used
   * @throws {RangeError} if a number in `faults`, or of what is offered, is out of its range
   */
  static listen(path: string, device: ServedDevice, options: ServerOptions = {}): Server {
    const checked = check(options);
    const server = new Server(listenAt(path), device, options, checked);
    server.#accept();
    return server;
  }

  /**
   * Serves the one client at the other end of a connected socket, and is closed when that goes.
   *
   * @param fd taken over, unless it can't be used
   * @throws {ConnectionError} if it is no UNIX stream socket
   * @throws {RangeError} if a number in `faults`, or of what is offered, is out of its range
   */
  static serve(fd: number, device: ServedDevice, options: ServerOptions = {}): Server {
    const checked = check(options);
    const socket = adoptSocket(fd);
    const server = new Server(undefined, device, options, checked);
    server.#connect(socket);
    return server;
  }

  /** Path at which the server listens, if it does. */
  get path(): string | undefined {
    return this.#listener?.path;
  }

  /** The file of its socket, while it listens. */
  get socketFile(): SocketFile | undefined {
    return this.#listener?.isOpen ? this.#listener.file : undefined;
  }

  /** Settled when it is closed. */
  get closed(): Promise<void> {
    return this.#finished.promise;
  }

  /** Stops listening and removes the socket. A client that is connected is served until it goes. */
  stopListening(): void {
    this.#acceptor?.stop();
    if (this.#listener?.isOpen) this.#listener.close();
  }

  /**
   * Ends the client's connection, stops listening, removes the socket and closes the device, there
   * and then. If a hook of the device is under way, the device is closed when the hook is done.
   * `closed` is settled after that.
   */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.stopListening();
    this.#connection?.close();
    if (this.#connection === undefined) return this.#finish();
    const { closeTimeoutMs = CLOSE_GRACE_MS } = this.#options;
    this.#grace = setTimeout(() => this.#finish(), closeTimeoutMs);
  }

  /** Ends the server: no client uses the device any more, or closing took too long. */
  #finish(): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    clearTimeout(this.#grace);
    const { activity, beforeClose, onError } = this.#options;
    const close = () => {
      callHook(
        () => during(activity, Doing.CLOSE, () => this.#device.close?.()),
        (error) => onError?.(error, "close"),
      );
      this.#finished.resolve();
    };
    if (beforeClose === undefined) return close();
    const isIdle = this.#connection === undefined;
    beforeClose(isIdle).catch((error) => onError?.(error, "close")).then(close);
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Waits for the next client. */
  #accept(): void {
    if (this.#listener?.isOpen) this.#acceptor!.next();
    else this.close();
  }

  #connect(socket: UnixSocket): void {
    const { onConnect, onDisconnect, onError } = this.#options;
    const client = onConnect === undefined ? null : peerProcess(socket);
    this.#connection = new ServerConnection(socket, this.#device, {
      ...this.#options,
      faults: this.#faults,
      offer: this.#offer,
      onError: (error, doing) => onError?.(error, doing),
      onClose: (cause) => {
        this.#connection = undefined;
        const hasLeft = cause instanceof ConnectionError && cause.kind === "left";
        onDisconnect?.(hasLeft ? undefined : cause);
        if (this.#isOpen) this.#accept();
        else this.#finish();
      },
    });
    onConnect?.(client);
  }
}

/** Options that were found to be possible. */
interface Checked {
  readonly faults: Faults | undefined;
  readonly offer: Offer;
}

function check(options: ServerOptions): Checked {
  return { faults: options.faults && new Faults(options.faults), offer: new Offer(options) };
}
