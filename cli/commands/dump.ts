/**
 * `vfu dump`: a region into a file.
 *
 * @module
 */

import { Argument, Command } from "@commander-js/extra-typings";
import type { Address } from "../../lib/address.ts";
import type { BulkOptions, Region, Via } from "../../lib/region.ts";
import { argument } from "../argument.ts";
import {
  type ConnectionOptions,
  connectTo,
  pciEnableOption,
  timeoutOption,
  verboseOption,
} from "../connection.ts";
import type { Context } from "../context.ts";
import { openDestination } from "../destination.ts";
import { Unfinished } from "../failure.ts";
import { DEFAULT_MAX_SIZE, maxSizeOption, tooLarge } from "../max_size.ts";
import { blocks, pipeline } from "../pipeline.ts";
import { Progress, transferText } from "../progress.ts";
import { humanSize } from "../size.ts";
import { findRegion, parseRegion, viaOption } from "../target.ts";

/** Options of {@linkcode run}. */
export interface DumpOptions extends ConnectionOptions {
  /** The file, or "-". */
  output: string;
  /** How to read. */
  via?: Via | undefined;
  /** Bytes that a region may have; default 1 GiB. */
  maxSize?: bigint | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("dump")
    .description(
      "Reads a whole region into a file. Until all is there the file is FILE.partial; it stays if " +
        "the server goes away or you press Ctrl-C. A region of registers that mind how wide an " +
        "access is takes a width: bar0.l is read 4 bytes at a time.",
    )
    .argument("<socket>", "path of the server's socket")
    .addArgument(
      new Argument("<region>", "bar0 to bar5, rom, config, vga or an index")
        .argParser(argument(parseRegion)),
    )
    .requiredOption("-o, --output <file>", "where to; - is standard output")
    .addOption(viaOption())
    .addOption(maxSizeOption())
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .action((socket, address, options) => run(context, socket, address, options));
}

/** Reads the region of the device behind `socket` into a file. */
export async function run(
  context: Context,
  socket: string,
  address: Address,
  options: DumpOptions,
): Promise<void> {
  using destination = openDestination(options.output, context.out);
  using connection = await connectTo(context, socket, options);
  const region = await findRegion(connection.device, address);
  assertSize(region, options.maxSize);
  const total = region.size;
  let done = 0;
  using _progress = options.verbose ? undefined : new Progress(
    context.err,
    (elapsedMs) => transferText({ done, total, elapsedMs }, context.err.columns),
  );
  try {
    for await (const bytes of readBlocks(region, address, options)) {
      destination.write(bytes);
      done += bytes.length;
    }
    destination.finish();
  } catch (cause) {
    if (done === 0 || cause instanceof Deno.errors.BrokenPipe) throw cause;
    throw new Unfinished(cause, context.signal, `${done} of ${total} bytes ${destination.where}`);
  }
}

/** A server may say that a region has 2^63 bytes: that is found out before the disk is full. */
function assertSize({ name, info: { size } }: Region, maxSize = DEFAULT_MAX_SIZE): void {
  if (size <= maxSize) return;
  throw tooLarge(`Cannot dump ${name}: the server says that it has ${humanSize(size)},`, maxSize);
}

/** The bytes of a region, in accesses of the address's width if it has one. */
function readBlocks(
  region: Region,
  { width }: Address,
  { via }: DumpOptions,
): AsyncGenerator<Uint8Array> {
  const bulk: BulkOptions = {
    ...(via && { via }),
    ...(width && { chunkSize: width }),
  };
  return pipeline(
    blocks(region.size),
    ({ at, count }) => region.readAsync(at, count, bulk),
  );
}
