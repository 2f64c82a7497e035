/**
 * `vfu check`: tries whether a server keeps the specification.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { SOCKET_PLACE } from "../../lib/base/shell_command.ts";
import { checkServer } from "../../lib/conformance/api/conformance.ts";
import type { Rule } from "../../lib/conformance/check.ts";
import { planOf } from "../../lib/conformance/run.ts";
import { SERVER_CHECKS, SERVER_GROUPS } from "../../lib/conformance/server/groups.ts";
import type { Session } from "../../lib/session/model.ts";
import { argumentList } from "../shared/argument.ts";
import { loadCopy } from "../check/copy.ts";
import { type Choice, chooser } from "../check/choose.ts";
import { answersRules } from "../check/options.ts";
import { type ReportOptions, runReported } from "../check/reported.ts";
import { timeoutOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { forceOption } from "../shared/force.ts";
import { checkSpawn } from "../shared/spawn.ts";

/** Options of {@linkcode run}. */
export interface CheckOptions extends Choice, ReportOptions {
  /** The time that the server may take for each answer, in milliseconds. */
  timeout: number;
  /** A command that serves the device at `{socket}`. */
  spawn?: string | undefined;
  /** Start it anew for each check. */
  fresh?: true | undefined;
  /** Do what may break a server that can't be started anew. */
  destructive?: true | undefined;
  /** A session by whose steps the device copies memory. */
  copy?: string | undefined;
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
        "rule is kept that a server MUST keep, and no check ended it by a signal; 1: not so; 2: " +
        "wrong usage.",
    )
    .argument("[socket]", "path of the server's socket")
    .option("--spawn <command>", `a command that serves the device at ${SOCKET_PLACE}`)
    .option("--fresh", "with --spawn: start the server anew for each check")
    .option("--destructive", "do checks that may break the server at the socket, too")
    .option(
      "--copy <file>",
      "a session whose steps have the device copy length bytes from source to destination",
    )
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
    .addOption(forceOption())
    .option("--list", "list the checks, and do nothing")
    .option("--explain <id>", "print the rules of these checks with their sections")
    .option("--json", "write a line of JSON a check")
    .addOption(new Option("--tap", "write TAP").conflicts("json"))
    .addOption(new Option("--markdown", "write Markdown, for a report").conflicts(["json", "tap"]))
    .option("--junit <file>", "also write a JUnit report")
    .option("-v, --verbose", "show the messages of checks that passed, too")
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu check dev.sock",
        "vfu check --spawn 'vfu serve demo --socket-path={socket}'",
        "vfu check dev.sock --only server/region_read --verbose",
        "vfu check dev.sock --copy copy.yaml --only dma_messages",
        "vfu check --explain server/region_read/3",
      ),
    )
    .action(async (socket, options, self) => {
      if (answersRules(context, self, SERVER_GROUPS, options)) return;
      const isOne = (socket === undefined) !== (options.spawn === undefined);
      if (!isOne) self.error("error: name either a socket, or a command with --spawn");
      checkSpawn(self, options.spawn);
      if (options.fresh && options.spawn === undefined) {
        self.error("error: --fresh needs --spawn");
      }
      if (options.copy !== undefined && !SERVER_CHECKS.some(needsCopy(options))) {
        self.error("error: --copy is for checks of dma_messages, and none is chosen");
      }
      const copy = options.copy === undefined
        ? undefined
        : await loadCopy(context, self, options.copy);
      await run(context, socket, options, copy);
    });
}

/** Chooses the checks for which the device has to copy. */
function needsCopy(choice: Choice): (check: Rule) => boolean {
  const chooses = chooser(choice);
  return (check) => check.needsCopy === true && chooses(check);
}

/** Does the checks and reports them. */
export async function run(
  context: Context,
  socket: string | undefined,
  options: CheckOptions,
  copy?: Session,
): Promise<void> {
  const { spawn, timeout: timeoutMs } = options;
  const chooses = chooser(options);
  const plans = planOf(SERVER_GROUPS, chooses);
  await runReported(context, {
    name: socket ?? spawn!,
    rules: SERVER_CHECKS,
    total: plans.reduce((sum, { checks }) => sum + checks.length, 0),
    results: () =>
      checkServer({
        ...(spawn === undefined ? { path: socket! } : { spawn }),
        chooses,
        timeoutMs,
        signal: context.signal,
        isDestructive: options.destructive ?? false,
        isFresh: options.fresh ?? false,
        ...(copy && { copy }),
      }),
  }, options);
}
