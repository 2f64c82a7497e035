/**
 * A failure in lines for a person.
 *
 * @module
 */

import { StepFailure, type StepResult } from "../../lib/session/run/step_result.ts";
import { hex } from "../../lib/text/hex.ts";
import { failureLines } from "../shared/failure.ts";
import { humanSize } from "../shared/size.ts";
import type { DeviceStateJson } from "./device_state.ts";
import type { Evidence } from "./reporter.ts";

/** Lines about what was expected and found, or about the error. */
export function failureWhy({ error }: StepResult): string[] {
  return error instanceof StepFailure
    ? [
      `expected  ${error.expected}`,
      `found     ${error.found}`,
      ...(error.why === undefined ? [] : [`why       ${error.why}`]),
    ]
    : failureLines(error ?? "It failed", false).map((line) => `error     ${line}`);
}

/** The same, and where the step is written. */
export function failureText(result: StepResult): string[] {
  const { file, line, column } = result.step.source;
  return [...failureWhy(result), `at        ${file}:${line}:${column}`];
}

/** The last messages, and how the device stands. */
export function evidenceLines({ messages, device }: Evidence): string[] {
  return [
    "the last messages",
    ...(messages.length === 0
      ? ["  none"]
      : messages.map(({ timeMs, direction, text }) =>
        `  ${timeMs.toFixed(1).padStart(8)} ms ${direction === "sent" ? "->" : "<-"} ${text}`
      )),
    "the device",
    ...stateLines(device).map((line) => `  ${line}`),
  ];
}

const COMMAND_BITS = [
  [0x1, "I/O"],
  [0x2, "memory"],
  [0x4, "bus master"],
  [0x400, "no INTx"],
] as const;

function stateLines(state: DeviceStateJson): string[] {
  const { connection, command, status, unreadable, buffers, interrupts, notes = [] } = state;
  const lines = [`connection  ${connection}`];
  if (command !== undefined) {
    const on = COMMAND_BITS.filter(([bit]) => (command & bit) !== 0).map(([, name]) => name);
    lines.push(
      `COMMAND     ${hex(command, 4)}${on.length > 0 ? ` (${on.join(", ")})` : " (all off)"}`,
    );
  }
  if (status !== undefined) lines.push(`STATUS      ${hex(status, 4)}`);
  if (unreadable !== undefined) lines.push(`registers   ${unreadable}`);
  for (const { name, iova, size } of buffers) {
    lines.push(`buffer      ${name} at ${hex(iova)}, ${humanSize(BigInt(size))}`);
  }
  const came = interrupts.map(({ index, vector, total }) => `${index}[${vector}] ${total}`);
  if (came.length > 0) lines.push(`interrupts  ${came.join(", ")}`);
  lines.push(...notes.map((note) => `note        ${note}`));
  return lines;
}
