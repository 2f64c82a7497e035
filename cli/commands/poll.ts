/**
 * `vfu poll`: waits for a register to have a value.
 *
 * @module
 */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { DEFAULT_WIDTH } from "../../lib/client/address.ts";
import type { Via } from "../../lib/client/region_options.ts";
import { argument } from "../shared/argument.ts";
import { awaitCondition, DEFAULT_INTERVAL_MS, DEFAULT_WAIT_MS } from "../shared/awaited.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import {
  forOption,
  pciEnableOption,
  timeoutOption,
  verboseOption,
} from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { parseDuration } from "../../lib/text/duration.ts";
import { mapOption, orUsage, parseArguments, type Place, placeParser } from "../shared/map.ts";
import { Progress, spinner } from "../shared/progress.ts";
import { ADDRESS_HELP, findTarget, viaOption } from "../shared/target.ts";
import { bytesOf } from "../shared/hexdump.ts";
import { jsonText } from "../shared/json.ts";
import { type ComparisonName, Condition } from "../shared/condition.ts";
import { type Reading, type ReadingJson, readingJson } from "../shared/reading.ts";
import { formatValue, parseMaskedValue } from "../shared/value.ts";

/** Options of {@linkcode run}. */
export interface PollOptions extends ConnectionOptions {
  /** The condition to wait for. */
  condition: Condition;
  /** Write JSON: a {@linkcode PollJson}. */
  json?: true | undefined;
  /** The time that it may take in all, in milliseconds. */
  for: number;
  /** Between two looks, in milliseconds. */
  interval: number;
  /** The way to read: by message, or through mapped memory. */
  via?: Via | undefined;
}

/** The value that was waited for, as JSON. */
export interface PollJson extends ReadingJson {
  /** The number of reads. */
  reads: number;
  /** The time from the first read to the last answer. */
  elapsed_ms: number;
}

/** The option of each way to compare. */
const FLAGS: Readonly<Record<ComparisonName, string>> = {
  equals: "--equals <value[:mask]>",
  not: "--not <value[:mask]>",
  atLeast: "--at-least <value[:mask]>",
  oneOf: "--one-of <values>",
};

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("poll")
    .description(
      "Reads a register again and again until it has a value, or the bits of the value that the " +
        "mask selects; then shows all of it. Fails if that does not happen in " +
        `time.\n\n${ADDRESS_HELP}`,
    )
    .argument("<socket>", "path of the server's socket")
    .argument("<address>", "what to read")
    .addOption(
      new Option("--equals <value[:mask]>", "wait for this value, as 0x1 or 0b10:0b11")
        .conflicts(["not", "atLeast", "oneOf"]),
    )
    .addOption(
      new Option("--not <value[:mask]>", "wait for any other value").conflicts([
        "atLeast",
        "oneOf",
      ]),
    )
    .addOption(
      new Option("--at-least <value[:mask]>", "wait for this value or a greater one")
        .conflicts("oneOf"),
    )
    .addOption(new Option("--one-of <values>", "wait for one of these, as 1,3 or 1:3,2:3"))
    .addOption(
      forOption("give up after so long, as 500ms")
        .default(DEFAULT_WAIT_MS, `${DEFAULT_WAIT_MS / 1000}s`),
    )
    .addOption(
      new Option("--interval <duration>", "wait so long between two looks")
        .default(DEFAULT_INTERVAL_MS, `${DEFAULT_INTERVAL_MS}ms`)
        .argParser(argument(parseDuration)),
    )
    .addOption(mapOption())
    .addOption(viaOption())
    .addOption(pciEnableOption())
    .option("--json", "write one JSON object")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu poll dev.sock bar0+0x1c.l --equals 1:1",
        "vfu poll dev.sock --map nvme CSTS.RDY --equals 1 --for 10s",
        "vfu poll dev.sock bar0+8.l --not 0xffff_ffff",
        "vfu poll dev.sock bar0+8.l --one-of 2,3 --json",
      ),
    )
    .action(async (socket, text, options, self) => {
      const parse = await placeParser(context, self, options.map);
      const address = parseArguments(self, "address", [text], parse)[0]!;
      const condition = readCondition(self, options, address);
      try {
        condition.checkFits(address.width ?? DEFAULT_WIDTH);
      } catch (error) {
        self.error(`error: ${(error as Error).message}: ${address.text} has no more`);
      }
      await run(context, socket, address, { ...options, condition });
    });
}

/** The condition of the one option that says it. */
function readCondition(
  self: CommandUnknownOpts,
  given: Readonly<Partial<Record<ComparisonName, string>>>,
  { named }: Place,
): Condition {
  for (const [name, flag] of Object.entries(FLAGS) as [ComparisonName, string][]) {
    const text = given[name];
    if (text === undefined) continue;
    const texts = name === "oneOf" ? text.split(",") : [text];
    const invalid = `option '${flag}' argument '${text}' is invalid.`;
    const parse = named?.parseValue ?? parseMaskedValue;
    return new Condition(name, orUsage(self, invalid, () => texts.map(parse)));
  }
  return self.error("error: one of '--equals', '--not', '--at-least' and '--one-of' is needed");
}

/**
 * Waits until the register at `address` on the device behind `socket` is as wanted, and shows its
 * value.
 */
export async function run(
  context: Context,
  socket: string,
  address: Place,
  options: PollOptions,
): Promise<void> {
  const { condition, for: timeoutMs, interval: intervalMs, via, verbose, json } = options;
  using connection = await connectTo(context, socket, options);
  const target = await findTarget(connection.device, address);
  const { text, region, offset } = target;
  const width = address.width ?? DEFAULT_WIDTH;
  const wanted = condition.text(width);
  let last = "";
  let reads = 0;
  using _progress = verbose ? undefined : new Progress(
    context.err,
    (elapsedMs) =>
      `${spinner(elapsedMs)} ${text} is ${last}, waiting for ${wanted} ` +
      `(${Math.floor(elapsedMs / 1000)} s)`,
  );
  const from = performance.now();
  const value = await awaitCondition(connection.device, target, { address, width, condition }, {
    timeoutMs,
    intervalMs,
    signal: context.signal,
    via,
    onLook(value) {
      last = formatValue(value, width);
      reads++;
    },
  });
  if (json) {
    const reading: Reading = {
      ...target,
      kind: "value",
      width,
      bytes: bytesOf(value, width),
      via: via ?? region.via(offset, width),
    };
    const elapsed_ms = Math.round(performance.now() - from);
    const found: PollJson = { ...readingJson(reading), reads, elapsed_ms };
    return void context.out.write(`${jsonText(found)}\n`);
  }
  const lines = [last, ...address.named?.lines(value) ?? []];
  context.out.write(`${lines.join("\n")}\n`);
}
