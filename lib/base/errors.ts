/**
 * The errors that a peer can cause. Wrong arguments of our own caller are the built-in `TypeError`
 * and `RangeError`. A failed system call is `SystemError`. An aborted wait rejects with the
 * signal's reason.
 *
 * @module
 */

import { describeErrno, ENOTCONN, errnoName } from "../../ffi/errno.ts";

/** The peer sent what the protocol forbids. The connection it came over is closed. */
export class ProtocolError extends Error {
  /** The name of the class. */
  override readonly name = "ProtocolError";
}

/** Bytes of a message that say nothing the protocol knows: "Cannot decode WHAT: REASON". */
export class DecodeError extends ProtocolError {
  /** The reason alone, as "2 bytes came, 16 are needed". */
  readonly reason: string;

  /** An error about `what`, as "REGION_READ request". */
  constructor(what: string, reason: string, options?: ErrorOptions) {
    super(`Cannot decode ${what}: ${reason}`, options);
    this.reason = reason;
  }
}

/** An access to a region by message. */
export interface RegionAccess {
  /** The access. */
  readonly kind: "read" | "write";
  /** The region index. */
  readonly region: number;
  /** Bytes from the start of the region. */
  readonly offset: number;
  /** Bytes that one message accesses. */
  readonly count: number;
}

/** The peer refused one request with an error reply. The connection goes on. */
export class RemoteError extends Error {
  /** The name of the class. */
  override readonly name = "RemoteError";
  /** The Linux error number in the reply; 0 if the peer gave none. */
  readonly errno: number;
  /** Its name, as "EINVAL". */
  readonly code: string;
  /** The answer in words, as "EINVAL (Invalid argument)". */
  readonly reason: string;
  /** The access that was refused, if the request was one to a region. */
  declare readonly access?: RegionAccess;

  /**
   * A refusal.
   *
   * @param doing what was asked for, as "Cannot read 4 bytes of bar0 at 0x1c"
   * @param peer who refused
   */
  constructor(doing: string, errno: number, peer: "client" | "server" = "server") {
    const reason = errno === 0 ? "with an error, but gave no errno" : describeErrno(errno);
    const remark = peer === "server" && errno === ENOTCONN ? `; ${NOT_CONNECTED}` : "";
    super(`${doing}: the ${peer} answered ${reason}${remark}`);
    this.reason = reason;
    this.errno = errno;
    this.code = errno === 0 ? "" : errnoName(errno);
  }

  /** The same refusal, with its reason added to the message. */
  because(reason: string): this {
    this.message += `; ${reason}`;
    return this;
  }
}

/** The meaning of ENOTCONN, which the side socket of a recorder answers, and hardly a device. */
const NOT_CONNECTED =
  "at the side socket of vfu record, no client is connected to the recorder now";

/** A wait ended before what was waited for came. */
export class TimeoutError extends Error {
  /** The name of the class. */
  override readonly name = "TimeoutError";
}

/** A request that had no reply yet when its connection ended. */
export interface RequestInFlight {
  /** The command's number. */
  readonly command: number;
  /** The request in words, as "read 4 bytes of bar0 at 0x1c". */
  readonly doing: string;
}

/**
 * Why there is no connection:
 *
 * - `"refused"`: it could not be made.
 * - `"left"`: the peer closed its end between two messages.
 * - `"cut"`: the peer closed its end in the middle of a message.
 * - `"lost"`: the socket failed.
 * - `"stuck"`: the peer left too much unread or unanswered.
 * - `"closed"`: it was closed here.
 */
export type ConnectionErrorKind = "refused" | "left" | "cut" | "lost" | "stuck" | "closed";

/**
 * There is no connection: it could not be made, was lost, or was closed. `cause` has the reason.
 */
export class ConnectionError extends Error {
  /** The name of the class. */
  override readonly name = "ConnectionError";
  /** Why there is none. */
  readonly kind: ConnectionErrorKind;
  /** The oldest request in flight when the connection ended. The peer was probably busy with it. */
  declare readonly oldest?: RequestInFlight;
  /** True if the oldest request in flight is the one that failed with this error. */
  declare readonly isOldest?: boolean;
  /** The access that ended with it, if the request was one to a region. */
  declare readonly access?: RegionAccess;

  /** An error; `oldest` is the oldest request in flight, `kind` by default that of a cause. */
  constructor(
    message?: string,
    { oldest, kind, ...options }: ErrorOptions & {
      oldest?: RequestInFlight;
      kind?: ConnectionErrorKind;
    } = {},
  ) {
    super(message, options);
    const { cause } = options;
    this.kind = kind ?? (cause instanceof ConnectionError ? cause.kind : "closed");
    if (oldest !== undefined) this.oldest = oldest;
  }

  /** The same error, with what to try added to the message. */
  because(reason: string): this {
    this.message += `; ${reason}`;
    return this;
  }
}

/** The failure of a request whose connection has ended. It names the request, and the oldest. */
export function endedDuring(
  cause: ConnectionError,
  own: RequestInFlight,
  oldest: RequestInFlight = own,
): ConnectionError {
  const isOldest = own === oldest;
  // Of two requests that are alike in words, the second has nothing to add.
  const before = own.doing === oldest.doing
    ? ""
    : `; the oldest request in flight was to ${oldest.doing}`;
  const error = new ConnectionError(`${sentence(own.doing, cause)}${before}`, { cause, oldest });
  return Object.assign(error, { isOldest });
}

/** The failure of a wait that the end of the connection cuts short. */
export function endedWhile(doing: string, cause: Error | undefined): Error {
  const reason = cause ?? new ConnectionError("The connection to the server was closed");
  if (!(reason instanceof ConnectionError)) return reason;
  return new ConnectionError(sentence(doing, reason), { cause: reason });
}

function sentence(doing: string, { message }: Error): string {
  return `Cannot ${doing}: ${message.charAt(0).toLowerCase()}${message.slice(1)}`;
}
