/**
 * Differences between a recording and what a server does.
 *
 * @module
 */

import type { ScriptStep } from "./script.ts";

/** The kinds of differences. */
export type DifferenceKind =
  | "reply"
  | "no reply"
  | "dma"
  | "no dma"
  | "other dma"
  | "no interrupt"
  | "other interrupt"
  | "connection";

/** Something that the server did differently. */
export interface Difference {
  /** Its kind. */
  readonly kind: DifferenceKind;
  /** The step of the recording at which it was found. */
  readonly step: ScriptStep;
  /** Steps before that, the last one last. */
  readonly before: readonly ScriptStep[];
  /** The request of a reply. */
  readonly request?: ScriptStep;
  /** The bytes of the message that the recording has; undefined if it has none. */
  readonly expected?: Uint8Array;
  /** The bytes of the message that came; undefined if none came. */
  readonly found?: Uint8Array;
  /** The reason in words: "the server did not answer within 5000 ms". */
  readonly text: string;
}

/** The counters of a play. */
export interface PlayCounts {
  /** Requests that were sent. */
  requests: number;
  /** Replies that were compared. */
  replies: number;
  /** Requests of the device that were compared: DMA. */
  dma: number;
  /** Interrupts that came as recorded. */
  interrupts: number;
}
