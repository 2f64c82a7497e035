/**
 * `vfu load`: a file into a region.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import type { BulkOptions, Via } from "../../lib/client/region_options.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import { pciEnableOption, timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { jsonText } from "../shared/json.ts";
import { mapOption, parseArguments, placeParser } from "../shared/map.ts";
import { Unfinished } from "../shared/failure.ts";
import { blocks, pipeline } from "../shared/pipeline.ts";
import { Progress, transferText } from "../shared/progress.ts";
import { openFile, readExactly } from "../shared/source.ts";
import {
  findRange,
  parseRegionOrRegister,
  RANGE_HELP,
  type RegionRange,
  viaOption,
} from "../shared/target.ts";
import { plural } from "../../lib/text/plural.ts";

/** Options of {@linkcode run}. */
export interface LoadOptions extends ConnectionOptions {
  /** The way to write: by message, or through mapped memory. */
  via?: Via | undefined;
  /** Write JSON. */
  json?: true | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("load")
    .description(
      "Writes a file to the start of a region, or of a range of one. A file that is larger is " +
        "refused; after a smaller one the rest of the region stays as it is. A region of " +
        "registers that mind how wide an access is takes a width: bar0.l is written 4 bytes at a " +
        "time.",
    )
    .argument("<socket>", "path of the server's socket")
    .argument("<region>", `bar0 to bar5, rom, config, vga or an index; ${RANGE_HELP}`)
    .argument("<file>", "what to write; - is standard input")
    .addOption(mapOption("take MAP.REGISTER or REGISTER too"))
    .addOption(viaOption())
    .addOption(pciEnableOption())
    .option("--json", "write one JSON object")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu load dev.sock bar2 image.bin",
        "vfu load dev.sock bar2.l registers.bin",
        "vfu load dev.sock bar2 image.bin --via message",
      ),
    )
    .action(async (socket, text, path, options, self) => {
      const place = await placeParser(context, self, options.map);
      const parse = (text: string) => parseRegionOrRegister(text, place);
      await run(context, socket, parseArguments(self, "region", [text], parse)[0]!, path, options);
    });
}

/** Writes the file at `path` to the region of the device behind `socket`. */
export async function run(
  context: Context,
  socket: string,
  address: RegionRange,
  path: string,
  options: LoadOptions,
): Promise<void> {
  const { err } = context;
  using file = await openFile(path, `load ${path}`, context.signal);
  const { size: total } = file.statSync();
  using connection = await connectTo(context, socket, options);
  const { region, start, end } = await findRange(connection.device, address);
  const room = end - start;
  const name = room === region.size ? region.name : address.text;
  if (total > room) {
    throw new RangeError(
      `Cannot load ${path}: it has ${plural(total, "byte")}, ${name} has ${room}`,
    );
  }
  const bulk: BulkOptions = {
    ...(options.via && { via: options.via }),
    ...(address.width && { chunkSize: address.width }),
  };
  const write = async ({ at, count }: { at: number; count: number }) => {
    await region.writeAsync(start + at, readExactly(file, path, count), bulk);
    return count;
  };
  let done = 0;
  using _progress = options.verbose ? undefined : new Progress(
    err,
    (elapsedMs) => transferText({ done, total, elapsedMs }, err.columns),
  );
  try {
    for await (const count of pipeline(blocks(total), write)) done += count;
  } catch (cause) {
    throw new Unfinished(cause, context.signal, `${done} of ${plural(total, "byte")} were written`);
  }
  if (options.json) {
    const loaded = { region: region.name, offset: start, bytes: total, file: path };
    context.out.write(`${jsonText(loaded)}\n`);
  } else if (total < room) {
    // Of a region with more than 2^53 bytes `end` is not the end.
    const last = address.end === undefined ? region.info.size : BigInt(end);
    const rest = last - BigInt(start + total);
    err.write(
      `${path} has ${plural(total, "byte")}; the other ${rest} of ${name} stay as they are\n`,
    );
  }
}
