/**
 * `vfu record`: stands between clients and a server, and keeps what they say.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { Conversation } from "../../lib/record/conversation.ts";
import type { NewEvent } from "../../lib/record/event.ts";
import { type Interception, INTERCEPTIONS } from "../../lib/record/intercept.ts";
import type { LinkEnd } from "../../lib/record/link.ts";
import {
  ConnectedServer,
  ListeningServer,
  Recorder,
  type RecorderOptions,
  type ServerSource,
} from "../../lib/record/recorder.ts";
import { SpawnedServer } from "../../lib/record/spawned_server.ts";
import { RecordingWriter } from "../../lib/record/writer.ts";
import { ignoreFileSizeSignal } from "../../lib/server/process.ts";
import { plural } from "../../lib/text/plural.ts";
import { SOCKET_PLACE } from "../../lib/base/shell_command.ts";
import { RegisterLocator } from "../../lib/registers/locate.ts";
import { argument } from "../shared/argument.ts";
import { type Context, onAbort, type Output, untilAbort } from "../shared/context.ts";
import { exists } from "../shared/exists.ts";
import { checkSpawn } from "../shared/spawn.ts";
import { Reported } from "../shared/failure.ts";
import { parseFd } from "../shared/fd.ts";
import { assertReplaceable, forceOption } from "../shared/force.ts";
import { jsonText } from "../shared/json.ts";
import { loadMaps, mapOption } from "../shared/map.ts";
import { printable } from "../shared/printable.ts";
import { patientOutputs } from "../record/patient_output.ts";
import { EventText } from "../show/text.ts";

const KINDS = Object.keys(INTERCEPTIONS) as Interception[];

/** Options of {@linkcode run}. */
export interface RecordOptions {
  /** Path to listen at, or the descriptor of a connected client. */
  listen: string | number;
  /** The source of connections to the server. */
  server: ServerSource;
  /** The recording. */
  output: string;
  /** Replaces a file that is there. */
  force?: true | undefined;
  /** The kinds of traffic to make visible. */
  intercept: readonly Interception[];
  /** Path of the side socket. */
  side?: string | undefined;
  /** Lets writes in at the side. */
  sideWrites?: true | undefined;
  /** Shows each event. */
  verbose?: true | undefined;
  /** Names registers. */
  locator?: RegisterLocator | undefined;
  /** Reports in objects. */
  json?: true | undefined;
}

