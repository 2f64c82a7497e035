/**
 * A device from its source and the options of the command line.
 *
 * @module
 */

import type { DeviceDefinition, DeviceHost } from "../../lib/define/definition.ts";
import type { DeviceOption, DeviceOptions } from "../../lib/define/option.ts";
import type { ServedDevice } from "../../lib/server/served_device.ts";
import { isObject } from "../../lib/define/mistakes.ts";
import { originOf } from "../../lib/define/origin.ts";
import { nearest } from "../../lib/text/nearest.ts";
import { blamed } from "./blame.ts";
import type { ChosenOption } from "./chosen_option.ts";
import { isDefinition, isServedDevice, type Loaded, notDevice } from "./load.ts";
import { UsageError } from "./usage.ts";

/**
 * Makes the device.
 *
 * @throws {UsageError} for an option that it does not have, or a value that is not possible
 * @throws {ModuleError} if the device can't be made; it begins with the place in the module
 */
export async function makeDevice(
  { name, source }: Loaded,
  chosen: readonly ChosenOption[],
  host: DeviceHost,
): Promise<ServedDevice> {
  assertOnce(chosen);
  let device: unknown = source;
  if (typeof source === "function") {
    const values = Object.fromEntries(chosen.map(({ name, value }) => [name, value]));
    device = await blaming(name, undefined, () => source(values));
    // What it was made with is what it was called with.
    if (isDefinition(device)) return create(name, device, {}, host);
  } else if (isDefinition(source)) {
    const values = chosen.map((each) => [each.name, parseValueOf(name, source.options, each)]);
    return create(name, source, Object.fromEntries(values), host);
  } else if (chosen.length > 0) {
    throw new UsageError(
      `${name} takes no options, such as ${
        chosen[0]!.name
      }; defineDevice() makes a device that does`,
    );
  }
  if (isServedDevice(device)) {
    const lack = lackOf(device);
    if (lack !== undefined) throw new Error(`Cannot serve ${name}: ${lack}`);
    return device;
  }
  throw new Error(`Cannot serve ${name}: its function returned ${notDevice(device)}`);
}

/** Says which part of a device that was made by hand is none. */
function lackOf({ regions, irqs }: ServedDevice): string | undefined {
  const has = (part: unknown, type: string, ...names: string[]) =>
    isObject(part) && names.every((name) => typeof part[name] === type);
  const region = regions.findIndex((each) =>
    each !== undefined &&
    !(has(each, "number", "flags", "size") && has(each, "function", "read", "write"))
  );
  if (region >= 0) return `its regions[${region}] is not { flags, size, read, write }`;
  const irq = irqs.findIndex((each) => !has(each, "number", "flags", "count"));
  return irq < 0 ? undefined : `its irqs[${irq}] is not { flags, count }`;
}

function create(
  name: string,
  definition: DeviceDefinition,
  values: Record<string, unknown>,
  host: DeviceHost,
): Promise<ServedDevice> {
  return blaming(name, definition, () => definition.create(values, host));
}

/** Calls what is the user's. What that throws begins with its place, or that of the definition. */
async function blaming<T>(
  name: string,
  definition: DeviceDefinition | undefined,
  make: () => T,
): Promise<Awaited<T>> {
  try {
    return await make();
  } catch (error) {
    const origin = definition && originOf(definition);
    throw blamed(`Cannot make the device ${name}`, error, { origin });
  }
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
