/**
 * `vfu serve --isolate`: a process for each device, under one that starts and watches them.
 *
 * The parent runs no code of a device. A child tells it on standard output what happens, in the
 * lines of `--json`, each behind a mark. What a child writes on standard error is passed on.
 *
 * @module
 */

import {
  commandLine,
  passDescriptor,
  removeDeadSocketFile,
  setInherited,
  type SocketFile,
  socketFileAt,
} from "../../lib/server/process.ts";
import { tellReady } from "../../lib/server/ready.ts";
import { onAbort } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { Reported } from "../shared/failure.ts";
import { printable } from "../shared/printable.ts";
import type { CommonOptions, DeviceArguments, Isolated } from "./arguments.ts";
import type { Guard } from "./guard.ts";
import { isModule } from "./load.ts";
import type { ServedJson, ServeJson, Tell } from "./report.ts";
import { uniqueNames } from "./unique_names.ts";
import { onReportAsked } from "./unmodelled_watch.ts";

/** Events of a child. `loaded` follows the load of its module, which has the name. */
export type ChildJson = ServeJson | { event: "loaded"; device: string };

/** A child that has not ended so long after a signal is killed. By itself it takes 1.2 s. */
const KILL_MS = 1500;
/** A line of a child that is longer is passed on in pieces, in UTF-16 units. */
const MAX_LINE = 256 << 10;

/**
 * Serves each device in a process of its own, until the context's signal, or until none is left.
 *
 * @param seed of faults that come at random
 * @throws {Reported} if a process has ended that was not to
 * @throws {Error} if one has ended without a word before all were ready; or can't be started
 */
export async function serveIsolated(
  guard: Guard,
  wanted: readonly DeviceArguments[],
  options: CommonOptions,
  tell: Tell,
  seed: number | undefined,
): Promise<void> {
  const { signal } = guard.context;
  const { readyFd } = options;
  for (const fd of wanted.flatMap(({ fd }) => fd ?? []).concat(readyFd ?? [])) {
    setInherited(fd, false); // a child has its own descriptor, and no other's
  }
  const family = new Family(guard, tell, wanted.length > 1);
  const prefix = ownPrefix();
  try {
    for (const each of wanted) family.start(prefix, each, options, seed);
    using _listener = onAbort(signal, () => family.end());
    using _asked = options.unmodelled ? onReportAsked(() => family.ask()) : undefined;
    const devices = await family.ready;
    if (devices !== undefined) {
      if (readyFd !== undefined) tellReady(readyFd);
      tell({ event: "ready", devices, ...(seed !== undefined && { seed }) });
      guard.start();
    }
    await family.ended;
  } finally {
    family.end();
    await family.ended;
  }
  if (family.wasForced && signal.aborted) throw signal.reason;
  if (family.failure !== undefined) throw family.failure;
}

/**
 * Returns the words that start this program, up to its own arguments: with Deno's options and
 * permissions.
 */
function ownPrefix(): string[] {
  const words = commandLine();
  const own = words.slice(words.length - Deno.args.length);
  if (words.length <= Deno.args.length || own.some((word, i) => word !== Deno.args[i])) {
    throw new Error("Cannot isolate the devices: how vfu was started is not known");
  }
  return words.slice(1, words.length - Deno.args.length);
}

/** The processes of all devices. */
class Family {
  readonly #guard: Guard;
  readonly #tell: Tell;
  readonly #hasSeveral: boolean;
  readonly #children: Child[] = [];
  readonly #ready = Promise.withResolvers<ServedJson[] | undefined>();
  #isEnding = false;
  #isReady = false;
  #kill: ReturnType<typeof setTimeout> | undefined;
  /** Set when a process has ended that was not to. */
  failure: Error | undefined;
  /** True if a child did not end well when it was to. */
  wasForced = false;

  constructor(guard: Guard, tell: Tell, hasSeveral: boolean) {
    this.#guard = guard;
    this.#tell = tell;
    this.#hasSeveral = hasSeveral;
  }

