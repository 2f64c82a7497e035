/**
 * One run of one session, told to reporters.
 *
 * @module
 */

import type { Device } from "../../lib/client/device.ts";
import type { LiveSession } from "../../lib/session/run/executor.ts";
import type { Session, Step } from "../../lib/session/model.ts";
import { runSession } from "../../lib/session/run/runner.ts";
import { InnerFailure, type StepResult } from "../../lib/session/run/step_result.ts";
import { asError } from "../../lib/base/thrown.ts";
import type { Context } from "../shared/context.ts";
import { Unfinished } from "../shared/failure.ts";
import { printable } from "../shared/printable.ts";
import { Progress, spinner } from "../shared/progress.ts";
import { deviceState } from "./device_state.ts";
import type { Evidence, Reporter } from "./reporter.ts";
import type { WireLog } from "./wire_log.ts";

/** The parts of a run. */
export interface ReportOptions {
  readonly reporters: readonly Reporter[];
  readonly log: WireLog;
  /** Indexes of the first and the last step that is done. */
  readonly from: number | undefined;
  readonly until: number | undefined;
  /** True if the server is in another process. */
  readonly blocking: boolean;
}

/** The time that each request may take that takes something back. In milliseconds. */
const CLOSE_TIMEOUT_MS = 1000;

/**
 * Runs a session, and passes its results to reporters.
 *
 * @returns the first step that failed
 * @throws {Unfinished} if the context's signal ended it
 */
export async function reportSession(
  context: Context,
  session: Session,
  device: Device,
  { reporters, log, from, until, blocking }: ReportOptions,
): Promise<StepResult | undefined> {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const startMs = performance.now();
  let failed: StepResult | undefined;
  let live: LiveSession | undefined;
  let under: { step: Step; number: string } | undefined;
  let progress: Progress | undefined;
  const end = () => {
    progress?.[Symbol.dispose]();
    progress = undefined;
  };
  try {
    const results = runSession(session, device, {
      signal: context.signal,
      blocking,
      closeTimeoutMs: CLOSE_TIMEOUT_MS,
      ...(from !== undefined && { from }),
      ...(until !== undefined && { until }),
      onBegin: (each) => live = each,
      onStep: (step, number) => {
        under = { step, number };
        end();
        progress = watchStep(context, step, number);
      },
    });
    for await (const result of results) {
      end();
      counts[result.status]++;
      const hasEvidence = result.status === "failed" && !(result.error instanceof InnerFailure);
      const evidence = hasEvidence ? await gather(log, live!, result) : undefined;
      if (result.status === "failed") failed ??= result;
      for (const reporter of reporters) reporter.step(result, evidence);
    }
  } catch (error) {
    end();
    const cause = context.signal.aborted
      ? new Unfinished(error, context.signal, stoppedIn(under))
      : asError(error);
    for (const reporter of reporters) reporter.abort(cause);
    throw cause;
  } finally {
    end();
    const summary = { ...counts, timeMs: performance.now() - startMs };
    for (const reporter of reporters) reporter.end(summary);
  }
  return failed;
}

/** The messages first: asking how the device stands sends some. */
async function gather(
  log: WireLog,
  live: LiveSession,
  { error }: StepResult,
): Promise<Evidence> {
  const messages = log.last;
  return { messages, device: await deviceState(live, error?.message) };
}

/** Shows that a step goes on, to a person who sees standard error. */
export function watchStep(
  { err }: Context,
  step: Step,
  number: string,
): Progress | undefined {
  if (!err.isTerminal) return undefined;
  const title = [number, printable(step.name ?? step.text)].join(" ").trim();
  return new Progress(
    err,
    (elapsedMs) => `${spinner(elapsedMs)} ${title} (${Math.floor(elapsedMs / 1000)} s)`,
  );
}

function stoppedIn(under: { step: Step; number: string } | undefined): string {
  return under === undefined
    ? "no step was begun"
    : `it was stopped in step ${under.number}: ${under.step.name ?? under.step.text}`;
}

/**
 * Writes the sentence for standard error about a failed session. The reporter writes the reason.
 */
export function failedMessage({ file }: Session, { number, step }: StepResult): string {
  return `${file} failed at step ${number}, ${step.name ?? step.text}`;
}
