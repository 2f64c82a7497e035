/**
 * A register map of registers that were read from a file of hardware. What a map can't have is
 * changed or left out, and noted.
 *
 * @module
 */

import type { Width } from "../../client/info.ts";
import { hex } from "../../text/hex.ts";
import { plural } from "../../text/plural.ts";
import { REGION_NAMES } from "../check.ts";
import {
  bitsText,
  extentsOf,
  identifier,
  MAX_NAME,
  type Register,
  type RegisterField,
  type RegisterMap,
} from "../map.ts";
import type { Findings } from "./findings.ts";
import { type FlatRegister, flatten } from "./flatten.ts";
import type { HardwareField, HardwareMember } from "./hardware.ts";

/** Code units of a description: manuals say the rest. */
const MAX_DESCRIPTION = 500;

/** The place of registers in a device. */
export interface Placement {
  /** A region, as "bar0". */
  readonly region: string;
  /** Bytes from there to the first register of the peripheral. */
  readonly offset: number;
}

/** Makes the map. */
export function finishImport(
  members: readonly HardwareMember[],
  { name, title, place }: { name: string; title: string | undefined; place: Placement },
  findings: Findings,
): RegisterMap {
  const names = new Names(findings, "register", REGION_NAMES);
  const made = flatten(members, findings).flatMap((flat): Made[] => {
    const register = finishRegister(flat, place, findings);
    if (register === undefined) return [];
    return [{ flat, register: { ...register, name: names.take(flat.name, flat.register.at) } }];
  });
  noteOverlaps(made, findings);
  return {
    name,
    ...(title !== undefined && { title: shortened(title) }),
    registers: made.map(({ register }) => register),
  };
}

/** A register, and where it comes from. */
interface Made {
  readonly flat: FlatRegister;
  readonly register: Register;
}

/** The register of a map; undefined if it can't have it. */
function finishRegister(
  { name, offset, width, array, register: from }: FlatRegister,
  place: Placement,
  findings: Findings,
): Register | undefined {
  const { at, bits, description, access, readChanges } = from;
  const leaveOut = (reason: string) => findings.note(at, `${name} is left out: ${reason}`);
  const start = BigInt(place.offset) + offset;
  if (width === 0) return void leaveOut(`it has ${bits} bits, and a map has 64 at most`);
  if (start > BigInt(Number.MAX_SAFE_INTEGER)) return void leaveOut(`${hex(start)} is beyond 2^53`);
  if (start % BigInt(width) !== 0n) {
    return void leaveOut(`${hex(start)} is not a multiple of its width, ${plural(width, "byte")}`);
  }
  if (width * 8 !== bits) {
    findings.note(at, `${name} has ${bits} bits; in the map it has ${width * 8}`);
  }
  const reset = from.reset === undefined ? undefined : BigInt.asUintN(width * 8, from.reset);
  if (reset !== from.reset) {
    findings.note(
      at,
      `The reset value of ${name}, ${hex(from.reset!)}, is cut to ${width * 8} bits`,
    );
  }
  return {
    name,
    ...(description !== undefined && { description: shortened(description) }),
    region: place.region,
    offset: Number(start),
    width: width as Width,
    access,
    ...(readChanges && { readChanges }),
    ...(reset !== undefined && { reset }),
    fields: finishFields(from.fields, name, width, findings)
      .map((field) => ({ ...field, access: field.access ?? access }))
      .sort((a, b) => a.low - b.low),
    ...(array && { array }),
  };
}

/** Fields of a register, each with its own access if it has one. */
function finishFields(
  fields: readonly HardwareField[],
  of: string,
  width: number,
  findings: Findings,
): (Omit<RegisterField, "access"> & Pick<HardwareField, "access">)[] {
  const names = new Names(findings, `field of ${of}`, []);
  const owners: string[] = [];
  return fields.flatMap((field) => {
    const { name, description, low, access, at } = field;
    findings.count(at, 1 + field.values.length); // of each register that has the field
    const high = low + field.width - 1;
    const leaveOut = (reason: string) => {
      findings.note(at, `The field ${name} of ${of} is left out: ${reason}`);
      return [];
    };
    if (high >= width * 8) {
      return leaveOut(`bit ${high} is outside the register, which ends with bit ${width * 8 - 1}`);
    }
    const owner = owners.slice(low, high + 1).find((each) => each !== undefined);
    if (owner !== undefined) return leaveOut(`${bitsText({ high, low })} overlaps ${owner}`);
    for (let bit = low; bit <= high; bit++) owners[bit] = name;
    return [{
      name: names.take(name, at),
      ...(description !== undefined && { description: shortened(description) }),
      high,
      low,
      access,
      enum: finishValues(field, of, findings),
    }];
  });
}

/** The names of values. Of several names of a value the first counts. */
function finishValues(
  { name, width, values, at }: HardwareField,
  of: string,
  findings: Findings,
): Map<bigint, string> {
  const found = new Map<bigint, string>();
  const taken = new Set<string>();
  for (const [value, meaning] of values) {
    if (value >> BigInt(width) !== 0n) {
      const bits = plural(width, "bit");
      findings.note(at, `The value ${hex(value)} of ${of}.${name} is left out: it has ${bits}`);
    } else if (!found.has(value)) {
      const word = shortened(meaning);
      const isTaken = taken.has(word.toLowerCase());
      const own = isTaken ? `${word} (${value})` : word;
      found.set(value, own);
      taken.add(own.toLowerCase());
    }
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Names as a map can have them, each once. */
class Names {
  readonly #findings: Findings;
  readonly #what: string;
  readonly #taken: Set<string>;
  /** The last number that was put behind a name. */
  readonly #numbers = new Map<string, number>();

  /**
   * @param what has these names, for notes
   * @param reserved names that none may have
   */
  constructor(findings: Findings, what: string, reserved: readonly string[]) {
    this.#findings = findings;
    this.#what = what;
    this.#taken = new Set(reserved);
  }

  take(wanted: string, at: number): string {
    const word = identifier(wanted);
    const stem = word.slice(0, MAX_NAME - 7); // a map has less than a million registers
    let name = word;
    while (this.#taken.has(name.toLowerCase())) {
      const number = (this.#numbers.get(stem.toLowerCase()) ?? 1) + 1;
      this.#numbers.set(stem.toLowerCase(), number);
      name = `${stem}_${number}`;
    }
    this.#taken.add(name.toLowerCase());
    if (name !== wanted) this.#findings.note(at, `The ${this.#what} ${wanted} is called ${name}`);
    return name;
  }
}

function shortened(text: string): string {
  return text.length > MAX_DESCRIPTION ? `${text.slice(0, MAX_DESCRIPTION).trimEnd()}…` : text;
}

/** Notes each register that overlaps one ahead of it, unless that is what the file wants. */
function noteOverlaps(made: readonly Made[], findings: Findings): void {
  const extents = made.flatMap((each) =>
    extentsOf(each.register).map(({ start, end }) => ({ each, start, end }))
  ).sort((a, b) => a.start - b.start);
  const told = new Set<Made>();
  let last = extents[0];
  for (const extent of extents) {
    const [other, own] = [last!, extent];
    if (own.end > other.end) last = own;
    if (own === other || own.start >= other.end || told.has(own.each)) continue;
    if (own.each.flat.isAlternative || other.each.flat.isAlternative) continue;
    told.add(own.each);
    const { name } = other.each.register;
    findings.note(
      own.each.flat.register.at,
      `${own.each.register.name} overlaps ${name}, which is at ${hex(other.start)}; both are there`,
    );
  }
}
