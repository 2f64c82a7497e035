/**
 * `vfu fuzz --client`: serves a client what no device should send.
 *
 * @module
 */

import { withSocket } from "../../lib/base/shell_command.ts";
import { socketFolder } from "../../lib/base/temporary.ts";
import { Run } from "../../lib/conformance/target.ts";
import { readChanges, writeChanges } from "../../lib/fuzz/client/case_file.ts";
import { fixedPlan } from "../../lib/fuzz/client/deviser.ts";
import { ClientSubject, type ClientSubjectOptions } from "../../lib/fuzz/client/play.ts";
import { fuzzClient, linesOfSaid, meetPlain } from "../../lib/fuzz/client/run.ts";
import { FuzzProgress } from "../../lib/fuzz/run.ts";
import { plural } from "../../lib/text/plural.ts";
import type { Context } from "../shared/context.ts";
import { Reported } from "../shared/failure.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { Progress, spinner } from "../shared/progress.ts";
import { shellWord } from "../../lib/text/shell_word.ts";
import { FindingStore } from "./finding_store.ts";
import { conversationLines, jsonReporter, observationJson, textReporter } from "./report.ts";

/** Runs of the client that make one case shorter, at most. */
const MAX_PLAYS = 300;

/** Options of {@linkcode runClient}. */
export interface ClientFuzzCommandOptions {
  /** The path at which the device is served; default one of a temporary folder. */
  socketPath?: string | undefined;
  /** A command that is a client of `{socket}`. */
  spawn: string;
  /** The number that the sequence is made of. */
  seed: number;
  /** The length of the run, in milliseconds. */
  time: number;
  /** The number of messages after which it ends. */
  messages: number;
  /** The folder for findings. */
  output: string;
  /** Time to make one case shorter, in milliseconds. */
  minimise: number;
  /** The silence after which a client hangs, in milliseconds. */
  timeout: number;
  json?: true | undefined;
}

/** A path to serve at, which is removed with its folder if it was made here. */
class Place implements Disposable {
  readonly path: string;
  readonly #folder: string | undefined;

  constructor(path: string | undefined) {
    this.#folder = path === undefined ? socketFolder("vfu-fuzz-") : undefined;
    this.path = path ?? `${this.#folder}/client.sock`;
  }

  [Symbol.dispose](): void {
    if (this.#folder !== undefined) Deno.removeSync(this.#folder, { recursive: true });
  }
}

function subjectOptions(
  { path }: Place,
  { signal }: Context,
  { spawn, timeout }: Pick<ClientFuzzCommandOptions, "spawn" | "timeout">,
): ClientSubjectOptions {
  const start = (socket: string) => new Run(withSocket(spawn, socket), socket);
  return { path, start, timeoutMs: timeout, signal };
}

/** Fuzzes a client, and reports what is found. */
export async function runClient(
  context: Context,
  options: ClientFuzzCommandOptions,
): Promise<void> {
  const { err } = context;
  const { seed, spawn, socketPath } = options;
  const reporter = (options.json ? jsonReporter : textReporter)(context, "client");
  const complain = (text: string) => err.write(`${err.style.yellow("vfu:")} ${printable(text)}\n`);
  using place = new Place(socketPath);
  const progress = new FuzzProgress("reply");
  const store = new FindingStore(options.output, seed, complain);
  reporter.begin(seed);
  using bar = new Progress(err, (elapsedMs) => progressText(progress, elapsedMs));
  let failure: unknown;
  try {
    const findings = fuzzClient(progress, {
      ...subjectOptions(place, context, options),
      seed,
      timeMs: options.time,
      messages: options.messages,
      minimise: { plays: MAX_PLAYS, timeMs: options.minimise },
    });
    for await (const finding of findings) {
      const file = store.write(
        finding,
        (path) => writeChanges(path, finding.changes, finding.said),
      );
      const again = file &&
        `vfu fuzz --client --spawn ${shellWord(spawn)} --again ${shellWord(file)}`;
      reporter.finding({ finding, file, again });
    }
  } catch (error) {
    failure = error;
  }
  bar[Symbol.dispose]();
  reporter.finish(progress, failure);
  if (failure !== undefined) throw failure;
  if (progress.findings > 0) throw new Reported(1);
}

/** A line: rate, what the client asked, what was found. */
function progressText(progress: FuzzProgress, elapsedMs: number): string {
  const { messages, connections, findings, doing, coverage } = progress;
  return `${spinner(elapsedMs)} ${doing}: ${plural(connections, "connection")}, ` +
    `${plural(messages, "message")}, ${coverage.behaviours} behaviours, ` +
    `${plural(findings, "finding")}`;
}

/** Makes the changes of a file again, and says what becomes of the client. */
export async function sendAgainToClient(
  context: Context,
  file: string,
  options: ClientFuzzCommandOptions,
): Promise<void> {
  const { signal, out } = context;
  const changes = await readChanges(file, signal);
  if (changes.length === 0) {
    throw new Error(
      `Cannot send ${file} again: no change of a device is in it; a finding about a server is ` +
        "sent without --client",
    );
  }
  using place = new Place(options.socketPath);
  using subject = new ClientSubject(subjectOptions(place, context, options));
  await meetPlain(subject);
  const { observations, conversation: said } = await subject.play(fixedPlan(changes));
  const conversation = linesOfSaid(said);
  if (options.json) {
    const all = observations.map((each) => observationJson(each, "client"));
    out.write(`${jsonText({ type: "again", observations: all, conversation })}\n`);
  } else {
    const line = (name: string, value: string) =>
      out.write(`${out.style.dim(name.padEnd(10))} ${printable(value)}\n`);
    for (const [name, value] of conversationLines({ conversation })) line(name, value);
    for (const { kind, text } of observations) {
      out.write(`${out.style.red(`✘ ${kind}: ${printable(text)}`)}\n`);
    }
    if (observations.length === 0) out.write(`${out.style.green("✔ nothing is wrong")}\n`);
  }
  if (observations.length > 0) throw new Reported(1);
}
