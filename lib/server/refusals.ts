/**
 * Requests that are answered with an error: the errno, and whether the server reports the reason.
 *
 * @module
 */

import { EINVAL, EIO, ETIMEDOUT } from "../../ffi/errno.ts";
import { ConnectionError, ProtocolError, RemoteError, TimeoutError } from "../base/errors.ts";
import { CutMapError } from "./client_memory.ts";
import { RefusedState } from "./migration.ts";
import { DeviceError } from "./served_device.ts";

/** A request that was answered with an error. */
export interface RefusedRequest {
  /** Its command's number. */
  readonly command: number;
  /** The error number of the answer. */
  readonly errno: number;
  /** Why: what the client did wrong, or what the device's hook threw. */
  readonly error: unknown;
}

/** The reasons of one client's refusals. */
export class Refusals {
  #state: RefusedState | undefined; // the last that was reported
  #hasCutMap = false; // whether an unmap of a part of a map was reported

  /**
   * Tells if the server reports an error. Some are reported once, though an errno has been
   * answered: the errno does not say enough.
   */
  isReported(error: unknown): boolean {
    if (error instanceof RefusedState) { // the same error is thrown for all that follows
      const isNew = error !== this.#state;
      this.#state = error;
      return isNew;
    }
    if (error instanceof CutMapError) {
      const isFirst = !this.#hasCutMap;
      this.#hasCutMap = true;
      return isFirst;
    }
    return !isExpected(error);
  }
}

const EXPECTED = [DeviceError, ProtocolError, RemoteError, TimeoutError, ConnectionError];

/** Recognizes errors that the client caused or the device intended, which need no report. */
export function isExpected(error: unknown): boolean {
  return EXPECTED.some((type) => error instanceof type);
}

/** The errno with which a request is answered that ends with an error. */
export function errnoOf(error: unknown): number {
  if (error instanceof DeviceError) return error.errno;
  if (error instanceof RemoteError) return error.errno || EIO;
  if (error instanceof TimeoutError) return ETIMEDOUT;
  return error instanceof ProtocolError ? EINVAL : EIO;
}
