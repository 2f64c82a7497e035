/**
 * `Pending`: a request of ours from its making to its end, and the errors that may end it.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import {
  ConnectionError,
  endedDuring,
  RemoteError,
  type RequestInFlight,
  TimeoutError,
} from "../base/errors.ts";
import { commandName } from "../wire/command.ts";
import type { Message } from "./message.ts";
import type { Role } from "./peer.ts";

/** The time to wait for the reply, and the descriptors that may come with it. */
export interface RequestOptions {
  /**
   * Bulk data behind the payload. Large data are sent from where they are; the buffer is free again
   * when the call returns.
   */
  data?: Uint8Array;
  /**
   * The buffer for the data at the end of the reply, if there are so many. The data are there if
   * the reply says `isPlaced`; else they are in its payload. The caller leaves the buffer alone
   * until the request has ended: a buffer that is detached or resized meanwhile fails the request.
   */
  into?: Uint8Array;
  /** Descriptors to pass. They stay the caller's, and open until the request has ended. */
  fds?: readonly OwnedFd[];
  /**
   * The number of descriptors that the reply may carry. Descriptors where none belong close the
   * connection. Default 0.
   */
  maxReplyFds?: number;
  /**
   * In milliseconds; default that of the proxy. Infinity waits as long as the connection lasts.
   */
  timeoutMs?: number;
  /**
   * The action, for errors: "read 4 bytes of bar0". A function is called only if there is
   * an error. Default the name of the command.
   */
  doing?: string | (() => string);
}

/** Options of an asynchronous request, which can be cancelled. */
export interface AsyncRequestOptions extends RequestOptions {
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

/** A request that is waiting for its turn or its reply. */
export interface Pending {
  /** Set once the request is sent. */
  id: number | undefined;
  readonly command: number;
  readonly doing: string | (() => string) | undefined;
  readonly maxReplyFds: number;
  readonly into: Uint8Array | undefined;
  /** Bytes of `into` when the request was made. */
  readonly intoSize: number;
  readonly timeoutMs: number;
  readonly deadline: number;
  /** Set for an asynchronous request. */
  settle: ((reply: Message | undefined, error: Error | undefined) => void) | undefined;
  reply: Message | undefined;
  error: Error | undefined;
  isDone: boolean;
}

/**
 * Makes a request that is not sent yet. Its time runs from here on.
 *
 * @throws {RangeError} if the timeout is no number
 * @throws {TypeError} if the buffer for the reply's data is detached
 */
export function makePending(command: number, options: RequestOptions, timeoutMs: number): Pending {
  if (Number.isNaN(timeoutMs)) {
    throw new RangeError("A timeout is a number of milliseconds, not NaN");
  }
  if ((options.into?.buffer as ArrayBuffer | undefined)?.detached) {
    throw new TypeError(`Cannot ask for ${commandName(command)}: the buffer for it is detached`);
  }
  return {
    id: undefined,
    command,
    doing: options.doing,
    maxReplyFds: options.maxReplyFds ?? 0,
    into: options.into,
    intoSize: options.into?.length ?? 0,
    timeoutMs,
    deadline: monotonicMs() + timeoutMs,
    settle: undefined,
    reply: undefined,
    error: undefined,
    isDone: false,
  };
}

/** True if the buffer for the reply's data was detached or resized since the request was made. */
export function hasLostBuffer({ into, intoSize }: Pending): boolean {
  return into !== undefined && into.length !== intoSize;
}

/** Copies the bulk data of a request that is sent later: the caller's buffer may change. */
export function ownData<T extends RequestOptions>(options: T): T {
  return options.data ? { ...options, data: options.data.slice() } : options;
}

/** The failure of a request whose buffer for the reply's data was detached or resized. */
export function detachedError(pending: Pending): TypeError {
  return new TypeError(
    `Cannot ${describeDoing(pending)}: the buffer for the answer was detached or resized meanwhile`,
  );
}

/** The failure of a request that the end of the connection leaves without a reply. */
export function endedError(error: Error, pending: Pending, oldest: Pending): Error {
  if (!(error instanceof ConnectionError)) return error;
  const own = describeInFlight(pending);
  return endedDuring(error, own, pending === oldest ? own : describeInFlight(oldest));
}

/** A request as errors describe it. */
export function describeInFlight(
  { command, doing }: Pick<Pending, "command" | "doing">,
): RequestInFlight {
  return { command, doing: describeDoing({ command, doing }) };
}

/** The failure of a request whose reply did not come in time. */
export function timeoutError(pending: Pending, peer: Role): TimeoutError {
  const within = `${Math.round(pending.timeoutMs)} ms`;
  return new TimeoutError(
    `Cannot ${describeDoing(pending)}: the ${peer} did not answer within ${within}`,
  );
}

/** The failure of a request that the peer answered with an errno. */
export function remoteError(pending: Pending, peer: Role, errno: number): RemoteError {
  return new RemoteError(`Cannot ${describeDoing(pending)}`, errno, peer);
}

function describeDoing({ command, doing }: Pick<Pending, "command" | "doing">): string {
  if (typeof doing === "function") return doing();
  return doing ?? `complete ${commandName(command)}`;
}
