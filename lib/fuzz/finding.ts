/**
 * Findings of a fuzzer: what a peer does that none should.
 *
 * @module
 */

import type { ServerEnd } from "../conformance/target.ts";
import type { Label } from "./label.ts";
import type { FuzzCase } from "./message.ts";

/** The kinds of findings. */
export type FindingKind = "crash" | "hang" | "leak" | "report" | "wrong reply";

/** An observation, before its case is made shorter. */
export interface Observation {
  readonly kind: FindingKind;
  /** The observation in words, without numbers that differ from run to run. */
  readonly text: string;
  /** The message that it is about, if that is known. */
  readonly label?: Label;
  /** True if nothing that comes later on the connection can be judged. */
  readonly isFinal?: boolean;
  /** True if it was made by waiting in vain, which a slow peer looks like. */
  readonly isSilence?: true;
  /** The end of the peer's process, of a crash. */
  readonly end?: ServerEnd;
}

/** A finding as it is reported, without the case that shows it. */
export interface FindingReport extends Observation {
  /** Its number, from 1. */
  readonly number: number;
  /** Messages of its case; about a client, changes of the device. */
  readonly size: number;
  /** Connections of its case. */
  readonly connections: number;
  /** True if the case shows it each time it is played. */
  readonly isRepeatable: boolean;
  /** The size of the case before it was made shorter. */
  readonly messagesBefore: number;
  /** Plays that this took. */
  readonly plays: number;
  /** The conversation of the last play, a line a message. */
  readonly conversation: readonly ConversationLine[];
}

/** A finding about a server, with the shortest case that shows it. */
export interface Finding extends FindingReport {
  /** The connections that show it. */
  readonly steps: FuzzCase;
}

/** A message of a conversation. */
export interface ConversationLine {
  readonly from: "us" | "peer";
  readonly text: string;
}

/** Observations of one signature are the same finding. */
export function signatureOf({ kind, text, label }: Observation): string {
  return kind === "wrong reply" ? `${kind}: ${text} (${label?.message ?? ""})` : `${kind}: ${text}`;
}
