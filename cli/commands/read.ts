/**
 * `vfu read`: values of registers, and bytes.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import type { Via } from "../../lib/client/region_options.ts";
import { parseDuration } from "../../lib/text/duration.ts";
import { argument } from "../shared/argument.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import { pciEnableOption, timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { valuesOf } from "../shared/hexdump.ts";
import { jsonText } from "../shared/json.ts";
import { mapOption, type Named, parseArguments, type Place, placeParser } from "../shared/map.ts";
import { type Reading, readingJson, readingLines, takeReading } from "../shared/reading.ts";
import { ADDRESS_HELP, findTarget, type Target, viaOption } from "../shared/target.ts";
import { type Base, parseCount } from "../shared/value.ts";

/** Options of {@linkcode run}. */
export interface ReadOptions extends ConnectionOptions {
  /** The number of values or bytes at each address. */
  count?: number | undefined;
  /** The form in which they are shown. */
  format: Base | "raw" | "json";
  /** The same as format "json". */
  json?: true | undefined;
  /** The way to read: by message, or through mapped memory. */
  via?: Via | undefined;
  /** Look again after so long, in milliseconds, until Ctrl-C. */
  watch?: number | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("read")
    .description(
      "Reads registers or memory, in the order of the addresses, over one connection. One " +
        "address gives the value alone, several give lines of ADDRESS: VALUE. With --count it is " +
        "a dump: of values that are read one by one if the address has a width, as bar0+0.l; " +
        `else of bytes that are read together.\n\n${ADDRESS_HELP}`,
    )
    .argument("<socket>", "path of the server's socket")
    .argument("<address...>", "what to read")
    .addOption(
      new Option("--count <number>", "read so many values or bytes").argParser(
        argument(parseCount),
      ),
    )
    .addOption(
      new Option("--format <form>", "show it so; raw is the bytes themselves, json a line each")
        .choices(["hex", "dec", "bin", "raw", "json"])
        .default("hex" as const),
    )
    .addOption(new Option("--json", "the same as --format json").conflicts("format"))
    .addOption(
      new Option("--watch <duration>", "look again after so long, as 200ms, until Ctrl-C")
        .argParser(argument(parseDuration)),
    )
    .addOption(mapOption())
    .addOption(viaOption())
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu read dev.sock bar0+0x1c.l",
        "vfu read dev.sock --map nvme CSTS CC",
        "vfu read dev.sock CAP_MSIX+2.w COMMAND",
        "vfu read dev.sock bar2+0 --count 256",
      ),
    )
    .action(async (socket, texts, options, self) => {
      if (options.watch !== undefined && options.format === "raw") {
        self.error("error: '--watch' shows changes in lines, which '--format raw' has not");
      }
      const parse = await placeParser(context, self, options.map);
      await run(context, socket, parseArguments(self, "address", texts, parse), options);
    });
}

/** Reads at `addresses` on the device behind `socket` and shows what is there. */
export async function run(
  context: Context,
  socket: string,
  addresses: readonly Place[],
  options: ReadOptions,
): Promise<void> {
  using connection = await connectTo(context, socket, options);
  // All are found before any is read: reading may change the device.
  const targets: Target[] = [];
  for (const address of addresses) targets.push(await findTarget(connection.device, address));
  const labelWidth = Math.max(...addresses.map(({ text }) => text.length)) + 1;
  const format = options.json ? "json" : options.format;
  const take = async (i: number) => {
    const { width, named } = addresses[i]!;
    return { ...await takeReading(targets[i]!, { ...options, width }), named };
  };
  const width = addresses.length > 1 ? labelWidth : undefined;
  if (options.watch !== undefined && format !== "raw") {
    return await watchAll(context, options.watch, targets.length, take, format, width);
  }
  for (const i of targets.keys()) {
    const reading = await take(i);
    if (format === "raw") context.out.writeBytes(reading.bytes);
    else context.out.write(shown(reading, format, width).join("\n") + "\n");
  }
}

/** Reads all again and again, and shows what changes. */
async function watchAll(
  context: Context,
  intervalMs: number,
  count: number,
  take: (i: number) => Promise<NamedReading>,
  format: TextFormat,
  labelWidth: number | undefined,
): Promise<never> {
  const { watch } = await import("../shared/watch.ts");
  const isSame = (a: NamedReading, b: NamedReading) => a.bytes.toHex() === b.bytes.toHex();
  return await watch<NamedReading[]>(context, intervalMs, {
    isJson: format === "json",
    async look() {
      const readings: NamedReading[] = [];
      for (let i = 0; i < count; i++) readings.push(await take(i));
      return readings;
    },
    screen: (now, before, { style }) =>
      now.flatMap((reading, i) => {
        const lines = shown(reading, format, labelWidth);
        const isChanged = before !== undefined && !isSame(reading, before[i]!);
        return isChanged ? lines.map((line) => style.yellow(`${line} *`)) : lines;
      }),
    changes: (now, before, _, timeMs) =>
      now.filter((reading, i) => !isSame(reading, before[i]!)).flatMap((reading) => {
        const lines = shown(reading, format, labelWidth);
        if (format === "json") return lines;
        return [`${timeMs.toFixed(0).padStart(7)} ms  ${lines[0]}`, ...lines.slice(1)];
      }),
  });
}

/** A reading, and the register that a map names there. */
type NamedReading = Reading & { readonly named: Named | undefined };
/** The forms that are lines. */
type TextFormat = Exclude<ReadOptions["format"], "raw">;

/** The lines of a reading, with its address before it if that is to have a width. */
function shown(
  reading: NamedReading,
  format: TextFormat,
  labelWidth: number | undefined,
): string[] {
  const value = reading.kind === "value" ? valuesOf(reading.bytes, reading.width)[0] : undefined;
  const named = value === undefined ? undefined : reading.named;
  if (format === "json") {
    const json = { ...readingJson(reading), ...(named && { fields: named.fields(value!) }) };
    return [jsonText(json)];
  }
  const lines = readingLines(reading, format);
  if (format === "hex" && named !== undefined) lines.push(...named.lines(value!));
  const label = `${reading.text}:`;
  if (labelWidth !== undefined) {
    if (reading.kind === "value") lines[0] = `${label.padEnd(labelWidth)} ${lines[0]}`;
    else lines.unshift(label);
  }
  return lines;
}
