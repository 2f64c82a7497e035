/**
 * `vfu bench`: how fast a register is read.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { type Address, DEFAULT_WIDTH } from "../../lib/client/address.ts";
import type { Width } from "../../lib/client/info.ts";
import { argument } from "../shared/argument.ts";
import {
  histogram,
  histogramLines,
  microseconds,
  type Percentiles,
  percentiles,
} from "../bench/latency.ts";
import {
  measureMapped,
  measurePipelined,
  measureSynchronous,
  OUTSTANDING,
  type Rate,
  type Refused,
  unlessRefused,
} from "../bench/measure.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import { pciEnableOption, timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context, Output } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { mapOption, parseArguments, placeParser } from "../shared/map.ts";
import { printable } from "../shared/printable.ts";
import { Progress, spinner } from "../shared/progress.ts";
import { tableLines } from "../shared/table.ts";
import { ADDRESS_HELP, findTarget, type Target } from "../shared/target.ts";
import { parseCount } from "../shared/value.ts";
import { jsonText } from "../shared/json.ts";
import { plural } from "../../lib/text/plural.ts";

/** Options of {@linkcode run}. */
export interface BenchOptions extends ConnectionOptions {
  /** Reads of each part. */
  count?: number | undefined;
  /** Write JSON: a {@linkcode BenchJson}. */
  json?: true | undefined;
}

/** The results of a measurement, as JSON. */
export interface BenchJson {
  /** The address as it was written. */
  address: string;
  /** "bar0", "config", "region 9". */
  region: string;
  /** Bytes from the region's start. */
  offset: number;
  /** Bytes of each read. */
  width: number;
  /** One read after another, by message; how long they took, in microseconds. */
  synchronous: RateJson & { latency_us: Percentiles } | RefusedJson;
  /** Reads by message, some of them always under way. */
  pipelined: RateJson & { outstanding: number } | RefusedJson;
  /** Reads through the map; null if the register is not mapped. */
  mapped: RateJson | RefusedJson | null;
}

/** A way of reading that was refused. */
export interface RefusedJson {
  /** The reason. */
  refused: string;
}

/** A number of accesses, and their time. */
export interface RateJson {
  reads: number;
  seconds: number;
  per_second: number;
}

/** The results of a measurement. */
interface Measured {
  readonly width: Width;
  readonly synchronous: Rate & { times: Float64Array } | Refused;
  readonly pipelined: Rate | Refused;
  readonly mapped: Rate | Refused | undefined;
}

const HISTOGRAM_ROWS = 10;

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("bench")
    .description(
      "Reads a register as often as it can for a second, in each of three ways: one read after " +
        `another, by message; by message with ${OUTSTANDING} reads under way; through the ` +
        `device's ` +
        `memory, where it is mapped. Choose a register that may be read.\n\n${ADDRESS_HELP}`,
    )
    .argument("<socket>", "path of the server's socket")
    .argument("<address>", "what to read")
    .addOption(
      new Option("--count <number>", "read so often in each way").argParser(argument(parseCount)),
    )
    .addOption(mapOption("take MAP.REGISTER or REGISTER as an address too"))
    .option("--json", "write one JSON object")
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu bench dev.sock bar0+0.l",
        "vfu bench dev.sock bar0+0.l --count 10000",
        "vfu bench dev.sock CSTS --map nvme --json",
      ),
    )
    .action(async (socket, text, options, self) => {
      const place = await placeParser(context, self, options.map);
      await run(context, socket, parseArguments(self, "address", [text], place)[0]!, options);
    });
}

/** Measures the register at `address` of the device behind `socket`. */
export async function run(
  context: Context,
  socket: string,
  address: Address,
  options: BenchOptions,
): Promise<void> {
  const { out, err } = context;
  using connection = await connectTo(context, socket, options);
  const target = await findTarget(connection.device, address);
  const measured = await measure(target, address.width ?? DEFAULT_WIDTH, err, {
    count: options.count,
    signal: context.signal,
  });
  out.write(options.json ? benchJson(target, measured) : benchText(target, measured, out));
}

async function measure(
  target: Target,
  width: Width,
  err: Output,
  bounds: { count: number | undefined; signal: AbortSignal },
): Promise<Measured> {
  let way = "one read after another";
  using _progress = new Progress(
    err,
    (elapsedMs) => `${spinner(elapsedMs)} ${target.text}: ${way}`,
  );
  const synchronous = await unlessRefused(measureSynchronous(target, width, bounds));
  way = `${OUTSTANDING} reads under way`;
  const pipelined = await unlessRefused(measurePipelined(target, width, bounds));
  way = "through the map";
  const mapped = await unlessRefused(measureMapped(target, width, bounds));
  // A register that is only mapped, or only answers messages, has its numbers.
  const ways = [synchronous, pipelined, ...(mapped === undefined ? [] : [mapped])];
  if (ways.every((each) => "refused" in each)) throw ways[0]!.refused;
  return { width, synchronous, pipelined, mapped };
}

function benchText(
  { text, region }: Target,
  { width, synchronous, pipelined, mapped }: Measured,
  { columns, style }: Output,
): string {
  const rates = [
    rateRow("by message, one after another", synchronous),
    rateRow(`by message, ${OUTSTANDING} under way`, pipelined),
    mapped === undefined
      ? ["through the map", "-", `${region.name} is not mapped there`]
      : rateRow("through the map", mapped),
  ];
  return [
    style.bold(`Rate of reading ${text}, ${plural(width, "byte")}`),
    ...tableLines(rates, { columns, indent: 2, right: [1] }),
    "",
    ...("refused" in synchronous ? [] : latencyLines(synchronous.times, columns, style)),
  ].join("\n");
}

function rateRow(way: string, rate: Rate | Refused): string[] {
  return "refused" in rate
    ? [way, "-", `refused: ${printable(rate.refused.message)}`]
    : [way, perSecond(rate), "reads/s"];
}

function latencyLines(all: Float64Array, columns: number, style: Output["style"]): string[] {
  const times = percentiles(all);
  const latency = (["min", "p50", "p90", "p99", "p99_9", "max"] as const)
    .map((key) => [key.replace("_", "."), microseconds(times[key])]);
  return [
    style.bold("How long one takes, by message, one after another"),
    `  ${latency.map((pair) => pair.join(" ")).join("  ")}`,
    "",
    ...histogramLines(histogram(all, HISTOGRAM_ROWS), columns),
    "",
  ];
}

function perSecond({ reads, seconds }: Rate): string {
  return Math.round(reads / seconds).toLocaleString("en-US");
}

function benchJson(
  { text, region, offset }: Target,
  { width, synchronous, pipelined, mapped }: Measured,
): string {
  const json: BenchJson = {
    address: text,
    region: region.name,
    offset,
    width,
    synchronous: "refused" in synchronous ? refusedJson(synchronous) : {
      ...rateJson(synchronous),
      latency_us: percentiles(synchronous.times.map((time) => rounded(time))),
    },
    pipelined: "refused" in pipelined
      ? refusedJson(pipelined)
      : { ...rateJson(pipelined), outstanding: OUTSTANDING },
    mapped: mapped === undefined
      ? null
      : "refused" in mapped
      ? refusedJson(mapped)
      : rateJson(mapped),
  };
  return `${jsonText(json, 2)}\n`;
}

function refusedJson({ refused }: Refused): RefusedJson {
  return { refused: refused.message };
}

function rateJson({ reads, seconds }: Rate): RateJson {
  return { reads, seconds: rounded(seconds), per_second: Math.round(reads / seconds) };
}

/** To nanoseconds where `value` is microseconds, to milliseconds where it is seconds. */
function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
