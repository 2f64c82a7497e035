/**
 * `vfu dma`: gives a device memory, and shows what it does with it.
 *
 * @module
 */

import { unmet, unmetLines } from "../shared/unmet.ts";
import { Command, Option } from "@commander-js/extra-typings";
import type { DmaSpace } from "../../lib/client/dma.ts";
import type { Device } from "../../lib/client/device.ts";
import { endedWhile } from "../../lib/base/errors.ts";
import {
  actAll,
  GivenActions,
  type RegisterAction,
  waitOption,
  writeOption,
} from "../shared/actions.ts";
import { argumentList } from "../shared/argument.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import {
  forOption,
  pciEnableOption,
  timeoutOption,
  verboseOption,
} from "../shared/connection_options.ts";
import { type Context, onAbort, type Output } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { type Destination, openDestination } from "../shared/destination.ts";
import { Snapshots } from "../dma/memory_watch.ts";
import { fillMemory, openFills } from "../dma/fill.ts";
import { mapAll, mapsOf, memoryOption, unmapAll } from "../dma/maps.ts";
import { DmaSigns, type Silence } from "../dma/silence.ts";
import {
  type Entry,
  entryJson,
  entryLine,
  omittedJson,
  omittedLine,
  watchAccesses,
} from "../dma/log.ts";
import {
  assertMapped,
  type DumpArgument,
  type FillArgument,
  type MapArgument,
  parseDump,
  parseFill,
} from "../dma/range.ts";
import { Grace, thenTakeBack } from "../shared/cleanup_grace.ts";
import { blocks } from "../shared/pipeline.ts";
import { humanSize } from "../shared/size.ts";
import { plural } from "../../lib/text/plural.ts";

/** Options of {@linkcode run}. */
export interface DmaOptions extends ConnectionOptions {
  /** The memory that the device is given. */
  map: MapArgument[];
  /** The contents of the memory at first. */
  fill?: FillArgument[] | undefined;
  /** Registers that are written and waited for then. */
  actions?: readonly RegisterAction[] | undefined;
  /** The memory that is written to files at the end. */
  dump?: DumpArgument[] | undefined;
  /** Stay until Ctrl-C. */
  hold?: true | undefined;
  /** Stay so long, in milliseconds. */
  for?: number | undefined;
  /** Show what changes in shared memory. */
  changes?: true | undefined;
  /** Write JSON: an `EntryJson` a line. */
  json?: true | undefined;
}

/** A dump whose file is open. */
interface Dump extends DumpArgument {
  readonly destination: Destination;
}

const CHANGES_INTERVAL_MS = 100;

/** The command's arguments and options. */
export function command(context: Context) {
  const given = new GivenActions();
  return new Command("dma")
    .description(
      "Gives a device memory at I/O virtual addresses: maps, fills, writes registers or " +
        "waits for them, dumps, and unmaps, in this order. The memory is shared with " +
        "the device, unless it is mapped with " +
        ":message: then the device asks for each access, and each is shown with its time, " +
        "address, length and first bytes. With --hold or --for the memory stays after the " +
        "writes, which gives the device time to use it; dumps are made, and memory is unmapped, " +
        "after Ctrl-C as well. Sizes and addresses may have units, as 64K or 2MiB; :ro and :wo " +
        "say what the device may do.",
    )
    .argument("<socket>", "path of the server's socket")
    .addOption(memoryOption())
    .addOption(
      new Option(
        "--fill <range=content>",
        "IOVA:SIZE=BYTE or =FILE, - for standard input; repeatable",
      )
        .argParser(argumentList(parseFill)),
    )
    .addOption(writeOption(given))
    .addOption(waitOption(given))
    .addOption(
      new Option("--dump <range=file>", "at the end, IOVA:SIZE=FILE; - is standard output")
        .argParser(argumentList(parseDump)),
    )
    .option("--hold", "keep the memory mapped until Ctrl-C")
    .addOption(forOption("keep the memory mapped so long, as 500ms"))
    .option("--changes", "show what changes in shared memory, looked at every 100 ms")
    .option("--json", "write a line of JSON for each access and change")
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu dma dev.sock --map 1M:64K --write bar0+0x80.q=0x100000 --hold",
        "vfu dma dev.sock --map 1M:4K --write bar0+0x54=1 --wait 'bar0+0x54==0'",
        "vfu dma dev.sock --map 1M:4K:message --map nvme --write CC.EN=1 --for 1s",
        "vfu dma dev.sock --map 0:1M --fill 0:4K=0xa5 --dump 0:4K=-",
      ),
    )
    .action(async (socket, options, self) => {
      const { maps, place } = await mapsOf(context, self, options.map);
      const actions = given.read(self, place);
      await run(context, socket, { ...options, map: maps, actions });
    });
}

