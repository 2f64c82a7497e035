/**
 * A run of sessions for a person.
 *
 * @module
 */

import { wrap } from "../../lib/text/wrap.ts";
import { fieldText, fieldWords } from "../../lib/registers/decode.ts";
import { valueText } from "../../lib/session/run/compare.ts";
import {
  InnerFailure,
  type Outcome,
  type SeenValue,
  type StepResult,
} from "../../lib/session/run/step_result.ts";
import type { Output } from "../shared/context.ts";
import { hexdumpLines } from "../shared/hexdump.ts";
import { printable } from "../shared/printable.ts";
import { evidenceLines, failureText, failureWhy } from "./failure_text.ts";
import { isFirstRound, type Reporter, type Summary } from "./reporter.ts";

/** Columns of what belongs to a step and stands under it. */
const INDENT = 6;
/** A line of 16 bytes in hexadecimal has 78 characters: with these it fits a terminal. */
const DUMP_INDENT = 2;
/** Bytes of a dump that are shown. */
const MAX_SHOWN = 256;

/** The form in which a run is shown. */
export interface TextOptions {
  /** The steps were typed: there is no place in a file to name. */
  isTyped?: boolean;
}

/**
 * Writes a line a step. Of what is repeated only the first round is shown, and what fails or logs.
 */
export function textReporter(
  { write, style }: Output,
  { isTyped = false }: TextOptions = {},
): Reporter {
  const line = (text: string) => write(`${text}\n`);
  return {
    begin({ session: { file, title }, round, rounds }) {
      const which = rounds === 1 ? "" : style.dim(` (round ${round} of ${rounds})`);
      line(
        title === undefined
          ? `${style.bold(printable(file))}${which}`
          : `${style.bold(printable(title))} ${style.dim(printable(file))}${which}`,
      );
    },
    step(result, evidence) {
      if (!isShown(result)) return;
      for (const each of stepLines(result, style)) line(each);
      if (result.status !== "failed") return;
      if (result.error instanceof InnerFailure) return; // the inner step has told
      const lines = isTyped ? failureWhy(result) : failureText(result);
      for (const each of lines) line(indented(printable(each)));
      for (const each of evidence === undefined ? [] : evidenceLines(evidence)) {
        line(style.dim(indented(printable(each))));
      }
    },
    abort: () => {},
    end: (summary) => line(summaryLine(summary, style)),
  };
}

function isShown(result: StepResult): boolean {
  return result.status === "failed" || result.step.word === "log" || isFirstRound(result);
}

function stepLines(
  result: StepResult,
  { bold, dim, green, red, yellow }: Output["style"],
): string[] {
  const { number, step, status, outcome, timeMs } = result;
  const mark = { passed: green("ok  "), failed: red("FAIL"), skipped: yellow("skip") }[status];
  const time = dim(status === "skipped" ? " ".repeat(10) : `${milliseconds(timeMs)} ms`);
  const log = step.word === "log" ? outcome.message : undefined;
  const what = log ?? step.text;
  const name = step.name === undefined ? "" : `${bold(printable(step.name))}: `;
  const result_ = log === undefined ? resultText(outcome) : "";
  const head = `${mark} ${number.padStart(4)} ${time}  ${name}${printable(what)}`;
  const lines = [result_ === "" ? head : `${head} ${dim("=>")} ${printable(result_)}`];
  const { seen, dump } = outcome;
  if (seen !== undefined && !seen.isWritten) lines.push(...fieldsOf(seen).map(dim));
  if (dump !== undefined && status === "passed") lines.push(...dumpLines(dump));
  return lines;
}

/** Writes the outcome of a step, on its line. */
function resultText({ seen, message }: Outcome): string {
  if (message !== undefined) return message;
  if (seen === undefined) return "";
  const { value, width, field } = seen;
  return field === undefined ? valueText(value, width) : fieldText(field, value);
}

function fieldsOf({ register, field, value }: SeenValue): string[] {
  const words = register === undefined || field !== undefined ? [] : fieldWords(register, value);
  return words.length === 0 ? [] : wrap(" ".repeat(INDENT), words, INDENT);
}

function dumpLines({ bytes, width, start }: NonNullable<Outcome["dump"]>): string[] {
  const lines = hexdumpLines(bytes.subarray(0, MAX_SHOWN), { start, width });
  if (bytes.length > MAX_SHOWN) lines.push(`… and ${bytes.length - MAX_SHOWN} bytes more`);
  return lines.map((line) => " ".repeat(DUMP_INDENT) + line);
}

function indented(line: string): string {
  return " ".repeat(INDENT) + line;
}

function milliseconds(ms: number): string {
  return ms.toFixed(ms < 10 ? 2 : ms < 1000 ? 1 : 0).padStart(7);
}

function summaryLine({ passed, failed, skipped, timeMs }: Summary, style: Output["style"]): string {
  const counts = [
    failed > 0 ? style.red(`${failed} failed`) : "",
    passed > 0 || failed === 0 ? style.green(`${passed} passed`) : "",
    skipped > 0 ? style.yellow(`${skipped} skipped`) : "",
  ].filter((each) => each !== "");
  return `${counts.join(", ")} ${style.dim(`in ${milliseconds(timeMs).trim()} ms`)}`;
}
