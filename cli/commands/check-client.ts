/**
 * `vfu check-client`: tries whether a client keeps the specification.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import type { ClientCheck } from "../../lib/conformance/client_check.ts";
import { CLIENT_CHECKS, CLIENT_GROUPS } from "../../lib/conformance/client/groups.ts";
import { parseDuration } from "../../lib/text/duration.ts";
import { SOCKET_PLACE } from "../../lib/base/shell_command.ts";
import { checkClient } from "../../lib/conformance/api/conformance.ts";
import { planOf } from "../../lib/conformance/run.ts";
import { argument, argumentList } from "../shared/argument.ts";
import { type Choice, chooser } from "../check/choose.ts";
import { answersRules } from "../check/options.ts";
import { type ReportOptions, runReported } from "../check/reported.ts";
import { timeoutOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { forceOption } from "../shared/force.ts";
import { checkSpawn } from "../shared/spawn.ts";

/** A person needs a while to start a VMM once more, and is not to wait for ever unawares. */
const WAIT_MS = 600_000;

/** Options of {@linkcode run}. */
export interface CheckClientOptions extends Choice, ReportOptions {
  /** The path at which the device is served. */
  socketPath: string;
  /** The silence after which a client asks no more, in milliseconds. */
  timeout: number;
  /** The longest wait for a client without `spawn`, in milliseconds. */
  wait: number;
  /** A command that is a client of `{socket}`. */
  spawn?: string | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("check-client")
    .description(
      "Tries whether a client, a VMM for example, keeps the specification: serves a device whose " +
        "answers each check alters, within the specification and against it, and reports what " +
        "the client does next. The first connection finds a plain device, each later one is one " +
        "check. With --spawn a client is started for each, and its exit code and last words " +
        "count; without it, connect the client again until all checks are done: standard error " +
        "says which check waits for it. A client that is silent for --timeout asks no more.\n\n" +
        "Exit code 0: each rule is kept that a client MUST keep, and no check ended it by a " +
        "signal; 1: not so; 2: wrong usage.",
    )
    .option("--socket-path <path>", "serve the device here")
    .option("--spawn <command>", `a command that is a client of ${SOCKET_PLACE}, as vfu probe is`)
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
    .option("--strict", "fail on rules that a client SHOULD keep, too")
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
    .addOption(
      new Option("--wait <duration>", "without --spawn: wait so long for each client")
        .default(WAIT_MS, "10m")
        .argParser(argument(parseDuration)),
    )
    .addHelpText(
      "after",
      examples(
        "vfu check-client --socket-path c.sock --spawn 'vfu probe {socket}'",
        "vfu check-client --socket-path c.sock",
        "vfu check-client --list",
      ),
    )
    .action(async (options, self) => {
      if (answersRules(context, self, CLIENT_GROUPS, options)) return;
      const { socketPath, spawn } = options;
      if (socketPath === undefined) return self.error("error: --socket-path <path> is needed");
      checkSpawn(self, spawn);
      await run(context, { ...options, socketPath });
    });
}

/** Does the checks and reports them. */
export async function run(context: Context, options: CheckClientOptions): Promise<void> {
  const { socketPath: path, spawn, timeout: timeoutMs, wait: waitMs } = options;
  const { err, signal } = context;
  const chooses = chooser(options);
  const checks = planOf(CLIENT_GROUPS, chooses).flatMap((plan) => plan.checks);
  const onWait = (check: ClientCheck | undefined) => {
    const next = check === undefined
      ? "to see it with a plain device"
      : `for ${check.id}, ${checks.indexOf(check) + 1} of ${checks.length}`;
    err.write(`waiting for a client at ${path} ${next}\n`);
  };
  await runReported(context, {
    name: spawn ?? `the client of ${path}`,
    rules: CLIENT_CHECKS,
    total: checks.length,
    saysItself: spawn === undefined,
    results: () =>
      checkClient({
        ...{ path, chooses, timeoutMs, waitMs, onWait, signal },
        ...(spawn !== undefined && { spawn }),
      }),
  }, options);
}
