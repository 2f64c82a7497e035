/**
 * `vfu dump`: a region into a file.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import type { Region } from "../../lib/client/region.ts";
import type { Via } from "../../lib/client/region_options.ts";
import { hex } from "../../lib/text/hex.ts";
import { placeText } from "../../lib/wire/region.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import { pciEnableOption, timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { openDestination } from "../shared/destination.ts";
import { ReadableRegion, REFUSED_BYTE } from "../dump/readable.ts";
import { jsonText } from "../shared/json.ts";
import { mapOption, parseArguments, placeParser } from "../shared/map.ts";
import { Unfinished } from "../shared/failure.ts";
import { DEFAULT_MAX_SIZE, maxSizeOption, tooLarge } from "../shared/max_size.ts";
import { blocks } from "../shared/pipeline.ts";
import { Progress, transferText } from "../shared/progress.ts";
import { humanSize } from "../shared/size.ts";
import {
  findRange,
  parseRegionOrRegister,
  RANGE_HELP,
  type RegionRange,
  viaOption,
} from "../shared/target.ts";
import { plural } from "../../lib/text/plural.ts";

/** Options of {@linkcode run}. */
export interface DumpOptions extends ConnectionOptions {
  /** The file, or "-". */
  output: string;
  /** The way to read: by message, or through mapped memory. */
  via?: Via | undefined;
  /** Write JSON: a {@linkcode DumpJson}. */
  json?: true | undefined;
  /** Bytes that a region may have; default 1 GiB. */
  maxSize?: bigint | undefined;
}

/** The dump as JSON. */
export interface DumpJson {
  /** "bar0", "config", "region 9". */
  region: string;
  /** Bytes from the region's start. */
  offset: number;
  /** Bytes in the file. */
  bytes: number;
  /** The file. */
  file: string;
  /** Ranges that the device refused: 0xff in the file. */
  refused: { offset: number; bytes: number; reason: string }[];
}

/** Refused ranges that are listed. */
const MAX_LISTED = 16;

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("dump")
    .description(
      "Reads a region, or a range of one, into a file. Until all is there the file is " +
        "FILE.partial; it stays if the server goes away or you press Ctrl-C. A region of " +
        "registers that mind how wide an access is takes a width: bar0.l is read 4 bytes at a " +
        "time. Bytes that the device refuses are 0xff in the file, and are listed; the command " +
        "fails then.",
    )
    .argument("<socket>", "path of the server's socket")
    .argument("<region>", `bar0 to bar5, rom, config, vga or an index; ${RANGE_HELP}`)
    .requiredOption("-o, --output <file>", "where to; - is standard output")
    .addOption(mapOption("take MAP.REGISTER or REGISTER too"))
    .addOption(viaOption())
    .addOption(maxSizeOption())
    .addOption(pciEnableOption())
    .option("--json", "write one JSON object")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu dump dev.sock bar0 -o bar0.bin",
        "vfu dump dev.sock config -o - | xxd",
        "vfu dump dev.sock bar2.l -o registers.bin",
        "vfu dump dev.sock CAP --map nvme -o cap.bin",
      ),
    )
    .action(async (socket, text, options, self) => {
      if (options.json && options.output === "-") {
        self.error("error: '--json' and '-o -' both write to standard output; name a file");
      }
      const place = await placeParser(context, self, options.map);
      const parse = (text: string) => parseRegionOrRegister(text, place);
      await run(context, socket, parseArguments(self, "region", [text], parse)[0]!, options);
    });
}

/** Reads the region of the device behind `socket` into a file. */
export async function run(
  context: Context,
  socket: string,
  address: RegionRange,
  options: DumpOptions,
): Promise<void> {
  using destination = openDestination(options.output, context.out);
  using connection = await connectTo(context, socket, options);
  const { region, start, end } = await findRange(connection.device, address);
  assertSize(region, address, end - start, options.maxSize);
  const readable = new ReadableRegion(region, { ...options, width: address.width });
  const total = end - start;
  let done = 0;
  using _progress = options.verbose ? undefined : new Progress(
    context.err,
    (elapsedMs) => transferText({ done, total, elapsedMs }, context.err.columns),
  );
  let held = 0; // refused bytes before the first that was read: of nothing no file is made
  let hasBegun = false;
  try {
    for await (const bytes of readable.read(start, end)) {
      done += bytes.length;
      if (!hasBegun && readable.readCount === 0) {
        held += bytes.length;
        continue;
      }
      hasBegun = true;
      for (const { count } of blocks(held)) {
        destination.write(new Uint8Array(count).fill(REFUSED_BYTE));
      }
      held = 0;
      destination.write(bytes);
    }
    if (!hasBegun) throw await readable.explain();
    destination.finish();
  } catch (cause) {
    const { written, where } = destination;
    if (written === 0 || cause instanceof Deno.errors.BrokenPipe) throw cause;
    throw new Unfinished(cause, context.signal, `${written} of ${plural(total, "byte")} ${where}`);
  }
  if (options.json) {
    const refused = readable.refused.map(({ start, end, error }) => ({
      offset: start,
      bytes: end - start,
      reason: error.reason,
    }));
    const dumped: DumpJson = {
      region: region.name,
      offset: start,
      bytes: total,
      file: options.output,
      refused,
    };
    context.out.write(`${jsonText(dumped)}\n`);
  }
  if (readable.refused.length > 0) await reportRefused(context, readable, region, options);
}

/** Lists what was refused, and fails: what is kept is not the whole. */
async function reportRefused(
  { err }: Context,
  readable: ReadableRegion,
  { name }: Region,
  { output }: DumpOptions,
): Promise<never> {
  const { refused } = readable;
  for (const { start, end, error } of refused.slice(0, MAX_LISTED)) {
    const size = humanSize(BigInt(end - start));
    err.write(`${placeText(name, start)}..${hex(end)} (${size}) was refused: ${error.reason}\n`);
  }
  if (refused.length > MAX_LISTED) {
    err.write(`and ${plural(refused.length - MAX_LISTED, "more range")}\n`);
  }
  const count = refused.reduce((sum, { start, end }) => sum + end - start, 0);
  const where = output === "-" ? "in what was written" : `in ${output}`;
  const { message } = await readable.explain();
  throw new Error(
    `${plural(count, "byte")} of ${name} were refused, and are ${hex(REFUSED_BYTE)} ${where}; ` +
      `the first: ${message}`,
  );
}

/** A server may say that a region has 2^63 bytes: that is found out before the disk is full. */
function assertSize(
  { name, info }: Region,
  { end }: RegionRange,
  length: number,
  maxSize = DEFAULT_MAX_SIZE,
): void {
  // To the end of a region that has more than 2^53 bytes it is further than the length says.
  const size = end === undefined && info.size > BigInt(Number.MAX_SAFE_INTEGER)
    ? info.size
    : BigInt(length);
  if (size <= maxSize) return;
  const what = size === info.size
    ? `${name}: the server says that it has`
    : `the range of ${name}:`;
  throw tooLarge(`Cannot dump ${what} ${humanSize(size)},`, maxSize);
}
