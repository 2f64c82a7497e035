/**
 * The side socket: others look at a device while its client uses it.
 *
 * @module
 */

import { EBUSY, EINVAL, EIO, ENOTCONN, ENOTSUP, EPERM, SystemError } from "../../ffi/errno.ts";
import { POLLIN } from "../../ffi/event.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import { UnixListener } from "../../ffi/listener.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { ConnectionError, ProtocolError } from "../base/errors.ts";
import { HEADER_SIZE, MAX_SIDE_CLIENTS, MESSAGE_OVERHEAD, SIDE_MAX_DATA } from "../base/limits.ts";
import type { IncomingRequest } from "../transport/incoming.ts";
import { limitHandshake } from "../transport/handshake.ts";
import { VfioProxy } from "../transport/proxy.ts";
import { RegionReadRequest, RegionWriteRequest } from "../wire/access.ts";
import { Command, commandName } from "../wire/command.ts";
import { decodeVersion, encodeVersion, subsetOf } from "../wire/version.ts";
import type { RecordedConnection } from "./connection.ts";
import { withholdMapping } from "./intercept.ts";
import type { Passage } from "./passage.ts";
import { plural } from "../text/plural.ts";

/** The options of the side socket. */
export interface SideOptions {
  /** True if commands that change the device are let in as well. */
  readonly allowsWrites: boolean;
  /** The connection that the device's client uses now; undefined while there is none. */
  readonly current: () => RecordedConnection | undefined;
  /** Hears why a request was refused. */
  readonly onRefuse: (text: string) => void;
  /** The time that a client has to send its VERSION. In milliseconds; default 5000. */
  readonly handshakeTimeoutMs?: number;
}

const READING: ReadonlySet<number> = new Set([
  Command.DEVICE_GET_INFO,
  Command.DEVICE_GET_REGION_INFO,
  Command.DEVICE_GET_IRQ_INFO,
  Command.REGION_READ,
]);

const WRITING: ReadonlySet<number> = new Set([
  Command.REGION_WRITE,
  Command.DEVICE_RESET,
  Command.DEVICE_SET_IRQS,
]);

/** Why a request is not let in. */
class Refused extends Error {
  constructor(readonly errno: number, message: string) {
    super(message);
  }
}

/** Listens for those who want to look, and lets their requests in. */
export class SideSocket implements Disposable {
  readonly #listener: UnixListener;
  readonly #options: SideOptions;
  readonly #clients = new Set<VfioProxy>();
  #accepting: Watch | undefined;

  private constructor(listener: UnixListener, options: SideOptions) {
    this.#listener = listener;
    this.#options = options;
    this.#accept();
  }

  /**
   * Listens at a path.
   *
   * @throws {SystemError} as listening fails
   */
  static listen(path: string, options: SideOptions): SideSocket {
    return new SideSocket(UnixListener.listen(path), options);
  }

