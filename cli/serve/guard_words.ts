/**
 * What the thread that serves and the thread that guards it share and say to each other.
 *
 * @module
 */

import type { SocketFile } from "../../lib/process.ts";

/** The shared words, each an Int32. */
export const Word = {
  /** Whose code the thread is in: the device's index + 1 in the high half, `Doing` in the low. */
  ACTIVITY: 0,
  /** The last ping that the serving thread has seen. */
  PONG: 1,
  /** What waits to be written on standard output, in UTF-16 units. */
  OUT_WAITING: 2,
  /** The same of standard error. */
  ERR_WAITING: 3,
} as const;

/** How many there are. */
export const WORD_COUNT = 4;

/** A standard stream. */
export type StreamName = "out" | "err";

/** What the guard is told first. */
export interface GuardSetup {
  readonly words: Int32Array;
  /** Whether reports are JSON on standard output. */
  readonly json: boolean;
  /** Text ahead of each of these. */
  readonly mark: string;
  /** Whether SIGHUP is an end. */
  readonly hangup: boolean;
  /** How long the serving thread has to end by itself after a signal, in milliseconds. */
  readonly graceMs: number;
  /** Whether it has all the time that it wants while no device holds it. */
  readonly onlyIfHeld: boolean;
}

/** What the guard is told. */
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

/** What the guard says. */
export type GuardAnswer = { readonly ping: number } | "idle";
