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
import { plural } from "../../lib/text/plural.ts";

/** Columns of what belongs to a step and stands under it. */
const INDENT = 6;
/** A line of 16 bytes in hexadecimal has 78 characters: with these it fits a terminal. */
const DUMP_INDENT = 2;
/** Columns of what stands ahead of a step: its mark, its number and its time. */
const MARK_COLUMNS = 22;
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
  output: Output,
  { isTyped = false }: TextOptions = {},
): Reporter {
  const { style } = output;
  const line = (text: string) => output.write(`${text}\n`);
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
      // Of a terminal, whose width may change meanwhile.
      const columns = output.isTerminal ? output.columns - 1 : undefined;
      for (const each of stepLines(result, style, columns)) line(each);
      if (result.status !== "failed") return;
      if (result.error instanceof InnerFailure) return; // the inner step has told
      const lines = isTyped ? failureWhy(result) : failureText(result);
      for (const each of lines.flatMap((each) => whyLines(printable(each), columns))) line(each);
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
  columns: number | undefined,
): string[] {
  const { number, step, status, outcome, timeMs } = result;
  const mark = { passed: green("ok  "), failed: red("FAIL"), skipped: yellow("skip") }[status];
  const time = dim(status === "skipped" ? " ".repeat(10) : `${milliseconds(timeMs)} ms`);
  const log = step.word === "log" ? outcome.message : undefined;
  const what = log ?? step.text;
  const title = printable(step.name ?? "");
  const name = title === "" ? "" : `${bold(title)}: `;
  const result_ = log === undefined ? resultText(outcome) : "";
  const head = `${mark} ${number.padStart(4)} ${time}  ${name}${printable(what)}`;
  const end = result_ === "" ? "" : `${dim("=>")} ${printable(result_)}`;
  const isLong = MARK_COLUMNS + `${title}: ${what} => ${result_}`.length > (columns ?? Infinity);
  const lines = end === "" ? [head] : isLong ? [head, indented(end)] : [`${head} ${end}`];
  const { seen, dump } = outcome;
  if (seen !== undefined && !seen.isWritten) lines.push(...fieldsOf(seen, columns).map(dim));
  if (dump !== undefined && status === "passed") lines.push(...dumpLines(dump, columns));
  return lines;
}

/** Writes the outcome of a step, on its line. */
function resultText({ seen, message }: Outcome): string {
  if (message !== undefined) return message;
  if (seen === undefined) return "";
  const { value, width, field } = seen;
  return field === undefined ? valueText(value, width) : fieldText(field, value);
}

function fieldsOf(
  { register, field, value }: SeenValue,
  columns: number | undefined,
): string[] {
  const words = register === undefined || field !== undefined ? [] : fieldWords(register, value);
  return words.length === 0 ? [] : wrap(" ".repeat(INDENT), words, INDENT, columns);
}

function dumpLines(
  { bytes, width, start }: NonNullable<Outcome["dump"]>,
  columns: number | undefined,
): string[] {
  const lines = hexdumpLines(bytes.subarray(0, MAX_SHOWN), {
    start,
    width,
    ...(columns !== undefined && { columns: columns - DUMP_INDENT }),
  });
  if (bytes.length > MAX_SHOWN) {
    lines.push(`… and ${plural(bytes.length - MAX_SHOWN, "byte")} more`);
  }
  return lines.map((line) => " ".repeat(DUMP_INDENT) + line);
}

/** A label and its text, which goes on under its own beginning where the screen ends. */
function whyLines(line: string, columns: number | undefined): string[] {
  if (columns === undefined) return [indented(line)];
  const [, label = "", text = ""] = /^(\S+ +)(.*)$/s.exec(line) ?? [, "", line];
  return wrap(indented(label), text.split(" "), INDENT + label.length, columns);
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
