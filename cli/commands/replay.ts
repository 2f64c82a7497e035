/**
 * `vfu replay`: does to a server what a recorded client did, and compares what comes back.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { readRecording } from "../../lib/record/reader.ts";
import { ListeningServer, type ServerSource } from "../../lib/record/recorder.ts";
import { SpawnedServer } from "../../lib/record/spawned_server.ts";
import { SOCKET_PLACE } from "../../lib/base/shell_command.ts";
import { RegisterLocator } from "../../lib/registers/locate.ts";
import type { RegisterMap } from "../../lib/registers/map.ts";
import type { IgnoredRange } from "../../lib/replay/compare.ts";
import { DEFAULT_MAX_DIFFERENCES, playToServer } from "../../lib/replay/player.ts";
import { adoptSocket } from "../../lib/transport/endpoint.ts";
import { argument } from "../shared/argument.ts";
import { timeoutOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { checkSpawn } from "../shared/spawn.ts";
import { assertNotInput } from "../shared/destination.ts";
import { Reported } from "../shared/failure.ts";
import { loadMaps, mapOption, orUsage } from "../shared/map.ts";
import { Progress, transferText } from "../shared/progress.ts";
import { parseIgnored } from "../replay/ignore.ts";
import { makeReporters } from "../replay/report.ts";
import { parseCount } from "../shared/value.ts";

/** Options of {@linkcode run}. */
export interface ReplayOptions {
  /** The source of connections to the server. */
  server: ServerSource;
  /** Keeps the pauses of the recording. */
  timing?: true | undefined;
  /** Parts of regions whose contents may differ. */
  ignore: readonly IgnoredRange[];
  /** Ends after so many differences. */
  differences: number;
  /** Plays this client alone. */
  client?: number | undefined;
  /** The time for each reply, each DMA and each interrupt, in milliseconds. */
  timeout: number;
  /** Names registers. */
  locator: RegisterLocator | undefined;
  /** The names of the maps. */
  maps: readonly string[];
  /** The path of the server's socket; undefined if the server was started for this. */
  socket: string | undefined;
  /** Reports in objects. */
  json?: true | undefined;
  /** Writes a JUnit report into this file. */
  junit?: string | undefined;
}

const MORE_HELP = `
The server gets memory, interrupts and requests as the recorded one did, in
their order. Its replies, its DMA and its interrupts are compared. What is its
own may differ: message ids, times, sizes of buffers. A slower or faster device
is no difference: interrupts and DMA are awaited, and a register that the
recording polls is read until it has its value. Other reads are compared once.
DMA and interrupts are compared if the recording has them, which vfu record
--intercept all makes sure of. The device has to be as it was when the recording
began: start it anew with --spawn, or reset it with vfu reset.

With --serve it is the other way round: a client gets the answers, interrupts
and DMA that the recorded one got, each after the request that it followed.
Requests are matched by what they are: polls may be more or fewer, and memory
elsewhere.
Where the client leaves the recorded path is told once; it is then answered as
well as can be. Memory is accessed only at addresses that the client has told in
the same place as the recorded one; other DMA is left out, and counted. Reads of
what the recording does not have get zeros, and are counted. The part is that of
the server of the first client that asks anything, or of --client. Registers and
memory are reached by message alone.

Exit code 0: no difference; 1: a difference, or a failure; 2: wrong usage.

Examples:
  vfu replay nvme.pcapng nvme.sock --map nvme
  vfu replay demo.pcapng --spawn 'vfu serve demo --socket-path={socket}'
  vfu replay nvme.pcapng --serve mock.sock --map nvme
  vfu replay nvme.pcapng nvme.sock --ignore bar0+0x100..0x200`;

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("replay")
    .description(
      "Does to a server what the client of a recording did, and compares replies, DMA and " +
        "interrupts with the recorded ones: a regression test of a device, made by starting a " +
        "VM once.",
    )
    .argument("<file>", "the recording; - is standard input")
    .argument("[socket]", "the server's socket")
    .addOption(
      new Option("--spawn <command>", `start the server; ${SOCKET_PLACE} stands for its socket`),
    )
    .addOption(
      new Option(
        "--serve <path>",
        "take the server's part, and listen there for a VMM or any other client",
      ).conflicts(["spawn", "timing", "ignore", "differences", "junit"]),
    )
    .addOption(new Option("--once", "with --serve: end after the first client"))
    .option("--timing", "keep the pauses of the recording")
    .addOption(
      new Option(
        "--ignore <place>",
        "a register, or a range of a region, whose value may differ; repeatable",
      ).argParser((text: string, before: string[] | undefined) => [...before ?? [], text]),
    )
    .addOption(
      new Option("--differences <number>", "end after so many differences")
        .default(DEFAULT_MAX_DIFFERENCES)
        .argParser(argument(parseCount)),
    )
    .addOption(
      new Option("--client <number>", "replay one client of the recording, from 0")
        .argParser(argument(parseClient)),
    )
    .addOption(mapOption("name registers, and show their fields"))
    .option("--json", "write a line of JSON a difference, and one for the result")
    .option("--junit <file>", "also write a JUnit report")
    .addOption(timeoutOption())
    .addHelpText("after", MORE_HELP)
    .action(async (file, socket, given, self) => {
      const { spawn, map: names, ignore = [], serve, ...options } = given;
      if (serve !== undefined && socket !== undefined) {
        self.error("error: --serve <path> takes the server's part, so no socket follows the file");
      }
      if (options.once && serve === undefined) self.error("error: '--once' needs '--serve <path>'");
      if (serve === undefined && (socket === undefined) === (spawn === undefined)) {
        self.error(
          "error: the path of a socket has to follow the file, or --spawn <command> or " +
            "--serve <path> in its place",
        );
      }
      checkSpawn(self, spawn);
      assertNotInput(self, { junit: options.junit }, [file, ...names ?? []]);
      const maps: RegisterMap[] = names === undefined
        ? []
        : (await loadMaps(context, self, names)).map(({ map }) => map);
      const ignored = ignore.map((text) =>
        orUsage(
          self,
          `option '--ignore <place>' argument '${text}' is invalid.`,
          () => parseIgnored(text, maps),
        )
      );
      const locator = maps.length === 0 ? undefined : new RegisterLocator(maps);
      if (serve !== undefined) {
        const { serveReplay } = await import("../replay/serve.ts");
        return await serveReplay(context, file, { ...options, serve, locator });
      }
      await using stack = new AsyncDisposableStack();
      const server = spawn === undefined
        ? new ListeningServer(socket!)
        : stack.use(new SpawnedServer(spawn));
      await run(context, file, {
        ...options,
        server,
        ignore: ignored,
        locator,
        maps: names ?? [],
        socket,
      });
    });
}

