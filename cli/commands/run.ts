/**
 * `vfu run`: sessions from files.
 *
 * @module
 */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { Device } from "../../lib/client/device.ts";
import type { Session } from "../../lib/session/model.ts";
import { argument, argumentList } from "../shared/argument.ts";
import { connectTo } from "../shared/connect.ts";
import { timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { assertNotInput } from "../shared/destination.ts";
import { Grace } from "../shared/cleanup_grace.ts";
import { printable } from "../shared/printable.ts";
import { loadAll, parseSetting, select, type Selection, type Setting } from "../run/sessions.ts";
import type { Reporter } from "../run/reporter.ts";
import { assertServes, deviceOption, serveHere } from "../run/serve_here.ts";
import type { ChosenOption } from "../serve/make.ts";
import type { WireLog } from "../run/wire_log.ts";
import { parseCount } from "../shared/value.ts";

/** Options of {@linkcode run}. */
export interface RunFlags {
  /** Show every message on standard error. */
  verbose?: true | undefined;
  /** The time that the server may take for each answer, in milliseconds. */
  timeout: number;
  /** Serve this device, in this process, in place of a socket's. */
  serve?: string | undefined;
  /** Options of that device. */
  option?: ChosenOption[] | undefined;
  /** Only look for mistakes in the files. */
  check?: true | undefined;
  /** Connect and look whether the session fits the device, and show what would be done. */
  dryRun?: true | undefined;
  /** Variables in place of the files' own. */
  set?: readonly Setting[] | undefined;
  /** Number or name of the first step. */
  from?: string | undefined;
  /** Number or name of the last step. */
  until?: string | undefined;
  /** The number of times. */
  repeat?: number | undefined;
  /** Write JSON. */
  json?: true | undefined;
  /** Write TAP. */
  tap?: true | undefined;
  /** Write a JUnit report into this file. */
  junit?: string | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("run")
    .description(
      "Runs sessions, which are files of steps: reads and writes of registers, memory for the " +
        "device, interrupts, and what is expected of them. A line a step says what came of it; " +
        "the first step that fails ends its session, with what was expected, what was found, the " +
        "last messages and how the device stands. In the end memory is unmapped and interrupts " +
        "are disabled, after Ctrl-C too.\n\nExit code 0: all passed; 1: a step failed; 2: a file " +
        "is wrong, and nothing was done.",
    )
    .usage("[options] <file...> <socket>")
    .argument("<file...>", "session files, then the path of the server's socket")
    .option("--serve <device>", "run on demo, or on a device of a module, in place of a socket's")
    .addOption(deviceOption())
    .addOption(
      new Option("--check", "look for mistakes in the files, and do nothing").conflicts("serve"),
    )
    .option("--dry-run", "connect, see whether the steps fit the device, and list them")
    .addOption(
      new Option("--set <name=value>", "give a variable another value; repeatable")
        .argParser(argumentList(parseSetting)),
    )
    .option("--from <step>", "begin with this step, by its number or name")
    .option("--until <step>", "end with this step")
    .addOption(
      new Option("--repeat <number>", "run all of it so often, unless it fails")
        .argParser(argument(parseCount)),
    )
    .option("--json", "write a line of JSON a step")
    .addOption(new Option("--tap", "write TAP").conflicts("json"))
    .option("--junit <file>", "also write a JUnit report")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu run bring-up.yaml dev.sock",
        "vfu run bring-up.yaml --serve ./nvme.ts --option size=64M",
        "vfu run --check bring-up.yaml",
        "vfu run bring-up.yaml dev.sock --set size=4K --junit report.xml",
      ),
    )
    .action(async (args, options, self) => {
      assertServes(self, options);
      const needsSocket = options.check === undefined && options.serve === undefined;
      if (needsSocket && args.length < 2) {
        self.error(
          "error: the path of a socket has to follow the files; --serve demo does without one",
        );
      }
      const socket = needsSocket ? await findSocket(args) : undefined;
      const files = socket === undefined ? args : args.filter((each) => each !== socket);
      assertNotInput(self, { junit: options.junit }, files);
      const sessions = await loadAll(context, self, files, options);
      if (options.check) return;
      const selections = sessions.map((session) => select(self, session, options));
      await run(context, self, selections, socket, options);
    });
}

