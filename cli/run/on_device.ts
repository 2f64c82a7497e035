/**
 * Sessions on a device: the part of `vfu run` that connects.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import type { Device } from "../../lib/client/device.ts";
import type { Session } from "../../lib/session/model.ts";
import { misfits, sessionsIn } from "../../lib/session/run/preflight.ts";
import { lacks } from "../../lib/session/run/requirements.ts";
import { problemText } from "../../lib/yaml/problem.ts";
import type { ChosenOption } from "../serve/chosen_option.ts";
import { Grace } from "../shared/cleanup_grace.ts";
import { connectTo } from "../shared/connect.ts";
import type { Context } from "../shared/context.ts";
import { printable } from "../shared/printable.ts";
import { jsonReporter } from "./json.ts";
import { junitReporter } from "./junit.ts";
import { showPlan } from "./plan.ts";
import { failedMessage, reportSession } from "./report_session.ts";
import type { Reporter } from "./reporter.ts";
import type { Selection, Setting } from "./sessions.ts";
import { tapReporter } from "./tap.ts";
import { textReporter } from "./text.ts";
import { WireLog } from "./wire_log.ts";

/** Options of {@linkcode runOnDevice}. */
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

/** Runs sessions on the device behind `socket`, or on the one that is to be served. */
export async function runOnDevice(
  context: Context,
  self: CommandUnknownOpts,
  selections: readonly Selection[],
  socket: string | undefined,
  options: RunFlags,
): Promise<void> {
  const { out } = context;
  const log = new WireLog();
  using grace = new Grace(context.signal);
  using connection = await connectTo(
    { ...context, signal: grace.signal },
    socket ?? await serve(context, self, options),
    { ...options, trace: log.trace },
  );
  const { device } = connection;
  log.omits = () => device.isExplaining;
  grace.begin();
  for (const { session } of selections) await checkFit(context, self, session, device);
  if (options.dryRun) {
    for (const each of selections) showPlan(out, each.session, { ...each, json: options.json });
    return;
  }
  await runAll(context, selections, device, log, options, socket !== undefined);
}

/** Serves the device that the command is to have. */
async function serve(
  context: Context,
  self: CommandUnknownOpts,
  { serve, option }: RunFlags,
): Promise<number> {
  const { serveHere } = await import("./serve_here.ts");
  return await serveHere(context, self, serve!, option);
}

async function runAll(
  context: Context,
  selections: readonly Selection[],
  device: Device,
  log: WireLog,
  options: RunFlags,
  blocking: boolean,
): Promise<void> {
  const reporters = makeReporters(context, options);
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

function makeReporters({ out }: Context, { json, tap, junit }: RunFlags): Reporter[] {
  const reporter = json ? jsonReporter(out) : tap ? tapReporter(out) : textReporter(out);
  return junit === undefined ? [reporter] : [reporter, junitReporter(junit)];
}
