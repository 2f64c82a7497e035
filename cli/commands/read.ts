/**
 * `vfu read`: values of registers, and bytes.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import type { Via } from "../../lib/client/region_options.ts";
import { argument } from "../shared/argument.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import { pciEnableOption, timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { valuesOf } from "../shared/hexdump.ts";
import { jsonText } from "../shared/json.ts";
import { mapOption, type Named, parseArguments, type Place, placeParser } from "../shared/map.ts";
import { type Reading, readingJson, readingLines, takeReading } from "../shared/reading.ts";
import { ADDRESS_HELP, findTarget, viaOption } from "../shared/target.ts";
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
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("read")
    .description(
      "Reads registers or memory, in the order of the addresses, over one connection. One " +
        "address " +
        "gives the value alone, several give lines of ADDRESS: VALUE. With --count it is a " +
        "dump: of " +
        "values that are read one by one if the address has a width, as bar0+0.l; else of bytes " +
        `that are read together.\n\n${ADDRESS_HELP}`,
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
  const targets = [];
  for (const address of addresses) targets.push(await findTarget(connection.device, address));
  const labelWidth = Math.max(...addresses.map(({ text }) => text.length)) + 1;
  const format = options.json ? "json" : options.format;
  for (const [i, target] of targets.entries()) {
    const { width, named } = addresses[i]!;
    const reading = await takeReading(target, { ...options, width });
    show(context, { ...reading, named }, format, addresses.length > 1 ? labelWidth : undefined);
  }
}

/** Shows a reading, with its address before it if that is to have a width. */
function show(
  { out }: Context,
  reading: Reading & { named: Named | undefined },
  format: ReadOptions["format"],
  labelWidth: number | undefined,
): void {
  if (format === "raw") return out.writeBytes(reading.bytes);
  const value = reading.kind === "value" ? valuesOf(reading.bytes, reading.width)[0] : undefined;
  const named = value === undefined ? undefined : reading.named;
  if (format === "json") {
    const json = { ...readingJson(reading), ...(named && { fields: named.fields(value!) }) };
    return out.write(`${jsonText(json)}\n`);
  }
  const lines = readingLines(reading, format);
  if (format === "hex" && named !== undefined) lines.push(...named.lines(value!));
  const label = `${reading.text}:`;
  if (labelWidth !== undefined) {
    if (reading.kind === "value") lines[0] = `${label.padEnd(labelWidth)} ${lines[0]}`;
    else lines.unshift(label);
  }
  out.write(lines.join("\n") + "\n");
}
