/**
 * `vfu serve --export-map`: the register map of a device as a file.
 *
 * @module
 */

import { registerMapText } from "../../lib/registers/write.ts";
import type { ServedDevice } from "../../lib/server/served_device.ts";
import { plural } from "../../lib/text/plural.ts";
import type { DeviceArguments } from "../serve/arguments.ts";
import type { Loaded } from "../serve/load.ts";
import { makeDevice } from "../serve/make.ts";
import type { Context } from "../shared/context.ts";
import { openDestination } from "../shared/destination.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { mapOf } from "./device_map.ts";

/** A line of `vfu serve --export-map FILE --json`: there is one for each device. */
export interface ExportJson {
  /** The device's name. */
  device: string;
  /** The file; "-" is standard output. */
  file: string;
  /** The number of registers, arrays counted once. */
  registers: number;
}

/**
 * Makes the devices, and writes their maps.
 *
 * @param stepOf a device by its number: does a step for it, so that what holds the thread is known
 * @throws {Error} if a device declares no registers, or a file can't be written
 */
export async function exportMaps(
  context: Context,
  loaded: readonly Loaded[],
  wanted: readonly DeviceArguments[],
  isJson: boolean,
  stepOf: (index: number) => <T>(work: () => Promise<T>) => Promise<T>,
): Promise<void> {
  for (const [i, each] of loaded.entries()) {
    const { device, exportMap, option = [] } = wanted[i]!;
    const made: ServedDevice = await stepOf(i)(() => makeDevice(each, option, {}));
    try {
      const map = mapOf(device, each, made);
      writeText(context, exportMap!, registerMapText(map, `The registers of ${device}`));
      tell(
        context,
        { device: each.name, file: exportMap!, registers: map.registers.length },
        isJson,
      );
    } finally {
      made.close?.();
    }
  }
}

/** Writes a file that appears when it is whole, or standard output for "-". */
export function writeText({ out }: Pick<Context, "out">, path: string, text: string): void {
  if (path === "-") return out.write(text);
  using destination = openDestination(path, out, false);
  destination.write(new TextEncoder().encode(text));
  destination.finish();
}

/** Says what was written; beside a map on standard output, on standard error. */
function tell({ out, err }: Context, json: ExportJson, isJson: boolean): void {
  const output = json.file === "-" ? err : out;
  if (isJson) output.write(`${jsonText(json)}\n`);
  else if (json.file !== "-") {
    output.write(`${printable(json.file)}: ${plural(json.registers, "register")}\n`);
  }
}
