/**
 * `vfu fuzz`: sends a server what no list of checks contains.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { NO_FACTS } from "../../lib/conformance/facts.ts";
import { SOCKET_PLACE } from "../../lib/base/shell_command.ts";
import { learnFacts } from "../../lib/conformance/run.ts";
import { ListeningTarget, SpawnedTarget, type Target } from "../../lib/conformance/target.ts";
import { readCase, writeCase } from "../../lib/fuzz/case_file.ts";
import { Corpus } from "../../lib/fuzz/corpus.ts";
import { labelText } from "../../lib/fuzz/label.ts";
import { fuzz, FuzzProgress } from "../../lib/fuzz/run.ts";
import { quiet } from "../../lib/fuzz/quiet.ts";
import { linesOf, Subject } from "../../lib/fuzz/subject.ts";
import { readSize } from "../../lib/text/size.ts";
import { parseDuration } from "../../lib/text/duration.ts";
import { plural } from "../../lib/text/plural.ts";
import { conversationLines, jsonReporter, observationJson, textReporter } from "../fuzz/report.ts";
import { FindingStore } from "../fuzz/finding_store.ts";
import { runClient, sendAgainToClient } from "../fuzz/client.ts";
import { argument, argumentList } from "../shared/argument.ts";
import { forOption, timeoutOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { Reported } from "../shared/failure.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { Progress, spinner } from "../shared/progress.ts";
import { shellWord } from "../../lib/text/shell_word.ts";
import { checkSpawn } from "../shared/spawn.ts";

/** Plays that make one case shorter, at most. */
const MAX_PLAYS = 600;
const DEFAULT_MINIMISE_MS = 30_000;
const DAY_MS = 24 * 3_600_000;

/** Options of {@linkcode run}. */
export interface FuzzCommandOptions {
  /** The number that the sequence is made of. */
  seed: number;
  /** The length of the run, in milliseconds. */
  time: number;
  /** The number of messages after which it ends. */
  messages: number;
  /** A folder of connections to vary, which grows. */
  corpus?: string | undefined;
  /** Recordings to vary. */
  from?: string[] | undefined;
  /** The folder for findings. */
  output: string;
  /** Time to make one case shorter, in milliseconds. */
  minimise: number;
  /** The time that the server may take for each answer, in milliseconds. */
  timeout: number;
  json?: true | undefined;
  spawn?: string | undefined;
}

const MORE_HELP = `
Connections are made from the tables of the protocol: right requests for the
device that the server has, and requests with one or two things wrong: a field,
a length, a descriptor, a piece, an id. The server's own requests are answered,
rightly or not. Found are: a server that ends (crash), that answers no more
(hang), whose descriptors or memory grow (leak), whose output has the report of
a sanitizer (report), and replies that no request asked for, or that are
malformed (wrong reply).

With --client the command is a client, a VMM for example. It is started again
and again; vfu serves it a device whose replies are wrong here and there, and
sends commands of its own. Found are: a client that is ended by a signal
(crash), that neither asks nor ends (hang), that takes memory without a bound
(leak), and reports of sanitizers. A client may end with an error: that is no
finding.

A finding is made as short as can be, shown as decoded messages, and written as
a recording into the folder of --output. That may go on for --minimise after the
end of --for. vfu fuzz --again FILE sends the messages again, byte for byte;
vfu show FILE shows them.

Exit code 0: nothing was found; 1: something was; 2: wrong usage.`;

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("fuzz")
    .description(
      "Sends a server messages that are right and wrong, in states that they lead to, and tells " +
        "what breaks it in as few messages as possible. With --spawn the server is started anew " +
        "whenever it has ended.",
    )
    .argument("[socket]", "path of the server's socket")
    .option("--spawn <command>", `a command that serves the device at ${SOCKET_PLACE}`)
    .option("--client", "fuzz a client, which --spawn starts, with a device that goes wrong")
    .option("--socket-path <path>", "with --client: serve the device here; default: any place")
    .addOption(
      new Option("--seed <number>", "the same number makes the same messages; default: any")
        .argParser(argument(parseNumber)),
    )
    .addOption(forOption("end after so long, as 60s or 1h"))
    .addOption(
      new Option("--messages <number>", "end after so many messages")
        .argParser(argument(parseNumber)),
    )
    .option("--corpus <folder>", "vary the connections in this folder, and add to it")
    .addOption(
      new Option("--from <file>", "vary what the client of a recording sent; repeatable")
        .argParser(argumentList(String)),
    )
    .option("-o, --output <folder>", "write findings there", "vfu-findings")
    .addOption(
      new Option("--minimise <duration>", "make each case shorter for so long")
        .default(DEFAULT_MINIMISE_MS, "30s").argParser(argument(parseDuration)),
    )
    .option("--again <file>", "send the messages of a finding again, and do nothing else")
    .option("--json", "write a line of JSON a finding, and one for the end")
    .addOption(timeoutOption())
    .addHelpText("after", MORE_HELP)
    .addHelpText(
      "after",
      examples(
        "vfu fuzz --spawn 'my-server --socket-path {socket}' --for 60s",
        "vfu fuzz --spawn './server {socket}' --corpus corpus --from x.pcapng",
        "vfu fuzz --client --spawn 'vfu probe {socket}' --for 60s",
        "vfu fuzz dev.sock --seed 7 --messages 100000",
        "vfu fuzz dev.sock --again vfu-findings/crash-7-1.pcapng",
      ),
    )
    .action(async (socket, { again, seed, for: time, messages, ...options }, self) => {
      const limits = {
        seed: seed ?? Math.floor(Math.random() * 2 ** 31),
        time: time ?? DAY_MS,
        messages: messages ?? Infinity,
      };
      if (options.client) {
        const { spawn, corpus, from } = options;
        if (socket !== undefined) self.error("error: --client serves: use --socket-path <path>");
        if (spawn === undefined) return self.error("error: --client needs --spawn <command>");
        if (corpus ?? from) self.error("error: --corpus and --from are for servers");
        checkSpawn(self, spawn);
        const all = { ...options, ...limits, spawn };
        return await (again === undefined
          ? runClient(context, all)
          : sendAgainToClient(context, again, all));
      }
      if (options.socketPath !== undefined) self.error("error: --socket-path is for --client");
      const isOne = (socket === undefined) !== (options.spawn === undefined);
      if (!isOne) self.error("error: name either a socket, or a command with --spawn");
      checkSpawn(self, options.spawn);
      if (again !== undefined) return await sendAgain(context, socket, again, options);
      await run(context, socket, { ...options, ...limits });
    });
}

