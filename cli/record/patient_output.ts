/**
 * Outputs that never keep a recorder waiting, whatever becomes of the terminal or pipe behind them.
 *
 * @module
 */

import { sleep } from "../../lib/base/sleep.ts";
import type { Context, Output } from "../shared/context.ts";
import { PatientWriter } from "../serve/patient_writer.ts";
import { plural } from "../../lib/text/plural.ts";

/** The time in milliseconds that the last lines get at the end. */
const LAST_LINES_MS = 1000;

/** The outputs of a context, which write behind. */
export interface PatientOutputs {
  /** Standard output. */
  readonly out: Output;
  /** Standard error. */
  readonly err: Output;
  /** Waits until all is written, for a second at most. */
  drain(): Promise<void>;
}

/** Makes outputs that write behind, in a process of its own; others are as they were. */
export function patientOutputs({ out, err, ownsProcess }: Context): PatientOutputs {
  if (!ownsProcess) return { out, err, drain: () => Promise.resolve() };
  const notice = (lines: number) => `vfu: ${plural(lines, "line")} are left out here\n`;
  const outWriter = new PatientWriter(Deno.stdout, { notice });
  const errWriter = new PatientWriter(Deno.stderr, { notice });
  return {
    out: { ...out, write: (text) => outWriter.add(text) },
    err: { ...err, write: (text) => errWriter.add(text) },
    async drain() {
      const end = new AbortController();
      const all = Promise.all([outWriter.idle, errWriter.idle]);
      await Promise.race([all, sleep(LAST_LINES_MS, end.signal).catch(() => {})]);
      end.abort();
    },
  };
}
