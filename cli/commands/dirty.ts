/**
 * `vfu dirty`: which pages of memory a device writes.
 *
 * @module
 */

import { unmetLines } from "../shared/unmet.ts";
import { Command, Option } from "@commander-js/extra-typings";
import type { Device } from "../../lib/client/device.ts";
import { dmaSilenceText } from "../../lib/client/diagnose/diagnose.ts";
import type { DirtyPages } from "../../lib/client/dma_logging.ts";
import { endedWhile } from "../../lib/base/errors.ts";
import { MIN_LOGGING_PAGE_SIZE } from "../../lib/base/limits.ts";
import {
  actAll,
  GivenActions,
  type RegisterAction,
  waitOption,
  writeOption,
} from "../shared/actions.ts";
import { argument, argumentList } from "../shared/argument.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import {
  forOption,
  pciEnableOption,
  timeoutOption,
  verboseOption,
} from "../shared/connection_options.ts";
import { type Context, onAbort } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { fillMemory, openFills } from "../dma/fill.ts";
import { mapAll, mapsOf, memoryOption, unmapAll } from "../dma/maps.ts";
import { assertMapped, type FillArgument, type MapArgument, parseFill } from "../dma/range.ts";
import { isPowerOfTwo } from "../../lib/base/page_log.ts";
import { Grace, thenTakeBack } from "../shared/cleanup_grace.ts";
import { jsonText } from "../shared/json.ts";
import { humanSize, parseSize } from "../shared/size.ts";
import { hex } from "../../lib/text/hex.ts";
import { plural } from "../../lib/text/plural.ts";

/** Options of {@linkcode run}. */
export interface DirtyOptions extends ConnectionOptions {
  /** The memory that the device is given, and the ranges that are logged. */
  map: MapArgument[];
  /** Bytes of a page: a hint to the server. */
  pageSize: number;
  /** The contents of the memory at first. */
  fill?: FillArgument[] | undefined;
  /** Registers that are written and waited for while the log is on. */
  actions?: readonly RegisterAction[] | undefined;
  /** The time to wait then, in milliseconds; Infinity: until Ctrl-C. */
  waitMs?: number | undefined;
  /** Write one JSON object, a `DirtyJson`. */
  json?: true | undefined;
}

/**
 * The object that `vfu dirty --json` writes. An address above 2^53 - 1 is a string, as in
 * `vfu probe --json`.
 */
export interface DirtyJson {
  /**
   * Bytes of a page: those of the log, or those that were asked for where the maps are not of whole
   * pages of the log.
   */
  page_size: number;
  /** Pages that were logged. */
  pages: number;
  /** Pages of these that were written. */
  dirty_pages: number;
  /** Their places; adjacent ones stand together. */
  ranges: { iova: bigint; length: bigint }[];
}

/** The command's arguments and options. */
export function command(context: Context) {
  const given = new GivenActions();
  return new Command("dirty")
    .description(
      "Gives a device memory, has it log which pages it writes, writes registers or waits " +
        "for them, and shows the pages. Only devices that migrate have such a log. " +
        "Memory is shared with the " +
        "device, unless it is mapped with :message. After Ctrl-C what was written so far is " +
        "shown.",
    )
    .argument("<socket>", "path of the server's socket")
    .addOption(memoryOption())
    .addOption(
      new Option("--page-size <size>", "bytes of a page, as 64K: a power of two, and a hint")
        .default(MIN_LOGGING_PAGE_SIZE, "4K")
        .argParser(argument(parsePageSize)),
    )
    .addOption(
      new Option(
        "--fill <range=content>",
        "IOVA:SIZE=BYTE or =FILE, - for standard input; repeatable",
      )
        .argParser(argumentList(parseFill)),
    )
    .addOption(writeOption(given))
    .addOption(waitOption(given))
    .addOption(forOption("go on so long after the writes, as 500ms"))
    .option("--hold", "go on until Ctrl-C")
    .option("--json", "write one JSON object")
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu dirty dev.sock --map 1M:1M --write bar0+0x80.l=1 --for 1s",
        "vfu dirty dev.sock --map 1M:64K --hold",
        "vfu dirty dev.sock --map 0:1G --page-size 2M --for 5s --json",
      ),
    )
    .action(async (socket, { hold, map, for: forMs, ...options }, self) => {
      const { maps, place } = await mapsOf(context, self, map);
      const actions = given.read(self, place);
      const waitMs = hold ? Infinity : forMs;
      await run(context, socket, { ...options, map: maps, actions, waitMs });
    });
}

