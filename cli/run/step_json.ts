/**
 * Steps as JSON.
 *
 * @module
 */

import { RemoteError } from "../../lib/base/errors.ts";
import { decodeRegister } from "../../lib/registers/decode.ts";
import { meantValue } from "../../lib/session/run/compare.ts";
import { StepFailure, type StepResult } from "../../lib/session/run/step_result.ts";
import type { DeviceStateJson } from "./device_state.ts";
import type { Evidence } from "./reporter.ts";

/** A step as `vfu run --json` writes it, on one line. */
export interface StepJson {
  type: "step";
  /** The file that it is written to. */
  file: string;
  line: number;
  column: number;
  /** "3"; "3.2" is the second step of what step 3 repeats or calls. */
  number: string;
  /** The round of each repeat that it is in, from 0. */
  rounds: readonly number[];
  /** The name in the file. */
  name: string | null;
  /** "read", "irq wait". */
  word: string;
  /** The text of the step, as it was written. */
  text: string;
  status: "passed" | "failed" | "skipped";
  /**
   * The value that was read or written; of a field, the field's. Above 2^53 - 1 it is text, as
   * "0x8000000000000000".
   */
  value?: bigint;
  /** Bytes of the access. */
  width?: number;
  /** The register's name, if a map has it. */
  register?: string;
  /** Its fields. */
  fields?: { name: string; bits: string; value: bigint; meaning?: string }[];
  /** Bytes that were read, in hexadecimal. */
  data?: string;
  /** The outcome in words. */
  message?: string;
  time_ms: number;
  /** Why it failed. */
  error?: {
    message: string;
    /** The value that was expected. */
    expected?: string;
    /** The value that was found instead. */
    found?: string;
    /** The errno's name, if the device refused. */
    code?: string;
  };
  /** The last messages on the wire, if it failed. */
  messages?: { time_ms: number; direction: "sent" | "received"; text: string }[];
  /** The state of the device, if the step failed. */
  device?: DeviceStateJson;
}

/** A step, and what there is to see if it failed. */
export function stepJson(result: StepResult, evidence: Evidence | undefined): StepJson {
  const { number, rounds, step, status, outcome: { seen, dump, message }, timeMs, error } = result;
  const { file, line, column } = step.source;
  return {
    type: "step",
    file,
    line,
    column,
    number,
    rounds,
    name: step.name ?? null,
    word: step.word,
    text: step.text,
    status,
    ...(seen && {
      value: meantValue(seen),
      width: seen.width,
      ...(seen.register && {
        register: seen.register.name,
        fields: decodeRegister(seen.register, seen.value),
      }),
    }),
    ...(dump && { data: dump.bytes.toHex() }),
    ...(message !== undefined && { message }),
    time_ms: roundMs(timeMs),
    ...(error && { error: errorJson(error) }),
    ...(evidence && {
      messages: evidence.messages.map(({ timeMs, direction, text }) => ({
        time_ms: roundMs(timeMs),
        direction,
        text,
      })),
      device: evidence.device,
    }),
  };
}

function errorJson(error: Error): NonNullable<StepJson["error"]> {
  const { message } = error;
  if (error instanceof StepFailure) {
    const { expected, found, why } = error;
    return { message, expected, found, ...(why !== undefined && { why }) };
  }
  return error instanceof RemoteError && error.code !== ""
    ? { message, code: error.code }
    : { message };
}

/** Milliseconds, to the microsecond. */
export function roundMs(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
