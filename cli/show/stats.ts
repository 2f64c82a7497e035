/**
 * `vfu show --stats`: numbers about a recording.
 *
 * @module
 */

import type { Conversation } from "../../lib/record/conversation.ts";
import type { TimeHistogram } from "../../lib/record/histogram.ts";
import type { HiddenTraffic, RecordingStatistics } from "../../lib/record/statistics.ts";
import type { RegisterLocator } from "../../lib/registers/locate.ts";
import { plural } from "../../lib/text/plural.ts";
import { placeText, regionName } from "../../lib/wire/region.ts";
import type { Output } from "../shared/context.ts";
import { bar } from "../shared/progress.ts";
import { humanSize } from "../shared/size.ts";
import { tableLines } from "../shared/table.ts";
import { timeText } from "./text.ts";

/** Registers that are shown. */
const HOTTEST = 20;
/** Width of the longest bar of a histogram. */
const BAR_WIDTH = 30;

/** The numbers of a recording, and their sources. */
export interface StatisticsSource {
  /** The numbers. */
  readonly statistics: RecordingStatistics;
  /** Requests without a reply. */
  readonly conversation: Conversation;
  /** Names registers. */
  readonly locator: RegisterLocator | undefined;
}

/** Kinds of events as they are counted. */
const KINDS = {
  message: "message",
  garbage: "garbled part",
  interrupt: "interrupt",
  ioeventfd: "ioeventfd",
  open: "connection",
  end: "closed socket",
  note: "note",
} as const;

/** Traffic that a recording lacks, in words. */
const HIDDEN: Readonly<Record<HiddenTraffic, string>> = {
  mmap: "accesses to mapped registers",
  dma: "DMA to shared memory",
  irq: "interrupts",
  ioeventfd: "signals on region descriptors",
};

/** The numbers for a person. */
export function statisticsText(
  { statistics, conversation, locator }: StatisticsSource,
  { style, columns }: Pick<Output, "style" | "columns">,
): string {
  const lines: string[] = [];
  const section = (title: string, rows: readonly (readonly string[])[], right: number[]) => {
    if (rows.length === 0) return;
    lines.push("", style.bold(title), ...tableLines(rows, { columns, indent: 2, right }));
  };
  const { firstNs, lastNs } = statistics;
  const span = firstNs === undefined ? "" : ` in ${timeText(Number(lastNs - firstNs))}`;
  const kinds = [...statistics.events].map(([kind, count]) => plural(count, KINDS[kind]));
  lines.push(`${kinds.join(", ") || "no events"}${span}`);

  const commands = [...statistics.commands];
  const unanswered = statistics.unanswered(conversation);
  section(
    "Commands",
    [
      ["command", "requests", "replies", "errors", "unanswered", "bytes"],
      ...commands.map(([name, { requests, replies, errors, bytes }]) =>
        [name, requests, replies, errors, unanswered.get(name) ?? 0, humanSize(BigInt(bytes))]
          .map(String)
      ),
    ].filter((_, i) => i > 0 || commands.length > 0),
    [1, 2, 3, 4],
  );
  const answered = commands.filter(([, { latency }]) => latency.count > 0);
  section(
    "Time from request to reply",
    [
      ["command", "median", "90 %", "99 %", "longest"],
      ...answered.map(([name, { latency }]) => [
        name,
        ...[0.5, 0.9, 0.99].map((share) => timeText(latency.percentileNs(share))),
        timeText(latency.maxNs),
      ]),
    ].filter((_, i) => i > 0 || answered.length > 0),
    [1, 2, 3],
  );
  for (const [name, { latency }] of answered) {
    section(`Replies to ${name}`, histogramRows(latency), [0, 1]);
  }
  section(
    "Registers used most",
    statistics.hottest().slice(0, HOTTEST).map(({ region, offset, width, reads, writes }) => [
      locator?.at(region, offset, width)?.name ?? "",
      placeText(region, offset),
      `${reads} read`,
      `${writes} written`,
    ]).map((row) => locator === undefined ? row.slice(1) : row),
    locator === undefined ? [1] : [2],
  );
  if (statistics.otherAccesses > 0) lines.push(`  ${statistics.otherAccesses} more elsewhere`);
  section(
    "DMA by message",
    ([["read", statistics.dmaRead], ["written", statistics.dmaWrite]] as const)
      .filter(([, { requests }]) => requests > 0)
      .map(([word, { requests, bytes }]) => [
        word,
        plural(requests, "request"),
        humanSize(bytes),
      ]),
    [1],
  );
  section("Interrupts", [...statistics.interrupts].map(([name, n]) => [name, String(n)]), []);
  section("Errors", [...statistics.errors].map(([name, n]) => [String(n), name]), [0]);
  if (statistics.strays > 0) {
    lines.push("", `${plural(statistics.strays, "reply", "replies")} without a request`);
  }
  if (statistics.altered > 0) {
    lines.push("", `${plural(statistics.altered, "message")} altered or withheld`);
  }
  if (statistics.hidden.size > 0) {
    const hidden = [...statistics.hidden];
    lines.push(
      "",
      `Not recorded: ${hidden.map((each) => HIDDEN[each]).join(", ")}`,
      `  vfu record --intercept ${hidden.join(",")} makes them visible`,
    );
  }
  return `${lines.join("\n")}\n`;
}

function histogramRows(latency: TimeHistogram): string[][] {
  const doublings = latency.doublings();
  const most = Math.max(...doublings.map(({ count }) => count));
  return doublings.map(({ belowNs, count }) => [
    `< ${timeText(belowNs)}`,
    String(count),
    bar(count / most, BAR_WIDTH),
  ]);
}

/** The numbers as one object for `--json`. */
export function statisticsJson({ statistics, conversation, locator }: StatisticsSource): unknown {
  const { firstNs, lastNs } = statistics;
  const unanswered = statistics.unanswered(conversation);
  return {
    events: Object.fromEntries(statistics.events),
    duration_ns: firstNs === undefined ? 0n : lastNs - firstNs,
    commands: [...statistics.commands].map(([command, numbers]) => ({
      command,
      requests: numbers.requests,
      replies: numbers.replies,
      errors: numbers.errors,
      unanswered: unanswered.get(command) ?? 0,
      bytes: numbers.bytes,
      latency_ns: numbers.latency.count === 0 ? null : {
        p50: numbers.latency.percentileNs(0.5),
        p90: numbers.latency.percentileNs(0.9),
        p99: numbers.latency.percentileNs(0.99),
        max: numbers.latency.maxNs,
        histogram: numbers.latency.doublings()
          .map(({ belowNs, count }) => ({ below: belowNs, count })),
      },
    })),
    registers: statistics.hottest().map(({ region, offset, width, reads, writes }) => {
      const name = locator?.at(region, offset, width)?.name;
      const named = name === undefined ? {} : { name };
      return { region, region_name: regionName(region), offset, ...named, reads, writes };
    }),
    other_accesses: statistics.otherAccesses,
    dma_read: statistics.dmaRead,
    dma_write: statistics.dmaWrite,
    interrupts: Object.fromEntries(statistics.interrupts),
    errors: Object.fromEntries(statistics.errors),
    strays: statistics.strays,
    hidden: [...statistics.hidden],
    altered: statistics.altered,
  };
}
