/**
 * `vfu map`: register maps as files: import, check, document and list them.
 *
 * @module
 */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { parsePlacement } from "../map/placement.ts";
import { argument } from "../shared/argument.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { forceOption } from "../shared/force.ts";
import { jsonText } from "../shared/json.ts";
import { loadMap, MAP_NAMES } from "../shared/map.ts";

/** The command's subcommands. */
export function command(context: Context): CommandUnknownOpts {
  return new Command("map")
    .description(
      "Works with register maps, which name the registers of a device and their fields: what " +
        "--map takes. None of it needs a device.",
    )
    .addCommand(importCommand(context))
    .addCommand(checkCommand(context))
    .addCommand(docCommand(context))
    .addCommand(listCommand(context));
}

function importCommand(context: Context) {
  return new Command("import")
    .summary("make a map of a file of CMSIS-SVD or IP-XACT")
    .description(
      "Makes a register map of a peripheral of a CMSIS-SVD file, or of a memory map of an " +
        "IP-XACT component (IEEE 1685-2009, 2014 and 2022), and writes it as YAML. What a map " +
        "can't say is changed or left out, and told with line and column on standard error. " +
        "Registers that overlap are both there.",
    )
    .argument("<file>", "a file of CMSIS-SVD or IP-XACT, 64 MiB at most")
    .option("--peripheral <name>", "the peripheral, or memory map, or MAP.BLOCK of one")
    .addOption(
      new Option("--region <place>", "where its first address is in the device, as bar2+0x1000")
        .default({ region: "bar0", offset: 0 }, "bar0")
        .argParser(argument(parsePlacement)),
    )
    .addOption(
      new Option("--name <name>", "name of the map (default: the peripheral's)")
        .argParser(argument(parseName)),
    )
    .option("-o, --output <file>", "where to (default: standard output)")
    .addOption(forceOption())
    .option("--list", "list the peripherals, and import nothing")
    .option("--json", "write what was imported as a JSON object")
    .addHelpText(
      "after",
      examples(
        "vfu map import chip.svd --list",
        "vfu map import chip.svd --peripheral UART0 -o uart.yaml",
        "vfu map import dma.xml --region bar2+0x1000 --name dma > dma.yaml",
      ),
    )
    .action(async (file, options, self) => {
      const { run } = await import("../map/import.ts");
      await run(context, file, options, self);
    });
}

function checkCommand(context: Context) {
  return new Command("check")
    .summary("tell what is wrong with maps")
    .description(
      "Checks register maps and tells each mistake with its line and column: names that there " +
        "are twice, registers and fields that overlap or do not fit, unknown keys. Returns 1 if " +
        "there is one.",
    )
    .argument("<name|file...>", MAP_NAMES)
    .option("--json", "write a JSON object for each map")
    .addHelpText(
      "after",
      examples(
        "vfu map check uart.yaml",
        "vfu map check uart.yaml dma.yaml --json",
        "vfu map check ./my_device.ts",
      ),
    )
    .action(async (files, { json = false }, self) => {
      const { run } = await import("../map/check.ts");
      await run(context, files, json, self);
    });
}

function docCommand(context: Context) {
  return new Command("doc")
    .summary("write a map as a document")
    .description(
      "Writes a register map as tables for people, in Markdown or as one page of HTML: offsets, " +
        "names, widths, access, reset values, and fields with their values.",
    )
    .argument("<name|file>", MAP_NAMES)
    .option("--html", "write HTML, a page that loads nothing")
    .option("-o, --output <file>", "where to (default: standard output)")
    .addOption(new Option("--json", "write the map as a JSON object").conflicts("html"))
    .addHelpText(
      "after",
      examples(
        "vfu map doc uart.yaml > uart.md",
        "vfu map doc nvme --html -o nvme.html",
        "vfu map doc ./my_device.ts --json",
      ),
    )
    .action(async (file, { html, output = "-", json }, self) => {
      const { htmlDocument, markdownDocument } = await import("../map/doc.ts");
      const { writeText } = await import("../map/export.ts");
      const { mapJson } = await import("../map/json.ts");
      const { assertNotInput } = await import("../shared/destination.ts");
      assertNotInput(self, { output }, [file]);
      const map = await loadMap(context, self, file);
      const text = json
        ? `${jsonText(mapJson(map), 2)}\n`
        : html
        ? await htmlDocument(map)
        : markdownDocument(map);
      writeText(context, output, text);
    });
}

function listCommand(context: Context) {
  return new Command("list")
    .summary("list the maps that come with vfu, or the registers of a map")
    .description(
      "Lists the register maps that come with vfu, which --map takes by their names; or the " +
        "registers of a map, with places and fields.",
    )
    .argument("[name|file]", MAP_NAMES)
    .addOption(
      new Option("--names", "list the names of registers and fields alone, as places take them"),
    )
    .addOption(new Option("--json", "write one JSON object").conflicts("names"))
    .addHelpText(
      "after",
      examples("vfu map list", "vfu map list nvme", "vfu map list uart.yaml --names"),
    )
    .action(async (file, { json = false, names }, self) => {
      const { listMaps, listNames, listRegisters } = await import("../map/list.ts");
      if (file === undefined) {
        if (names) self.error("error: '--names' needs the name of a map, or its file");
        return await listMaps(context, json);
      }
      const map = await loadMap(context, self, file);
      if (names) listNames(context, map);
      else listRegisters(context, map, json);
    });
}

/** The name of a map, as its file has it. */
function parseName(text: string): string {
  if (/^[A-Za-z_]\w{0,63}$/.test(text)) return text;
  throw new SyntaxError(`"${text}" is no name of letters, digits and _`);
}
