/**
 * One client of a server: negotiation, then its requests, dispatched to the device.
 *
 * Errors are answered as libvfio-user does: EINVAL for anything out of range or malformed. The
 * connection lives on, unless the first VERSION fails or a message can't be delimited.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { within } from "../base/wait.ts";
import { ProtocolError } from "../base/errors.ts";
import {
  HEADER_SIZE,
  HOOK_PATIENCE_MS,
  MESSAGE_OVERHEAD,
  QUIESCE_TIMEOUT_MS,
  SERVE_SEND_BUFFER,
} from "../base/limits.ts";
import { limitHandshake } from "../transport/handshake.ts";
import type { IncomingRequest } from "../transport/incoming.ts";
import { VfioProxy } from "../transport/proxy.ts";
import type { Trace } from "../transport/message.ts";
import { asError } from "../base/thrown.ts";
import { Command, commandName } from "../wire/command.ts";
import { deviceStateName } from "../wire/feature.ts";
import {
  type Capabilities,
  decodeVersion,
  encodeVersion,
  limitsOf,
  PROTOCOL_VERSION,
  VERSION_NUMBERS_SIZE,
} from "../wire/version.ts";
import { type Activity, Doing, during } from "./activity.ts";
import type { DmaRange } from "./device_dma.ts";
import { DeviceError, type ServedAccess, type ServedDevice } from "./served_device.ts";
import { ClientMemory, type DmaOptions } from "./client_memory.ts";
import type { Faults } from "./faults.ts";
import type { Offer } from "./offer.ts";
import { ClientIoFds, type IoFdPlace } from "./io_fds.ts";
import { AnswerBuffer, type ClientSession, handlerOf } from "./handlers.ts";
import { callHook, reportLater } from "./device_hooks.ts";
import { ClientIrqs } from "./client_irqs.ts";
import { MigrationMachine } from "./migration.ts";
import { errnoOf, isExpected, Refusals, type RefusedRequest } from "./refusals.ts";
import { RunningHooks } from "./running_hooks.ts";
import { handOver, shapeChanges } from "./succession.ts";

/** Reports of a connection to its server, and the connection's settings. */
export interface ConnectionOptions extends DmaOptions {
  /** Limits and capabilities of this server. */
  offer: Offer;
  /** Sees every message. */
  trace?: Trace | undefined;
  /** The time that a client may take to send its VERSION. In milliseconds; default 5000. */
  handshakeTimeoutMs?: number | undefined;
  /** The time that a device may take to become quiet. In milliseconds; default 4000. */
  quiesceTimeoutMs?: number | undefined;
  /** Faults that are injected on purpose. */
  faults?: Faults | undefined;
  /** Hears of what a device hook threw that was no DeviceError, and why a state was refused. */
  onError: (error: unknown, doing: string) => void;
  /** Hears of each access to a region that was done. */
  onAccess?: ((access: ServedAccess) => void) | undefined;
  /** Hears why a request was refused, ahead of its answer. */
  onRefuse?: ((refusal: RefusedRequest) => void) | undefined;
  /** Hears when the thread enters and leaves the device's code. */
  activity?: Activity | undefined;
  /**
   * Called once when the client is gone and its last request is done, with the reason why the
   * client went.
   */
  onClose: (cause: Error | undefined) => void;
}

/** One connected client. */
export class ServerConnection {
  readonly #proxy: VfioProxy;
  #device: ServedDevice;
  readonly #options: ConnectionOptions;
  readonly #hasSpoken: () => void;
  #migration: MigrationMachine | undefined; // if the device migrates
  readonly #running: RunningHooks;
  readonly #refusals = new Refusals();
  #isReleased = false; // whether the client is gone
  #replacing: Promise<void> | undefined; // while the device is being replaced
  #session: ClientSession | undefined; // once the client has sent its VERSION
  #twin: VfioProxy | undefined; // for the server's own commands, if the client wants that

