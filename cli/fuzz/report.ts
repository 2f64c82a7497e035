/**
 * Findings and coverage of a fuzzer, for people and for programs.
 *
 * @module
 */

import { reportIn } from "../../lib/fuzz/last_words.ts";
import type { FindingReport, Observation } from "../../lib/fuzz/finding.ts";
import { labelText } from "../../lib/fuzz/label.ts";
import type { FuzzProgress } from "../../lib/fuzz/run.ts";
import { plural } from "../../lib/text/plural.ts";
import type { Context } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { tableLines } from "../shared/table.ts";

/** Lines of a conversation that are shown. */
const MAX_LINES = 40;
/** Lines of a sanitizer's report that are shown. */
const MAX_REPORT = 12;

/** The part of the peer that is fuzzed. */
export type FuzzedRole = "server" | "client";

/** Words that differ between the roles. */
const WORDS = {
  server: { head: ["success", "error", "no reply"], codes: "errnos", unit: "message" },
  client: { head: ["asked on", "ended", "asked no more"], codes: "exit codes", unit: "change" },
} as const;

/** A finding, and the file that has it. */
export interface ReportedFinding {
  readonly finding: FindingReport;
  /** The file; undefined if it can't be written. */
  readonly file: string | undefined;
  /** The command that sends it again. */
  readonly again: string | undefined;
}

/** Hears of everything that happens. */
export interface FuzzReporter {
  /** The run begins. */
  begin(seed: number): void;
  finding(reported: ReportedFinding): void;
  /** The run is over; or, with an error, it ended early. */
  finish(progress: FuzzProgress, error?: unknown): void;
}

/** Writes findings as they come, and a table of what was sent. */
export function textReporter(
  { out }: Context,
  role: FuzzedRole = "server",
): FuzzReporter {
  const { style } = out;
  const line = (name: string, value: string) =>
    out.write(`    ${style.dim(name.padEnd(10))} ${printable(value)}\n`);
  return {
    begin(seed) {
      out.write(`Seed ${seed}\n`);
    },
    finding({ finding, file, again }) {
      const title = `${finding.kind} ${finding.number}: ${finding.text}`;
      out.write(`${style.red(`✘ ${printable(title)}`)}\n`);
      if (finding.label) line("about", labelText(finding.label));
      for (const [name, value] of conversationLines(finding)) line(name, value);
      for (const text of wordsOf(finding)) line("it wrote", text);
      line("case", caseText(finding, role));
      if (again !== undefined) line("again", again);
      else if (file === undefined) line("file", "none: it can't be written");
      out.write("\n");
    },
    finish(progress, error) {
      for (const row of coverageLines(progress, out.columns, role)) out.write(`${row}\n`);
      out.write(`\n${summaryText(progress)}${error === undefined ? "" : "; ended early"}\n`);
    },
  };
}

/** Writes a line of JSON for each finding, and one for the end. */
export function jsonReporter(
  { out }: Context,
  role: FuzzedRole = "server",
): FuzzReporter {
  const write = (value: object) => out.write(`${jsonText(value)}\n`);
  let seed = 0;
  return {
    begin(number) {
      seed = number;
    },
    finding({ finding, file, again }) {
      write({
        type: "finding",
        number: finding.number,
        ...observationJson(finding, role),
        repeatable: finding.isRepeatable,
        [`${WORDS[role].unit}s`]: finding.size,
        [`${WORDS[role].unit}s_before`]: finding.messagesBefore,
        plays: finding.plays,
        conversation: finding.conversation,
        file: file ?? null,
        again: again ?? null,
      });
    },
    finish(progress, error) {
      write({
        type: "end",
        seed,
        messages: progress.messages,
        received: progress.received,
        connections: progress.connections,
        closed: progress.closed,
        findings: progress.findings,
        repeats: progress.repeats,
        seconds: Math.round(progress.elapsedMs) / 1000,
        messages_per_second: Math.round(progress.rate),
        behaviours: progress.coverage.behaviours,
        coverage: progress.coverage.rows().map(({ allFields, ...row }) => ({
          ...row,
          all_fields: allFields,
        })),
        ended_early: error !== undefined,
      });
    },
  };
}

/** An observation as JSON. */
export function observationJson(
  { kind, text, label, end }: Observation,
  role: FuzzedRole = "server",
): object {
  return {
    kind,
    text,
    ...(label && { message: label.message, field: label.field, way: label.way }),
    ...(end && {
      [`${role}_end`]: { signal: end.signal ?? null, code: end.code, last_words: end.words },
    }),
  };
}

/** A conversation as pairs of a name and a line, the middle left out if it is long. */
export function conversationLines(
  { conversation }: Pick<FindingReport, "conversation">,
): readonly (readonly [name: string, value: string])[] {
  const lines = conversation.map(({ from, text }) =>
    [from === "us" ? "sent" : "received", text] as const
  );
  if (lines.length <= MAX_LINES) return lines;
  const half = MAX_LINES / 2;
  const left = lines.length - MAX_LINES;
  return [...lines.slice(0, half), ["", `(${left} more)`], ...lines.slice(-half)];
}

/** The words of a peer that ended: a sanitizer's report, or the last lines. */
function wordsOf({ end }: FindingReport): readonly string[] {
  if (end === undefined) return [];
  const report = reportIn(end.output);
  if (report === undefined) return end.words;
  const [first] = report.text.split(" ");
  const at = Math.max(0, end.output.indexOf(first!));
  const start = end.output.lastIndexOf("\n", at) + 1;
  return end.output.slice(start).split("\n").filter((text) => text.trim() !== "")
    .slice(0, MAX_REPORT);
}

function caseText(
  { size: count, connections, isRepeatable, messagesBefore, plays }: FindingReport,
  role: FuzzedRole,
): string {
  const size = plural(count, WORDS[role].unit);
  const over = connections > 1 ? ` over ${connections} connections` : "";
  return isRepeatable
    ? `${size}${over} of ${messagesBefore}, found by ${plural(plays, "play")}`
    : `${size}${over}; it was not seen when these were sent again`;
}

function coverageLines(
  { coverage }: FuzzProgress,
  columns: number,
  role: FuzzedRole,
): readonly string[] {
  const head = ["message", "sent", ...WORDS[role].head, "fields", "ways", WORDS[role].codes];
  const rows = coverage.rows().filter(({ sent }) => sent > 0).map((row) => [
    row.name,
    ...[row.sent, row.success, row.error, row.none].map(String),
    row.allFields === 0 ? "" : `${row.fields}/${row.allFields}`,
    String(row.ways),
    row.errnos.slice(0, 8).join(" ") + (row.errnos.length > 8 ? " …" : ""),
  ]);
  const right = [1, 2, 3, 4, 5, 6];
  return tableLines([head, ...rows], { columns, indent: 2, right, minLast: 6 });
}

function summaryText(progress: FuzzProgress): string {
  const { messages, connections, findings, repeats, elapsedMs, minimisedMs, rate } = progress;
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
  const shorter = minimisedMs < 100 ? "" : ` (${seconds(minimisedMs)} of it for shorter cases)`;
  const parts = [
    plural(messages, "message"),
    plural(connections, "connection"),
    seconds(elapsedMs) + shorter,
    `${Math.round(rate)} messages/s`,
    plural(findings, "finding"),
  ];
  return parts.join(", ") + (repeats > 0 ? ` (seen again ${plural(repeats, "time")})` : "");
}