/**
 * Reads a count or a seed.
 *
 * @throws {RangeError} if it is none
 */
function parseNumber(text: string): number {
  const number = readSize(text);
  if (number !== undefined && number < 1e10) return Number(number);
  throw new RangeError("It is a number from 0 to 9999999999.");
}

/** Fuzzes a server, and reports what is found. */
export async function run(
  context: Context,
  socket: string | undefined,
  options: FuzzCommandOptions,
): Promise<void> {
  const { signal, err } = context;
  const { seed, timeout } = options;
  const reporter = options.json ? jsonReporter(context) : textReporter(context);
  const complain = (text: string) => err.write(`${err.style.yellow("vfu:")} ${printable(text)}\n`);
  const corpus = new Corpus(options.corpus, complain);
  await corpus.read(signal);
  for (const file of options.from ?? []) await corpus.readFile(file, signal);
  await using target = targetOf(socket, options.spawn);
  const facts = await learnFacts(target, {
    timeoutMs: timeout,
    signal,
    isDestructive: true,
    isFresh: false,
  });
  if (facts === NO_FACTS) complain("The server answers wrongly when asked what it offers");
  reporter.begin(seed);
  const progress = new FuzzProgress();
  using bar = new Progress(err, (elapsedMs) => progressText(progress, elapsedMs));
  const store = new FindingStore(options.output, seed, complain);
  let failure: unknown;
  try {
    const findings = fuzz(target, progress, {
      seed,
      facts,
      timeoutMs: timeout,
      signal,
      timeMs: options.time,
      messages: options.messages,
      corpus,
      minimise: { plays: MAX_PLAYS, timeMs: options.minimise },
    });
    for await (const finding of findings) {
      const file = store.write(finding, (path) => writeCase(path, finding.steps));
      const again = file === undefined ? undefined : againText(file, socket, options.spawn);
      bar.clear();
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

function targetOf(socket: string | undefined, spawn: string | undefined): Target {
  return spawn === undefined ? new ListeningTarget(socket!) : new SpawnedTarget(spawn);
}

/** A line: what was found and sent, and the rate; what matters least is cut first. */
function progressText(progress: FuzzProgress, elapsedMs: number): string {
  const { messages, connections, findings, rate, doing, coverage } = progress;
  return `${spinner(elapsedMs)} ${doing}: ${plural(findings, "finding")}, ` +
    `${plural(messages, "message")}, ${Math.round(rate)}/s, ` +
    `${plural(connections, "connection")}, ${coverage.behaviours} behaviours`;
}

function againText(file: string, socket: string | undefined, spawn: string | undefined): string {
  const peer = spawn === undefined ? shellWord(socket!) : `--spawn ${shellWord(spawn)}`;
  return `vfu fuzz ${peer} --again ${shellWord(file)}`;
}

/** Sends the messages of a file, and says what becomes of the server. */
async function sendAgain(
  { signal, out }: Context,
  socket: string | undefined,
  file: string,
  { spawn, timeout, json }: { spawn?: string; timeout: number; json?: true },
): Promise<void> {
  const steps = await readCase(file, signal);
  if (steps.length === 0) throw new Error(`Cannot send ${file} again: no client sends in it`);
  await using target = targetOf(socket, spawn);
  using subject = new Subject(target, { timeoutMs: timeout, signal, quiet: quiet(NO_FACTS) });
  const { observations, conversations } = await subject.playCase(steps, { isFresh: true });
  const conversation = linesOf(conversations);
  if (json) {
    const all = observations.map((each) => observationJson(each));
    out.write(`${jsonText({ type: "again", observations: all, conversation })}\n`);
  } else {
    const line = (name: string, value: string) =>
      out.write(`${out.style.dim(name.padEnd(10))} ${printable(value)}\n`);
    for (const [name, value] of conversationLines({ conversation })) line(name, value);
    for (const { kind, text, label } of observations) {
      out.write(`${out.style.red(`✘ ${kind}: ${printable(text)}`)}\n`);
      if (label) line("about", labelText(label));
    }
    if (observations.length === 0) out.write(`${out.style.green("✔ nothing is wrong")}\n`);
  }
  if (observations.length > 0) throw new Reported(1);
}
