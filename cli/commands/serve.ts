/**
 * `vfu serve`: serves devices on sockets, until it is told to stop.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import type { ServedDevice } from "../../lib/server/served_device.ts";
import { Doing } from "../../lib/server/activity.ts";
import { endWithParent } from "../../lib/server/process.ts";
import { assertNotInput } from "../shared/destination.ts";
import { callHook } from "../../lib/server/device_hooks.ts";
import type { Context } from "../shared/context.ts";
import { printable } from "../shared/printable.ts";
import { type CommonOptions, type DeviceArguments, serveCommand } from "../serve/arguments.ts";
import { isRandom } from "../serve/fault.ts";
import { type Guard, guardOf, settingUp } from "../serve/guard.ts";
import { eventLine } from "../serve/guard_lines.ts";
import { isModule, loadDevice, type Loaded } from "../serve/load.ts";
import { optionLines, optionsJson } from "../serve/options.ts";
import type { ChildJson } from "../serve/isolate.ts";
import { reportTo, tellJson, tellText } from "../serve/report.ts";
import type { Reloader } from "../serve/reload.ts";
import { type Made, make, serveAll } from "../serve/serving.ts";
import { catchUnhandled } from "../serve/unhandled_errors.ts";
import { uniqueNames } from "../serve/unique_names.ts";
import { UsageError } from "../serve/usage.ts";
import { jsonText } from "../shared/json.ts";

/** After a signal the serving thread has so long to end by itself. */
const GRACE_MS = 1500;
/** The same of a device in a process of its own: its parent wants to see the end. */
const ISOLATED_GRACE_MS = 1200;
/** The same where states are saved. */
const STATE_GRACE_MS = 10_000;
/** The same of that parent. */
const PARENT_GRACE_MS = 1800;

const MORE_HELP = `
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

Offers:
  --offer NAME=VALUE tells clients another limit than the usual one, and keeps
  it, for the author of a client to see what that does with it. NAME is minor (0
  to 2), max_msg_fds, max_data_xfer_size, max_dma_maps, pgsizes, write_multiple
  or twin_socket; the last two are true or false.

Watching:
  --watch loads a module again when its file changes, or one of the user's that
  it imports. The client stays connected and goes on with the new device, which
  takes over the state by its own save and restore. State that can't be carried
  is reported. A module with a mistake is reported, and the old device stays. If
  what a client knows has changed (BARs, capabilities, interrupts), or the new
  device refuses the state, the next client gets it.

Modelling:
  --unmodelled reports at the end, and on SIGUSR2, what clients used of a device
  that it does not model: bytes of no register, reserved bits that were changed,
  and polls that read the same value a thousand times or more, and gave up.

Isolation:
  All devices share one process: it is small, and a device that hangs or crashes
  takes the others along. With --isolate each has a process of its own, which
  takes 40 MB. When one ends, by a crash or because its memory is exhausted,
  that is reported and its socket removed; it is not started again, the others
  are served on, and the exit code is 1 at the end. Deno needs --allow-run.

Checks:
  --check reports all that is wrong with a module without serving it, and ends
  with code 1 if something is: types, by Deno's own checker, which needs
  --allow-run; names in the definition; registers that overlap or that no access
  reaches; BARs and capabilities that do not fit.
  --export-map FILE writes the registers that the device declares as a register
  map, for vfu read --map FILE and for people: vfu map doc FILE.

Examples:
  vfu serve demo --socket-path=demo.sock --fault 'REGION_READ:error=EIO@3'
  vfu serve ./nvme.ts --socket-path=nvme.sock --option size=1G
  vfu serve demo --socket-path=demo.sock --offer max_data_xfer_size=4K
  vfu serve --isolate demo --socket-path=a.sock ./nvme.ts --socket-path=b.sock`;

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
      "Serves devices, each to one client after another, and stays in the foreground until " +
        "Ctrl-C, SIGTERM or SIGHUP; then the sockets are removed, whatever a device does. A " +
        "device keeps its state from client to client. Options behind a device are that device's.",
    )
    .addHelpText("after", MORE_HELP);
}

/**
 * Serves the devices until the context's signal, or until none is left: one on a descriptor ends
 * with its client.
 */