const MORE_HELP = `
Interception:
${KINDS.map((kind) => `  ${kind.padEnd(11)} ${INTERCEPTIONS[kind]}`).join("\n")}
  all         all of these

  Without it nothing is altered, but for the second socket of a connection
  (twin), which is replaced so that it is recorded, too. With dma a server that
  knows no DMA by message, as QEMU's, can't reach memory.

Side socket:
  --side S.sock answers vfu probe, read, dump and poll while a client uses the
  device. Their requests are let in between the client's, one at a time, when
  the server has nothing else to do. Without --side-writes nothing that changes
  the device is let in.

A client that comes while one is served waits in the socket's queue.

Examples:
  vfu record --listen a.sock --connect b.sock -o nvme.pcapng --intercept all
  vfu record --listen a.sock --spawn './server {socket}' -o x.pcapng
  vfu show x.pcapng`;

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("record")
    .description(
      "Stands between a client, such as a VMM, and a server, passes on all that they say, with " +
        "descriptors and in order, and keeps it in a file that vfu show and Wireshark read. One " +
        "client is served after another, until Ctrl-C.",
    )
    .addOption(new Option("--listen <path>", "where clients connect"))
    .addOption(
      new Option("--listen-fd <number>", "a client that is connected already")
        .argParser(argument(parseFd)).conflicts("listen"),
    )
    .addOption(new Option("--connect <path>", "the server's socket"))
    .addOption(
      new Option("--connect-fd <number>", "a server that is connected already")
        .argParser(argument(parseFd)).conflicts("connect"),
    )
    .addOption(
      new Option(
        "--spawn <command>",
        `start the server when the client has come; ${SOCKET_PLACE} stands for its socket`,
      ).conflicts(["connect", "connectFd"]),
    )
    .addOption(
      new Option("-o, --output <file>", "the recording, a pcapng file"),
    )
    .addOption(forceOption())
    .addOption(
      new Option("--intercept <kinds>", `make visible: ${KINDS.join(", ")}, all; with commas`)
        .argParser(argument(parseKinds)),
    )
    .addOption(new Option("--side <path>", "a socket for looking at the device meanwhile"))
    .addOption(new Option("--side-writes", "let writes in there, too"))
    .addOption(new Option("-v, --verbose", "show each event on standard error"))
    .addOption(mapOption("name registers, and show their fields"))
    .addOption(new Option("--json", "report connections as objects, a line each"))
    .addHelpText("after", MORE_HELP)
    .action(async (given, self) => {
      const { listen, listenFd, connect, connectFd, spawn, map: names, ...options } = given;
      const { output } = options;
      const from = listen || listenFd;
      const hasServer = Boolean(connect) || connectFd !== undefined || spawn !== undefined;
      if (from === undefined || !output || !hasServer) {
        const missing = [
          ...(from === undefined ? ["one of '--listen <path>' and '--listen-fd <number>'"] : []),
          ...(hasServer
            ? []
            : ["one of '--connect <path>', '--connect-fd <number>' and '--spawn <command>'"]),
          ...(output ? [] : ["'-o <file>'"]),
        ];
        return self.error(
          `error: ${missing.join("; ")} ${missing.length === 1 ? "is" : "are"} needed`,
        );
      }
      checkSpawn(self, spawn);
      const isStandardOutput = output === "-";
      const others = options.json
        ? "--json"
        : spawn !== undefined
        ? "--spawn <command>"
        : undefined;
      if (isStandardOutput && others !== undefined) {
        self.error(`error: '${others}' writes to standard output, as does '-o -'; name a file`);
      }
      if (options.sideWrites && options.side === undefined) {
        self.error("error: '--side-writes' needs '--side <path>'");
      }
      if (connect !== undefined && connect === listen) {
        self.error("error: --listen and --connect name the same socket");
      }
      const maps = names === undefined
        ? []
        : (await loadMaps(context, self, names)).map(({ map }) => map);
      await using stack = new AsyncDisposableStack();
      const server = spawn !== undefined
        ? stack.use(new SpawnedServer(spawn))
        : connect !== undefined
        ? new ListeningServer(connect)
        : new ConnectedServer(connectFd!);
      await run(context, {
        ...options,
        output: isStandardOutput ? "/dev/stdout" : output,
        listen: from,
        server,
        intercept: options.intercept ?? [],
        locator: maps.length === 0 ? undefined : new RegisterLocator(maps),
      });
    });
}

/** Records until the context's signal, or until the only client has left. */
export async function run(context: Context, options: RecordOptions): Promise<void> {
  const { signal } = context;
  assertReplaceable(options.output, options.force);
  if (context.ownsProcess) ignoreFileSizeSignal(); // the recording may be at its limit
  const outputs = patientOutputs(context);
  const { err, out } = outputs;
  const { json = false, output, side, sideWrites = false, listen, server, intercept } = options;
  const warn = (text: string) => err.write(`${err.style.yellow("vfu:")} ${printable(text)}\n`);
  const tell = (event: Record<string, unknown>, text: string) => {
    if (json) out.write(`${jsonText(event)}\n`);
    else err.write(`${err.style.dim(printable(text))}\n`);
  };
  using _reader = await pipeReader(output, signal);
  using writer = RecordingWriter.create(output, {
    onFailure: (error) => warn(`${error.message}; client and server go on without a recording`),
    onStall: () =>
      warn(`The reader of ${output} does not go on; events are discarded until it does`),
    onResume: (discarded) =>
      warn(`The reader of ${output} goes on; ${plural(discarded, "event")} were discarded`),
  });
  const live = options.verbose ? liveLines(err, options.locator) : undefined;
  const settings: RecorderOptions = {
    listen,
    server,
    intercept,
    ...(side !== undefined && { side, sideWrites }),
    sink: (event) => {
      writer.write(event);
      live?.(event);
    },
    onConnect: (connection) =>
      tell({ event: "connect", connection }, `Client ${connection} connected`),
    onDisconnect: (connection, end: LinkEnd) =>
      tell({ event: "end", connection, ...end }, `Client ${connection}: ${end.text}`),
    onError: (error) => warn(error.message),
    onRefuse: (text) => warn(`At the side socket, ${text}`),
  };
  let failed = false;
  using recorder = Recorder.start({
    ...settings,
    onError: (error) => {
      failed = true;
      warn(error.message);
    },
  });
  using _listener = onAbort(signal, () => recorder.close());
  if (server instanceof ListeningServer) await assertOthers(server.name, { listen, side });
  if (signal.aborted) return;
  tell(
    { event: "ready", listen, server: server.name, file: output, intercept, side: side ?? null },
    `Recording ${typeof listen === "string" ? listen : `descriptor ${listen}`} to ${server.name} ` +
      `in ${output}`,
  );
  if (server instanceof ListeningServer && !await exists(server.name)) {
    warn(
      `${server.name} does not exist yet; clients are disconnected until a server listens there`,
    );
  }
  await recorder.closed;
  await writer.close();
  const { events, discarded } = writer;
  tell(
    { event: "recorded", file: output, events, discarded, connections: recorder.connections },
    `${plural(events, "event")} of ${plural(recorder.connections, "client")} ` +
      `${events === 1 ? "is" : "are"} in ${output}` +
      (discarded === 0 ? "" : `; ${discarded} are not`),
  );
  await outputs.drain();
  if (discarded > 0 || writer.failure !== undefined || (failed && typeof listen === "number")) {
    throw new Reported(1);
  }
}

