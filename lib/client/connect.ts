/**
 * The client's end: `connect` makes a connection, agrees on a version and returns the {@linkcode
 * Device}.
 *
 * @module
 */

import { describeErrno, EINVAL, SystemError } from "../../ffi/errno.ts";
import { monotonicMs } from "../../ffi/clock.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { Device } from "./device.ts";
import type { Negotiated } from "./info.ts";
import { ConnectionError, ProtocolError, TimeoutError } from "../base/errors.ts";
import {
  DEFAULT_MAX_DATA_XFER_SIZE,
  DEFAULT_MAX_DMA_MAPS,
  DEFAULT_MAX_MSG_FDS,
  DEFAULT_PGSIZES,
  DEFAULT_TIMEOUT_MS,
  HEADER_SIZE,
  MAX_REGION_INFO_SIZE,
  MESSAGE_OVERHEAD,
  MIN_LOGGING_PAGE_SIZE,
  OFFERED_MAX_DATA_XFER_SIZE,
  OFFERED_MAX_MSG_FDS,
} from "../base/limits.ts";
import { type ProxyOptions, VfioProxy } from "../transport/proxy.ts";
import type { Trace } from "../transport/message.ts";
import type { Message } from "../transport/message.ts";
import { strangersWords } from "./stranger.ts";
import { Command } from "../wire/command.ts";
import {
  type Capabilities,
  capabilitiesOf,
  decodeVersion,
  encodeVersion,
  limitsOf,
  PROTOCOL_VERSION,
} from "../wire/version.ts";
import { plural } from "../text/plural.ts";

/** Options of a connection. */
export interface ConnectOptions {
  /**
   * Limit in milliseconds for connecting, for VERSION, and for later requests without a limit of
   * their own. Default 5000.
   */
  timeoutMs?: number;
  /** Cancels the connecting, with its reason. */
  signal?: AbortSignal;
  /** Sees every message. */
  trace?: Trace;
  /** The minor version to propose; default 2. */
  minor?: number;
  /** Capabilities of this client, in place of the defaults. */
  capabilities?: Pick<
    Capabilities,
    "maxMsgFds" | "maxDataXferSize" | "maxDmaMaps" | "pgsizes" | "writeMultiple" | "extra"
  >;
  /**
   * True to ask for a twin socket for the server's commands; default true. Servers without one
   * ignore it.
   */
  twinSocket?: boolean;
}

/** The message id of the first request of a connection. */
const VERSION_ID = 1;

/** Milliseconds until a full listen queue is tried again. */
const RETRY_MS = 20;

/**
 * Connects to a vfio-user server and agrees on version and capabilities.
 *
 * @param target the path of the server's socket, or the descriptor of a connected socket, which is
 *   taken over
 * @throws {ConnectionError} if no connection is possible; the message says why and what to try
 * @throws {TimeoutError} if the server does not answer
 * @throws {RemoteError} if it refuses the version
 * @throws {ProtocolError} if its answer breaks the protocol
 *
 * @example
 * ```ts
 * import { connect } from "./connect.ts";
 * import { DemoDevice } from "../devices/demo_device.ts";
 * import { Server } from "../server/server.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice()); // in another process, usually
 * using device = await connect(path);
 * const { numRegions } = await device.info();
 * console.assert(numRegions === 9);
 * ```
 */
export async function connect(
  target: string | number,
  options: ConnectOptions = {},
): Promise<Device> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const deadline = monotonicMs() + timeoutMs;
  const socket = typeof target === "number"
    ? adoptSocket(target)
    : await openSocket(target, deadline, timeoutMs, options.signal);
  let device: Device | undefined;
  const proxyOptions: ProxyOptions = {
    role: "client",
    timeoutMs,
    handler: (request) => {
      if (device !== undefined) return device.serve(request);
      if (request.command === Command.VERSION) return proxy.close(notServer());
      request.fail(EINVAL);
    },
    ...(options.trace && { trace: options.trace }),
  };
  // The connection is both sockets, if there is a twin: the end of one is the end of the other.
  const proxy = new VfioProxy(socket, {
    ...proxyOptions,
    onClose: (cause) => proxy.twin?.close(cause),
  });
  try {
    const negotiated = await negotiate(proxy, proxyOptions, timeoutMs, options);
    return device = new Device(proxy, negotiated);
  } catch (error) {
    proxy.close();
    throw error;
  }
}

