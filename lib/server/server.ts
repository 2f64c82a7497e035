/**
 * A server: listens, and serves one device to one client after another.
 *
 * @module
 */

import { Acceptor } from "../transport/acceptor.ts";
import { adoptSocket, listenAt } from "../transport/endpoint.ts";
import type { SocketFile, UnixListener } from "../../ffi/listener.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { ConnectionError } from "../base/errors.ts";
import { CLOSE_GRACE_MS, QUIESCE_TIMEOUT_MS } from "../base/limits.ts";
import type { Trace } from "../transport/message.ts";
import { type PeerProcess, peerProcess } from "../transport/peer_process.ts";
import { type Activity, Doing, during } from "./activity.ts";
import { ServerConnection } from "./connection.ts";
import type { RefusedRequest } from "./refusals.ts";
import type { ErrorReport, ServedAccess, ServedDevice } from "./served_device.ts";
import { handOver, type Succession } from "./succession.ts";
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
  /** A client has read or written a region by a message or a descriptor. To be cheap. */
  onAccess?: (access: ServedAccess) => void;
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
  #device: ServedDevice;
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
  #replacing: Promise<void> | undefined; // ends when no replacement is under way
  #handingOver: Promise<readonly string[]> | undefined; // while one device's state goes to another
  #postponed: Replacement | undefined; // until the client has gone

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
    this.#tellErrors(device);
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

  /** The device that is served, which {@linkcode replaceDevice} changes. */
  get device(): ServedDevice {
    return this.#device;
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
    const isBusy = this.#connection !== undefined || this.#handingOver !== undefined;
    if (!isBusy) return this.#finish();
    const { closeTimeoutMs = CLOSE_GRACE_MS } = this.#options;
    this.#grace = setTimeout(() => this.#finish(), closeTimeoutMs);
    if (this.#connection === undefined) this.#finishQuietly();
  }

  /**
   * Replaces the device by a new version of it, which takes over the state. A client that is
   * connected goes on with the new version, and its next requests wait meanwhile. If it can't,
   * because what it knows of the device has changed or the state can't be taken, the client keeps
   * the old version. Then the next client finds the new one. Without a client a device whose state
   * can't be taken begins afresh. The server closes the version that goes.
   *
   * @param make makes the new version, once more if the first can't be used
   * @param tell called when the device was replaced, or that was put off
   * @returns settled when that is decided; rejected with what `make` throws: nothing has changed
   *
   * @example
   * ```ts
   * import { DemoDevice } from "../devices/demo_device.ts";
   * import { Server } from "./server.ts";
   *
   * const path = Deno.makeTempDirSync() + "/demo.sock";
   * using server = Server.listen(path, new DemoDevice());
   * const next = () => new DemoDevice();
   * await server.replaceDevice(next, ({ when }) => console.assert(when === "now"));
   * ```
   */
  replaceDevice(
    make: () => ServedDevice | Promise<ServedDevice>,
    tell: (done: Succession) => void = () => {},
  ): Promise<void> {
    const result = (this.#replacing ?? Promise.resolve()).then(() => this.#replace({ make, tell }));
    const settled = result.catch(() => {}).then(() => {
      if (this.#replacing === settled) this.#replacing = undefined;
    });
    this.#replacing = settled;
    return result;
  }

  async #replace({ make, tell }: Replacement): Promise<void> {
    if (!this.#isOpen) return;
    let next = await make();
    if (!this.#isOpen) return this.#close(next);
    this.#postponed = undefined; // by an older one
    const connection = this.#connection;
    let reason: unknown;
    let lost: readonly string[] = [];
    try {
      this.#tellErrors(next);
      const handing = connection?.replaceDevice(next) ?? this.#replaceIdle(next);
      this.#handingOver = handing.finally(() => void (this.#handingOver = undefined));
      lost = await this.#handingOver;
    } catch (error) {
      this.#close(next);
      if (!this.#isOpen) return;
      if (connection !== undefined) {
        this.#postponed = { make, tell };
        if (this.#connection === undefined && this.#isOpen) {
          return await this.#replace({ make, tell });
        }
        return tell({ when: "next client", reason: error, lost });
      }
      reason = error;
      next = await make();
      this.#tellErrors(next);
    }
    if (this.#isFinished) return this.#close(next);
    const old = this.#device;
    this.#device = next;
    this.#close(old);
    tell({ when: "now", reason, lost });
  }

  #replaceIdle(next: ServedDevice): Promise<readonly string[]> {
    const { quiesceTimeoutMs = QUIESCE_TIMEOUT_MS, onError } = this.#options;
    const report: ErrorReport = (error, doing) => onError?.(error, doing);
    return handOver({ old: this.#device, next, quiesceTimeoutMs, report });
  }

  /** Has a device tell what goes wrong besides requests. */
  #tellErrors(device: ServedDevice): void {
    const { onError, activity } = this.#options;
    device.served?.((error, doing) => onError?.(error, doing), activity);
  }

  #close(device: ServedDevice): void {
    const { activity, onError } = this.#options;
    callHook(
      () => during(activity, Doing.CLOSE, () => device.close?.()),
      (error) => onError?.(error, "close"),
    );
  }

  /** Ends the server once the device, or its new version, is in the hands of no other. */
  #finishQuietly(): void {
    if (this.#handingOver === undefined) return this.#finish();
    this.#handingOver.catch(() => {}).then(() => this.#finish());
  }

  /** Ends the server: no client uses the device any more, or closing took too long. */
  #finish(): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    clearTimeout(this.#grace);
    const { beforeClose, onError } = this.#options;
    const close = () => {
      this.#close(this.#device);
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

  /** Serves a client, once no replacement of the device is under way. */
  #connect(socket: UnixSocket): void {
    if (this.#replacing === undefined) return this.#serve(socket);
    this.#replacing.then(() => this.#isOpen ? this.#connect(socket) : socket.close());
  }

  #serve(socket: UnixSocket): void {
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
        if (!this.#isOpen) return this.#finishQuietly();
        const { make, tell } = this.#postponed ?? {};
        if (make !== undefined) {
          this.replaceDevice(make, tell).catch((error) => onError?.(error, "replace"));
        }
        this.#accept();
      },
    });
    onConnect?.(client);
  }
}

/** The making of a new version of the device. */
interface Replacement {
  readonly make: () => ServedDevice | Promise<ServedDevice>;
  readonly tell: (done: Succession) => void;
}

/** Options that were found to be possible. */
interface Checked {
  readonly faults: Faults | undefined;
  readonly offer: Offer;
}

function check(options: ServerOptions): Checked {
  return { faults: options.faults && new Faults(options.faults), offer: new Offer(options) };
}