/**
 * Waits for the reader of a named pipe, which opening for writing does. The thread of the writer
 * must not wait: it would hear no signal.
 *
 * @returns the pipe, which stays open; undefined if the path is none
 */
async function pipeReader(path: string, signal: AbortSignal): Promise<Disposable | undefined> {
  const isPipe = await Deno.stat(path).then(({ isFifo }) => isFifo, () => false);
  if (!isPipe) return undefined;
  const opening = Deno.open(path, { write: true });
  try {
    return await untilAbort(signal, opening);
  } catch (error) {
    opening.then((late) => late.close(), () => {});
    if (signal.aborted) throw error;
    return undefined; // the writer fails in the same way, and says so
  }
}

/**
 * Refuses a server's path that leads to a socket of the recorder: it would be its own client, again
 * and again.
 *
 * @throws {Error} if the paths name the same socket, however they are spelled
 */
async function assertOthers(
  connect: string,
  own: { readonly listen: string | number; readonly side: string | undefined },
): Promise<void> {
  const theirs = await socketAt(connect);
  if (theirs === undefined) return;
  for (const [option, path] of Object.entries(own)) {
    if (typeof path === "string" && await socketAt(path) === theirs) {
      throw new Error(
        `Cannot connect to ${connect}: it is the socket of --${option}; name another`,
      );
    }
  }
}

/** The identity of the file at a path; undefined if none can be seen there. */
async function socketAt(path: string): Promise<string | undefined> {
  return await Deno.stat(path).then(({ dev, ino }) => `${dev}:${ino}`, () => undefined);
}

/** Shows events as `vfu show` does. */
function liveLines(
  err: Output,
  locator: RegisterLocator | undefined,
): (event: NewEvent) => void {
  const text = new EventText(err.style, locator);
  const conversation = new Conversation();
  let index = 0;
  return (event) => {
    if (index === 0) text.start(event.timeNs);
    const whole = { ...event, index: index++ };
    // Its bytes are a view, which the conversation may keep.
    if (whole.kind === "message" || whole.kind === "garbage") {
      Object.assign(whole, { bytes: whole.bytes.slice() });
    }
    const heard = conversation.take(whole);
    locator?.placeCapabilities(conversation.state(whole.connection)!.capabilities);
    err.write(`${text.line(whole, heard)}\n`);
  };
}

/**
 * Kinds of interception, separated by commas.
 *
 * @throws {RangeError} if one is unknown
 */
function parseKinds(text: string): Interception[] {
  return text.split(",").flatMap((word) => {
    const kind = word.trim();
    if (kind === "all") return KINDS;
    if ((KINDS as string[]).includes(kind)) return [kind as Interception];
    throw new RangeError(`"${kind}" is none of ${KINDS.join(", ")}, all`);
  });
}
