/**
 * Devices that are made and served: each by its server, until all of them have ended.
 *
 * @module
 */

import { reviewDevice } from "../../lib/define/review.ts";
import { Doing } from "../../lib/server/activity.ts";
import { tellReady } from "../../lib/server/ready.ts";
import { Server, type ServerOptions } from "../../lib/server/server.ts";
import type { ServedDevice } from "../../lib/server/served_device.ts";
import { thrownText } from "../../lib/base/thrown.ts";
import type { Trace } from "../../lib/transport/message.ts";
import { type Context, onAbort } from "../shared/context.ts";
import { Reported } from "../shared/failure.ts";
import { printable } from "../shared/printable.ts";
import type { CommonOptions, DeviceArguments } from "./arguments.ts";
import { describeDevice } from "./describe.ts";
import { ruleText } from "./fault.ts";
import { type Guard, settingUp } from "./guard.ts";
import { isModule, type Loaded } from "./load.ts";
import { makeDevice } from "./make.ts";
import { offerOf } from "./offer.ts";
import type { Reloader, Watched } from "./reload.ts";
import { refusalLine, type Report, type ServedJson } from "./report.ts";
import type { UnmodelledWatch } from "./unmodelled_watch.ts";

/**
 * The time that a hook that is under way is waited for at the end: with all else 2 s are promised.
 */
const CLOSE_MS = 900;

/** A device that is made, and not yet served. */
export interface Made {
  readonly name: string;
  readonly device: ServedDevice;
  readonly wanted: DeviceArguments;
}

/**
 * Makes a device, and restores the state that is kept of it.
 *
 * @param unserved devices that no server closes, to which it is added
 */
export async function make(
  loaded: Loaded,
  wanted: DeviceArguments,
  report: Report,
  unserved: Set<ServedDevice>,
  context: Context,
): Promise<Made> {
  const { name } = loaded;
  const log = (line: string) => report.log(name, line);
  const device = await makeDevice(loaded, wanted.option ?? [], { log });
  if (unserved.has(device)) {
    throw new Error(
      `Cannot serve ${name}: its module gives the same device twice; export a function that ` +
        `makes one`,
    );
  }
  unserved.add(device);
  if (wanted.state !== undefined) {
    const { restoreFrom } = await import("./state_file.ts");
    const isThere = await restoreFrom(wanted.state, name, device, context);
    log(isThere ? `State restored from ${wanted.state}` : `No state yet in ${wanted.state}`);
  }
  for (const mistake of reviewDevice(device)) report.log(name, `Mistake: ${mistake}`);
  return { name, device, wanted };
}

/**
 * Serves what is made, until all servers have ended.
 *
 * @param unserved devices that no server closes, from which those that are served go
 */
