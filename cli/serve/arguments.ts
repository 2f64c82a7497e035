/**
 * The command line of `vfu serve`: devices, each with the options that follow it.
 *
 * Commander knows options and arguments, but not their order. So it reads up to the first device
 * and leaves the rest as it is. Another command of the same options reads that rest up to the next
 * device, and so on.
 *
 * @module
 */

import { Argument, Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { FaultRule } from "../../lib/server/faults.ts";
import { argument, argumentList } from "../shared/argument.ts";
import { parseFd } from "../shared/fd.ts";
import { parseValue } from "../shared/value.ts";
import { verboseOption } from "../shared/connection_options.ts";
import { parseFault } from "./fault.ts";
import { type ChosenOffer, parseOffer } from "./offer.ts";
import { type ChosenOption, parseOption } from "./chosen_option.ts";

/** A device, and what is wanted of it. */
export interface DeviceArguments {
  /** A name, or the path of a module. */
  readonly device: string;
  /** The path to listen at. */
  readonly socketPath?: string | undefined;
  /** A connected socket to serve in place of listening. */
  readonly fd?: number | undefined;
  /** Its own options. */
  readonly option?: readonly ChosenOption[] | undefined;
  /** The faults on purpose. */
  readonly fault?: readonly FaultRule[] | undefined;
  /** The file in which its state is kept. */
  readonly state?: string | undefined;
  /** The file for its register map, in place of serving it. */
  readonly exportMap?: string | undefined;
  /** Limits and capabilities that differ from the usual ones. */
  readonly offer?: readonly ChosenOffer[] | undefined;
}

/** The options of all devices. */
export interface CommonOptions {
  /** The seed of the random numbers of faults. */
  seed?: number | undefined;
  /** The path to write READY=1 to when all of them listen. */
  readyFd?: number | undefined;
  /** Serve each device in a process of its own. */
  isolate?: true | undefined;
  /** Serve one of those devices, for the process that isolates them. */
  isolated?: Isolated | undefined;
  /** List the devices' options, and serve nothing. */
  options?: true | undefined;
  /** Check the devices' modules, and serve nothing. */
  check?: true | undefined;
  /** Report what clients use that is not modelled. */
  unmodelled?: true | undefined;
  /** Load modules again when they change. */
  watch?: true | undefined;
  /** Write JSON. */
  json?: true | undefined;
  /** Show every message on standard error. */
  verbose?: true | undefined;
}

/** The message of a process that isolates devices to the process of one device. */
export interface Isolated {
  /** Its process id. */
  readonly parent: number;
  /** The faults on purpose. */
  readonly faults: readonly FaultRule[];
  /** Text ahead of each event, by which it is told from what the device itself writes. */
  readonly mark: string;
}

interface ParsedOptions extends CommonOptions, Omit<DeviceArguments, "device"> {}

const MAX_SEED = 0xffff_ffffn;

/** A command with all options; `act` is given the devices and the options of all. */
export function serveCommand(
  act: (
    devices: readonly DeviceArguments[],
    options: CommonOptions,
    self: CommandUnknownOpts,
  ) => Promise<void>,
) {
  const self = new Command("serve")
    .usage("[options] <device> [options] [<device> [options]]...")
    .addArgument(new Argument("<device>", 'demo, or the path of a module, as "./my_device.ts"'))
    .addArgument(new Argument("[more...]", "further devices, each with its own options behind it"))
    .passThroughOptions();
  addOptions(self);
  return self.action((device, more) => {
    const { devices, options } = readAll(self, device, more);
    for (const [key, value] of Object.entries(options)) self.setOptionValue(key, value);
    return act(devices, options, self);
  });
}

function addOptions(self: CommandUnknownOpts): void {
  self
    .addOption(
      new Option("--socket-path <path>", "listen at this path").argParser(once("--socket-path"))
        .conflicts("fd"),
    )
    .addOption(
      new Option("--fd <number>", "serve the client on this connected socket").argParser(
        argument(parseFd),
      ),
    )
    .addOption(
      new Option("--option <name=value>", "choose an option of the device; repeatable").argParser(
        argumentList(parseOption),
      ),
    )
    .addOption(new Option("--options", "list the options of the device, and serve nothing"))
    .option("--check", "check the module's types and its device, and serve nothing")
    .addOption(
      new Option(
        "--export-map <file>",
        "write the device's register map, - is standard output, and serve nothing",
      ).argParser(once("--export-map")),
    )
    .addOption(
      new Option("--fault <command:fault>", "misbehave on purpose, see below; repeatable")
        .argParser(argumentList(parseFault)),
    )
    .addOption(
      new Option("--offer <name=value>", "tell clients another limit, see below; repeatable")
        .argParser(argumentList(parseOffer)),
    )
    .addOption(
      new Option("--state <file>", "restore its state from here, and save it here at the end")
        .argParser(once("--state")),
    )
    .addOption(
      new Option("--seed <number>", "begin the random numbers of faults here").argParser(
        argument(parseSeed),
      ),
    )
    .addOption(
      new Option("--ready-fd <number>", "write READY=1 to this descriptor when all listen")
        .argParser(argument(parseReadyFd)),
    )
    .option("--unmodelled", "report what clients use that is not modelled, see below")
    .option("--watch", "load a module again when it changes, see below")
    .option("--isolate", "serve each device in a process of its own, see below")
    .addOption(
      // Not for people: written by the process that isolates.
      new Option("--isolated <json>").hideHelp().argParser((text) => JSON.parse(text) as Isolated),
    )
    .option("--json", "write each event as a line of JSON on standard output")
    .addOption(verboseOption());
}

/** Reads what follows the first device, device by device. */
function readAll(
  self: CommandUnknownOpts,
  first: string,
  rest: readonly string[],
): { devices: DeviceArguments[]; options: CommonOptions } {
  const devices: DeviceArguments[] = [];
  const options: CommonOptions = {};
  let device = first;
  let own: ParsedOptions = self.opts();
  while (true) {
    const [behind, [next, ...further]] = readSegment(self, rest);
    const merged = merge(self, device, own, behind);
    const { socketPath, fd, option, fault, state, exportMap, offer, ...common } = merged;
    devices.push({
      device,
      ...defined({ socketPath, fd, option, fault, state, exportMap, offer }),
    });
    Object.assign(options, defined(common));
    if (options.options && options.check) {
      self.error("error: option '--check' cannot be used with option '--options'");
    }
    if (next === undefined) return { devices, options };
    [device, rest, own] = [next, further, {}];
  }
}

/** Options up to the next device; and that with everything behind it. */
function readSegment(
  self: CommandUnknownOpts,
  args: readonly string[],
): [options: ParsedOptions, rest: readonly string[]] {
  const segment = new Command(self.name()).argument("[more...]").passThroughOptions();
  segment.parent = self.parent;
  addOptions(segment);
  segment.copyInheritedSettings(self).helpOption(false);
  segment.option("-h, --help");
  segment.action(() => {}).parse([...args], { from: "user" });
  const { help, ...options } = segment.opts() as ParsedOptions & { help?: true };
  if (help) self.help();
  return [options, segment.args];
}

/** Merges the options ahead of a device and behind it. */
function merge(
  self: CommandUnknownOpts,
  device: string,
  a: ParsedOptions,
  b: ParsedOptions,
): ParsedOptions {
  const merged = { ...a, ...b };
  if (a.option && b.option) merged.option = [...a.option, ...b.option];
  if (a.fault && b.fault) merged.fault = [...a.fault, ...b.fault];
  if (a.offer && b.offer) merged.offer = [...a.offer, ...b.offer];
  const places = [a.socketPath, b.socketPath, a.fd, b.fd].filter((place) => place !== undefined);
  if (places.length > 1) {
    self.error(
      `error: the device ${device} has two places, ${
        places.join(" and ")
      }; name one behind each device`,
    );
  }
  return merged;
}

function defined<T extends object>(object: T): Partial<T> {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Partial<T>;
}

/** A parser that takes a second one for a mistake: a device behind the first one was forgotten. */
function once(name: string): (text: string, previous: string | undefined) => string {
  return (text, previous) =>
    argument((path: string) => {
      if (previous !== undefined) throw new SyntaxError(`${name} is given twice for one device`);
      return path;
    })(text);
}

function parseSeed(text: string): number {
  const seed = parseValue(text);
  if (seed > MAX_SEED) throw new RangeError("A seed is 0 at least and 2^32 - 1 at most");
  return Number(seed);
}

function parseReadyFd(text: string): number {
  const fd = parseFd(text);
  if (fd < 3) {
    throw new RangeError("0 to 2 are the standard streams; use 3 or more, as --ready-fd 3");
  }
  return fd;
}
