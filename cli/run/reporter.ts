/**
 * Reporters of a run of sessions.
 *
 * @module
 */

import type { Session } from "../../lib/session/model.ts";
import type { StepResult } from "../../lib/session/run/step_result.ts";
import type { DeviceStateJson } from "./device_state.ts";
import type { LoggedMessage } from "./wire_log.ts";

/** The evidence of a failure: messages, and the device's state. */
export interface Evidence {
  readonly messages: readonly LoggedMessage[];
  readonly device: DeviceStateJson;
}

/** The numbers of steps that passed, failed and were skipped. */
export interface Summary {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** From the first step to the end, in milliseconds. */
  readonly timeMs: number;
}

/** A session that is run, maybe several times. */
export interface SessionRun {
  readonly session: Session;
  /** The number of the round, from 1. */
  readonly round: number;
  readonly rounds: number;
}

/** Hears of everything that happens. */
export interface Reporter {
  /** A session begins. */
  begin(run: SessionRun): void;
  /** A step is done. `evidence` is there if it failed. */
  step(result: StepResult, evidence: Evidence | undefined): void;
  /** The session can't go on, for a reason that is no step's. */
  abort(error: Error): void;
  /** The session is over. */
  end(summary: Summary): void;
  /** All sessions are. */
  finish?(): Promise<void> | void;
}

/** The line that is the step's name, else what it does. */
export function stepTitle({ step }: StepResult): string {
  return step.name ?? step.text;
}

/** Writes the number of a step, with the rounds of its repeats: "3.2 (round 5)". */
export function stepNumber({ number, rounds }: StepResult): string {
  if (rounds.length === 0) return number;
  return `${number} (round ${rounds.map((each) => each + 1).join(".")})`;
}

/** Reports whether the step is in no repeat, or in the first round of all that it is in. */
export function isFirstRound({ rounds }: StepResult): boolean {
  return rounds.every((each) => each === 0);
}
