/**
 * Registers for a person.
 *
 * @module
 */

import { fieldText } from "../../lib/registers/decode.ts";
import { bitsText, fieldMask, type Register } from "../../lib/registers/map.ts";
import { hex } from "../../lib/text/hex.ts";
import { placeText } from "../../lib/wire/region.ts";
import type { Output } from "../shared/context.ts";
import { printable } from "../shared/printable.ts";
import { type Cell, tableLines, wrapWords } from "../shared/table.ts";
import { formatValue } from "../shared/value.ts";
import type { Entry, LeftOut, Seen } from "./snapshot.ts";

/** The screen that they are shown on. */
export type Screen = Pick<Output, "columns" | "style">;

/** Mark of what changed. */
const MARK = "*";

/** The value of a register as text, or why there is none. */
export function seenText({ register }: Pick<Entry, "register">, seen: Seen): string {
  return "value" in seen ? formatValue(seen.value, register.width) : printable(seen.refusal);
}

/**
 * A register with its fields, a line each: name, bits, value, meaning and description.
 *
 * @param before the value that it had; what differs is marked
 */
export function registerText(
  entry: Entry,
  seen: Seen,
  { columns, style }: Screen,
  before?: Seen,
): string[] {
  const { name, register, target } = entry;
  const isChanged = before !== undefined && seenText(entry, seen) !== seenText(entry, before);
  const place = placeText(target.region.name, target.offset);
  const heading = [isChanged ? `${name}${MARK}` : name, place, seenText(entry, seen)].join("  ");
  const painted = isChanged ? style.yellow(heading) : style.bold(heading);
  const description = printable(register.description ?? "");
  const isShort = heading.length + 2 + description.length <= columns;
  const lines = [description !== "" && isShort ? `${painted}  ${description}` : painted];
  if (!isShort) {
    lines.push(...wrapWords(description, columns - 2).map((line) => `  ${line}`));
  }
  if (!("value" in seen)) return lines;
  const { value } = seen;
  const old = before !== undefined && "value" in before ? before.value : undefined;
  const rows = fieldRows(register, value, old, style.yellow);
  return rows.length === 0 ? lines : [...lines, ...tableLines(rows, { columns, indent: 2 })];
}

function fieldRows(
  register: Register,
  value: bigint,
  old: bigint | undefined,
  paint: (text: string) => string,
): Cell[][] {
  const rows = register.fields.map((field): Cell[] => {
    const isChanged = old !== undefined && ((old ^ value) & fieldMask(field)) !== 0n;
    const name = isChanged ? { text: `${field.name}${MARK}`, paint } : field.name;
    const text = printable(fieldText(field, value));
    return [
      name,
      bitsText(field),
      isChanged ? { text, paint } : text,
      printable(field.description ?? ""),
    ];
  });
  const known = register.fields.reduce((mask, field) => mask | fieldMask(field), 0n);
  const rest = value & ~known;
  if (register.fields.length > 0 && rest !== 0n) rows.push(["reserved", "", hex(rest), ""]);
  return rows;
}

/** The registers that were not read, with the reasons. */
export function leftOutText(leftOut: readonly LeftOut[], { columns, style }: Screen): string[] {
  const reasons = new Map<string, string[]>();
  for (const { name, reason } of leftOut) {
    reasons.set(reason, [...reasons.get(reason) ?? [], name]);
  }
  const rows = [...reasons].map(([reason, names]): Cell[] => [
    { text: `Not read (${reason}):`, paint: style.dim },
    names.join(" "),
  ]);
  return rows.length === 0 ? [] : tableLines(rows, { columns, indent: 0 });
}

/** A change of a register in a line: "nvme.CSTS  0x00000000 -> 0x00000001  RDY 0 -> 1". */
export function changeText(entry: Entry, before: Seen, after: Seen, { style }: Screen): string {
  const values = `${seenText(entry, before)} -> ${seenText(entry, after)}`;
  const fields = "value" in before && "value" in after
    ? changedFields(entry.register, before.value, after.value)
    : [];
  return [style.yellow(entry.name), values, ...fields.map(printable)].join("  ");
}

function changedFields({ fields }: Register, before: bigint, after: bigint): string[] {
  return fields.filter((field) => ((before ^ after) & fieldMask(field)) !== 0n)
    .map((field) => `${field.name} ${fieldText(field, before)} -> ${fieldText(field, after)}`);
}
