/**
 * What can go wrong with a peer. Wrong arguments of our own caller are the built-in `TypeError` and
 * `RangeError`; a failed system call is `SystemError`; an aborted wait rejects with the signal's reason.
 *
 * @module
 */

import { describeErrno, errnoName } from "../ffi/errno.ts";

/** The peer sent what the protocol forbids. The connection it came over is closed. */
export class ProtocolError extends Error {
  /** The name of the class. */
  override readonly name = "ProtocolError";
}

/** The peer refused one request with an error reply. The connection goes on. */
export class RemoteError extends Error {
  /** The name of the class. */
  override readonly name = "RemoteError";
  /** The Linux error number in the reply; 0 if the peer gave none. */
  readonly errno: number;
  /** Its name, as "EINVAL". */
  readonly code: string;

  /**
   * A refusal.
   *
   * @param doing what was asked for, as "Cannot read 4 bytes of bar0 at 0x1c"
   * @param peer who refused
   */
  constructor(doing: string, errno: number, peer: "client" | "server" = "server") {
    super(
      `${doing}: the ${peer} answered ${
        errno === 0 ? "with an error, but gave no errno" : describeErrno(errno)
      }`,
    );
    this.errno = errno;
    this.code = errno === 0 ? "" : errnoName(errno);
  }

  /** The same refusal, with its reason added to the message. */
  because(reason: string): this {
    this.message += `; ${reason}`;
    return this;
  }
}

/** A wait ended before what was waited for came. */
export class TimeoutError extends Error {
  /** The name of the class. */
  override readonly name = "TimeoutError";
}

/** There is no connection: it could not be made, was lost, or was closed. `cause` has the reason. */
export class ConnectionError extends Error {
  /** The name of the class. */
  override readonly name = "ConnectionError";
}
