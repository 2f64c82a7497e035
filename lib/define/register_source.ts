/**
 * Register maps as a device's author writes them into TypeScript: the form of the YAML files, with
 * types that know the names.
 *
 * @module
 */

import type { Width } from "../client/info.ts";
import { draftMap, finishMap, type MapDraft } from "../registers/build.ts";
import { checkMap, REGION_NAMES } from "../registers/check.ts";
import {
  readBits,
  REGISTER_ACCESS,
  type RegisterAccess,
  type RegisterMap,
} from "../registers/map.ts";
import type { Path } from "../yaml/document.ts";
import type { Position } from "../yaml/problem.ts";
import {
  BOOLEAN,
  DefinitionError,
  type Form,
  type Forms,
  isObject,
  LIST,
  Mistakes,
  needed,
  oneOf,
  shown,
  TEXT,
} from "./mistakes.ts";

/** A field, as in a YAML file. */
export interface InlineField {
  /** The specification's abbreviation, as "EN". */
  readonly name: string;
  /** Its bits: `3`, or `"7:4"` from the highest to the lowest. */
  readonly bits: number | `${number}` | `${number}:${number}`;
  /** The field in words. */
  readonly description?: string;
  /** Access that a client has to the field; default as the register. */
  readonly access?: RegisterAccess;
  /** Meanings of the field's values. */
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
  /** The register in words. */
  readonly description?: string;
  /** Access that a client has to the register; default `rw`. */
  readonly access?: RegisterAccess;
  /** A read changes the device: `vfu regs` leaves the register out. Default false. */
  readonly read_changes?: boolean;
  /** Its value after a reset; default 0. */
  readonly reset?: number | bigint;
  /** The number of them, if it is an array. */
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
  /** Name of the map in messages. Default "registers". */
  readonly name?: string;
  /** Title of the map. */
  readonly title?: string;
  /** The registers. */
  readonly registers: readonly InlineRegister[];
}

/** A register map: from a file by `loadRegisterMap`, or written into TypeScript. */
export type RegisterSource = RegisterMap | InlineRegisterMap;

const NAME: Form = {
  accepts: (value) => typeof value === "string" && /^[A-Za-z_]\w{0,63}$/.test(value),
  what: "a name of letters, digits and _",
};
const FIELD_NAME: Form = {
  // "66MHZ" is one of PCI.
  accepts: (value) => typeof value === "string" && /^(?!\d+$)\w{1,64}$/.test(value),
  what: "a name of letters, digits and _",
};
const WHOLE: Form = {
  accepts: (value) =>
    typeof value === "bigint" ? value >= 0n : Number.isSafeInteger(value) && value as number >= 0,
  what: "a whole number from 0 on",
};
const WIDTH: Form = {
  accepts: (value) => [1, 2, 4, 8].includes(value as number),
  what: "a width of 1, 2, 4 or 8 bytes",
};
const BITS: Form = {
  accepts: (value) => readBits(value) !== undefined,
  what: 'the bits of a field, as "7:4" from the highest to the lowest, or 3',
};
const ACCESS = oneOf(...REGISTER_ACCESS);
const REGION = oneOf(...REGION_NAMES);

const MAP: Forms<InlineRegisterMap & { region?: string }> = {
  name: NAME,
  title: TEXT,
  region: REGION,
  registers: needed(LIST),
};
const REGISTER: Forms<InlineRegister & { region?: string }> = {
  name: needed(NAME),
  offset: needed(WHOLE),
  width: needed(WIDTH),
  description: TEXT,
  region: REGION,
  access: ACCESS,
  read_changes: BOOLEAN,
  reset: WHOLE,
  count: WHOLE,
  stride: WHOLE,
  overlaps: TEXT,
  fields: LIST,
};
const FIELD: Forms<InlineField> = {
  name: needed(FIELD_NAME),
  bits: needed(BITS),
  description: TEXT,
  access: ACCESS,
  enum: {
    accepts: (value) =>
      isObject(value) && Object.values(value).every((each) => typeof each === "string"),
    what: "an object of values to names",
  },
};