async function run(
  outer: Context,
  given: readonly DeviceArguments[],
  options: CommonOptions,
  self: CommandUnknownOpts,
): Promise<void> {
  const { json = false, verbose = false, isolated } = options;
  const wanted = isolated ? given.map((each) => ({ ...each, fault: isolated.faults })) : given;
  const isExporting = wanted.some(({ exportMap }) => exportMap !== undefined);
  if (isExporting) assertOneUse(wanted, options, self);
  const isServing = !options.options && !options.check && !isExporting;
  if (options.watch && !wanted.some(({ device }) => isModule(device))) {
    self.error("error: '--watch' takes a module, as ./my_device.ts; demo comes with vfu");
  }
  if (isServing) assertPlaces(wanted, self);
  const hasState = wanted.some(({ state }) => state !== undefined);
  const graceMs = hasState
    ? STATE_GRACE_MS
    : isolated
    ? ISOLATED_GRACE_MS
    : options.isolate
    ? PARENT_GRACE_MS
    : GRACE_MS;
  const mark = isolated?.mark ?? "";
  await using guard = guardOf(outer, { json, mark, graceMs });
  const { context } = guard;
  const seed = chooseSeed(wanted, options);
  const tell = json ? tellJson(context, mark) : tellText(context, wanted.length > 1, verbose);
  if (options.isolate && isServing) {
    const { serveIsolated } = await import("../serve/isolate.ts");
    return await serveIsolated(guard, wanted, options, tell, seed);
  }
  guard.name(wanted.map(({ device }) => device));
  if (isolated !== undefined) {
    await guard.start(); // SIGTERM is heard, which comes when the parent has ended
    if (!endWithParent(isolated.parent)) throw new Error("Cannot serve: the parent has ended");
  }
  // A module's own code may hold the thread from its first line on.
  if (wanted.some(({ device }) => isModule(device))) await guard.start();
  if (options.check) {
    const { checkAll } = await import("../serve/check.ts");
    const doing = (i: number) => <T>(work: () => Promise<T>) =>
      settingUp(guard, i, Doing.LOAD, work);
    return await checkAll(context, wanted, json, doing, outer.err);
  }
  const report = reportTo(tell);
  // The device of an error that no hook waits for is known only if there is one device.
  let owner = wanted.length === 1 ? wanted[0]!.device : "one of them";
  await using _unhandled = catchUnhandled((error) =>
    report.error(owner, "something that no hook waits for", error)
  );
  using reloader = options.watch && isServing ? await makeReloader() : undefined;
  const loaded = named(await loadAll(guard, wanted, reloader));
  if (loaded.length === 1) owner = loaded[0]!.name;
  guard.name(loaded.map(({ name }) => name));
  if (options.options) return listOptions(context, loaded, options);
  if (isolated !== undefined) {
    const event: ChildJson = { event: "loaded", device: loaded[0]!.name };
    context.out.write(eventLine(event, mark));
  }
  if (isExporting) {
    const { exportMaps } = await import("../map/export.ts");
    const doing = (i: number) => <T>(work: () => Promise<T>) =>
      settingUp(guard, i, Doing.CREATE, work);
    return await exportMaps(context, loaded, wanted, json, doing);
  }
  const unserved = new Set<ServedDevice>(); // those that no server closes
  try {
    const made: Made[] = [];
    for (const [i, each] of loaded.entries()) {
      const making = () => make(each, wanted[i]!, report, unserved, context);
      made.push(await settingUp(guard, i, Doing.CREATE, making));
    }
    await serveAll(guard, made, options, report, seed, unserved, reloader);
  } finally {
    for (const device of unserved) {
      callHook(() => device.close?.(), (error) => report.error(owner, "close", error));
    }
  }
}

async function makeReloader(): Promise<Reloader> {
  const { Reloader } = await import("../serve/reload.ts");
  return await Reloader.begin();
}

/** One after another, so that a module which holds the thread is known by name. */
async function loadAll(
  guard: Guard,
  wanted: readonly DeviceArguments[],
  reloader: Reloader | undefined,
): Promise<Loaded[]> {
  const loaded: Loaded[] = [];
  for (const [i, { device }] of wanted.entries()) {
    const versions = reloader?.versions(device);
    const load = () => loadDevice(device, { versions, err: guard.context.err });
    loaded.push(await settingUp(guard, i, Doing.LOAD, load));
  }
  return loaded;
}

/** The seed that was chosen, or else one at random; undefined if no fault needs one. */
function chooseSeed(
  wanted: readonly DeviceArguments[],
  { seed }: CommonOptions,
): number | undefined {
  if (!wanted.some(({ fault }) => fault?.some(isRandom))) return undefined;
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

/** The devices, each under a name of its own. */
function named(loaded: readonly Loaded[]): Loaded[] {
  const names = uniqueNames(loaded.map(({ name }) => name));
  return loaded.map((each, i) => ({ ...each, name: names[i]! }));
}

/** A map is written of every device or of none, and nothing else is asked for. */
function assertOneUse(
  wanted: readonly DeviceArguments[],
  options: CommonOptions,
  self: CommandUnknownOpts,
): void {
  const lacking = wanted.find(({ exportMap }) => exportMap === undefined);
  if (lacking) {
    self.error(`error: the option '--export-map <file>' is missing behind ${lacking.device}`);
  }
  for (const other of ["options", "check"] as const) {
    if (!options[other]) continue;
    self.error(`error: option '--${other}' cannot be used with option '--export-map <file>'`);
  }
  for (const { exportMap } of wanted) {
    assertNotInput(self, { "export-map": exportMap }, wanted.map(({ device }) => device));
  }
}

function listOptions({ out }: Context, loaded: readonly Loaded[], { json }: CommonOptions): void {
  for (const each of loaded) {
    if (json) out.write(jsonText({ device: each.name, options: optionsJson(each) }) + "\n");
    else out.write(optionLines(each, out).join("\n") + "\n");
  }
}
