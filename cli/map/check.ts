/**
 * `vfu map check`: the mistakes of register maps.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { thrownText } from "../../lib/base/thrown.ts";
import { loadRegisterMap } from "../../lib/registers/load.ts";
import type { RegisterMap } from "../../lib/registers/map.ts";
import { FileProblems, problemText } from "../../lib/yaml/problem.ts";
import { fileError } from "../../lib/text/file_error.ts";
import { plural } from "../../lib/text/plural.ts";
import type { Context } from "../shared/context.ts";
import { Detailed, Reported } from "../shared/failure.ts";
import { jsonText } from "../shared/json.ts";
import { isDeviceModule } from "../shared/map.ts";
import { printable } from "../shared/printable.ts";
import { fieldCount } from "./json.ts";

/** A line of `vfu map check --json`: there is one for each map. */
export interface MapCheckJson {
  /** As it was given. */
  file: string;
  /** The name of the map; null if there are mistakes. */
  name: string | null;
  /** The number of registers, arrays counted once; null if there are mistakes. */
  registers: number | null;
  /** The number of their fields; null if there are mistakes. */
  fields: number | null;
  /** The mistakes; none if the list is empty. */
  mistakes: {
    /** The place; null of a device's module, whose message has it. */
    line: number | null;
    column: number | null;
    message: string;
    /** The text to write instead; null if that can't be guessed. */
    hint: string | null;
  }[];
}

/** A map without mistakes, or the lines that tell them. */
type Checked =
  | { readonly map: RegisterMap }
  | { readonly mistakes: MapCheckJson["mistakes"]; readonly lines: readonly string[] };

/**
 * Checks maps, one after the other.
 *
 * @throws {Reported} if one has mistakes, after they were told
 */
export async function run(
  context: Context,
  files: readonly string[],
  isJson: boolean,
  self: CommandUnknownOpts,
): Promise<void> {
  const { out } = context;
  let hasMistakes = false;
  for (const file of files) {
    const checked = await check(context, file, self);
    hasMistakes ||= "mistakes" in checked;
    if (isJson) out.write(`${jsonText(checkJson(file, checked))}\n`);
    else out.write(checkLines(file, checked).map((line) => `${printable(line)}\n`).join(""));
  }
  if (hasMistakes) throw new Reported(1);
}

async function check(context: Context, file: string, self: CommandUnknownOpts): Promise<Checked> {
  if (isDeviceModule(file)) return await checkDevice(context, file);
  try {
    return { map: await loadRegisterMap(file) };
  } catch (error) {
    if (error instanceof RangeError) self.error(`error: ${printable(error.message)}`);
    if (!(error instanceof FileProblems)) throw fileError(`read ${file}`, error);
    return {
      mistakes: error.problems.map(({ line, column, message, hint = null }) => {
        return { line, column, message, hint };
      }),
      lines: error.problems.map(problemText),
    };
  }
}

/** The registers of a device, whose mistakes have their place in the message. */
async function checkDevice({ err }: Context, file: string): Promise<Checked> {
  const { deviceMap } = await import("./device_map.ts");
  try {
    return { map: await deviceMap(file, err) };
  } catch (error) {
    const details = error instanceof Detailed ? error.details : [];
    const lines = [thrownText(error), ...details.map((each) => `  ${each}`)];
    const message = [thrownText(error), ...details].join("; ");
    return { mistakes: [{ line: null, column: null, message, hint: null }], lines };
  }
}

function checkLines(file: string, checked: Checked): string[] {
  if ("map" in checked) {
    const registers = plural(checked.map.registers.length, "register");
    return [`${file}: no mistakes in ${registers}, ${plural(fieldCount(checked.map), "field")}`];
  }
  return [...checked.lines, `${file}: ${plural(checked.mistakes.length, "mistake")}`];
}

function checkJson(file: string, checked: Checked): MapCheckJson {
  if (!("map" in checked)) {
    return { file, name: null, registers: null, fields: null, mistakes: checked.mistakes };
  }
  const { map } = checked;
  const [registers, fields] = [map.registers.length, fieldCount(map)];
  return { file, name: map.name, registers, fields, mistakes: [] };
}
