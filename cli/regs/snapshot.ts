/**
 * The registers of maps, read at one moment.
 *
 * @module
 */

import type { Device } from "../../lib/client/device.ts";
import { RemoteError } from "../../lib/base/errors.ts";
import { lookupRegister } from "../../lib/registers/lookup.ts";
import { isChangedByRead, type Register, type RegisterMap } from "../../lib/registers/map.ts";
import { findTarget, type Target } from "../shared/target.ts";

/** Registers of an array that are shown. */
const MAX_ELEMENTS = 16;

/** A register of a map, and its place on the device. */
export interface Entry {
  /** As "nvme.CSTS", or "pci.BAR[2]" of an array. */
  readonly name: string;
  /** The register of the map. */
  readonly register: Register;
  /** Its place. */
  readonly target: Target;
}

/** A register that is not read, and the reason. */
export interface LeftOut {
  /** As of an {@linkcode Entry}. */
  readonly name: string;
  /** The reason in a few words. */
  readonly reason: string;
}

/** Registers that are read, and those that are not. */
export interface Selection {
  /** In the order of the maps. */
  readonly entries: readonly Entry[];
  /** In the same order. */
  readonly leftOut: readonly LeftOut[];
}

/** The outcome of a read: a value, or why there is none. */
export type Seen = { readonly value: bigint } | { readonly refusal: string };

/** Registers by name. */
export interface Chosen {
  readonly map: RegisterMap;
  readonly register: Register;
  readonly text: string;
  /** True for the elements of an array that are too many to be shown. */
  readonly isBeyond?: boolean;
}

/**
 * Chooses registers of maps.
 *
 * @throws {RangeError} if no map has a name
 */
export function chooseRegisters(
  maps: readonly RegisterMap[],
  names: readonly string[],
): Chosen[] {
  if (names.length > 0) {
    return names.flatMap((name) => {
      const isElement = name.includes("[");
      const array = isElement ? undefined : arrayOf(maps, name);
      if (array !== undefined) return elements(array.map, array.register);
      const { map, register, text } = lookupRegister(maps, name);
      const index = /\[.*\]/.exec(text)?.[0] ?? "";
      return [{ map, register, text: `${map.name}.${register.name}${index}` }];
    });
  }
  return maps.flatMap((map) => map.registers.flatMap((register) => elements(map, register)));
}

function arrayOf(
  maps: readonly RegisterMap[],
  name: string,
): { map: RegisterMap; register: Register } | undefined {
  const lower = name.toLowerCase();
  for (const map of maps) {
    const register = map.registers.find((each) =>
      each.array !== undefined &&
      [each.name, `${map.name}.${each.name}`].some((full) => full.toLowerCase() === lower)
    );
    if (register !== undefined) return { map, register };
  }
  return undefined;
}

function elements(map: RegisterMap, register: Register): Chosen[] {
  const text = `${map.name}.${register.name}`;
  if (register.array === undefined) return [{ map, register, text }];
  const { count } = register.array;
  const shown = Array.from(
    { length: Math.min(count, MAX_ELEMENTS) },
    (_, i): Chosen => ({ map, register, text: `${text}[${i}]` }),
  );
  if (count === shown.length) return shown;
  const last = count - 1;
  const range = last === MAX_ELEMENTS ? `${last}` : `${MAX_ELEMENTS}-${last}`;
  return [...shown, { map, register, text: `${text}[${range}]`, isBeyond: true }];
}

/** Finds the places of registers, and leaves out those that are not to be read. */
export async function select(
  device: Device,
  chosen: readonly Chosen[],
  { all = false }: { all?: boolean | undefined } = {},
): Promise<Selection> {
  await device.info(); // which has the names of regions
  const entries: Entry[] = [];
  const leftOut: LeftOut[] = [];
  for (const { map, register, text, isBeyond } of chosen) {
    const reason = reasonNotToRead(register, all);
    if (reason !== undefined) {
      // Of an array once.
      if (!/\[(?!0\])/.test(text)) {
        leftOut.push({ name: `${map.name}.${register.name}`, reason });
      }
      continue;
    }
    if (isBeyond) {
      leftOut.push({ name: text, reason: `after ${MAX_ELEMENTS} of an array` });
      continue;
    }
    try {
      const target = await findTarget(device, lookupRegister([map], text));
      if (target.region.size > 0) entries.push({ name: text, register, target });
      else leftOut.push({ name: text, reason: `${register.region} is not there` });
    } catch (error) {
      if (!isAbsence(error)) throw error;
      leftOut.push({ name: text, reason: `${register.region} is not there` });
    }
  }
  return { entries, leftOut };
}

function reasonNotToRead(register: Register, all: boolean): string | undefined {
  if (register.access === "wo") return "write-only";
  return !all && isChangedByRead(register) ? "a read changes it" : undefined;
}

/** Reports whether the device lacks the region or the capability, or refuses the question. */
function isAbsence(error: unknown): boolean {
  return error instanceof RemoteError || error instanceof RangeError || error instanceof TypeError;
}

/** Reads registers, one after another. A refusal takes the place of a value. */
export async function readAll(
  entries: readonly Entry[],
  signal: AbortSignal,
): Promise<Seen[]> {
  const seen: Seen[] = [];
  for (const { register, target } of entries) {
    signal.throwIfAborted();
    try {
      const { region, offset } = target;
      seen.push({ value: BigInt(await region.readWidthAsync(offset, register.width, { signal })) });
    } catch (error) {
      if (!isAbsence(error)) throw error;
      seen.push({ refusal: refusalText(error) });
    }
  }
  return seen;
}

function refusalText(error: unknown): string {
  if (error instanceof RemoteError) return error.code === "" ? "refused" : `refused: ${error.code}`;
  return error instanceof RangeError ? "outside the region" : "the region is not there";
}
