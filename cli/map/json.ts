/**
 * A register map as JSON.
 *
 * @module
 */

import { bitsText, type RegisterField, type RegisterMap } from "../../lib/registers/map.ts";
import { jsonInteger } from "../../lib/text/hex.ts";

/** A map. Integers above 2^53 - 1 are text, as "0x8000000000000000". Later versions add keys. */
export interface MapJson {
  /** The name of the map. */
  name: string;
  /** The device that it describes; null if the map does not say. */
  title: string | null;
  /** The registers, in the order of the file. */
  registers: MapRegisterJson[];
}

/** A register, or an array of them. */
export interface MapRegisterJson {
  /** As "CSTS". */
  name: string;
  /** In words; null if the map does not say. */
  description: string | null;
  /** As "bar0", or "CAP_MSIX". */
  region: string;
  /** Bytes from there. */
  offset: number;
  /** Bytes of it. */
  width: number;
  /** `ro`, `rw`, `wo`, `rc`, `w1c` or `w1s`. */
  access: string;
  /** True if a read changes the device. */
  read_changes: boolean;
  /** Its value after a reset; null if that is not fixed. */
  reset: number | string | null;
  /** The number of them; null if it is no array. */
  count: number | null;
  /** Bytes from one to the next; null if it is no array. */
  stride: number | null;
  /** Its fields, from the lowest. */
  fields: MapFieldJson[];
}

/** A field. */
export interface MapFieldJson {
  name: string;
  description: string | null;
  /** As "7:4", or "3". */
  bits: string;
  access: string;
  /** Values with names. */
  values: { value: number | string; name: string }[];
}

/** A map as an object. */
export function mapJson({ name, title, registers }: RegisterMap): MapJson {
  return {
    name,
    title: title ?? null,
    registers: registers.map((each) => ({
      name: each.name,
      description: each.description ?? null,
      region: each.region,
      offset: each.offset,
      width: each.width,
      access: each.access,
      read_changes: each.readChanges ?? false,
      reset: each.reset === undefined ? null : jsonInteger(each.reset),
      count: each.array?.count ?? null,
      stride: each.array?.stride ?? null,
      fields: each.fields.map(fieldJson),
    })),
  };
}

function fieldJson(field: RegisterField): MapFieldJson {
  return {
    name: field.name,
    description: field.description ?? null,
    bits: bitsText(field),
    access: field.access,
    values: [...field.enum].map(([value, name]) => ({ value: jsonInteger(value), name })),
  };
}

/** The number of fields of a map's registers. */
export function fieldCount({ registers }: RegisterMap): number {
  return registers.reduce((sum, { fields }) => sum + fields.length, 0);
}