  /** The devices, when all are served; undefined if the end comes before. */
  get ready(): Promise<ServedJson[] | undefined> {
    return this.#ready.promise;
  }

  /** Settled when all processes have ended. */
  get ended(): Promise<void> {
    return Promise.all(this.#children.map(({ ended }) => ended))
      .then(() => clearTimeout(this.#kill));
  }

  start(
    prefix: readonly string[],
    wanted: DeviceArguments,
    options: CommonOptions,
    seed: number | undefined,
  ): void {
    const child: Child = new Child(prefix, wanted, options, seed, {
      event: (event) => this.#hear(child, event),
      output: (line) => this.#guard.context.out.write(`${line}\n`),
      error: (line) => {
        const name = this.#hasSeveral ? `${printable(child.name)}: ` : "";
        this.#guard.context.err.write(`${name}${line}\n`);
      },
      ended: (status) => this.#bury(child, status),
    });
    this.#children.push(child);
  }

  /** Asks all processes for a report, by the signal at which Deno opens no port. */
  ask(): void {
    for (const child of this.#children) child.kill("SIGUSR2");
  }

  /** Ends all processes, in time. */
  end(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#ready.resolve(undefined);
    for (const child of this.#children) child.kill("SIGTERM");
    this.#kill = setTimeout(() => {
      for (const child of this.#children) child.kill("SIGKILL");
    }, KILL_MS);
  }

  #hear(child: Child, event: ChildJson): void {
    if (event.event === "loaded") {
      child.baseName = event.device;
      if (this.#children.every(({ baseName }) => baseName !== undefined)) this.#nameAll();
    } else if (event.event === "ready") {
      child.served = event.devices[0];
      const all = this.#children.flatMap(({ served, name }) =>
        served ? { ...served, device: name } : []
      );
      if (all.length < this.#children.length || this.#isEnding) return;
      this.#isReady = true;
      this.#ready.resolve(all);
    } else if ("device" in event) this.#tell({ ...event, device: child.name });
    else this.#tell(event);
  }

  /** Devices of the same name get numbers, in the order of the command line. */
  #nameAll(): void {
    const names = uniqueNames(this.#children.map(({ baseName }) => baseName!));
    for (const [i, child] of this.#children.entries()) child.name = names[i]!;
  }

  /** A process has ended: its socket goes, the others are served on, if they are. */
  #bury(child: Child, { code, signal }: Deno.CommandStatus): void {
    child.removeSocket();
    if (this.#isEnding) {
      this.wasForced ||= code !== 0;
      return;
    }
    if (code === 0 && child.wanted.fd !== undefined) return; // its client has left
    if (this.#isReady) {
      this.failure = new Reported(1);
      const how = signal === null ? { code, signal } : { code: null, signal };
      this.#tell({ event: "ended", device: child.name, ...how });
      return;
    }
    // A process that ends by itself has said why. Nothing is served unless all are.
    this.failure = signal === null && code !== 0
      ? new Reported(code)
      : new Error(`Cannot serve ${child.name}: its process has ended by ${signal ?? "itself"}`);
    this.end();
  }
}

/** Takes what a child says. */
interface Listener {
  event(event: ChildJson): void;
  /** A line on standard output that is no event: the device's own. */
  output(line: string): void;
  /** A line on standard error. */
  error(line: string): void;
  ended(status: Deno.CommandStatus): void;
}

/** The process of a device. */
class Child {
  readonly wanted: DeviceArguments;
  readonly #process: Deno.ChildProcess;
  readonly #listener: Listener;
  /** Text ahead of each event, by which it is told from what the device writes. */
  readonly #mark = crypto.randomUUID();
  #socket: SocketFile | undefined;
  #served: ServedJson | undefined;
  /** As the device calls itself, once it is loaded. */
  baseName: string | undefined;
  /** As it is called here. */
  name: string;
  /** Settled when it has ended, and all that it said was heard. */
  readonly ended: Promise<void>;

  constructor(
    prefix: readonly string[],
    wanted: DeviceArguments,
    options: CommonOptions,
    seed: number | undefined,
    listener: Listener,
  ) {
    this.wanted = wanted;
    this.name = wanted.device;
    this.#listener = listener;
    const { fd } = wanted;
    const isolated: Isolated = { parent: Deno.pid, faults: wanted.fault ?? [], mark: this.#mark };
    const args = [...prefix, ...argumentsOf(wanted, options, seed, isolated)];
    this.#process = fd === undefined ? spawn(args) : passDescriptor(fd, () => spawn(args));
    this.ended = this.#listen();
  }

  /** The device, once it is served. */
  get served(): ServedJson | undefined {
    return this.#served;
  }
  set served(served: ServedJson | undefined) {
    this.#served = served;
    try {
      if (served?.socket) this.#socket = socketFileAt(served.socket);
    } catch { /* the socket is gone already, and with it what there would be to remove */ }
  }

  kill(signal: Deno.Signal): void {
    try {
      this.#process.kill(signal);
    } catch { /* it has ended */ }
  }

  /** Removes what a process left that could not do so itself. */
  removeSocket(): void {
    try {
      if (this.#socket) removeDeadSocketFile(this.#socket);
    } catch {
      /* the folder can't be locked: a stale socket is left, and replaced by the next server */
    }
  }

  async #listen(): Promise<void> {
    const { stdout, stderr, status } = this.#process;
    const [, , how] = await Promise.all([
      eachLine(stdout, (line) => this.#take(line)),
      eachLine(stderr, (line) => this.#listener.error(line)),
      status,
    ]);
    this.#listener.ended(how);
  }

  /** Takes a line: an event, perhaps behind output of the device that has no end of line. */
  #take(line: string): void {
    const at = line.indexOf(this.#mark);
    if (at < 0) return this.#listener.output(line);
    if (at > 0) this.#listener.output(line.slice(0, at));
    const text = line.slice(at + this.#mark.length);
    const event = eventOf(text);
    if (event === undefined) this.#listener.output(text);
    else this.#listener.event(event);
  }
}

function argumentsOf(
  { device, socketPath, fd, option = [], offer = [], state }: DeviceArguments,
  { verbose, watch, unmodelled }: CommonOptions,
  seed: number | undefined,
  isolated: Isolated,
): string[] {
  return [
    "serve",
    device,
    socketPath === undefined ? `--fd=${fd}` : `--socket-path=${socketPath}`,
    ...option.map(({ name, value }) => `--option=${name}=${value}`),
    ...offer.map(({ text }) => `--offer=${text}`),
    ...(state === undefined ? [] : [`--state=${state}`]),
    ...(seed === undefined ? [] : [`--seed=${seed}`]),
    ...(verbose ? ["--verbose"] : []),
    ...(unmodelled ? ["--unmodelled"] : []),
    ...(watch && isModule(device) ? ["--watch"] : []),
    "--json",
    `--isolated=${jsonText(isolated)}`,
  ];
}

function spawn(args: string[]): Deno.ChildProcess {
  try {
    return new Deno.Command(Deno.execPath(), {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      detached: true, // Ctrl-C is the parent's to hear
    }).spawn();
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotCapable)) throw cause;
    throw new Error(
      "Cannot isolate the devices: starting processes takes a permission; " +
        "run deno with --allow-run",
      { cause },
    );
  }
}

/** Calls for each line, and for pieces of one that has no end. */
async function eachLine(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  take: (line: string) => void,
): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    lines.forEach(take);
    if (rest.length > MAX_LINE) {
      take(rest);
      rest = "";
    }
  }
  if (rest !== "") take(rest);
}

/** The event that a child tells; undefined if it is not whole, as of a line that was cut. */
function eventOf(text: string): ChildJson | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
