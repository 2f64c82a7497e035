/**
 * A change of the client's for which the device is to be quiet.
 *
 * @module
 */

import { within } from "../base/wait.ts";
import { ETIMEDOUT } from "../../ffi/errno.ts";
import {
  DeviceError,
  type ErrorReport,
  type QuietReason,
  type ServedDevice,
} from "./served_device.ts";

/** The parties of a change. */
export interface QuietContext {
  readonly device: ServedDevice;
  /** The time that the device may take, in milliseconds. */
  readonly quiesceTimeoutMs: number;
  /** Hears of a device that takes longer. */
  readonly report: ErrorReport;
}

/**
 * Makes a change once the device is quiet: at once, if the device has no such hook.
 *
 * @param act makes the change
 * @throws {DeviceError} the device's refusal, or ETIMEDOUT: nothing was changed
 */
export function whenQuiet<T>(
  { device, quiesceTimeoutMs: limit, report }: QuietContext,
  reason: QuietReason,
  act: () => T | Promise<T>,
): T | Promise<T> {
  const quiet = device.quiesce?.(reason);
  if (!(quiet instanceof Promise)) return act();
  return within(quiet, limit, () => {
    const text = `The device did not become quiet within ${limit} ms (${reason})`;
    report(new Error(`${text}: the client's request was refused`), "quiesce");
    return new DeviceError(ETIMEDOUT, text);
  }).then(act);
}
