/**
 * A device's activity: for those who watch from another thread whether a hook returns.
 *
 * @module
 */

import { commandName } from "../wire/command.ts";

/** Activities of a device besides requests. Their numbers are above those of all commands. */
export const Doing = {
  /** Its module is loaded. */
  LOAD: 0xff00,
  /** Makes the device. */
  CREATE: 0xff01,
  /** Reports to the device that its client is gone. */
  DISCONNECT: 0xff02,
  /** Closes the device. */
  CLOSE: 0xff03,
  /** An ioeventfd was signalled. */
  IOEVENTFD: 0xff04,
  /** It works by itself: a timer or a background task. */
  OWN_WORK: 0xff05,
  /** The client has masked or unmasked an interrupt. */
  MASK: 0xff06,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map([
  [Doing.LOAD, "load"],
  [Doing.CREATE, "create"],
  [Doing.DISCONNECT, "disconnect"],
  [Doing.CLOSE, "close"],
  [Doing.IOEVENTFD, "ioeventfd"],
  [Doing.OWN_WORK, "timer or background task"],
  [Doing.MASK, "mask or unmask"],
]);

/**
 * Words for a device's activity: a command's name, or those of {@linkcode Doing}.
 *
 * @example
 * ```ts
 * import { Command } from "../wire/command.ts";
 * import { Doing, doingName } from "./activity.ts";
 *
 * console.assert(doingName(Command.REGION_READ) === "REGION_READ");
 * console.assert(doingName(Doing.CLOSE) === "close");
 * ```
 */
export function doingName(doing: number): string {
  return NAMES.get(doing) ?? commandName(doing);
}

/**
 * Hears when the thread enters and leaves a device's code. Asynchronous code is left at its first
 * `await`. Both are called for each request: they are to be cheap, and throw nothing.
 */
export interface Activity {
  /**
   * The thread enters the device's code.
   *
   * @param doing a command's number, or one of `Doing`
   * @returns the argument for `leave`
   */
  enter(doing: number): number;
  /** The thread leaves it, for the code that it was in before. */
  leave(before: number): void;
}

/** Calls `work`, which is the device's code; with no one to hear of it, that alone. */
export function during<T>(activity: Activity | undefined, doing: number, work: () => T): T {
  if (activity === undefined) return work();
  const before = activity.enter(doing);
  try {
    return work();
  } finally {
    activity.leave(before);
  }
}
