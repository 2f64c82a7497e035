/**
 * Maps of registers as YAML, in the form that {@linkcode parseRegisterMap} reads.
 *
 * @module
 */

import { hex } from "../text/hex.ts";
import { bitsText, extentsOf, type Register, type RegisterField, type RegisterMap } from "./map.ts";

/**
 * Writes a map as the text of a file. Registers that overlap say so, as a file has to.
 *
 * @param remark a line for the top of the file
 *
 * @example
 * ```ts
 * import { loadRegisterMap, parseRegisterMap, registerMapText } from "./mod.ts";
 *
 * const nvme = await loadRegisterMap("nvme");
 * const { map } = await parseRegisterMap(registerMapText(nvme), "nvme.yaml");
 * if (map?.registers.length !== nvme.registers.length) throw new Error();
 * ```
 */
export function registerMapText(map: RegisterMap, remark?: string): string {
  const region = map.registers[0]?.region ?? "bar0";
  const overlaps = overlapsOf(map.registers);
  const lines = [
    ...(remark === undefined ? [] : [`# ${escaped(remark)}`]),
    `name: ${text(map.name)}`,
    ...(map.title === undefined ? [] : [`title: ${text(map.title)}`]),
    `region: ${text(region)}`,
    "",
    ...(map.registers.length === 0 ? ["registers: []"] : ["registers:"]),
    ...map.registers.flatMap((each) => registerLines(each, region, overlaps.get(each))),
  ];
  return `${lines.join("\n")}\n`;
}

function registerLines(
  register: Register,
  region: string,
  overlaps: string | undefined,
): string[] {
  const { name, description, offset, width, access, readChanges, reset, fields, array } = register;
  const entries = entriesOf({
    name: text(name),
    description: description === undefined ? undefined : text(description),
    region: register.region === region ? undefined : text(register.region),
    offset: hex(offset),
    width: String(width),
    access: access === "rw" ? undefined : access,
    read_changes: readChanges ? "true" : undefined,
    reset: reset === undefined ? undefined : hex(reset),
    count: array && String(array.count),
    stride: array && array.stride !== width ? hex(array.stride) : undefined,
    overlaps: overlaps && text(overlaps),
  });
  if (fields.length === 0) return item(2, entries);
  return [
    ...item(2, entries, true),
    "    fields:",
    ...fields.flatMap((field) => fieldLines(field, access)),
  ];
}

function fieldLines(field: RegisterField, inherited: string): string[] {
  const { name, description, access } = field;
  const values = [...field.enum].map(([value, meaning]) => `${value}: ${text(meaning)}`);
  const bits = bitsText(field);
  const entries = entriesOf({
    name: text(name),
    bits: bits.includes(":") ? `"${bits}"` : bits,
    description: description === undefined ? undefined : text(description),
    access: access === inherited ? undefined : access,
  });
  const inOneLine = values.length === 0 ? entries : [...entries, `enum: { ${values.join(", ")} }`];
  const lines = item(6, inOneLine);
  if (lines.length === 1 || values.length === 0) return lines;
  const indent = " ".repeat(10);
  return [...item(6, entries, true), "        enum:", ...values.map((each) => indent + each)];
}

/** An item of a list: in one line if that is short, else a line for each of its entries. */
function item(indent: number, entries: readonly string[], isLong = false): string[] {
  const line = `${" ".repeat(indent)}- { ${entries.join(", ")} }`;
  if (!isLong && line.length <= MAX_COLUMNS) return [line];
  return entries.map((entry, i) => `${" ".repeat(indent)}${i === 0 ? "- " : "  "}${entry}`);
}

function entriesOf(values: Readonly<Record<string, string | undefined>>): string[] {
  return Object.entries(values).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}: ${value}`]
  );
}

/** Columns of a line that has several entries. */
const MAX_COLUMNS = 100;

/** Text that means nothing else in YAML. */
const PLAIN = /^[A-Za-z_][\w./()-]*(?: [\w./()-]+)*$/;
/** Words that readers of other versions of YAML take for a boolean or for nothing. */
const WORDS = /^(?:true|false|null|yes|no|on|off|y|n)$/i;

function text(value: string): string {
  return PLAIN.test(value) && !WORDS.test(value) ? value : escaped(JSON.stringify(value));
}

/** Characters that a terminal would obey, and that a file is not to hold. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

function escaped(line: string): string {
  return line.replace(UNPRINTABLE, (each) => {
    const code = each.codePointAt(0)!;
    const digits = code.toString(16);
    return code > 0xffff ? `\\U${digits.padStart(8, "0")}` : `\\u${digits.padStart(4, "0")}`;
  });
}

/**
 * Finds the name that each register has to give as what it overlaps. Of registers that overlap,
 * directly or over others, that is the first in the map: those that name it may overlap each other.
 */
function overlapsOf(registers: readonly Register[]): Map<Register, string> {
  const groups = new Map(registers.map((each) => [each, [each]]));
  const join = (a: Register, b: Register) => {
    const [into, from] = [groups.get(a)!, groups.get(b)!];
    if (into === from) return;
    const [larger, smaller] = into.length < from.length ? [from, into] : [into, from];
    for (const each of smaller) {
      larger.push(each);
      groups.set(each, larger);
    }
  };
  for (const members of Map.groupBy(registers, ({ region }) => region.toLowerCase()).values()) {
    const extents = members.flatMap(extentsOf).sort((a, b) => a.start - b.start);
    let last = extents[0];
    for (const extent of extents) {
      if (last !== extent && extent.start < last!.end) join(last!.register, extent.register);
      if (extent.end > last!.end) last = extent;
    }
  }
  const order = new Map(registers.map((each, i) => [each, i]));
  const found = new Map<Register, string>();
  for (const group of new Set(groups.values())) {
    if (group.length === 1) continue;
    const [first, ...rest] = group.sort((a, b) => order.get(a)! - order.get(b)!);
    for (const each of rest) found.set(each, first!.name);
  }
  return found;
}
