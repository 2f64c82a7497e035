/**
 * `vfu serve`: serves devices on sockets, until it is told to stop.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import type { ServedDevice } from "../../lib/server/device.ts";
import { tellReady } from "../../lib/server/ready.ts";
import { Server, type ServerOptions } from "../../lib/server/server.ts";
import type { Trace } from "../../lib/stream.ts";
import { type Context, onAbort, untilAbort } from "../context.ts";
import { printable } from "../printable.ts";
import { type CommonOptions, type DeviceArguments, serveCommand } from "../serve/arguments.ts";
import { describeDevice } from "../serve/describe.ts";
import { isRandom, ruleText } from "../serve/fault.ts";
import { loadDevice, type Loaded } from "../serve/load.ts";
import { makeDevice } from "../serve/make.ts";
import { optionLines, optionsJson } from "../serve/options.ts";
import { jsonReport, type Report, type ServedJson, textReport } from "../serve/report.ts";
import { catchStrays } from "../serve/strays.ts";
import { UsageError } from "../serve/usage.ts";
import { traceTo } from "../trace.ts";
import { jsonText } from "../json.ts";

const FAULT_HELP = `
Faults:
  --fault COMMAND:FAULT has the server misbehave, for the author of a client to
  see what that does then. COMMAND is a name of the specification, as
  REGION_READ, or * for any; FAULT is one of

    delay=50ms     the answer comes later
    drop           no answer comes
    error=EIO      the answer is this error; the device is not asked
    garbage        what follows the answer's header is random; =N bytes of it
    truncate       half of what follows the header is missing; =N bytes are left
    close          the connection ends in place of the answer; =N bytes into it

  and behind it @3 for the third such request only, /3 for each third, %10 for
  ten of a hundred at random, the same ones with the same --seed.

Examples:
  vfu serve demo --socket-path=demo.sock --fault 'REGION_READ:error=EIO@3'
  vfu serve ./gpio.ts --socket-path=gpio.sock --option pins=16
  vfu serve demo --socket-path=a.sock ./gpio.ts --socket-path=b.sock`;

/** The command's arguments and options. */
export function command(context: Context) {
  return serveCommand(async (devices, options, self) => {
    try {
      await run(context, devices, options, self);
    } catch (error) {
      if (error instanceof UsageError) self.error(`error: ${printable(error.message)}`);
      throw error;
    }
  })
    .description(
      "Serves devices, each to one client after another, and stays in the foreground until Ctrl-C or " +
        "SIGTERM; then the sockets are removed. A device keeps its state from client to client. " +
        "Options behind a device are that device's.",
    )
    .addHelpText("after", FAULT_HELP);
}

/** A device that is made, and not yet served. */
interface Made {
  readonly name: string;
  readonly device: ServedDevice;
  readonly wanted: DeviceArguments;
}

/** Serves the devices until the context's signal, or until none is left: one on a descriptor ends with its client. */
async function run(
  context: Context,
  wanted: readonly DeviceArguments[],
  options: CommonOptions,
  self: CommandUnknownOpts,
): Promise<void> {
  if (!options.options) assertPlaces(wanted, self);
  const loading = Promise.all(wanted.map(({ device }) => loadDevice(device)));
  const loaded = named(await untilAbort(context.signal, loading));
  if (options.options) return listOptions(context, loaded, options);
  const report = options.json
    ? jsonReport(context)
    : textReport(context, wanted.length > 1, options.verbose === true);
  const unserved = new Set<ServedDevice>(); // those that no server closes
  try {
    const made: Made[] = [];
    for (const [i, each] of loaded.entries()) {
      made.push(await untilAbort(context.signal, make(each, wanted[i]!, report, unserved)));
    }
    await serveAll(context, made, options, report, unserved);
  } finally {
    for (const device of unserved) device.close?.();
  }
}

async function make(
  loaded: Loaded,
  wanted: DeviceArguments,
  report: Report,
  unserved: Set<ServedDevice>,
): Promise<Made> {
  const { name } = loaded;
  const log = (line: string) => report.log(name, line);
  const device = await makeDevice(loaded, wanted.option ?? [], { log });
  if (unserved.has(device)) {
    throw new Error(
      `Cannot serve ${name}: its module gives the same device twice; export a function that makes one`,
    );
  }
  unserved.add(device);
  return { name, device, wanted };
}