/** Only clients send VERSION: a peer that sends it here is a client itself, or an echo. */
function notServer(): ProtocolError {
  return new ProtocolError(
    "Cannot agree on a version: it is no vfio-user server; it sent a VERSION request, " +
      "as a client does, or as an echo of ours",
  );
}

async function negotiate(
  proxy: VfioProxy,
  proxyOptions: ProxyOptions,
  timeoutMs: number,
  options: ConnectOptions,
): Promise<Negotiated> {
  const client = capabilitiesOf({
    maxMsgFds: OFFERED_MAX_MSG_FDS,
    maxDataXferSize: OFFERED_MAX_DATA_XFER_SIZE,
    maxDmaMaps: DEFAULT_MAX_DMA_MAPS,
    pgsizes: BigInt(DEFAULT_PGSIZES),
    writeMultiple: true,
    migration: { pgsize: MIN_LOGGING_PAGE_SIZE }, // a server that has it says it only then
    twinSocket: wantsTwin(options) ? { supported: true } : undefined,
    ...options.capabilities,
  });
  const { major } = PROTOCOL_VERSION;
  const minor = options.minor ?? PROTOCOL_VERSION.minor;
  const maxFds = client.maxMsgFds ?? DEFAULT_MAX_MSG_FDS;
  const doing = `agree on a version (proposed ${major}.${minor})`;
  let reply: Message;
  try {
    reply = await proxy.request(
      Command.VERSION,
      encodeVersion({ major, minor, capabilities: client }),
      {
        timeoutMs,
        maxReplyFds: wantsTwin(options) ? Math.max(1, maxFds) : 0,
        doing,
        ...(options.signal && { signal: options.signal }),
      },
    );
  } catch (error) {
    throw explainNoVersion(error, doing, proxy.untaken);
  }
  const fds = reply.takeFds();
  try {
    const negotiated = checkReply(reply, client, minor);
    proxy.peerMaxFds = negotiated.maxMsgFds;
    proxy.limits = {
      maxFds,
      maxMessageSize: HEADER_SIZE + MESSAGE_OVERHEAD +
        Math.max(client.maxDataXferSize ?? DEFAULT_MAX_DATA_XFER_SIZE, MAX_REGION_INFO_SIZE),
    };
    proxy.twin = takeTwin(negotiated, fds, proxy, proxyOptions, options);
    return negotiated;
  } finally {
    closeAll(fds);
  }
}

/** A server that can't pass a descriptor to us has no use for the question. */
function wantsTwin({ twinSocket = true, capabilities }: ConnectOptions): boolean {
  return twinSocket && (capabilities?.maxMsgFds ?? OFFERED_MAX_MSG_FDS) > 0;
}

/** Checks the server's answer by the rules of the specification's "VFIO_USER_VERSION". */
function checkReply(reply: Message, client: Capabilities, proposedMinor: number): Negotiated {
  const { major, minor, capabilities: server } = decodeVersion(reply.payload);
  if (major !== PROTOCOL_VERSION.major) {
    throw new ProtocolError(
      `The server answered version ${major}.${minor}, which we do not speak: ` +
        `we proposed 0.${proposedMinor}`,
    );
  }
  if (minor > proposedMinor) {
    throw new ProtocolError(
      `The server answered version ${major}.${minor}, greater than the 0.${proposedMinor} proposed`,
    );
  }
  const { maxMsgFds, maxDataXferSize } = limitsOf(server);
  const ourSize = client.maxDataXferSize ?? DEFAULT_MAX_DATA_XFER_SIZE;
  return {
    major,
    minor,
    server,
    client,
    maxMsgFds,
    maxDataXferSize: Math.min(ourSize, maxDataXferSize),
    maxDmaMaps: server.maxDmaMaps ?? DEFAULT_MAX_DMA_MAPS,
    pgsizes: server.pgsizes ?? BigInt(DEFAULT_PGSIZES),
    writeMultiple: (client.writeMultiple ?? false) && (server.writeMultiple ?? false),
    twinSocket: server.twinSocket?.supported ?? false,
  };
}

