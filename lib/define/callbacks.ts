/**
 * `callbacks`: a region of which the device answers every access itself.
 *
 * @module
 */

import type { ServedIoFd } from "../server/served_device.ts";
import { RegionFlags } from "../wire/region.ts";
import {
  BAR_KIND,
  type BarKind,
  barKind,
  barSize,
  type DeviceRegion,
  sealRegion,
} from "./device_region.ts";
import { checkOptions, type Forms, FUNCTION, LIST, needed, NUMBER } from "./mistakes.ts";

/** The way in which a region of callbacks is made. */
export interface CallbackOptions extends BarKind {
  /** Bytes, which are rounded up to a power of two; what is added reads as 0 and ignores writes. */
  readonly size: number;
  /** Fills `into` with the bytes from `offset` on. Without it all reads as 0. */
  readonly read?: (offset: number, into: Uint8Array) => void | Promise<void>;
  /** Takes the bytes written from `offset` on. Without it writes are ignored. */
  readonly write?: (offset: number, data: Uint8Array) => void | Promise<void>;
  /** Parts that a client may access through file descriptors. */
  readonly ioFds?: readonly ServedIoFd[];
  /** Called when the device is reset: restores what the region holds then. */
  readonly reset?: () => void | Promise<void>;
}

const CALLBACK_OPTIONS: Forms<CallbackOptions> = {
  ...BAR_KIND,
  size: needed(NUMBER),
  read: FUNCTION,
  write: FUNCTION,
  ioFds: LIST,
  reset: FUNCTION,
};

/**
 * Makes a region of which the device answers every access itself.
 *
 * @throws {DefinitionError} if there is no such option
 * @throws {RangeError} if there can't be so many bytes
 *
 * @example
 * ```ts
 * import { callbacks } from "./callbacks.ts";
 *
 * const bar3 = callbacks({ size: 8, read: (offset, into) => void into.fill(offset) });
 * console.assert(bar3.size === 16);
 * ```
 */
export function callbacks(options: CallbackOptions): DeviceRegion {
  checkOptions("Cannot make a region of callbacks", "callbacks", options, CALLBACK_OPTIONS);
  const { size, read, write, ioFds = [], reset } = options;
  /** The part of an access that is in the region as it was meant. */
  const inside = (offset: number, bytes: Uint8Array) =>
    bytes.subarray(0, Math.max(0, size - offset));
  return sealRegion({
    flags: RegionFlags.READ | RegionFlags.WRITE,
    size: barSize(size, options),
    bar: barKind(options),
    ioFds,
    read(offset, into) {
      into.fill(0);
      if (read !== undefined && offset < size) return read(offset, inside(offset, into));
    },
    write(offset, data) {
      if (write !== undefined && offset < size) return write(offset, inside(offset, data));
    },
    review: () => ({
      parts: [],
      ranges: read === undefined && write === undefined ? [] : [{ offset: 0, size }],
      unreachable: [],
    }),
    ...(reset && { reset }),
  });
}