/**
 * The number of a client.
 *
 * @throws {RangeError} if it is none
 */
function parseClient(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new RangeError("It is a number from 0.");
  return Number(text);
}

/** Replays a recording to a server. */
export async function run(context: Context, file: string, options: ReplayOptions): Promise<void> {
  const { signal, err } = context;
  const { server, timing = false, ignore, differences, client, timeout } = options;
  const all = makeReporters(context, { ...options, file, server: server.name });
  const recording = readRecording(file, { signal });
  let progress: Progress | undefined; // from when the server listens, which may take long
  using stack = new DisposableStack();
  stack.defer(() => progress?.[Symbol.dispose]());
  /** The reporters, above a line of progress. */
  const reporters = () => {
    progress?.clear();
    return all;
  };
  const isFile = await Deno.stat(file).then((stat) => stat.isFile, () => false);
  let connections = 0;
  let result;
  try {
    result = await playToServer(recording, {
      async connect() {
        if (connections++ > 0) server.disconnected?.();
        const socket = await server.connect(signal);
        progress ??= new Progress(err, (elapsedMs) => {
          const total = Math.max(recording.size, recording.bytesRead);
          return transferText({ done: recording.bytesRead, total, elapsedMs }, err.columns);
        });
        return adoptSocket(socket);
      },
      ...(isFile && { reopen: () => readRecording(file, { signal }) }),
      timeoutMs: timeout,
      timing,
      ignore,
      maxDifferences: differences,
      signal,
      ...(client !== undefined && { client }),
      onStart: (startNs) => all.forEach((reporter) => reporter.start(startNs)),
      onDifference: (each) => reporters().forEach((reporter) => reporter.difference(each)),
      onNote: (text) => reporters().forEach((reporter) => reporter.note(text)),
      onStep: (step) => all.forEach((reporter) => reporter.step(step)),
    });
  } catch (error) {
    for (const reporter of reporters()) await reporter.abort(error);
    throw error;
  }
  if (result.events === 0 && result.differences === 0) {
    const error = new Error(`Cannot replay ${file}: ${result.ended}`);
    for (const reporter of reporters()) await reporter.abort(error);
    throw error;
  }
  for (const reporter of reporters()) await reporter.finish(result, recording);
  if (result.differences > 0) throw new Reported(1);
}
