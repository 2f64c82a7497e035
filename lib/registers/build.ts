/**
 * From the values of a file to a map of registers.
 *
 * @module
 */

import type { Width } from "../client/info.ts";
import type { Path } from "../yaml/document.ts";
import { readInteger } from "../text/integer.ts";
import {
  readBits,
  type Register,
  type RegisterAccess,
  type RegisterField,
  type RegisterMap,
} from "./map.ts";

/**
 * A field as it is written. What is missing, or of another kind than it should be, is undefined.
 */
export interface FieldDraft {
  readonly path: Path;
  readonly name: string | undefined;
  readonly description: string | undefined;
  readonly bits: { readonly high: number; readonly low: number } | undefined;
  readonly access: string | undefined;
  /** Values and their names; the text of the value is also its key. */
  readonly enum: readonly (readonly [text: string, value: bigint | undefined, name: string])[];
}

/** A register as it is written. */
export interface RegisterDraft {
  readonly path: Path;
  readonly name: string | undefined;
  readonly description: string | undefined;
  readonly region: string;
  /** Its own, not that of the map. */
  readonly hasRegion: boolean;
  readonly offset: bigint | undefined;
  readonly width: bigint | undefined;
  readonly access: string | undefined;
  readonly readChanges: boolean;
  readonly reset: bigint | undefined;
  readonly count: bigint | undefined;
  readonly stride: bigint | undefined;
  readonly overlaps: string | undefined;
  readonly fields: readonly FieldDraft[];
}

/** A map as it is written. */
export interface MapDraft {
  readonly name: string | undefined;
  readonly title: string | undefined;
  readonly region: string | undefined;
  readonly registers: readonly RegisterDraft[];
}

/** The place of registers that do not name one. */
const DEFAULT_REGION = "bar0";

/** Takes from the value of a file what is a map of registers. */
export function draftMap(value: unknown): MapDraft {
  const { name, title, region, registers } = mapping(value);
  const inherited = string(region) ?? DEFAULT_REGION;
  return {
    name: string(name),
    title: string(title),
    region: string(region),
    registers: list(registers).map((each, i) => draftRegister(each, ["registers", i], inherited)),
  };
}

function draftRegister(value: unknown, path: Path, inherited: string): RegisterDraft {
  const raw = mapping(value);
  return {
    path,
    name: string(raw.name),
    description: string(raw.description),
    region: string(raw.region) ?? inherited,
    hasRegion: string(raw.region) !== undefined,
    offset: readInteger(raw.offset),
    width: readInteger(raw.width),
    access: string(raw.access),
    readChanges: raw.read_changes === true,
    reset: readInteger(raw.reset),
    count: readInteger(raw.count),
    stride: readInteger(raw.stride),
    overlaps: string(raw.overlaps),
    fields: list(raw.fields).map((each, i) => draftField(each, [...path, "fields", i])),
  };
}

function draftField(value: unknown, path: Path): FieldDraft {
  const raw = mapping(value);
  return {
    path,
    name: string(raw.name),
    description: string(raw.description),
    bits: raw.bits === undefined ? undefined : readBits(raw.bits),
    access: string(raw.access),
    enum: Object.entries(mapping(raw.enum)).flatMap(([text, name]) =>
      typeof name === "string" ? [[text, readInteger(text), name] as const] : []
    ),
  };
}

/** Makes the map of a draft in which nothing is wrong. */
export function finishMap({ name, title, registers }: MapDraft): RegisterMap {
  return {
    name: name!,
    ...(title !== undefined && { title }),
    registers: registers.map(finishRegister),
  };
}

function finishRegister(draft: RegisterDraft): Register {
  const { name, description, region, offset, width, reset, count, stride, fields } = draft;
  const access = (draft.access ?? "rw") as RegisterAccess;
  return {
    name: name!,
    ...(description !== undefined && { description }),
    region,
    offset: Number(offset),
    width: Number(width) as Width,
    access,
    ...(draft.readChanges && { readChanges: true as const }),
    ...(reset !== undefined && { reset }),
    fields: fields.map((field) => finishField(field, access)).sort((a, b) => a.low - b.low),
    ...(count !== undefined && {
      array: { count: Number(count), stride: Number(stride ?? width) },
    }),
  };
}

function finishField(draft: FieldDraft, access: RegisterAccess): RegisterField {
  const { name, description, bits } = draft;
  return {
    name: name!,
    ...(description !== undefined && { description }),
    high: bits!.high,
    low: bits!.low,
    access: (draft.access ?? access) as RegisterAccess,
    enum: new Map(draft.enum.map(([, value, meaning]) => [value!, meaning])),
  };
}

function mapping(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Record<string, unknown>
    : {};
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function string(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
