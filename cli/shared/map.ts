/**
 * Registers that the command line names by a map.
 *
 * @module
 */

import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { type Address, parseAddress } from "../../lib/client/address.ts";
import { fileError } from "../../lib/text/file_error.ts";
import type { DecodedField, RegisterAddress, RegisterMap } from "../../lib/registers/mod.ts";
import type { Context, Output } from "./context.ts";
import { printable } from "./printable.ts";
import { type MaskedValue, parseMaskedValue } from "./value.ts";

/** An address as an argument has it. */
export interface Place extends Address {
  /** The entry of a map, if a map has one. */
  readonly named?: Named;
}

/** A register of a map, or a field of one. */
export interface Named {
  /** Bits that a change of the field has to write as 0, because ones would do something. */
  readonly spared: bigint;
  /**
   * Reads a value for it; that of a field may be a name.
   *
   * @throws {SyntaxError} if it is none
   * @throws {RangeError} if it does not fit
   */
  parseValue(text: string): MaskedValue;
  /** The fields in the value of the register, or the one that is meant. */
  fields(value: number | bigint): DecodedField[];
  /** The same in lines for a person. */
  lines(value: number | bigint): string[];
}

/** Reads the address of an argument. */
export type PlaceParser = (text: string) => Place;

/** The maps that `--map` takes, for helps. */
export const MAP_NAMES = "demo, nvme, pci, a file of YAML, or a device's module";

/**
 * `--map`
 *
 * @param use what the command does with the map
 */
export function mapOption(
  use = "take MAP.REGISTER or REGISTER as an address too, and show fields",
) {
  return new Option(
    "--map <name|file>",
    `${use}: ${MAP_NAMES}; repeatable`,
  ).argParser((name: string, previous: string[] | undefined) => [...previous ?? [], name]);
}

/** The modules of maps. They are loaded when there is a map, and not before. */
type Registers = typeof import("../../lib/registers/mod.ts");

/**
 * Loads maps, with which addresses are then read. Mistakes in a file are told on standard
 * error.
 */
export async function placeParser(
  context: Context,
  self: CommandUnknownOpts,
  names: readonly string[] | undefined,
): Promise<PlaceParser> {
  if (names === undefined) return parseUnmapped;
  const registers = await import("../../lib/registers/mod.ts");
  const maps = (await loadMaps(context, self, names)).map(({ map }) => map);
  return (text) => {
    try {
      const address = registers.lookupRegister(maps, text);
      return { ...address, named: describe(address, registers) };
    } catch (error) {
      return parseOther(text, error);
    }
  };
}

/** Loads maps, each with the name that it was asked for by. */
export async function loadMaps(
  context: Context,
  self: CommandUnknownOpts,
  names: readonly string[],
): Promise<{ readonly name: string; readonly map: RegisterMap }[]> {
  const maps = [];
  for (const name of names) maps.push({ name, map: await loadMap(context, self, name) });
  return maps;
}

/** The exports of the module that makes maps of devices. */
interface DeviceMaps {
  deviceMap(device: string, err: Output): Promise<RegisterMap>;
}

/** Tells whether a map is named by the path of a module that defines a device. */
export function isDeviceModule(name: string): boolean {
  return /\.[cm]?[jt]sx?$/.test(name);
}

/**
 * Takes the map of a device's own registers. The module's name is in a variable, because the module
 * imports what `vfu serve` does. Deno would read all of that at every start. A bundler takes all
 * files that a template may name.
 */
async function loadDeviceMap(device: string, err: Output): Promise<RegisterMap> {
  const module = "../map/device_map.ts";
  const { deviceMap }: DeviceMaps = await import(module);
  return await deviceMap(device, err);
}

/**
 * Loads a map: one of vfu's by its name, a file of YAML, or the registers of a device's module.
 * Mistakes in a file are told on standard error.
 */
export async function loadMap(
  { err }: Pick<Context, "err">,
  self: CommandUnknownOpts,
  name: string,
): Promise<RegisterMap> {
  if (isDeviceModule(name)) return await loadDeviceMap(name, err);
  const { FileProblems, loadRegisterMap, problemText } = await import("../../lib/registers/mod.ts");
  try {
    return await loadRegisterMap(name);
  } catch (error) {
    const { message } = error as Error;
    if (error instanceof RangeError) {
      const isOption = self.options.some(({ long }) => long === "--map");
      const what = isOption
        ? `option '--map <name|file>' argument '${name}' is invalid.`
        : `command-argument value '${name}' is invalid for argument 'name|file'.`;
      self.error(`error: ${what} ${message}`);
    }
    if (!(error instanceof FileProblems)) {
      throw fileError(`read the map ${name}`, error);
    }
    for (const problem of error.problems) err.write(`${printable(problemText(problem))}\n`);
    throw error;
  }
}

/** An address where there is no map. What looks like a name may be one of a map. */
function parseUnmapped(text: string): Address {
  try {
    return parseAddress(text);
  } catch (error) {
    if (!(error instanceof Error) || !/^[A-Za-z_]\w*([.[][\w.[\]]*)?$/.test(text)) throw error;
    throw new SyntaxError(`${error.message}; a name of a register map needs --map`);
  }
}

/** An address that no map has. What looks like a name was meant to be one. */
function parseOther(text: string, error: unknown): Address {
  try {
    return parseAddress(text);
  } catch (other) {
    throw /^[\w.[\]]+$/.test(text) ? error : other;
  }
}

function describe({ register, field }: RegisterAddress, registers: Registers): Named {
  const {
    decodeField,
    decodeRegister,
    fieldLines,
    fieldMask,
    fieldText,
    parseFieldValue,
    sparedBits,
  } = registers;
  if (field === undefined) {
    return {
      spared: 0n,
      parseValue: parseMaskedValue,
      fields: (value) => decodeRegister(register, value),
      lines: (value) => fieldLines(register, value),
    };
  }
  return {
    spared: sparedBits(register, fieldMask(field)),
    parseValue(text) {
      const value = parseFieldValue(field, text) << BigInt(field.low);
      // What can't be read can't be changed in parts.
      return register.access === "wo" ? { value } : { value, mask: fieldMask(field) };
    },
    fields: (value) => [decodeField(field, value)],
    lines: (value) => [`  ${field.name}=${fieldText(field, value)}`],
  };
}

/** Reads each of the arguments `name`. One that is wrong is wrong usage, as commander says it. */
export function parseArguments<T>(
  self: CommandUnknownOpts,
  name: string,
  texts: readonly string[],
  parse: (text: string) => T,
): T[] {
  return texts.map((text) =>
    orUsage(
      self,
      `command-argument value '${text}' is invalid for argument '${name}'.`,
      () => parse(text),
    )
  );
}

/** Calls `parse`. That it throws is wrong usage: `what`, and why. */
export function orUsage<T>(self: CommandUnknownOpts, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    self.error(`error: ${what} ${error instanceof Error ? error.message : String(error)}`);
  }
}
