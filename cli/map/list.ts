/**
 * `vfu map list`: the maps that come with vfu, or the registers of one map.
 *
 * @module
 */

import { loadRegisterMap, SHIPPED_MAPS } from "../../lib/registers/load.ts";
import type { Register, RegisterMap } from "../../lib/registers/map.ts";
import { hex } from "../../lib/text/hex.ts";
import { WIDTH_LETTERS } from "../../lib/text/width.ts";
import type { Context } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { tableLines } from "../shared/table.ts";
import { mapJson } from "./json.ts";

/** Lists the maps that come with vfu. */
export async function listMaps({ out }: Context, isJson: boolean): Promise<void> {
  const maps = await Promise.all(SHIPPED_MAPS.map(loadRegisterMap));
  const all = maps.map(({ name, title = null, registers }) => {
    return { name, title, registers: registers.length };
  });
  if (isJson) return out.write(`${jsonText({ maps: all }, 2)}\n`);
  const rows = all.map(({ name, title, registers }) => [name, String(registers), title ?? ""]);
  const lines = tableLines([["MAP", "REGISTERS", "TITLE"], ...rows], {
    columns: out.columns,
    indent: 0,
    right: [1],
  });
  out.write(lines.map((line) => `${line}\n`).join(""));
}

/** Lists the registers of a map, with their places and fields. */
export function listRegisters({ out }: Context, map: RegisterMap, isJson: boolean): void {
  if (isJson) return out.write(`${jsonText(mapJson(map), 2)}\n`);
  const rows = map.registers.map((register) => [
    nameOf(register),
    `${register.region}+${hex(register.offset)}.${WIDTH_LETTERS[register.width]}`,
    register.fields.map(({ name }) => name).join(" "),
  ]);
  const lines = tableLines([["REGISTER", "PLACE", "FIELDS"], ...rows], {
    columns: out.columns,
    indent: 0,
  });
  out.write(lines.map((line) => `${printable(line)}\n`).join(""));
}

/** Lists the names of registers and fields as places take them, a line each: for shells. */
export function listNames({ out }: Context, { registers }: RegisterMap): void {
  const names = registers.flatMap((register) => {
    const name = register.array === undefined ? register.name : `${register.name}[0]`;
    return [name, ...register.fields.map((field) => `${name}.${field.name}`)];
  });
  out.write(names.map((name) => `${printable(name)}\n`).join(""));
}

function nameOf({ name, array }: Register): string {
  return array === undefined ? name : `${name}[0-${array.count - 1}]`;
}
