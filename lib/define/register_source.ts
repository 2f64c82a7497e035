/**
 * Register maps as a device's author writes them into TypeScript: the form of the YAML files, with types that know the names.
 *
 * @module
 */

import type { Width } from "../region.ts";
import { draftMap, finishMap, type MapDraft } from "../registers/build.ts";
import { checkMap } from "../registers/check.ts";
import type { RegisterAccess, RegisterMap } from "../registers/map.ts";
import type { Path } from "../yaml/document.ts";
import type { Position } from "../yaml/problem.ts";

/** A field, as in a YAML file. */
export interface InlineField {
  /** The specification's abbreviation, as "EN". */
  readonly name: string;
  /** Its bits: `3`, or `"7:4"` from the highest to the lowest. */
  readonly bits: number | `${number}` | `${number}:${number}`;
  /** What it is in words. */
  readonly description?: string;
  /** What a client can do with it; default as the register. */
  readonly access?: RegisterAccess;
  /** What its values mean. */
  readonly enum?: Readonly<Record<string, string>>;
}

/** A register, as in a YAML file. */
export interface InlineRegister {
  /** The specification's abbreviation, as "CSTS". */
  readonly name: string;
  /** Bytes from the start of the region; a multiple of the width. */
  readonly offset: number;
  /** Its bytes. */
  readonly width: Width;
  /** What it is in words. */
  readonly description?: string;
  /** What a client can do with it; default `rw`. */
  readonly access?: RegisterAccess;
  /** Its value after a reset; default 0. */
  readonly reset?: number | bigint;
  /** How many there are, if it is an array. */
  readonly count?: number;
  /** Bytes from one to the next; default the width. */
  readonly stride?: number;
  /** The register that it overlaps on purpose. */
  readonly overlaps?: string;
  /** The meaning of its bits. */
  readonly fields?: readonly InlineField[];
}

/** A register map, as in a YAML file. */
export interface InlineRegisterMap {
  /** What its registers are called by. Default "registers". */
  readonly name?: string;
  /** What it is a map of. */
  readonly title?: string;
  /** The registers. */
  readonly registers: readonly InlineRegister[];
}

/** A register map: from a file by `loadRegisterMap`, or written into TypeScript. */
export type RegisterSource = RegisterMap | InlineRegisterMap;

/**
 * The map that is meant.
 *
 * @throws {RangeError} with all that is wrong with it
 */
export function resolveRegisterMap(source: RegisterSource): RegisterMap {
  if (isLoaded(source)) return source;
  const name = source.name ?? "registers";
  const draft = draftMap(withBigInts({ ...source, name }));
  const mistakes = mistakesOf(draft);
  if (mistakes.length === 0) return finishMap(draft);
  throw new RangeError(`Cannot use the register map ${name}: ${mistakes.join("; ")}`);
}

/** What comes from a file has its fields' bits as two numbers, and a list of fields always. */
function isLoaded(source: RegisterSource): source is RegisterMap {
  return source.registers.every((each) =>
    "region" in each && each.fields !== undefined &&
    each.fields.every((field) => "high" in field)
  );
}

function mistakesOf(draft: MapDraft): string[] {
  const mistakes: string[] = [];
  const nameOf = (path: Path) => {
    const register = draft.registers[Number(path[1])];
    return register?.name ?? `register ${String(path[1])}`;
  };
  for (const { path, name, offset, width } of draft.registers) {
    if (name === undefined) mistakes.push(`${nameOf(path)} has no name`);
    if (offset === undefined) mistakes.push(`The offset of ${nameOf(path)} is no whole number`);
    if (width === undefined) mistakes.push(`The width of ${nameOf(path)} is no whole number`);
  }
  for (const { path, fields } of draft.registers) {
    for (const { name, bits } of fields) {
      if (bits === undefined) mistakes.push(`The bits of ${nameOf(path)}.${name} can't be read`);
    }
  }
  // There are no lines and columns to tell: the position is the path, and the sentence names the register.
  const positions = new Map<Position, Path>();
  const at = (path: Path): Position => {
    const position = { line: 0, column: 0 };
    positions.set(position, path);
    return position;
  };
  checkMap(draft, { at, keyAt: at }, (position, message, hint) => {
    const about = `${nameOf(positions.get(position)!)}: ${message}`;
    mistakes.push(hint === undefined ? about : `${about}, ${hint}`);
  });
  return mistakes;
}

/** The same value with bigint for each whole number, as files of YAML have them. */
function withBigInts(value: unknown): unknown {
  if (Number.isSafeInteger(value)) return BigInt(value as number);
  if (Array.isArray(value)) return value.map(withBigInts);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, withBigInts(each)]));
}
