/**
 * `vfu check`: tries whether a server keeps the specification.
 *
 * @module
 */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { Check } from "../../lib/conformance/check.ts";
import {
  type CheckResult,
  type Plan,
  planOf,
  runChecks,
  type RunOptions as LibraryOptions,
} from "../../lib/conformance/run.ts";
import { SERVER_CHECKS, SERVER_GROUPS } from "../../lib/conformance/server/groups.ts";
import { ListeningTarget, SOCKET_PLACE, SpawnedTarget } from "../../lib/conformance/target.ts";
import { argumentList } from "../shared/argument.ts";
import { chooser, fitNothing, readKnown, writeKnown } from "../check/choose.ts";
import { isFailure, jsonReporter, junitReporter, markdownReporter } from "../check/formats.ts";
import { tapReporter } from "../check/formats.ts";
import { type CheckReporter, type Judged, type Outcome, tallyOf } from "../check/report.ts";
import { textReporter } from "../check/text.ts";
import { timeoutOption } from "../shared/connection.ts";
import type { Context } from "../shared/context.ts";
import { Reported } from "../shared/failure.ts";
import { jsonText } from "../shared/json.ts";
import { bar, Progress } from "../shared/progress.ts";
import { tableLines } from "../shared/table.ts";

/** Options of {@linkcode run}. */
export interface CheckOptions {
  /** The time that the server may take for each answer, in milliseconds. */
  timeout: number;
  /** A command that serves the device at `{socket}`. */
  spawn?: string | undefined;
  /** Start it anew for each check. */
  fresh?: true | undefined;
  /** Do what may break a server that can't be started anew. */
  destructive?: true | undefined;
  only?: readonly string[] | undefined;
  skip?: readonly string[] | undefined;
  level?: string | undefined;
  /** Rules that a server SHOULD keep fail the run, too. */
  strict?: true | undefined;
  /** The file of known deviations. */
  expect?: string | undefined;
  /** Write the deviations of this run into such a file. */
  saveExpect?: string | undefined;
  verbose?: true | undefined;
  json?: true | undefined;
  tap?: true | undefined;
  markdown?: true | undefined;
  junit?: string | undefined;
  /** List the checks in place of doing them. */
  list?: true | undefined;
  /** Print the rule of this check. */
  explain?: string | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("check")
    .description(
      "Tries whether a server keeps the specification: a line a check says which rule it keeps, " +
        "and of one that it does not keep what was sent, what was expected, and what came. With " +
        "--spawn the server is started as often as needed, and a crash is reported with its " +
        "signal; without it, checks that may break a server are left out.\n\nExit code 0: each " +
        "rule is kept that a server MUST keep; 1: one is not; 2: wrong usage.",
    )
    .argument("[socket]", "path of the server's socket")
    .option("--spawn <command>", `a command that serves the device at ${SOCKET_PLACE}`)
    .option("--fresh", "with --spawn: start the server anew for each check")
    .option("--destructive", "do checks that may break the server at the socket, too")
    .addOption(
      new Option("--only <id>", "do these checks: an id, a group, or with *; repeatable")
        .argParser(argumentList(String)),
    )
    .addOption(
      new Option("--skip <id>", "leave out these checks; repeatable")
        .argParser(argumentList(String)),
    )
    .addOption(
      new Option("--level <level>", "do checks of this weight").choices(["MUST", "SHOULD", "MAY"]),
    )
    .option("--strict", "fail on rules that a server SHOULD keep, too")
    .option("--expect <file>", "a file of known deviations, an id a line: only changes fail")
    .option("--save-expect <file>", "write the deviations of this run into such a file")
    .option("--list", "list the checks, and do nothing")
    .option("--explain <id>", "print the rule of a check with its section")
    .option("--json", "write a line of JSON a check")
    .addOption(new Option("--tap", "write TAP").conflicts("json"))
    .addOption(new Option("--markdown", "write Markdown, for a report").conflicts(["json", "tap"]))
    .option("--junit <file>", "also write a JUnit report")
    .option("-v, --verbose", "show the messages of checks that passed, too")
    .addOption(timeoutOption())
    .action(async (socket, options, self) => {
      const [nothing] = fitNothing(SERVER_CHECKS, options);
      if (nothing !== undefined) self.error(`error: no check fits '${nothing}'; --list shows all`);
      if (options.explain !== undefined) return explain(context, self, options.explain, options);
      if (options.list) return list(context, options);
      const isOne = (socket === undefined) !== (options.spawn === undefined);
      if (!isOne) self.error("error: name either a socket, or a command with --spawn");
      if (options.spawn !== undefined && !options.spawn.includes(SOCKET_PLACE)) {
        self.error(`error: the command of --spawn has to contain ${SOCKET_PLACE}`);
      }
      if (options.fresh && options.spawn === undefined) {
        self.error("error: --fresh needs --spawn");
      }
      await run(context, socket, options);
    });
}

