/**
 * A device from its source and the options of the command line.
 *
 * @module
 */

import type { DeviceHost } from "../../lib/define/definition.ts";
import type { DeviceOption, DeviceOptions } from "../../lib/define/option.ts";
import type { ServedDevice } from "../../lib/server/device.ts";
import { nearest } from "../../lib/yaml/nearest.ts";
import { isDefinition, isServedDevice, type Loaded, notDevice } from "./load.ts";
import { UsageError } from "./usage.ts";

/** An option of the device: `name=value`. */
export interface ChosenOption {
  readonly name: string;
  readonly value: string;
}

/**
 * Reads `name=value`.
 *
 * @throws {SyntaxError} if there is no `=`
 */
export function parseOption(text: string): ChosenOption {
  const at = text.indexOf("=");
  if (at < 1) throw new SyntaxError(`"${text}" is no option of a device; write it as name=value`);
  return { name: text.slice(0, at), value: text.slice(at + 1) };
}

/**
 * Makes the device.
 *
 * @throws {UsageError} for an option that it does not have, or a value that is not possible
 */
export async function makeDevice(
  { name, source }: Loaded,
  chosen: readonly ChosenOption[],
  host: DeviceHost,
): Promise<ServedDevice> {
  assertOnce(chosen);
  let device: unknown = source;
  if (typeof source === "function") {
    device = await source(Object.fromEntries(chosen.map(({ name, value }) => [name, value])));
    // What it was made with is what it was called with.
    if (isDefinition(device)) return device.create({}, host);
  } else if (isDefinition(source)) {
    const values = chosen.map((each) => [each.name, parseValueOf(name, source.options, each)]);
    return source.create(Object.fromEntries(values), host);
  } else if (chosen.length > 0) {
    throw new UsageError(
      `${name} takes no options, such as ${
        chosen[0]!.name
      }; defineDevice() makes a device that does`,
    );
  }
  if (isServedDevice(device)) return device;
  throw new Error(`Cannot serve ${name}: its function returned ${notDevice(device)}`);
}

function assertOnce(chosen: readonly ChosenOption[]): void {
  const names = new Set<string>();
  for (const { name } of chosen) {
    if (names.has(name)) throw new UsageError(`the option ${name} is given twice`);
    names.add(name);
  }
}

function parseValueOf(
  device: string,
  options: DeviceOptions,
  { name, value }: ChosenOption,
): unknown {
  const option: DeviceOption | undefined = Object.hasOwn(options, name) ? options[name] : undefined;
  if (option === undefined) throw new UsageError(unknownOption(device, name, options));
  try {
    return option.parse(value);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UsageError(`the option ${name} of ${device} can't be this: ${error.message}`);
  }
}

function unknownOption(device: string, name: string, options: DeviceOptions): string {
  const names = Object.keys(options);
  if (names.length === 0) return `the device ${device} has no options, so no "${name}" either`;
  const meant = nearest(name, names);
  const hint = meant === undefined ? "" : ` did you mean "${meant}"?`;
  return `the device ${device} has no option "${name}";${hint} It has ${names.join(", ")}`;
}