/** Gives the device behind `socket` memory. */
export async function run(context: Context, socket: string, options: DmaOptions): Promise<void> {
  using resources = new DisposableStack();
  const fills = await openFills(options.fill ?? [], resources, context.signal);
  const dumps = (options.dump ?? []).map((dump) => openDump(dump, context.out, resources));
  using grace = new Grace(context.signal);
  using connection = await connectTo({ ...context, signal: grace.signal }, socket, options);
  const { device } = connection;
  grace.begin();
  const work = async () => {
    await mapAll(device.dma, options.map, context.signal);
    for (const fill of fills) assertMapped(device.dma, fill, "fill");
    for (const dump of dumps) assertMapped(device.dma, dump, "dump");
    for (const fill of fills) fillMemory(device.dma, fill);
    const signs = new DmaSigns(device);
    const { aborted } = context.signal;
    try {
      await lend(context, device, signs, options);
    } finally {
      for (const dump of dumps) dumpMemory(device.dma, dump);
    }
    return aborted ? undefined : await silenceOf(signs, options);
  };
  const silence = await thenTakeBack(device, work, (wait) => unmapAll(device.dma, wait));
  const { aborted } = context.signal;
  if (silence?.isFailure && !aborted) throw unmet(silence.text, silence.why);
  // A guess is for a person; scripts are told what is certain.
  if (silence?.isCertain || (silence && context.err.isTerminal)) {
    context.err.write(`${unmetLines(silence.text, silence.why).join("\n")}\n`);
  }
  context.signal.throwIfAborted();
}

/**
 * Words about a device that left its memory alone. They are of a failure if registers were written
 * and the device can do no DMA: what the writes were to begin has not happened.
 */
async function silenceOf(
  signs: DmaSigns,
  { actions = [], hold, for: forMs }: DmaOptions,
): Promise<Silence & { isFailure: boolean } | undefined> {
  const hasTime = hold || forMs !== undefined || actions.some(({ kind }) => kind === "wait");
  const hasWrites = actions.some(({ kind }) => kind === "write");
  if (!hasWrites && (hold || !hasTime)) return undefined; // it was not told to do anything
  const silence = await signs.silence();
  if (silence === undefined || (!hasTime && !silence.isCertain)) return undefined;
  return { ...silence, isFailure: silence.isCertain && hasWrites };
}

/** Leaves the memory to the device, as long as the options say, and shows what it does. */
async function lend(
  { out, err, signal }: Context,
  device: Device,
  signs: DmaSigns,
  options: DmaOptions,
): Promise<void> {
  const { hold, for: forMs, json, dump = [] } = options;
  const output = dump.some(({ path }) => path === "-") ? err : out;
  const show = (entry: Entry) =>
    output.write(json ? entryJson(entry) : entryLine(entry, output.style));
  const startMs = performance.now();
  const end = Promise.withResolvers<void>();
  end.promise.catch(() => {}); // looked at below, unless something else fails before
  watchAccesses(device.dma, startMs, (entry) => {
    signs.hasAccessed = true;
    try {
      show(entry);
    } catch (error) {
      end.reject(error); // the reader of the output is gone
    }
  });
  const snapshots = options.changes ? new Snapshots(device.dma) : undefined;
  const compare = () => {
    if (snapshots === undefined) return;
    const { entries, omitted } = snapshots.compare();
    const timeMs = performance.now() - startMs;
    for (const entry of entries) show({ ...entry, timeMs });
    if (omitted === 0) return;
    output.write(json ? omittedJson(omitted, timeMs) : omittedLine(omitted, timeMs, output.style));
  };
  using _attention = device.proxy.attend((cause) =>
    end.reject(endedWhile("leave the memory to the device", cause))
  );
  using _interrupt = onAbort(signal, () => end.resolve());
  if (!signal.aborted) await actAll(device, options.actions ?? [], signal);
  if (!hold && forMs === undefined || signal.aborted) end.resolve();
  else sayHeld(err, device.dma);
  await every(compare, end, forMs);
  compare();
}

/** Calls `look` now and then until the time is over or `end` is settled. */
async function every(
  look: () => void,
  end: PromiseWithResolvers<void>,
  timeoutMs: number | undefined,
): Promise<void> {
  const timeout = timeoutMs === undefined ? undefined : setTimeout(() => end.resolve(), timeoutMs);
  const interval = setInterval(() => {
    try {
      look();
    } catch (error) {
      end.reject(error);
    }
  }, CHANGES_INTERVAL_MS);
  try {
    await end.promise;
  } finally {
    clearTimeout(timeout);
    clearInterval(interval);
  }
}

function sayHeld({ isTerminal, style, write }: Output, { maps }: DmaSpace): void {
  if (!isTerminal) return;
  const size = maps.reduce((sum, map) => sum + BigInt(map.size), 0n);
  const what = `${humanSize(size)} in ${plural(maps.length, "map")}`;
  write(style.dim(`The device has ${what}; Ctrl-C takes it back`) + "\n");
}

function openDump(dump: DumpArgument, out: Output, resources: DisposableStack): Dump {
  return { ...dump, destination: resources.use(openDestination(dump.path, out)) };
}

function dumpMemory(dma: DmaSpace, { iova, size, destination }: Dump): void {
  for (const { at, count } of blocks(size)) {
    destination.write(dma.read(iova + BigInt(at), count));
  }
  destination.finish();
}
