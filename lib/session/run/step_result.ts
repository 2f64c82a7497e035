/**
 * What comes of a step.
 *
 * @module
 */

import { TimeoutError } from "../../base/errors.ts";
import type { Register, RegisterField } from "../../registers/map.ts";
import type { Width } from "../../client/info.ts";
import type { Step } from "../model.ts";

/** A number that a step read or wrote. */
export interface SeenValue {
  /** The value. */
  readonly value: bigint;
  /** Bytes of the access. */
  readonly width: Width;
  /** The register, if a map names it. */
  readonly register?: Register;
  /** It was computed: no width bounds it, and it may be negative. */
  readonly isComputed?: true;
  /** The field that was meant, if it was one; `value` is that of the whole register. */
  readonly field?: RegisterField;
}

/** What a step did, as far as there is something to see of it. */
export interface Outcome {
  /** A number. */
  readonly seen?: SeenValue;
  /** Bytes, or numbers of `width` bytes, from `start` on. */
  readonly dump?: { readonly bytes: Uint8Array; readonly width: Width; readonly start: bigint };
  /** What is to be told in words. */
  readonly message?: string;
}

/** A step did what it should, but what came of it is not as it has to be. */
export class StepFailure extends Error {
  /** The name of the class. */
  override readonly name = "StepFailure";
  /** What has to hold, as "nvme.CSTS.RDY == 1". */
  readonly expected: string;
  /** What was found instead, as "0x00000000". */
  readonly found: string;
  /** Whether it had time to become so. */
  readonly isTimeout: boolean;
  /** What the value was, if there is one. */
  readonly outcome: Outcome;

  /** A failure. */
  constructor(
    expected: string,
    found: string,
    { isTimeout = false, outcome = {} }: { isTimeout?: boolean; outcome?: Outcome } = {},
  ) {
    super(`Expected ${expected}, found ${found}`);
    this.expected = expected;
    this.found = found;
    this.isTimeout = isTimeout;
    this.outcome = outcome;
  }
}

/** The failure of a step that is made of others: the result of the inner step has the reason. */
export class InnerFailure extends Error {
  /** The name of the class. */
  override readonly name = "InnerFailure";

  /**
   * A failure whose reason was reported before.
   *
   * @param cause the error of the first of the inner steps that failed
   */
  constructor(cause: Error) {
    super("A step in it failed", { cause });
  }
}

/** Whether a device gave no answer: one that is asked for more after that gives none either, and each time is waited for. */
export function isSilence(error: unknown): boolean {
  return error instanceof TimeoutError;
}

/** How a step ended. */
export type StepStatus = "passed" | "failed" | "skipped";

/** A step that was done. */
export interface StepResult {
  /** Which step: "3"; "3.2" is the second step of what step 3 repeats or calls. */
  readonly number: string;
  /** Which round of all the repeats that it is in, from 0, the outermost first. */
  readonly rounds: readonly number[];
  /** The step itself. */
  readonly step: Step;
  /** "skipped" if its `when` says so. */
  readonly status: StepStatus;
  /** What there is to see of it. */
  readonly outcome: Outcome;
  /** Why it failed: a {@linkcode StepFailure}, or what was thrown. */
  readonly error?: Error;
  /** How long it took, in milliseconds. */
  readonly timeMs: number;
}
