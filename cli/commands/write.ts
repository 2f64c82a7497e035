/**
 * `vfu write`: values into registers.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import { pciEnableOption, timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { jsonText } from "../shared/json.ts";
import { mapOption, parseArguments, placeParser } from "../shared/map.ts";
import { ADDRESS_HELP, viaOption } from "../shared/target.ts";
import {
  assignAll,
  type Assignment,
  type AssignOptions,
  parseAssignment,
} from "../shared/assignment.ts";

/** Options of {@linkcode run}. */
export interface WriteOptions extends ConnectionOptions, AssignOptions {
  /** Write JSON. */
  json?: true | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("write")
    .description(
      "Writes registers, in the order of the arguments, over one connection. ADDRESS=VALUE " +
        "writes all bits; ADDRESS=VALUE:MASK reads, changes the bits of the mask, and writes. " +
        "Values are " +
        `decimal, or 0x, 0o or 0b with digits; _ may stand between digits.\n\n${ADDRESS_HELP}`,
    )
    .argument("<socket>", "path of the server's socket")
    .argument("<address=value...>", "what to write")
    .option("--posted", "ask for no answers: an error is not heard of")
    .option("--verify", "read each back, and fail if it is not as written")
    .addOption(mapOption())
    .addOption(viaOption())
    .addOption(pciEnableOption())
    .option("--json", "write a line of JSON for each register")
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu write dev.sock bar0+0x14.l=1",
        "vfu write dev.sock --pci-enable --map nvme CC.EN=1",
        "vfu write dev.sock --verify bar0+0x1c.w=0x100:0xff00",
      ),
    )
    .action(async (socket, texts, options, self) => {
      const place = await placeParser(context, self, options.map);
      const parse = (text: string) => parseAssignment(text, place);
      await run(context, socket, parseArguments(self, "address=value", texts, parse), options);
    });
}

/** Writes what `assignments` say to the device behind `socket`. */
export async function run(
  context: Context,
  socket: string,
  assignments: readonly Assignment[],
  options: WriteOptions,
): Promise<void> {
  using connection = await connectTo(context, socket, options);
  await assignAll(connection.device, assignments, options);
  if (!options.json) return;
  for (const { address, width, value, mask } of assignments) {
    const written = { address: address.text, width, value, ...(mask !== undefined && { mask }) };
    context.out.write(`${jsonText(written)}\n`);
  }
}
