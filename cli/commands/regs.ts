/**
 * `vfu regs`: all registers of a map, with their fields.
 *
 * @module
 */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { parseDuration } from "../../lib/text/duration.ts";
import { fileError } from "../../lib/text/file_error.ts";
import { FileProblems, problemText } from "../../lib/yaml/problem.ts";
import { readText } from "../../lib/yaml/text.ts";
import { argument } from "../shared/argument.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import { pciEnableOption, timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { Reported } from "../shared/failure.ts";
import { jsonText } from "../shared/json.ts";
import { loadMaps, mapOption, orUsage } from "../shared/map.ts";
import { printable } from "../shared/printable.ts";
import { watch } from "../shared/watch.ts";
import { readSaved, registerJson, registersJson, type Saved } from "../regs/json.ts";
import {
  chooseRegisters,
  type Chosen,
  type Entry,
  readAll,
  type Seen,
  select,
  type Selection,
} from "../regs/snapshot.ts";
import { changeText, leftOutText, registerText, type Screen, seenText } from "../regs/text.ts";

/** Options of {@linkcode run}. */
export interface RegsOptions extends ConnectionOptions {
  /** Write JSON: a `RegistersJson`. */
  json?: true | undefined;
  /** Read registers that a read changes, too. */
  all?: true | undefined;
  /** Look again after so long, in milliseconds, until Ctrl-C. */
  watch?: number | undefined;
  /** Values to compare with. */
  saved?: Saved | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("regs")
    .description(
      "Shows all registers of a map, or those that are named, with their fields: bits, value and " +
        "meaning. Registers that are write-only, or that a read changes, are left out and " +
        "listed. With --diff only what differs from a saved --json is shown, and the exit code " +
        "is 1 if anything does. With --watch changes are marked, until Ctrl-C.",
    )
    .argument("<socket>", "path of the server's socket")
    .argument("[register...]", "only these, as CSTS or nvme.CSTS")
    .addOption(mapOption("show the registers of this map").makeOptionMandatory())
    .option("--all", "read registers that a read changes, too")
    .addOption(
      new Option("--watch <duration>", "look again after so long, as 200ms, until Ctrl-C")
        .argParser(argument(parseDuration)),
    )
    .addOption(
      new Option("--diff <file>", "show what differs from a saved --json").conflicts("watch"),
    )
    .option("--json", "write one JSON object; with --watch a line for each change")
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu regs dev.sock --map nvme --pci-enable",
        "vfu regs dev.sock CSTS --map nvme --watch 200ms",
        "vfu regs dev.sock --map pci --json",
      ),
    )
    .action(async (socket, names, { diff, ...options }, self) => {
      const maps = (await loadMaps(context, self, options.map ?? [])).map(({ map }) => map);
      const what = `cannot use '${names.join(" ")}' as register:`;
      const chosen = orUsage(self, what, () => chooseRegisters(maps, names));
      const saved = diff === undefined ? undefined : await loadSaved(self, diff);
      await run(context, socket, chosen, { ...options, saved });
    });
}

/** Reads a file that `vfu regs --json` wrote. */
async function loadSaved(self: CommandUnknownOpts, path: string): Promise<Saved> {
  const text = await readText(path, path).catch((error) => {
    if (error instanceof FileProblems) throw new Error(problemText(error.problems[0]!));
    throw fileError(`read ${path}`, error);
  });
  return orUsage(
    self,
    `option '--diff <file>' argument '${path}' is invalid.`,
    () => readSaved(text),
  );
}

/** Shows registers of the device behind `socket`. */
export async function run(
  context: Context,
  socket: string,
  chosen: readonly Chosen[],
  options: RegsOptions,
): Promise<void> {
  const { json, saved, all, watch: intervalMs } = options;
  const { out, signal } = context;
  using connection = await connectTo(context, socket, options);
  const selection = await select(connection.device, chosen, { all });
  const { entries, leftOut } = selection;
  if (intervalMs !== undefined) return await watchAll(context, selection, intervalMs, json);
  const seen = await readAll(entries, signal);
  if (saved !== undefined) return showDifferences(context, entries, seen, saved, json);
  out.write(
    json
      ? registersJson(socket, entries, seen, leftOut)
      : allLines(selection, seen, undefined, out).join("\n") + "\n",
  );
}

/** All registers, and those that are left out. */
function allLines(
  { entries, leftOut }: Selection,
  seen: readonly Seen[],
  before: readonly Seen[] | undefined,
  screen: Screen,
): string[] {
  return [
    ...entries.flatMap((entry, i) => registerText(entry, seen[i]!, screen, before?.[i])),
    ...leftOutText(leftOut, screen),
  ];
}

async function watchAll(
  context: Context,
  selection: Selection,
  intervalMs: number,
  json: true | undefined,
): Promise<never> {
  const { entries } = selection;
  return await watch<Seen[]>(context, intervalMs, {
    isJson: json === true,
    look: () => readAll(entries, context.signal),
    screen: (seen, before, out) =>
      json
        ? entries.map((entry, i) => jsonText(registerJson(entry, seen[i]!)))
        : allLines(selection, seen, before, out),
    changes: (seen, before, out, timeMs) =>
      differing(entries, before, seen).map(({ entry, from, to }) =>
        json
          ? jsonText({ time_ms: Math.round(timeMs), ...registerJson(entry, to) })
          : `${timeMs.toFixed(0).padStart(7)} ms  ${changeText(entry, from, to, out)}`
      ),
  });
}

/** A register whose value differs. */
interface Difference {
  readonly entry: Entry;
  readonly from: Seen;
  readonly to: Seen;
}

function differing(
  entries: readonly Entry[],
  before: readonly (Seen | undefined)[],
  after: readonly Seen[],
): Difference[] {
  return entries.flatMap((entry, i) => {
    const [from, to] = [before[i], after[i]!];
    if (from === undefined || seenText(entry, from) === seenText(entry, to)) return [];
    return [{ entry, from, to }];
  });
}

/** @throws {Reported} if something differs */
function showDifferences(
  { out }: Context,
  entries: readonly Entry[],
  seen: readonly Seen[],
  saved: Saved,
  json: true | undefined,
): void {
  const before = entries.map(({ name }) => saved.get(name));
  const differences = differing(entries, before, seen);
  const names = new Set(entries.map(({ name }) => name));
  const added = entries.filter((_, i) => before[i] === undefined).map(({ name }) => name);
  const gone = [...saved.keys()].filter((name) => !names.has(name));
  if (json) {
    const changes = differences.map(({ entry, from, to }) => ({
      before: registerJson(entry, from),
      after: registerJson(entry, to),
    }));
    out.write(`${jsonText({ differences: changes, only_here: added, only_saved: gone }, 2)}\n`);
  } else {
    const lines = [
      ...differences.map(({ entry, from, to }) => changeText(entry, from, to, out)),
      ...(added.length > 0 ? [`Only here: ${added.join(" ")}`] : []),
      ...(gone.length > 0 ? [`Only saved: ${printable(gone.join(" "))}`] : []),
    ];
    if (lines.length > 0) out.write(`${lines.join("\n")}\n`);
  }
  if (differences.length + added.length > 0) throw new Reported(1);
}