/**
 * The map that is meant.
 *
 * @throws {DefinitionError} with all that is wrong with it
 */
export function resolveRegisterMap(source: RegisterSource): RegisterMap {
  if (isLoaded(source)) return source;
  const name = isObject(source) && typeof source.name === "string" ? source.name : "registers";
  const doing = `Cannot use the register map ${name}`;
  if (!isObject(source)) {
    throw new DefinitionError(doing, [`${shown(source)}, not { registers: [...] }`]);
  }
  const mistakes = new Mistakes();
  checkForm(name, source, mistakes);
  const draft = draftMap(withBigInts({ ...source, name }));
  checkMeaning(name, draft, mistakes);
  mistakes.throwAny(doing);
  return finishMap(draft);
}

/**
 * Tells a map of a file from one that is written into TypeScript.
 *
 * @returns true for that of a file: the bits of its fields are two numbers, and each register has a
 *   list of fields
 */
export function isLoaded(source: RegisterSource): source is RegisterMap {
  return Array.isArray(source?.registers) && source.name !== undefined &&
    source.registers.every((each) =>
      isObject(each) && "region" in each && Array.isArray(each["fields"]) &&
      each["fields"].every((field) => isObject(field) && "high" in field)
    );
}

/** Names and types, as the schema checks them in a file. */
function checkForm(name: string, source: Record<string, unknown>, mistakes: Mistakes): void {
  mistakes.check(name, source, MAP);
  eachObject(name, source["registers"], mistakes, (path, register) => {
    mistakes.check(path, register, REGISTER);
    eachObject(path, register["fields"], mistakes, (path, field) => {
      mistakes.check(path, field, FIELD);
    });
  });
}

/** Calls `act` for each member of a list, with its path. */
function eachObject(
  path: string,
  list: unknown,
  mistakes: Mistakes,
  act: (path: string, member: Record<string, unknown>) => void,
): void {
  if (!Array.isArray(list)) return;
  for (const [i, each] of list.entries()) {
    const member = memberPath(path, isObject(each) ? each["name"] : undefined, i);
    if (isObject(each)) act(member, each);
    else mistakes.add(member, `${shown(each)}, not an object with a name`);
  }
}

function memberPath(path: string, name: unknown, index: number): string {
  return typeof name === "string" && name !== "" ? `${path}.${name}` : `${path}[${index}]`;
}

/** Finds registers that overlap, do not fit, or are there twice. */
function checkMeaning(name: string, draft: MapDraft, mistakes: Mistakes): void {
  /** As "registers.CTRL.EN.bits" for `["registers", 0, "fields", 1, "bits"]`. */
  const textOf = ([, index, ...rest]: Path): string => {
    const register = draft.registers[Number(index)];
    const path = memberPath(name, register?.name, Number(index));
    const [first, at, ...more] = rest;
    if (first !== "fields" || at === undefined) return [path, ...rest].join(".");
    const field = memberPath(path, register?.fields[Number(at)]?.name, Number(at));
    return [field, ...more].join(".");
  };
  // There are no lines and columns to tell: the position is the path.
  const positions = new Map<Position, Path>();
  const at = (path: Path): Position => {
    const position = { line: 0, column: 0 };
    positions.set(position, path);
    return position;
  };
  checkMap(draft, { at, keyAt: at }, (position, message, hint) => {
    const problem = hint === undefined ? message : `${message}; ${hint}`;
    mistakes.add(textOf(positions.get(position)!), problem);
  });
}

/** The same value with bigint for each whole number, as files of YAML have them. */
function withBigInts(value: unknown): unknown {
  if (Number.isSafeInteger(value)) return BigInt(value as number);
  if (Array.isArray(value)) return Array.from(value, withBigInts); // also what is left out
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, withBigInts(each)]));
}
