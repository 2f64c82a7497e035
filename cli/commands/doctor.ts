/**
 * `vfu doctor`: reasons why a device does nothing.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import type { HarmlessRead } from "../../lib/client/diagnose/examination.ts";
import type { ConnectionOptions } from "../shared/connect.ts";
import { pciEnableOption, timeoutOption, verboseOption } from "../shared/connection_options.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { loadMaps, mapOption } from "../shared/map.ts";
import { Reported } from "../shared/failure.ts";
import { examine } from "../doctor/examine.ts";
import { doctorJson, doctorText } from "../doctor/report.ts";
import { harmlessReads } from "../doctor/harmless.ts";

/** Options of {@linkcode run}. */
export interface DoctorOptions extends ConnectionOptions {
  /** Write JSON: a `DoctorJson`. */
  json?: true | undefined;
  /** False to read no register of a BAR. */
  read: boolean;
  /** Maps by their names or files. */
  map?: string[] | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("doctor")
    .description(
      "Looks for the causes why a device does nothing, and shows each with its evidence: no " +
        "address, decoding or bus master off, interrupts off, masked, pending or wrongly " +
        "described, a device that is stopped, another client, another protocol. Without " +
        "--pci-enable it writes nothing. It reads one register of each BAR that is enabled: " +
        "at its start, or one that --map says a read does not change. A device may ignore " +
        "what its registers say, and work all the same. Returns 0 if nothing is found, 1 if a " +
        "cause is.",
    )
    .argument("<socket>", "path of the server's socket")
    .addOption(mapOption("read its registers, not the start of each BAR"))
    .addOption(new Option("--no-read", "read no register of a BAR but the MSI-X table"))
    .option("--json", "write one JSON object")
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu doctor dev.sock",
        "vfu doctor dev.sock --map nvme",
        "vfu doctor dev.sock --json",
      ),
    )
    .action(async (socket, options, self) => {
      const maps = await loadMaps(context, self, options.map ?? []);
      await run(context, socket, options, maps.flatMap(({ map }) => harmlessReads(map)));
    });
}

/** Examines the device behind `socket` and shows what is in its way. */
export async function run(
  context: Context,
  socket: string,
  options: DoctorOptions,
  harmless: readonly HarmlessRead[],
): Promise<void> {
  const report = await examine(context, socket, { ...options, harmless });
  context.out.write(options.json ? doctorJson(report) : doctorText(report, context.out));
  if (report.found.length > 0) throw new Reported(1);
}