export async function serveAll(
  guard: Guard,
  made: readonly Made[],
  options: CommonOptions,
  report: Report,
  seed: number | undefined,
  unserved: Set<ServedDevice>,
  reloader: Reloader | undefined,
): Promise<void> {
  const { context } = guard;
  const served: ServedJson[] = [];
  for (const [i, { name, device, wanted }] of made.entries()) {
    const { socketPath = null, fd = null, fault = [] } = wanted;
    const description = await settingUp(guard, i, Doing.CREATE, () => describeDevice(device));
    const faults = fault.map(ruleText);
    served.push({ device: name, socket: socketPath, fd, ...description, faults });
  }
  using stack = new DisposableStack();
  const unmodelled = options.unmodelled
    ? stack.use(await watchUnmodelled(context, report))
    : undefined;
  const servers: Server[] = [];
  let isUnsaved = false;
  for (const [i, each] of made.entries()) {
    const activity = guard.activity(i);
    const { state } = each.wanted;
    const server: Server = start(each, {
      ...await serverOptions(context, each, made.length > 1, options, report, seed),
      ...(activity && { activity }),
      ...(unmodelled && { onAccess: unmodelled.of(each.name, each.device) }),
      ...(state !== undefined && {
        beforeClose: (isIdle) =>
          keep(state, server.device, isIdle, context).then(
            () => report.log(each.name, `State saved in ${state}`),
            (error) => {
              isUnsaved = true;
              report.log(each.name, `The state is not saved: ${thrownText(error)}`);
            },
          ),
      }),
    });
    stack.use(server);
    servers.push(server);
    guard.protect(servers.flatMap(({ socketFile }) => socketFile ?? []));
    unserved.delete(each.device);
    if (isModule(each.wanted.device)) {
      reloader?.watch(watched(guard, i, each, server, report, unmodelled));
    }
  }
  // A device's `Deno.exit` would leave the sockets' files.
  const onExit = () => servers.forEach((server) => server.stopListening());
  globalThis.addEventListener("unload", onExit);
  stack.defer(() => globalThis.removeEventListener("unload", onExit));
  using _listener = onAbort(context.signal, () => {
    for (const server of servers) server.stopListening(); // a hook at its close may never return
    stack.dispose();
  });
  if (context.signal.aborted) return;
  if (options.readyFd !== undefined) tellReady(options.readyFd);
  report.ready(served, seed);
  guard.start();
  await Promise.all(servers.map(({ closed }) => closed));
  unmodelled?.report();
  if (isUnsaved) throw new Reported(1);
}

async function watchUnmodelled(
  { ownsProcess = false }: Context,
  report: Report,
): Promise<UnmodelledWatch> {
  const { UnmodelledWatch } = await import("./unmodelled_watch.ts");
  return new UnmodelledWatch((device, found) => report.unmodelled(device, found), ownsProcess);
}

/** A device that is served, for what loads its module again. */
function watched(
  guard: Guard,
  index: number,
  { name, wanted: { device, option = [] } }: Made,
  server: Server,
  report: Report,
  unmodelled: UnmodelledWatch | undefined,
): Watched {
  return {
    device,
    server,
    step: (work) => settingUp(guard, index, Doing.LOAD, work),
    async make(loaded) {
      const made = await makeDevice(loaded, option, { log: (line) => report.log(name, line) });
      for (const mistake of reviewDevice(made)) report.log(name, `Mistake: ${mistake}`);
      return made;
    },
    tell(done) {
      if ("when" in done && done.when === "now") unmodelled?.clear(name);
      if (!guard.context.signal.aborted) report.reload(name, done);
    },
  };
}

function start({ device, wanted: { socketPath, fd } }: Made, options: ServerOptions): Server {
  return fd === undefined
    ? Server.listen(socketPath!, device, options)
    : Server.serve(fd, device, options);
}

async function serverOptions(
  { err }: Context,
  { name, wanted: { fault: rules, offer = [] } }: Made,
  hasSeveral: boolean,
  { verbose }: CommonOptions,
  report: Report,
  seed: number | undefined,
): Promise<ServerOptions> {
  const prefix = hasSeveral ? `${printable(name)}: ` : "";
  const write = (text: string) => err.write(prefix + text);
  const trace: Trace | undefined = verbose
    ? (await import("../shared/trace.ts")).traceTo({ ...err, write })
    : undefined;
  return {
    ...offerOf(offer),
    closeTimeoutMs: CLOSE_MS,
    ...(trace && { trace, onRefuse: (refusal) => write(`${refusalLine(refusal)}\n`) }),
    ...(rules && {
      faults: { rules, seed: seed ?? 0, onFault: (event) => report.fault(name, event) },
    }),
    onConnect: (client) => report.connect(name, client),
    onDisconnect: (cause) => report.disconnect(name, cause),
    onError: (error, doing) => report.error(name, doing, error),
  };
}

/** Saves the state of a device that is about to be closed. */
async function keep(
  path: string,
  device: ServedDevice,
  isIdle: boolean,
  context: Context,
): Promise<void> {
  if (!isIdle) throw new Error(`Cannot save the state in ${path}: a hook of the device still runs`);
  const { saveTo } = await import("./state_file.ts");
  await saveTo(path, device, context);
}