function parsePageSize(text: string): number {
  const size = parseSize(text);
  if (isPowerOfTwo(size) && size <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(size);
  throw new RangeError(`${text} is no page size; a power of two is needed`);
}

/** Shows which pages of its memory the device behind `socket` writes. */
export async function run(context: Context, socket: string, options: DirtyOptions): Promise<void> {
  const { map: maps, pageSize: wanted, fill = [] } = options;
  using resources = new DisposableStack();
  const fills = await openFills(fill, resources, context.signal);
  using grace = new Grace(context.signal);
  using connection = await connectTo({ ...context, signal: grace.signal }, socket, options);
  const { device } = connection;
  for (const { iova, size } of maps) assertPages(iova, size, wanted);
  grace.begin();
  const work = async () => {
    await mapAll(device.dma, maps, context.signal);
    for (const fill of fills) assertMapped(device.dma, fill, "fill");
    for (const fill of fills) fillMemory(device.dma, fill);
    return await log(context, device, options);
  };
  const { reports, pageSize } = await thenTakeBack(
    device,
    work,
    (wait) => unmapAll(device.dma, wait),
  );
  if (reports.every(({ count }) => count === 0) && !context.signal.aborted) {
    const why = await dmaSilenceText(device);
    if (why !== undefined) {
      context.err.write(`${unmetLines("No page was written", why).join("\n")}\n`);
    }
  }
  context.out.write(options.json ? reportJson(reports, pageSize) : reportText(reports, pageSize));
  context.signal.throwIfAborted();
}

/** Logs which pages the device writes while the registers are written, and as long as is wanted. */
async function log(
  { signal }: Context,
  device: Device,
  { map: maps, pageSize: wanted, actions = [], waitMs = 0 }: DirtyOptions,
): Promise<{ reports: DirtyPages[]; pageSize: number }> {
  signal.throwIfAborted();
  const logged = await device.dmaLogging.start({ pageSize: wanted });
  const pageSize = maps.every((map) => hasWholePages(map, logged)) ? logged : wanted;
  const work = async () => {
    signal.throwIfAborted();
    await actAll(device, actions, signal);
    await wait(device, waitMs, signal);
    const reports: DirtyPages[] = [];
    for (const { iova, size } of maps) {
      reports.push(await device.dmaLogging.report({ iova, length: size }, { pageSize }));
    }
    return reports;
  };
  const reports = await thenTakeBack(device, work, (wait) => device.dmaLogging.stop(wait));
  return { reports, pageSize };
}

function hasWholePages({ iova, size }: { iova: bigint; size: number }, pageSize: number): boolean {
  return iova % BigInt(pageSize) === 0n && size % pageSize === 0;
}

function assertPages(iova: bigint, size: number, pageSize: number): void {
  if (hasWholePages({ iova, size }, pageSize)) return;
  throw new RangeError(
    `Cannot log ${hex(size)} bytes at IOVA ${hex(iova)}: ` +
      `it is not of whole pages of ${humanSize(BigInt(pageSize))}`,
  );
}

/**
 * Waits, serving the device's accesses meanwhile, until the time is over, the user wants an end, or
 * the server goes.
 */
async function wait(device: Device, waitMs: number, signal: AbortSignal): Promise<void> {
  if (waitMs === 0 || signal.aborted) return;
  const end = Promise.withResolvers<void>();
  using _attention = device.proxy.attend((cause) =>
    end.reject(endedWhile("log which pages the device writes", cause))
  );
  using _interrupt = onAbort(signal, () => end.resolve());
  const timer = waitMs === Infinity ? undefined : setTimeout(() => end.resolve(), waitMs);
  try {
    await end.promise;
  } finally {
    clearTimeout(timer);
  }
}

function countPages(reports: readonly DirtyPages[], pageSize: number): number {
  return reports.reduce((sum, { length }) => sum + Number(length / BigInt(pageSize)), 0);
}

function reportText(reports: readonly DirtyPages[], pageSize: number): string {
  const lines = reports.flatMap((report) =>
    [...report.ranges()].map(({ iova, length }) => {
      const count = Number(length / BigInt(pageSize));
      const address = hex(iova, 8);
      return `${address}  ${humanSize(length).padStart(9)}  ${plural(count, "page")}`;
    })
  );
  const dirty = reports.reduce((sum, { count }) => sum + count, 0);
  const all = plural(countPages(reports, pageSize), "page");
  return [...lines, `${dirty} of ${all} of ${humanSize(BigInt(pageSize))} written`, ""].join("\n");
}

function reportJson(reports: readonly DirtyPages[], pageSize: number): string {
  const json: DirtyJson = {
    page_size: pageSize,
    pages: countPages(reports, pageSize),
    dirty_pages: reports.reduce((sum, { count }) => sum + count, 0),
    ranges: reports.flatMap((report) => [...report.ranges()]),
  };
  return jsonText(json) + "\n";
}
