/**
 * Reads the declarations of a session: maps of registers, variables, buffers.
 * They are in its file and in the files that the session includes.
 *
 * @module
 */

import { readMap } from "../../registers/parse.ts";
import type { RegisterMap } from "../../registers/map.ts";
import { hex } from "../../text/hex.ts";
import { partOf, type Path } from "../../yaml/document.ts";
import { parseBuffer } from "./buffer.ts";
import { constantIn, type Definitions, NAME } from "./definitions.ts";
import { number } from "../expression.ts";
import type { SessionFile } from "./files.ts";
import type { BufferDeclaration, Expression } from "../model.ts";
import { takenBy } from "./place.ts";
import { Parts, type Reading } from "./reading.ts";
import { checkArguments } from "./step_form.ts";
import { parseNumber } from "./value.ts";
import { BUFFER_ARGUMENTS } from "./arguments.ts";

/** The variables and buffers that a session declares. */
export interface Declarations {
  /** Variables and their first values, in the order in which they are to be calculated. */
  readonly variables: { readonly name: string; readonly value: Expression }[];
  /** Buffers, in the order in which they are to be mapped. */
  readonly buffers: BufferDeclaration[];
}

/**
 * The maps of a file and of those that it includes. Two of the same name are a mistake.
 *
 * @returns `isPartial` is true if something could not be read
 */
export function collectMaps(file: SessionFile): { maps: RegisterMap[]; isPartial: boolean } {
  const maps: RegisterMap[] = [];
  let isPartial = false;
  const add = (map: RegisterMap, from: SessionFile, path: Path) => {
    if (maps.includes(map)) return;
    const isTaken = maps.some(({ name }) => name.toLowerCase() === map.name.toLowerCase());
    if (isTaken) from.report(path, `There is a map ${map.name} already`);
    else maps.push(map);
  };
  for (const each of withIncluded(file)) {
    for (const included of each.includes) {
      if (included.kind === "map") add(included.map, each, included.path);
      isPartial ||= included.kind === "unreadable";
    }
    const { registers } = each.raw;
    if (registers === undefined) continue;
    const all: [unknown, Path][] = Array.isArray(registers)
      ? registers.map((map, i) => [map, ["registers", i]])
      : [[registers, ["registers"]]];
    for (const [value, path] of all) {
      if (typeof value !== "object" || value === null) continue; // was complained of
      const map = readMap(partOf(each.document, value, path), each.reportAt);
      if (map !== undefined) add(map, each, path);
      isPartial ||= map === undefined;
    }
  }
  return { maps, isPartial };
}

/** A file and those that it includes, each once and after those that it includes itself. */
function withIncluded(file: SessionFile): SessionFile[] {
  const all = new Set<SessionFile>();
  const visit = (each: SessionFile) => {
    if (all.has(each)) return;
    for (const included of each.includes) {
      if (included.kind === "definitions") visit(included.file);
    }
    all.add(each);
  };
  visit(file);
  return [...all];
}

/** Who declares. */
export interface Declarer {
  /** Variables that steps, or calls, give other values. */
  readonly changed: ReadonlySet<string>;
  /** Values in place of those of the file. */
  readonly set: Readonly<Record<string, bigint>>;
  /** The reading with which the parts of a file are read. */
  readingOf(file: SessionFile): Reading;
}

/**
 * Reads the variables and buffers of a file and of those that it includes.
 * Adds them to the definitions too. Mistakes are noted.
 */
export function collectDeclarations(file: SessionFile, declarer: Declarer): Declarations {
  const declarations: Declarations = { variables: [], buffers: [] };
  const places = new Map<string, string>();
  const files = withIncluded(file);
  for (const each of files) parseVariables(each, declarer, places, declarations);
  for (const each of files) parseBuffers(each, declarer, places, declarations);
  return declarations;
}

