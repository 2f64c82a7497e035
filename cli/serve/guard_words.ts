/**
 * Shared words and messages of the thread that serves and the thread that guards it.
 *
 * @module
 */

import type { SocketFile } from "../../lib/server/process.ts";

/** The shared words, each an Int32. */
export const Word = {
  /** Whose code the thread is in: the device's index + 1 in the high half, `Doing` in the low. */
  ACTIVITY: 0,
  /** The last ping that the serving thread has seen. */
  PONG: 1,
  /** UTF-16 units that wait to be written on standard output. */
  OUT_WAITING: 2,
  /** The same of standard error. */
  ERR_WAITING: 3,
} as const;

/** The number of them. */
export const WORD_COUNT = 4;

/** A standard stream. */
export type StreamName = "out" | "err";

/** The first message to the guard. */
export interface GuardSetup {
  readonly words: Int32Array;
  /** True if reports are JSON on standard output. */
  readonly json: boolean;
  /** Text ahead of each of these. */
  readonly mark: string;
  /** True if SIGHUP is an end. */
  readonly hangup: boolean;
  /** The time that the serving thread has to end by itself after a signal, in milliseconds. */
  readonly graceMs: number;
  /** True if it has all the time that it wants while no device holds it. */
  readonly onlyIfHeld: boolean;
}

/** Messages to the guard. */
export type GuardMessage =
  | { readonly setup: GuardSetup }
  /** The names of the devices, by index. */
  | { readonly devices: readonly string[] }
  /** Files to remove if the serving thread does not. */
  | { readonly sockets: readonly SocketFile[] }
  /** Lines to write, behind so many that were discarded. */
  | { readonly stream: StreamName; readonly text: string; readonly lost: number }
  /** A question whether all is written: answered by "idle" when it is. */
  | "flush";

/** Messages of the guard. */
export type GuardAnswer = { readonly ping: number } | "idle";