/** Does the checks and reports them. */
export async function run(
  context: Context,
  socket: string | undefined,
  options: CheckOptions,
): Promise<void> {
  const { signal } = context;
  const known = options.expect === undefined ? undefined : readKnown(options.expect, SERVER_CHECKS);
  const chooses = chooser(options);
  const plans = planOf(SERVER_GROUPS, chooses);
  const reporters = reportersOf(context, socket ?? options.spawn!, options);
  const settings: LibraryOptions = {
    timeoutMs: options.timeout,
    signal,
    isDestructive: options.destructive ?? false,
    isFresh: options.fresh ?? false,
    chooses,
  };
  const results: Judged[] = [];
  const startMs = performance.now();
  const finish = (error?: Error) => {
    const timeMs = performance.now() - startMs;
    for (const reporter of reporters) reporter.finish(tallyOf(results), timeMs, error);
  };
  try {
    await using target = options.spawn === undefined
      ? new ListeningTarget(socket!)
      : new SpawnedTarget(options.spawn);
    // A terminal that shows the lines of checks needs no bar between them.
    using _progress = context.out.isTerminal ? undefined : progress(context, plans, results);
    for await (const result of runChecks(target, plans, settings)) {
      const judged = { ...result, outcome: outcomeOf(result, known, options.strict ?? false) };
      results.push(judged);
      for (const reporter of reporters) reporter.result(judged);
    }
  } catch (error) {
    finish(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
  finish();
  if (options.saveExpect !== undefined) writeKnown(options.saveExpect, results);
  if (results.some(isFailure)) throw new Reported(1);
}

/** The bar, for those who look at a terminal while the report goes elsewhere. */
function progress({ err }: Context, plans: readonly Plan[], results: readonly Judged[]): Progress {
  const total = plans.reduce((sum, { checks }) => sum + checks.length, 0);
  return new Progress(err, () => {
    const share = results.length / Math.max(1, total);
    return `${bar(share, 30).padEnd(30, "░")} ${results.length} of ${total} checks`;
  });
}

function reportersOf(
  context: Context,
  server: string,
  { json, tap, markdown, junit, verbose }: CheckOptions,
): CheckReporter[] {
  const { out } = context;
  const main = json
    ? jsonReporter(out)
    : tap
    ? tapReporter(out)
    : markdown
    ? markdownReporter(out, server)
    : textReporter(context, verbose ?? false);
  return junit === undefined ? [main] : [main, junitReporter(junit)];
}

/** Weighs a result. Of known deviations only a change matters. */
function outcomeOf(
  { verdict, check }: CheckResult,
  known: ReadonlySet<string> | undefined,
  isStrict: boolean,
): Outcome {
  const isKnown = known?.has(check.id) ?? false;
  if (verdict === "passed") return isKnown ? "mended" : "passed";
  if (verdict !== "failed") return "skipped";
  if (isKnown) return "known";
  return isStrict || check.level === "MUST" || known !== undefined ? "failed" : "warned";
}

function list({ out }: Context, options: CheckOptions): void {
  const plans = planOf(SERVER_GROUPS, chooser(options));
  if (options.json) {
    const checks = plans.flatMap(({ group, checks }) =>
      checks.map((each) => ruleJson(each, group))
    );
    return out.write(`${jsonText(checks, 2)}\n`);
  }
  for (const { group, checks } of plans) {
    out.write(`${out.style.bold(group.title)}\n`);
    const rows = checks.map(({ id, level, rule }) => [id, level, rule]);
    for (const line of tableLines(rows, { columns: out.columns, indent: 2 })) {
      out.write(`${line}\n`);
    }
  }
}

function explain(
  { out }: Context,
  self: CommandUnknownOpts,
  id: string,
  { json }: CheckOptions,
): void {
  for (const group of SERVER_GROUPS) {
    const check = group.checks.find((each) => each.id === id);
    if (check === undefined) continue;
    if (json) return out.write(`${jsonText(ruleJson(check, group), 2)}\n`);
    const notes = [
      ...(check.mayEnd ? ["The server may close the connection."] : []),
      ...(check.isDestructive ? ["A careless server may end or hang."] : []),
    ];
    out.write(
      `${out.style.bold(check.id)}  ${group.title}\n${check.level}: ${check.rule}\n` +
        `Section: ${check.section}\n${notes.map((note) => `${note}\n`).join("")}`,
    );
    return;
  }
  self.error(`error: there is no check '${id}'; --list shows all`);
}

function ruleJson(
  { id, level, section, rule, mayEnd, isDestructive }: Check,
  { title }: { title: string },
) {
  return {
    id,
    group: title,
    level,
    section,
    rule,
    may_end_connection: mayEnd ?? false,
    destructive: isDestructive ?? false,
  };
}