  /** Takes over an accepted socket and serves it. */
  constructor(socket: UnixSocket, device: ServedDevice, options: ConnectionOptions) {
    this.#device = device;
    this.#options = options;
    this.#migration = MigrationMachine.of(device);
    this.#running = new RunningHooks(() =>
      options.onError(
        new Error(
          `A hook that the client has called still runs, ${HOOK_PATIENCE_MS} ms after it left: ` +
            "no other client is served before it ends",
        ),
        "disconnect",
      )
    );
    socket.setSendBuffer(SERVE_SEND_BUFFER);
    this.#hasSpoken = limitHandshake(
      (cause) => this.#proxy.close(cause),
      options.handshakeTimeoutMs,
    );
    const { faults, activity } = options;
    const handle = activity === undefined
      ? (request: IncomingRequest) => this.#handle(request)
      : (request: IncomingRequest) => {
        const before = activity.enter(request.command);
        try {
          return this.#handle(request);
        } finally {
          activity.leave(before);
        }
      };
    const ended = new AbortController();
    const faulty = {
      serve: handle,
      refuse: (request: IncomingRequest, error: Error) => this.#refuse(request, error),
      close: () => this.#proxy.close(),
      signal: ended.signal,
    };
    this.#proxy = new VfioProxy(socket, {
      role: "server",
      handler: faults ? (request) => faults.serve(request, faulty) : handle,
      ...(options.trace && { trace: options.trace }),
      onClose: (cause) => {
        ended.abort();
        this.#hasSpoken();
        this.#release(cause);
        // The next client does not get a device that is still busy with this one's request.
        if (this.#running.isIdle) options.onClose(cause);
        else this.#running.after(() => options.onClose(cause));
      },
    });
    this.#proxy.serving = true;
  }

  /** Ends the connection. The server that does it sees itself how long hooks take. */
  close(): void {
    this.#running.close();
    this.#proxy.close();
  }

  /**
   * Replaces the device by a new version of it, between two requests. Those that come meanwhile
   * wait. The client notices nothing: its memory and its descriptors stay as they are. The old
   * version hears that its client is gone, and is the caller's.
   *
   * @returns what of the state was lost, in words
   * @throws {Error} if the client could not go on with it, or as `handOver` of `succession.ts`: the
   *   device is the old one then
   */
  async replaceDevice(next: ServedDevice): Promise<readonly string[]> {
    const changes = shapeChanges(this.#device, next);
    if (changes.length > 0) {
      throw new Error(`the client knows the device as it was: ${changes.join("; ")}`);
    }
    const before = this.#running.ended();
    const hold = this.#running.hold();
    this.#replacing = hold.released;
    try {
      const { quiesceTimeoutMs: limit = QUIESCE_TIMEOUT_MS } = this.#options;
      const late = () => new Error(`a request of the client is under way for ${limit} ms`);
      await within(before, limit, late);
      return await this.#replaceDevice(next, limit);
    } finally {
      this.#replacing = undefined;
      hold.release();
    }
  }

  async #replaceDevice(next: ServedDevice, quiesceTimeoutMs: number): Promise<readonly string[]> {
    const old = this.#device;
    let disconnect = () => {};
    const lost = await handOver({
      old,
      next,
      quiesceTimeoutMs,
      report: (error, doing) => this.#options.onError(error, doing),
      connect: () => {
        if (this.#isReleased) throw new Error("the client has left meanwhile");
        return disconnect = this.#connect(next);
      },
    });
    this.#device = next;
    this.#migration = MigrationMachine.of(next);
    const session = this.#session;
    if (session === undefined) return lost;
    this.#session = { ...session, device: next, migration: this.#migration };
    session.ioFds.rebind(old.regions, next.regions);
    session.irqs.repeatMasks();
    // If the client left while the new version was started, the old one has heard so already.
    if (this.#isReleased) disconnect();
    else this.#disconnect(old, session.memory.maps());
    return lost;
  }

  /** Tells a device of the client, and of the client's memory. Returns what undoes that. */
  #connect(device: ServedDevice): () => void {
    const session = this.#session;
    if (session === undefined) return () => {};
    const { memory, irqs } = session;
    const told: DmaRange[] = [];
    const undo = () => this.#disconnect(device, told);
    const connected = device.connected?.({ dma: memory, irqs });
    reportLater(connected, (error) => this.#options.onError(error, "connect"));
    try {
      for (const range of memory.maps()) {
        device.mapped?.(range);
        told.push(range);
      }
    } catch (error) {
      undo();
      throw error;
    }
    return undo;
  }

  /** Tells a device that the client and its memory are gone. */
  #disconnect(device: ServedDevice, ranges: readonly DmaRange[]): void {
    const { activity, onError } = this.#options;
    const tell = (hook: () => unknown, doing: string) =>
      callHook(() => during(activity, Doing.DISCONNECT, hook), (error) => onError(error, doing));
    for (const range of ranges) tell(() => device.unmapped?.(range), "unmapped");
    tell(() => device.disconnected?.(), "disconnect");
  }

  /** Serves a request. Descriptors that its handler does not take are closed after it. */
  #handle(request: IncomingRequest): void | Promise<void> {
    if (this.#replacing !== undefined) {
      return this.#running.track(this.#replacing.then(() => {
        if (!this.#isReleased) return this.#handle(request);
      }));
    }
    try {
      if (this.#session === undefined) return this.#negotiate(request);
      const result = this.#callHandler(request, this.#session);
      if (result instanceof Promise) {
        return this.#running.track(result.catch((error) => this.#refuse(request, error)));
      }
    } catch (error) {
      this.#refuse(request, error);
    }
  }

  /** Lets go of all that was the client's, and tells the device. */
  #release(cause: Error | undefined): void {
    const session = this.#session;
    this.#isReleased = true;
    this.#twin?.close(cause);
    if (session === undefined) return;
    session.ioFds.close();
    session.irqs.close();
    this.#disconnect(this.#device, session.memory.close());
    if (this.#device.resetsWithClient) this.#running.track(this.#resetAfterClient());
  }

  /** Resets a device that does not outlive its client, once the client's requests have ended. */
  async #resetAfterClient(): Promise<void> {
    await this.#running.ended();
    const reset = () =>
      during(this.#options.activity, Doing.DISCONNECT, () => this.#device.reset("disconnected"));
    try {
      const migration = this.#migration?.isWorking === false ? this.#migration : undefined;
      await (migration?.reset(reset, false) ?? reset());
    } catch (error) {
      this.#options.onError(error, "reset");
    }
  }

  /** Tells the device of a mask, which no request may fail by. */
  #masked(index: number, vector: number, isMasked: boolean): void {
    const { activity, onError } = this.#options;
    if (this.#device.masked === undefined) return;
    callHook(
      () => during(activity, Doing.MASK, () => this.#device.masked?.(index, vector, isMasked)),
      (error) => onError(error, "masked"),
    );
  }

  #refuse(request: IncomingRequest, error: unknown): void {
    if (!request.isAnswered) {
      const errno = errnoOf(error);
      this.#options.onRefuse?.({ command: request.command, errno, error });
      request.fail(errno);
    }
    if (this.#refusals.isReported(error)) {
      this.#options.onError(error, commandName(request.command));
    }
    // The first VERSION decides: without one there is nothing to talk about.
    if (this.#session === undefined) {
      this.#proxy.close(asError(error));
    }
  }

  #negotiate(request: IncomingRequest): void {
    if (request.command !== Command.VERSION) {
      throw new ProtocolError(
        `The client's first command is ${commandName(request.command)}, not VERSION`,
      );
    }
    const { major, minor, capabilities } = decodeVersion(request.payload);
    if (major !== PROTOCOL_VERSION.major) {
      throw new ProtocolError(
        `The client proposes version ${major}.${minor}, which we do not speak`,
      );
    }
    this.#hasSpoken();
    const { offer } = this.#options;
    this.#proxy.limits = {
      maxFds: offer.takenFds,
      maxMessageSize: HEADER_SIZE + MESSAGE_OVERHEAD + offer.maxDataXferSize,
    };
    this.#proxy.peerMaxFds = limitsOf(capabilities).maxMsgFds;
    const hasTwin = offer.makesTwin(capabilities);
    const canMigrate = this.#migration !== undefined;
    const reply = encodeVersion({
      ...PROTOCOL_VERSION,
      minor: Math.min(minor, offer.minor),
      capabilities: offer.capabilities({ client: capabilities, hasTwin, canMigrate }),
      // A client that sends JSON gets some, for its reader may insist on it.
      ...(request.payload.length > VERSION_NUMBERS_SIZE && { extra: {} }),
    });
    using twinEnd = hasTwin ? this.#makeTwin() : undefined;
    this.#begin(capabilities);
    request.reply(reply, undefined, twinEnd && [twinEnd]);
  }

  /**
   * Makes a socket for the server's commands; either socket's end is that of both. Returns the
   * client's end of the new socket.
   */
  #makeTwin(): OwnedFd {
    const [ours, theirs] = UnixSocket.pair();
    const { trace } = this.#options;
    this.#twin = new VfioProxy(ours, {
      role: "server",
      ...(trace && { trace }),
      onClose: (cause) => {
        if (cause === undefined) this.#proxy.close();
        else this.#proxy.closeAfterPeer(cause);
      },
    });
    this.#twin.limits = this.#proxy.limits;
    this.#twin.serving = true; // to hear of its end; the client has nothing to ask there
    return new OwnedFd(theirs.release());
  }

  /** From here on the client is one, and the device knows of it. */
  #begin(client: Capabilities): void {
    const { offer } = this.#options;
    const memory = new ClientMemory(this.#twin ?? this.#proxy, client, this.#options, offer);
    const irqs = new ClientIrqs(
      this.#device.irqs,
      (index, vector, isMasked) => this.#masked(index, vector, isMasked),
    );
    const ioFds = new ClientIoFds({
      write: async (place, offset, data) => {
        const isDone = await this.#beside(
          Command.REGION_WRITE,
          () => place.region.write(offset, data),
        );
        if (isDone) this.#saw(place, offset, data, true);
      },
      read: async (place, offset, into) => {
        const isDone = await this.#beside(
          Command.REGION_READ,
          () => place.region.read(offset, into),
        );
        if (isDone) this.#saw(place, offset, into, false);
        return isDone;
      },
    });
    const connected = this.#device.connected?.({ dma: memory, irqs });
    reportLater(connected, (error) => this.#options.onError(error, "connect"));
    this.#session = {
      device: this.#device,
      offer,
      takesWriteMultiple: offer.takesWriteMultiple(client),
      limits: limitsOf(client),
      memory,
      irqs,
      ioFds,
      migration: this.#migration,
      quiesceTimeoutMs: this.#options.quiesceTimeoutMs ?? QUIESCE_TIMEOUT_MS,
      answers: new AnswerBuffer(),
      onAccess: this.#options.onAccess,
      report: (error, doing) => {
        if (!isExpected(error)) this.#options.onError(error, doing);
      },
    };
  }

  #callHandler(request: IncomingRequest, session: ClientSession): void | Promise<void> {
    const { command } = request;
    this.#assertServed(command);
    const handler = handlerOf(command);
    if (typeof handler === "function") return handler(request, session);
    throw new DeviceError(
      handler?.errno ?? EINVAL,
      `${commandName(command)} is not served${handler ? `: ${handler.reason}` : ""}`,
    );
  }

  /** A device that is stopped for a migration does nothing that would change it. */
  #assertServed(command: number): void {
    const migration = this.#migration;
    if (migration === undefined || migration.serves(command)) return;
    throw new DeviceError(
      EINVAL,
      `${commandName(command)} is not served in the state ${deviceStateName(migration.state)}`,
    );
  }

  /** Reports an access that was no message. */
  #saw({ region }: IoFdPlace, offset: number, bytes: Uint8Array, isWrite: boolean): void {
    const { onAccess } = this.#options;
    const index = onAccess === undefined ? -1 : this.#device.regions.indexOf(region);
    if (index >= 0) onAccess!({ index, region, offset, bytes, isWrite });
  }

  /**
   * Does an access that is no message: of an ioeventfd, or an ioregionfd. A request that is under
   * way comes first. Returns whether it succeeded.
   */
  #beside(command: number, act: () => void | Promise<void>): Promise<boolean> {
    const access = async () => {
      try {
        this.#assertServed(command);
        await during(this.#options.activity, Doing.IOEVENTFD, act);
        return true;
      } catch (error) {
        if (!isExpected(error)) this.#options.onError(error, "ioeventfd");
        return false;
      }
    };
    return this.#running.track(
      this.#running.isIdle ? access() : this.#running.ended().then(access),
    );
  }
}
