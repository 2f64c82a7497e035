/**
 * A play, as one of its connections sees it: types alone.
 *
 * @module
 */

import type { IgnoredRange } from "./compare.ts";
import type { Difference, PlayCounts } from "./difference.ts";
import type { Script, ScriptStep } from "./script.ts";

/** The parts of a play that a connection uses. */
export interface PlayHost {
  readonly script: Script;
  readonly counts: PlayCounts;
  readonly timeoutMs: number;
  readonly ignore: readonly IgnoredRange[];
  readonly signal: AbortSignal | undefined;
  /** Tells if the recording polls a place, and a value may be an earlier or later one there. */
  mayDiffer(place: string, expected: Uint8Array, found: Uint8Array): Promise<boolean>;
  /** Reports a remark, once. */
  note(text: string): void;
  /** Reports a difference, at the step that is played unless it names another one. */
  differ(difference: Omit<Difference, "before" | "step"> & { step?: ScriptStep }): void;
}