/**
 * The argument that is a socket: the last, unless another one is in fact, as in the lines of other
 * commands.
 */
async function findSocket(args: readonly string[]): Promise<string> {
  for (const each of args.slice(0, -1)) {
    const { isSocket } = await Deno.lstat(each).catch(() => ({ isSocket: false }));
    if (isSocket) return each;
  }
  return args.at(-1)!;
}

/** Runs sessions on the device behind `socket`, or on the one that is to be served. */
export async function run(
  context: Context,
  self: CommandUnknownOpts,
  selections: readonly Selection[],
  socket: string | undefined,
  options: RunFlags,
): Promise<void> {
  const { out } = context;
  const { WireLog } = await import("../run/wire_log.ts");
  const log = new WireLog();
  using grace = new Grace(context.signal);
  using connection = await connectTo(
    { ...context, signal: grace.signal },
    socket ?? await serveHere(context, self, options.serve!, options.option),
    { ...options, trace: log.trace },
  );
  const { device } = connection;
  log.omits = () => device.isExplaining;
  grace.begin();
  for (const { session } of selections) await checkFit(context, self, session, device);
  if (options.dryRun) {
    const { showPlan } = await import("../run/plan.ts");
    for (const each of selections) showPlan(out, each.session, { ...each, json: options.json });
    return;
  }
  await runAll(context, selections, device, log, options, socket !== undefined);
}

async function runAll(
  context: Context,
  selections: readonly Selection[],
  device: Device,
  log: WireLog,
  options: RunFlags,
  blocking: boolean,
): Promise<void> {
  const { failedMessage, reportSession } = await import("../run/report_session.ts");
  const reporters = await makeReporters(context, options);
  const { repeat = 1 } = options;
  const failures: string[] = [];
  try {
    for (let round = 1; round <= repeat && failures.length === 0; round++) {
      for (const { session, from, until } of selections) {
        for (const reporter of reporters) reporter.begin({ session, round, rounds: repeat });
        const failed = await reportSession(context, session, device, {
          reporters,
          log,
          from,
          until,
          blocking,
        });
        if (failed !== undefined) failures.push(failedMessage(session, failed));
      }
    }
  } finally {
    for (const reporter of reporters) await reporter.finish?.();
  }
  if (failures.length > 0) throw new Error(failures.join("\n"));
}

/**
 * Checks a session against the device. A region or vector that the device lacks is a failure; a
 * place outside a region is a mistake of the file.
 */
async function checkFit(
  { err }: Context,
  self: CommandUnknownOpts,
  session: Session,
  device: Device,
): Promise<void> {
  const [{ lacks }, { misfits, sessionsIn }, { problemText }] = await Promise.all([
    import("../../lib/session/run/requirements.ts"),
    import("../../lib/session/run/preflight.ts"),
    import("../../lib/yaml/problem.ts"),
  ]);
  for (const { file, requires } of sessionsIn(session)) {
    const missing = await lacks(requires, device);
    if (missing.length === 0) continue;
    const words = missing.map(({ what, expected, found }) =>
      `${what}: expected ${expected}, found ${found}`
    );
    throw new Error(`This is not the device for ${file}: ${words.join("; ")}`);
  }
  const problems = await misfits(session, device);
  if (problems.length === 0) return;
  for (const each of problems) err.write(`${printable(problemText(each))}\n`);
  self.error(`error: the session ${session.file} does not fit the device; nothing was done`);
}

async function makeReporters({ out }: Context, options: RunFlags): Promise<Reporter[]> {
  const { json, tap, junit } = options;
  const reporter = json
    ? (await import("../run/json.ts")).jsonReporter(out)
    : tap
    ? (await import("../run/tap.ts")).tapReporter(out)
    : (await import("../run/text.ts")).textReporter(out);
  if (junit === undefined) return [reporter];
  return [reporter, (await import("../run/junit.ts")).junitReporter(junit)];
}