/** The proxy on the socket that the server made for its own commands, if both want it. */
function takeTwin(
  negotiated: Negotiated,
  fds: OwnedFd[],
  proxy: VfioProxy,
  proxyOptions: ProxyOptions,
  options: ConnectOptions,
): VfioProxy | undefined {
  if (!negotiated.twinSocket) return undefined;
  if (!wantsTwin(options)) {
    throw new ProtocolError("The server answered with a twin socket, which was not asked for");
  }
  const index = negotiated.server.twinSocket?.fdIndex;
  const fd = index === undefined ? undefined : fds[index];
  if (fd === undefined) {
    throw new ProtocolError(
      `The server answered that it made a twin socket, but its fd_index is ${
        index ?? "missing"
      } and ${plural(fds.length, "file descriptor")} came`,
    );
  }
  let socket: UnixSocket;
  try {
    socket = UnixSocket.adopt(fd.fd);
  } catch (cause) {
    throw new ProtocolError("The twin socket that the server passed is not a UNIX stream socket", {
      cause,
    });
  }
  fd.release();
  const twin = new VfioProxy(socket, { ...proxyOptions, onClose: (cause) => proxy.close(cause) });
  twin.limits = proxy.limits;
  return twin;
}

/** Takes over a connected socket. A descriptor that can't be used stays the caller's. */
function adoptSocket(fd: number): UnixSocket {
  try {
    return UnixSocket.adopt(fd);
  } catch (cause) {
    if (cause instanceof TypeError || cause instanceof SystemError) {
      throw new ConnectionError(cause.message, { kind: "refused", cause });
    }
    throw cause;
  }
}

/** Connects, trying again while the server's queue of clients is full. */
async function openSocket(
  path: string,
  deadline: number,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<UnixSocket> {
  while (true) {
    signal?.throwIfAborted();
    let socket: UnixSocket | undefined;
    try {
      socket = UnixSocket.connect(path);
    } catch (error) {
      throw error instanceof Error ? explain(path, error) : error;
    }
    if (socket !== undefined) return socket;
    if (monotonicMs() >= deadline) {
      throw new TimeoutError(
        `Cannot connect to ${path}: the server did not accept within ${timeoutMs} ms; ` +
          "it may be busy with another client",
      );
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** Says what a user can do about a VERSION that got no reply. */
function explainNoVersion(error: unknown, doing: string, untaken: Uint8Array): unknown {
  const isOurs = error instanceof TimeoutError || error instanceof ConnectionError ||
    error instanceof ProtocolError;
  if (!isOurs) return error;
  const said = strangersWords(untaken, VERSION_ID);
  if (said !== undefined) {
    const message = `Cannot ${doing}: it is no vfio-user server; it said: ${said}`;
    return new ProtocolError(message, { cause: error });
  }
  if (error instanceof TimeoutError) {
    return new TimeoutError(
      `${error.message}; it may be busy with another client, or be no vfio-user server`,
      { cause: error },
    );
  }
  if (error instanceof ConnectionError) {
    // A socket that is reset was never accepted: its server listens no more.
    const maybe = error.kind === "lost"
      ? "serve another client, and no second one as QEMU 7.2's does,"
      : "refuse this version,";
    return new ConnectionError(
      `${error.message}; it may ${maybe} or be no vfio-user server`,
      { cause: error },
    );
  }
  return error;
}

/** Says what a user can do about a failed connect. */
function explain(path: string, error: Error): Error {
  if (error instanceof RangeError) {
    return new ConnectionError(`Cannot connect to ${path}: ${error.message}`, {
      kind: "refused",
      cause: error,
    });
  }
  if (!(error instanceof SystemError)) return error;
  let hint: string;
  switch (error.code) {
    case "ENOENT":
    case "ENOTDIR":
      hint = "there is no such file; start the server, or check the path";
      break;
    case "EACCES":
      hint = "permission denied; it takes write permission on the socket and " +
        "search permission on its folders";
      break;
    case "ECONNREFUSED":
      hint = isSocket(path) === false
        ? "it is not a socket; give the path that the server was started with"
        : "no process listens on it: the server has ended, or serves one client only, as " +
          "QEMU 7.2's does; start it again, and do all in one connection (vfu shell, vfu run)";
      break;
    case "EPROTOTYPE":
      hint = "it is a socket of another type, not a stream: it is no vfio-user server's";
      break;
    default:
      hint = describeErrno(error.errno);
  }
  return new ConnectionError(`Cannot connect to ${path}: ${hint}`, {
    kind: "refused",
    cause: error,
  });
}

/** Returns undefined where Deno may not look. The user is not asked for the permission now. */
function isSocket(path: string): boolean | undefined {
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return undefined;
  try {
    return Deno.statSync(path).isSocket ?? undefined;
  } catch {
    return undefined;
  }
}
