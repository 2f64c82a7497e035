/**
 * Results of steps.
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
  /** It was written: the user knows its fields. */
  readonly isWritten?: true;
  /** It was computed: no width bounds it, and it may be negative. */
  readonly isComputed?: true;
  /** The field that was meant, if it was one; `value` is that of the whole register. */
  readonly field?: RegisterField;
}

/** The visible outcome of a step. */
export interface Outcome {
  /** A number. */
  readonly seen?: SeenValue;
  /** Bytes, or numbers of `width` bytes, from `start` on. */
  readonly dump?: { readonly bytes: Uint8Array; readonly width: Width; readonly start: bigint };
  /** A message in words. */
  readonly message?: string;
}

/** The failure of a step whose outcome is not the expected one. */
export class StepFailure extends Error {
  /** The name of the class. */
  override readonly name = "StepFailure";
  /** The expected condition, as "nvme.CSTS.RDY == 1". */
  readonly expected: string;
  /** The value found instead, as "0x00000000". */
  readonly found: string;
  /** True if the condition had time to become true. */
  readonly isTimeout: boolean;
  /** The outcome with the value found, if there is one. */
  readonly outcome: Outcome;
  /** Reasons that the device's registers tell, in one text; undefined if there are none. */
  readonly why: string | undefined;

  /** A failure. */
  constructor(
    expected: string,
    found: string,
    { isTimeout = false, outcome = {}, why }: {
      isTimeout?: boolean;
      outcome?: Outcome;
      why?: string | undefined;
    } = {},
  ) {
    super(`Expected ${expected}, found ${found}${why === undefined ? "" : `; ${why}`}`);
    this.expected = expected;
    this.found = found;
    this.isTimeout = isTimeout;
    this.outcome = outcome;
    this.why = why;
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

/**
 * Tests an error for a device that gave no answer.
 * Such a device does not answer further requests either, and each of them is waited for.
 */
export function isSilence(error: unknown): boolean {
  return error instanceof TimeoutError;
}

/** The end of a step. */
export type StepStatus = "passed" | "failed" | "skipped";

/** A step that was done. */
export interface StepResult {
  /** The number of the step: "3"; "3.2" is the second of the steps that step 3 repeats or calls. */
  readonly number: string;
  /** The rounds of all the repeats around the step, from 0, the outermost first. */
  readonly rounds: readonly number[];
  /** The step itself. */
  readonly step: Step;
  /** "skipped" if its `when` says so. */
  readonly status: StepStatus;
  /** The visible outcome. */
  readonly outcome: Outcome;
  /** Why it failed: a {@linkcode StepFailure}, or what was thrown. */
  readonly error?: Error;
  /** The time that it took, in milliseconds. */
  readonly timeMs: number;
}