  /** Takes connections as long as there is room for more. */
  #accept(): void {
    if (!this.#listener.isOpen || this.#clients.size >= MAX_SIDE_CLIENTS) return;
    this.#accepting ??= watch(this.#listener.fd, POLLIN, () => {
      try {
        const socket = this.#listener.accept();
        if (socket !== undefined) this.#serve(socket);
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        this.#options.onRefuse(error.message);
        this.#pause(); // until a client that is connected leaves
      }
      if (this.#clients.size >= MAX_SIDE_CLIENTS) this.#pause();
    });
  }

  #pause(): void {
    this.#accepting?.close();
    this.#accepting = undefined;
  }

  #serve(socket: UnixSocket): void {
    const hasSpoken = limitHandshake(
      (cause) => proxy.close(cause),
      this.#options.handshakeTimeoutMs,
    );
    const client = new SideClient(this.#options);
    const proxy: VfioProxy = new VfioProxy(socket, {
      role: "server",
      handler: (request) => {
        hasSpoken();
        return client.serve(request, proxy);
      },
      onClose: () => {
        hasSpoken();
        this.#clients.delete(proxy);
        this.#accept();
      },
    });
    this.#clients.add(proxy);
    proxy.serving = true;
  }

  /** The device's client is gone: those at its side are disconnected. */
  disconnectAll(): void {
    for (const proxy of [...this.#clients]) proxy.close();
  }

  /** Stops listening, and disconnects all. */
  [Symbol.dispose](): void {
    this.#pause();
    this.#listener[Symbol.dispose]();
    this.disconnectAll();
  }
}

/** One who looks. */
class SideClient {
  readonly #options: SideOptions;
  #connection: RecordedConnection | undefined; // since its VERSION

  constructor(options: SideOptions) {
    this.#options = options;
  }

  async serve(request: IncomingRequest, proxy: VfioProxy): Promise<void> {
    try {
      if (request.command === Command.VERSION) return this.#negotiate(request, proxy);
      await this.#letIn(request);
    } catch (error) {
      const errno = error instanceof Refused
        ? error.errno
        : error instanceof ProtocolError
        ? EINVAL
        : EIO;
      const { message } = error as Error;
      // Clients that only look ask for these, too, and do without.
      if (request.command !== Command.DEVICE_GET_REGION_IO_FDS) {
        this.#options.onRefuse(`${commandName(request.command)}: ${message}`);
      }
      if (!request.isAnswered) request.fail(errno);
      if (this.#connection === undefined) proxy.close(new ConnectionError(message));
    }
  }

  #negotiate(request: IncomingRequest, proxy: VfioProxy): void {
    const connection = this.#options.current();
    const theirs = connection?.version;
    if (connection === undefined || theirs === undefined) {
      throw new Refused(ENOTCONN, "no client uses the device now");
    }
    const { major, minor, capabilities } = decodeVersion(request.payload);
    if (major !== theirs.major) {
      throw new Refused(EINVAL, `the server speaks version ${theirs.major}.${theirs.minor}`);
    }
    this.#connection = connection;
    proxy.limits = {
      maxFds: proxy.limits.maxFds,
      maxMessageSize: HEADER_SIZE + MESSAGE_OVERHEAD + SIDE_MAX_DATA,
    };
    request.reply(encodeVersion({
      major,
      minor: Math.min(minor, theirs.minor),
      capabilities: subsetOf(capabilities, {
        maxMsgFds: 1,
        maxDataXferSize: Math.min(
          theirs.capabilities.maxDataXferSize ?? SIDE_MAX_DATA,
          SIDE_MAX_DATA,
        ),
        maxDmaMaps: undefined,
        pgsizes: undefined,
        writeMultiple: undefined,
        twinSocket: undefined,
        migration: undefined,
      }),
      extra: {},
    }));
  }

  async #letIn(request: IncomingRequest): Promise<void> {
    const { command, payload, noReply } = request;
    const connection = this.#connection;
    if (connection === undefined) throw new Refused(EINVAL, "the first command is not VERSION");
    this.#check(request);
    const side = connection === this.#options.current() ? connection.side : undefined;
    if (side === undefined) throw new Refused(ENOTCONN, "the device's client has left");
    const { errno, payload: answer } = await side.request(command, payload.slice());
    if (errno === EBUSY) this.#options.onRefuse(`${commandName(command)}: the device is busy`);
    if (noReply || request.isAnswered) return;
    if (errno !== 0) return request.fail(errno ?? 0);
    request.reply(command === Command.DEVICE_GET_REGION_INFO ? unmappable(answer) : answer);
  }

  /** Refuses what would change the device or its client's view of it. */
  #check({ command, payload, fdCount }: IncomingRequest): void {
    if (!READING.has(command) && !WRITING.has(command)) {
      throw new Refused(ENOTSUP, "it is not let in at the side socket");
    }
    if (WRITING.has(command) && !this.#options.allowsWrites) {
      throw new Refused(EPERM, "it changes the device; --side-writes allows that");
    }
    if (fdCount > 0) throw new Refused(ENOTSUP, "descriptors are not let in at the side socket");
    if (command !== Command.REGION_READ && command !== Command.REGION_WRITE) return;
    const { count } = command === Command.REGION_READ
      ? RegionReadRequest.decode(payload)
      : { count: RegionWriteRequest.decode(payload).data.length };
    if (count > SIDE_MAX_DATA) {
      throw new Refused(EINVAL, `${plural(count, "byte")} at once, ${SIDE_MAX_DATA} are allowed`);
    }
  }
}

/** A region info that offers no mapping: its descriptor stays with the recorder. */
function unmappable(payload: Uint8Array<ArrayBuffer>): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE + payload.length);
  bytes.set(payload, HEADER_SIZE);
  const passage: Passage = {
    bytes,
    view: new DataView(bytes.buffer),
    command: Command.DEVICE_GET_REGION_INFO,
    isReply: true,
    fds: [],
    descriptors: [],
    replacement: undefined,
    comment: undefined,
    isPassed: false,
    isOurs: false,
  };
  withholdMapping(passage);
  return (passage.replacement ?? bytes).subarray(HEADER_SIZE);
}
