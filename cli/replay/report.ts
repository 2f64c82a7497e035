/**
 * Reports of a replay: for a person, as JSON, and as JUnit's XML.
 *
 * @module
 */

import type { Recording } from "../../lib/record/reader.ts";
import type { RegisterLocator } from "../../lib/registers/locate.ts";
import type { Difference } from "../../lib/replay/difference.ts";
import type { PlayResult } from "../../lib/replay/player.ts";
import type { ScriptStep } from "../../lib/replay/script.ts";
import { fileError } from "../../lib/text/file_error.ts";
import { plural } from "../../lib/text/plural.ts";
import { describeMessage } from "../../lib/wire/describe.ts";
import type { Context } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { attributesText, escape } from "../shared/xml.ts";
import { EventText } from "../show/text.ts";
import { DifferenceText } from "./difference_text.ts";
import { Hints } from "./hints.ts";
import { PLAIN } from "../shared/style.ts";
import { warnOfCut } from "../show/cut.ts";

/** Hears of everything that happens. */
export interface ReplayReporter {
  /** The play begins: times count from here. */
  start(startNs: bigint): void;
  /** A step is played. */
  step(step: ScriptStep): void;
  /** The server did something else. */
  difference(difference: Difference): void;
  /** A remark. */
  note(text: string): void;
  /** The replay is over. */
  finish(result: PlayResult, recording: Recording): Promise<void> | void;
  /** The replay can't go on. */
  abort(error: unknown): Promise<void> | void;
}

/** Options of the reporters. */
export interface ReportOptions {
  /** The path of the recording. */
  readonly file: string;
  /** The name of the server. */
  readonly server: string;
  /** Names registers. */
  readonly locator: RegisterLocator | undefined;
  /** The path of the server's socket; undefined if the server was started for this. */
  readonly socket: string | undefined;
  /** The names of the maps. */
  readonly maps: readonly string[];
  /** Reports in objects. */
  readonly json?: true | undefined;
  /** Also writes a JUnit report into this file. */
  readonly junit?: string | undefined;
}

/** The reporters of a replay. */
export function makeReporters(context: Context, options: ReportOptions): ReplayReporter[] {
  const first = options.json ? jsonReporter(context, options) : textReporter(context, options);
  return options.junit === undefined ? [first] : [first, junitReporter(options, options.junit)];
}

function textReporter({ out, err }: Context, options: ReportOptions): ReplayReporter {
  const { style } = out;
  const events = new EventText(style, options.locator);
  const text = new DifferenceText(events, out.columns);
  const hints = new Hints(options);
  let shown = 0;
  return {
    start: (startNs) => events.start(startNs),
    step: (step) => hints.step(step),
    difference(each) {
      shown++;
      hints.difference(each);
      const [title, ...lines] = text.lines(each);
      out.write(
        `${style.red("different")}  ${title}\n${lines.map((line) => `${line}\n`).join("")}`,
      );
    },
    note: (remark) => err.write(`${style.yellow("vfu:")} ${printable(remark)}\n`),
    finish(result, recording) {
      const { requests, replies, dma, interrupts, differences, ended } = result;
      const counted = `${plural(requests, "request")} to ${printable(options.server)}; compared: ` +
        `${plural(replies, "reply", "replies")}, ${dma} DMA, ${plural(interrupts, "interrupt")}`;
      const verdict = differences === 0
        ? style.green("no difference")
        : style.red(plural(differences, "difference"));
      const unshown = differences > shown ? `, ${differences - shown} not shown` : "";
      out.write(`${counted}: ${verdict}${unshown}\n`);
      if (ended !== undefined && differences > 0) {
        out.write(`Ended before the recording, ${ended}\n`);
      }
      for (const line of hints.lines()) out.write(`${printable(line)}\n`);
      if (recording.cut !== undefined) warnOfCut(err);
    },
    abort() {},
  };
}

function jsonReporter({ out }: Context, options: ReportOptions): ReplayReporter {
  const write = (value: Record<string, unknown>) => out.write(`${jsonText(value)}\n`);
  const hints = new Hints(options);
  let startNs = 0n;
  return {
    start: (timeNs) => startNs = timeNs,
    step: (step) => hints.step(step),
    difference(each) {
      hints.difference(each);
      write({ event: "difference", ...differenceJson(each, startNs) });
    },
    note: (text) => write({ event: "note", text }),
    finish(result, { cut }) {
      for (const text of hints.lines()) write({ event: "hint", text });
      write({ event: "result", ...result, isCut: cut !== undefined });
    },
    abort() {},
  };
}

function differenceJson(
  { kind, step, before, expected, found, text }: Difference,
  startNs: bigint,
) {
  return {
    kind,
    index: step.event.index,
    timeNs: step.event.timeNs,
    sinceStartNs: step.event.timeNs - startNs,
    text,
    expected: expected && messageJson(expected),
    found: found && messageJson(found),
    before: before.map(({ event }) => event.index),
  };
}

/** A message for `--json`: a line about it, and the start of its bytes. */
export function messageJson(bytes: Uint8Array) {
  return { text: describeMessage(bytes), bytes: bytes.subarray(0, 4096).toHex() };
}

/** Keeps the differences, and writes them to a file that is begun at once. */
function junitReporter({ file, locator }: ReportOptions, path: string): ReplayReporter {
  const cases: string[] = [];
  const events = new EventText(PLAIN, locator);
  const text = new DifferenceText(events);
  const startMs = performance.now();
  try {
    Deno.writeTextFileSync(path, "");
  } catch (cause) {
    throw fileError(`write the report ${path}`, cause, true);
  }
  const write = async (errors: number, unshown = 0) => {
    const failures = cases.length - errors;
    const time = ((performance.now() - startMs) / 1000).toFixed(6);
    const tests = Math.max(1, cases.length);
    const suite = attributesText({ name: file, tests, failures, errors, time });
    const all = cases.length > 0
      ? cases.join("")
      : `    <testcase${attributesText({ name: "the recording", classname: file })}/>\n`;
    const more = unshown > 0
      ? `    <system-out>${unshown} more differences are not in this report</system-out>\n`
      : "";
    const body = `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="vfu replay">\n` +
      `  <testsuite${suite}>\n${all}${more}  </testsuite>\n</testsuites>\n`;
    await Deno.writeTextFile(path, body).catch((cause) => {
      throw fileError(`write the report ${path}`, cause, true);
    });
  };
  return {
    start: (startNs) => events.start(startNs),
    step() {},
    difference(each) {
      const [title, ...lines] = text.lines(each);
      const name = `event ${each.step.event.index}`;
      cases.push(
        `    <testcase${attributesText({ name, classname: file })}>` +
          `<failure${attributesText({ message: title! })}>${escape(lines.join("\n"))}` +
          `</failure></testcase>\n`,
      );
    },
    note() {},
    finish: ({ differences }) => write(0, differences - cases.length),
    abort: (error) => {
      const message = error instanceof Error ? error.message : String(error);
      const attributes = attributesText({ name: "the recording", classname: file });
      cases.push(
        `    <testcase${attributes}><error${attributesText({ message })}/></testcase>\n`,
      );
      return write(1);
    },
  };
}
