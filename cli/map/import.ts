/**
 * `vfu map import`: a register map from a file of CMSIS-SVD or IP-XACT.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import {
  type ImportedMap,
  type Imports,
  type Peripheral,
  type Placement,
  readImports,
} from "../../lib/registers/import/import.ts";
import { problemText } from "../../lib/yaml/problem.ts";
import { nearest } from "../../lib/text/nearest.ts";
import { plural } from "../../lib/text/plural.ts";
import { type Context, untilAbort } from "../shared/context.ts";
import { assertNotInput } from "../shared/destination.ts";
import { assertReplaceable } from "../shared/force.ts";
import { jsonText } from "../shared/json.ts";
import { STANDARD_INPUT } from "../../lib/base/input.ts";
import { printable } from "../shared/printable.ts";
import { Progress, transferText } from "../shared/progress.ts";
import { openFile } from "../shared/source.ts";
import { tableLines } from "../shared/table.ts";
import { writeText } from "./export.ts";
import { fieldCount } from "./json.ts";
import { tellProblems } from "../shared/problems.ts";

/** Options of {@linkcode run}. */
export interface ImportOptions {
  /** The peripheral, if there are several. */
  peripheral?: string | undefined;
  /** The place of its registers. */
  region: Placement;
  /** The name of the map. */
  name?: string | undefined;
  /** The file for the map. */
  output?: string | undefined;
  /** Replace a file that is there. */
  force?: true | undefined;
  /** List the peripherals. */
  list?: true | undefined;
  /** Write JSON. */
  json?: true | undefined;
}

/** The object that `vfu map import --json` writes. */
export interface ImportJson {
  /** As it was given. */
  file: string;
  /** "CMSIS-SVD" or "IP-XACT". */
  format: string;
  /** The name of the device or component. */
  device: string;
  /** The peripheral, memory map or block that the map is of. */
  peripheral: string;
  /** The name of the map. */
  name: string;
  /** The number of registers, arrays counted once. */
  registers: number;
  /** The number of their fields. */
  fields: number;
  /** The parts of the file that are in the map in another way, or not at all. */
  notes: { line: number; column: number; message: string }[];
  /** The file of the map; null if its text is here. */
  output: string | null;
  /** The text of the map; null if it is in a file. */
  map: string | null;
}

/** Notes that a person is shown. */
const MAX_NOTES = 20;
/** Peripherals that a message names. */
const MAX_NAMES = 12;

/** Imports a map, or lists what there is. */
export async function run(
  context: Context,
  file: string,
  options: ImportOptions,
  self: CommandUnknownOpts,
): Promise<void> {
  const { output, force, list: isList } = options;
  assertNotInput(self, { output }, [file]);
  if (output !== undefined && !isList) assertReplaceable(output, force);
  const imports = await tellProblems(context, () => read(context, file));
  if (isList) return list(context, file, imports, options);
  const peripheral = choose(file, imports, options.peripheral, self);
  const { region, name } = options;
  const { hold = (work) => work() } = context;
  const make = () => hold(() => imports.make(peripheral, region, name));
  const made = await tellProblems(context, make);
  report(context, file, imports, peripheral, made, options);
}

/** Reads a file, with a line of progress if that takes long. */
async function read({ err, signal, hold }: Context, file: string): Promise<Imports> {
  // A pipe would be waited for, deaf to Ctrl-C.
  if (file !== STANDARD_INPUT) (await openFile(file, `read ${file}`, signal)).close();
  let [done, total] = [0, 0];
  using _progress = new Progress(
    err,
    (elapsedMs) => transferText({ done, total, elapsedMs }, err.columns),
  );
  const onProgress = (...state: [number, number]) => [done, total] = state;
  return await untilAbort(signal, readImports(file, { signal, onProgress, hold }));
}

/** The peripheral that is meant. Which one is wrong usage unless it is clear. */
function choose(
  file: string,
  { format, peripherals }: Imports,
  wanted: string | undefined,
  self: CommandUnknownOpts,
): Peripheral {
  const names = peripherals.map(({ name }) => name);
  // The blocks of a memory map are in the map
  const whole = format === "IP-XACT" ? peripherals.filter(({ name }) => !name.includes(".")) : [];
  if (wanted === undefined) {
    const [only, ...others] = whole.length > 0 ? whole : peripherals;
    if (others.length === 0) return only!;
    const some = names.slice(0, MAX_NAMES).join(", ");
    const rest = names.length > MAX_NAMES ? ", ... (--list shows all)" : "";
    self.error(
      `error: There are ${names.length} peripherals in ${printable(file)}; ` +
        `choose one with --peripheral: ${printable(some)}${rest}`,
    );
  }
  const found = peripherals.find(({ name }) => name === wanted) ??
    peripherals.find(({ name }) => name.toLowerCase() === wanted.toLowerCase());
  if (found !== undefined) return found;
  const meant = nearest(wanted, names);
  const hint = meant === undefined ? "--list shows all" : `did you mean "${meant}"?`;
  self.error(
    printable(`error: There is no peripheral "${wanted}" in ${file}; ${hint}`),
  );
}

function list(
  { out }: Context,
  file: string,
  { format, name, peripherals }: Imports,
  { json }: ImportOptions,
): void {
  const all = peripherals.map(({ name, description = null }) => ({ name, description }));
  if (json) {
    out.write(`${jsonText({ file, format, device: name, peripherals: all }, 2)}\n`);
    return;
  }
  const rows = all.map(({ name, description }) => [printable(name), printable(description ?? "")]);
  const lines = tableLines(rows, { columns: out.columns, indent: 0 });
  out.write(lines.map((line) => `${line}\n`).join(""));
}

function report(
  context: Context,
  file: string,
  { format, name: device }: Imports,
  { name: peripheral }: Peripheral,
  { map, text, notes }: ImportedMap,
  { output, json }: ImportOptions,
): void {
  const { out, err } = context;
  const isFile = output !== undefined && output !== "-";
  if (isFile) writeText(context, output, text);
  const [registers, fields] = [map.registers.length, fieldCount(map)];
  if (json) {
    const result: ImportJson = {
      file,
      format,
      device,
      peripheral,
      name: map.name,
      registers,
      fields,
      notes: notes.map(({ line, column, message }) => ({ line, column, message })),
      output: isFile ? output : null,
      map: isFile ? null : text,
    };
    out.write(`${jsonText(result, 2)}\n`);
    return;
  }
  if (!isFile) out.write(text);
  for (const note of notes.slice(0, MAX_NOTES)) err.write(`${printable(problemText(note))}\n`);
  const more = notes.length - MAX_NOTES;
  if (more > 0) err.write(`... and ${plural(more, "more note")}; --json has all\n`);
  const what = `${plural(registers, "register")}, ${plural(fields, "field")}`;
  if (isFile) out.write(`${printable(output)}: ${map.name}, ${what}\n`);
}
