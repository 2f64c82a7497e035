/**
 * Registers as JSON, and back.
 *
 * @module
 */

import { decodeRegister } from "../../lib/registers/decode.ts";
import { jsonInteger } from "../../lib/text/hex.ts";
import { readInteger } from "../../lib/text/integer.ts";
import { jsonText } from "../shared/json.ts";
import type { Entry, LeftOut, Seen } from "./snapshot.ts";

/** The object that `vfu regs --json` writes. Later versions add keys. */
export interface RegistersJson {
  /** The path of the server's socket. */
  socket: string;
  /** The registers that were read, in the order of the maps. */
  registers: RegisterJson[];
  /** The registers that were not. */
  left_out: { name: string; reason: string }[];
}

/** A register. Integers above 2^53 - 1 are text, as "0x8000000000000000". */
export interface RegisterJson {
  /** As "nvme.CSTS", or "pci.BAR[2]". */
  name: string;
  /** "bar0", "config", "region 9". */
  region: string;
  /** Bytes from the region's start. */
  offset: number;
  /** Bytes of it. */
  width: number;
  /** Its value; not there if the device refused it. */
  value?: number | string;
  /** Its fields, from the lowest. */
  fields?: { name: string; bits: string; value: number | string; meaning?: string }[];
  /** The reason why there is no value. */
  error?: string;
}

/** A register as an object. */
export function registerJson({ name, register, target }: Entry, seen: Seen): RegisterJson {
  const { region, offset } = target;
  const place = { name, region: region.name, offset, width: register.width };
  if (!("value" in seen)) return { ...place, error: seen.refusal };
  const { value } = seen;
  const fields = decodeRegister(register, value)
    .map((field) => ({ ...field, value: jsonInteger(field.value) }));
  return { ...place, value: jsonInteger(value), ...(fields.length > 0 && { fields }) };
}

/** All registers as text of JSON. */
export function registersJson(
  socket: string,
  entries: readonly Entry[],
  seen: readonly Seen[],
  leftOut: readonly LeftOut[],
): string {
  const json: RegistersJson = {
    socket,
    registers: entries.map((entry, i) => registerJson(entry, seen[i]!)),
    left_out: [...leftOut],
  };
  return `${jsonText(json, 2)}\n`;
}

/** The saved values of registers, by name. */
export type Saved = ReadonlyMap<string, Seen>;

/**
 * Reads what `vfu regs --json` wrote.
 *
 * @throws {SyntaxError} if it is something else
 */
export function readSaved(text: string): Saved {
  const json: unknown = JSON.parse(text);
  const registers = (json as Partial<RegistersJson> | null)?.registers;
  if (!Array.isArray(registers)) throw new SyntaxError('it has no list "registers"');
  return new Map(registers.map((register: Partial<RegisterJson> | null): [string, Seen] => {
    const { name, value, error } = register ?? {};
    if (typeof name !== "string") throw new SyntaxError("a register in it has no name");
    if (value === undefined) return [name, { refusal: String(error) }];
    const number = typeof value === "number" ? String(value) : value;
    const integer = typeof number === "string" ? readInteger(number) : undefined;
    if (integer === undefined) throw new SyntaxError(`the value of ${name} in it is no number`);
    return [name, { value: integer }];
  }));
}