/** The entries of a mapping at `key` whose names are free; others are noted. */
function freeNames(
  file: SessionFile,
  key: "variables" | "buffers",
  places: Map<string, string>,
): [name: string, raw: unknown][] {
  const raw = file.raw[key];
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) return [];
  return Object.entries(raw).filter(([name]) => {
    const path = [key, name];
    const { line, column } = file.document.keyAt(path);
    const place = places.get(name);
    if (!NAME.test(name)) {
      file.reportKey(path, `"${name}" is no name`, "write letters, digits and _, no digit first");
      return false;
    }
    if (place !== undefined) {
      file.reportKey(path, `"${name}" is defined already, in ${place}`);
      return false;
    }
    places.set(name, `${file.name}:${line}:${column}`);
    return true;
  });
}

function parseVariables(
  file: SessionFile,
  { changed, set, readingOf }: Declarer,
  places: Map<string, string>,
  { variables }: Declarations,
): void {
  const reading = readingOf(file);
  const { definitions } = reading;
  const parts = new Parts({}, [], reading);
  for (const [name, raw] of freeNames(file, "variables", places)) {
    const given = Object.hasOwn(set, name) ? number(set[name]!) : undefined;
    const isForm = typeof raw === "string" || typeof raw === "bigint"; // else it was complained of
    const value = given ??
      (isForm
        ? parts.attempt(["variables", name], () => parseNumber(raw, definitions))
        : undefined);
    const constant = value === undefined || changed.has(name)
      ? undefined
      : constantIn(value, definitions);
    definitions.variables.set(name, {
      registers: [],
      ...(constant !== undefined && { constant }),
    });
    if (value !== undefined) variables.push({ name, value });
  }
}

function parseBuffers(
  file: SessionFile,
  { readingOf }: Declarer,
  places: Map<string, string>,
  { buffers }: Declarations,
): void {
  const reading = readingOf(file);
  const { definitions } = reading;
  for (const [name, raw] of freeNames(file, "buffers", places)) {
    const path = ["buffers", name];
    const taken = takenBy(name, definitions);
    if (taken !== undefined) {
      file.reportKey(path, `"${name}" is the name of ${taken}`, "give the buffer another");
      continue;
    }
    if (typeof raw !== "object" || raw === null) continue; // was complained of
    const parts = new Parts(raw as Record<string, unknown>, path, reading);
    checkArguments(parts, "a buffer", BUFFER_ARGUMENTS);
    const buffer = parts.isGood ? parseBuffer(name, parts) : undefined;
    // A buffer with a mistake is known all the same, so that steps do not complain of it.
    definitions.buffers.set(name, buffer ?? unknownBuffer(name, reading, path));
    if (buffer === undefined) continue;
    checkOverlap(buffer, buffers, definitions, parts);
    buffers.push(buffer);
  }
}

/** Stands in for a buffer whose declaration can't be read: nothing of it is known. */
function unknownBuffer(name: string, { source }: Reading, path: Path): BufferDeclaration {
  const unknown: Expression = { kind: "name", name: "" };
  return { source: source(path), name, iova: unknown, size: unknown, access: "rw", share: "memfd" };
}

function checkOverlap(
  buffer: BufferDeclaration,
  others: readonly BufferDeclaration[],
  definitions: Definitions,
  parts: Parts,
): void {
  const [start, end] = extent(buffer, definitions);
  if (start === undefined || end === undefined) return;
  for (const other of others) {
    const [otherStart, otherEnd] = extent(other, definitions);
    if (otherStart === undefined || otherEnd === undefined) continue;
    if (start >= otherEnd || otherStart >= end) continue;
    const range = `${hex(otherStart)} to ${hex(otherEnd - 1n)}`;
    parts.fail(["iova"], `${buffer.name} overlaps ${other.name}, which is at ${range}`);
    return;
  }
}

function extent(
  { iova, size }: BufferDeclaration,
  definitions: Definitions,
): [start: bigint | undefined, end: bigint | undefined] {
  const [start, length] = [iova, size].map((each) => constantIn(each, definitions));
  return [start, start === undefined || length === undefined ? undefined : start + length];
}