/** Serves what is made, which is closed with its server from then on. */
async function serveAll(
  context: Context,
  made: readonly Made[],
  options: CommonOptions,
  report: Report,
  unserved: Set<ServedDevice>,
): Promise<void> {
  const served: ServedJson[] = [];
  for (const { name, device, wanted } of made) {
    const { socketPath = null, fd = null, fault = [] } = wanted;
    const description = await describeDevice(device);
    const faults = fault.map(ruleText);
    served.push({ device: name, socket: socketPath, fd, ...description, faults });
  }
  const seed = chooseSeed(made, options);
  using servers = new DisposableStack();
  const closed: Promise<void>[] = [];
  for (const each of made) {
    const server = start(
      each,
      await serverOptions(context, each, made.length > 1, options, report, seed),
    );
    servers.use(server);
    unserved.delete(each.device);
    closed.push(server.closed);
  }
  // Whose it is can't be told, if there are several.
  const owner = made.length === 1 ? made[0]!.name : "one of them";
  using _strays = catchStrays((error) =>
    report.error(owner, "something that no hook waits for", error)
  );
  using _listener = onAbort(context.signal, () => servers.dispose());
  if (context.signal.aborted) return;
  if (options.readyFd !== undefined) tellReady(options.readyFd);
  report.ready(served, seed);
  await Promise.all(closed);
}

function start({ device, wanted: { socketPath, fd } }: Made, options: ServerOptions): Server {
  return fd === undefined
    ? Server.listen(socketPath!, device, options)
    : Server.serve(fd, device, options);
}

async function serverOptions(
  { err }: Context,
  { name, wanted: { fault: rules } }: Made,
  hasSeveral: boolean,
  { verbose }: CommonOptions,
  report: Report,
  seed: number | undefined,
): Promise<ServerOptions> {
  const prefix = hasSeveral ? `${printable(name)}: ` : "";
  const trace: Trace | undefined = verbose &&
    await traceTo({ ...err, write: (text) => err.write(prefix + text) });
  return {
    ...(trace && { trace }),
    ...(rules && {
      faults: { rules, seed: seed ?? 0, onFault: (event) => report.fault(name, event) },
    }),
    onConnect: () => report.connect(name),
    onDisconnect: (cause) => report.disconnect(name, cause),
    onError: (error, doing) => report.error(name, doing, error),
  };
}

/** The seed that was chosen, or else one at random; undefined if no fault needs one. */
function chooseSeed(made: readonly Made[], { seed }: CommonOptions): number | undefined {
  if (!made.some(({ wanted }) => wanted.fault?.some(isRandom))) return undefined;
  return seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
}

/** Every device has its place, and no two of them the same. */
function assertPlaces(wanted: readonly DeviceArguments[], self: CommandUnknownOpts): void {
  const places = new Set<string | number>();
  for (const { device, socketPath, fd } of wanted) {
    const place = socketPath ?? fd;
    if (place === undefined) {
      const of = wanted.length > 1 ? ` behind ${device}` : "";
      self.error(`error: one of '--socket-path <path>' and '--fd <number>' is needed${of}`);
    }
    if (places.has(place)) self.error(`error: two devices are to be served at ${place}`);
    places.add(place);
  }
}

/** Devices of the same name get numbers, so that each line says which it is about. */
function named(loaded: readonly Loaded[]): Loaded[] {
  const counts = new Map<string, number>();
  return loaded.map((each) => {
    const count = (counts.get(each.name) ?? 0) + 1;
    counts.set(each.name, count);
    return count === 1 ? each : { ...each, name: `${each.name}-${count}` };
  });
}

function listOptions({ out }: Context, loaded: readonly Loaded[], { json }: CommonOptions): void {
  for (const each of loaded) {
    if (json) out.write(jsonText({ device: each.name, options: optionsJson(each) }) + "\n");
    else out.write(optionLines(each, out).join("\n") + "\n");
  }
}
