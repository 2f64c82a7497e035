/**
 * Mistakes in a map of registers that its form does not show: what overlaps, does not fit, or is
 * there twice. Regions of a file are checked in check_regions.ts.
 *
 * @module
 */

import type { FieldDraft, MapDraft, RegisterDraft } from "./build.ts";
import { MAX_PROBLEMS, type Path, type Report, type YamlDocument } from "../yaml/document.ts";
import { bitsText } from "./map.ts";
import { nearest } from "../text/nearest.ts";
import { hex } from "../text/hex.ts";
import { plural } from "../text/plural.ts";

/** Registers of an array: as many as a device can have queues. */
export const MAX_COUNT = 65_536;
/** Registers of a map, each of an array counted. */
export const MAX_REGISTERS = 4 * MAX_COUNT;

/** Registers, each of an array counted, that may share a byte. */
const MAX_SHARING = 1000;

/** Names of regions. */
export const REGION_NAMES = [
  "bar0",
  "bar1",
  "bar2",
  "bar3",
  "bar4",
  "bar5",
  "rom",
  "config",
  "vga",
];

/** Gives every mistake in `map` but in regions to `report`. What is missing is passed over. */
export function checkMap(
  map: MapDraft,
  document: Pick<YamlDocument, "at" | "keyAt">,
  report: Report,
): void {
  let mistakes = 0;
  const complain: Complain = (path, message, hint) => {
    mistakes++;
    // The values of an enumeration are keys.
    const at = path.at(-2) === "enum" ? document.keyAt(path) : document.at(path);
    report(at, message, hint);
  };
  checkNames(map.registers, "register", complain);
  const names = new Set(map.registers.flatMap(({ name }) => name === undefined ? [] : [name]));
  for (const register of map.registers) {
    if (mistakes > MAX_PROBLEMS) return; // no more are listed
    checkRegister(register, names, complain);
  }
  checkOverlaps(map.registers, complain);
}

type Complain = (path: Path, message: string, hint?: string) => void;

/** Names are the same in upper and lower case. */
function checkNames(
  named: readonly { readonly name: string | undefined; readonly path: Path }[],
  what: string,
  complain: Complain,
): void {
  const seen = new Set<string>();
  for (const { name, path } of named) {
    if (name === undefined) continue;
    if (seen.has(name.toLowerCase())) {
      complain([...path, "name"], `There is a ${what} ${name} already`);
    }
    seen.add(name.toLowerCase());
  }
}

function checkRegister(
  register: RegisterDraft,
  names: ReadonlySet<string>,
  complain: Complain,
): void {
  const { path, name, offset, width, reset, fields } = register;
  if (name !== undefined && REGION_NAMES.includes(name.toLowerCase())) {
    complain([...path, "name"], `"${name}" is the name of a region`, "give it another name");
  }
  if (offset !== undefined && offset > BigInt(Number.MAX_SAFE_INTEGER)) {
    complain([...path, "offset"], `${hex(offset)} is beyond 2^53`);
  } else if (offset !== undefined && isWidth(width) && offset % width !== 0n) {
    complain(
      [...path, "offset"],
      `${hex(offset)} is not a multiple of the width, ${width} bytes`,
      "registers are accessed at multiples of their width",
    );
  }
  if (reset !== undefined && isWidth(width) && reset >> (width * 8n) !== 0n) {
    complain([...path, "reset"], `${hex(reset)} does not fit ${width * 8n} bits`);
  }
  checkArray(register, complain);
  checkOverlapsName(register, names, complain);
  checkNames(fields, "field", complain);
  for (const field of fields) checkField(field, width, complain);
  checkFieldOverlaps(fields, complain);
}

function checkArray({ path, width, count, stride }: RegisterDraft, complain: Complain): void {
  if (count !== undefined && (count < 1n || count > BigInt(MAX_COUNT))) {
    complain([...path, "count"], `"count" is ${count}, not a number from 1 to ${MAX_COUNT}`);
  }
  if (stride === undefined) return;
  if (count === undefined) {
    complain(
      [...path, "stride"],
      '"stride" says nothing without "count"',
      "say how many there are",
    );
  } else if (isWidth(width) && (stride < width || stride % width !== 0n)) {
    complain(
      [...path, "stride"],
      `"stride" is ${stride}, not a multiple of the width, ${width} bytes`,
    );
  } else if (stride > BigInt(2 ** 32)) {
    complain([...path, "stride"], `"stride" is ${stride}, not 2^32 at most`);
  }
}

function checkOverlapsName(
  { path, name, overlaps }: RegisterDraft,
  names: ReadonlySet<string>,
  complain: Complain,
): void {
  if (overlaps === undefined || overlaps !== name && names.has(overlaps)) return;
  const others = [...names].filter((each) => each !== name);
  const meant = nearest(overlaps, others);
  complain(
    [...path, "overlaps"],
    `There is no other register ${overlaps}`,
    meant && `did you mean "${meant}"?`,
  );
}

function checkField(
  { path, name, bits, enum: values }: FieldDraft,
  width: bigint | undefined,
  complain: Complain,
): void {
  if (bits === undefined) return;
  const { high, low } = bits;
  const at = [...path, "bits"];
  if (high < low) {
    return complain(
      at,
      `The bits ${high}:${low} are in the wrong order`,
      `did you mean "${low}:${high}"?`,
    );
  }
  if (isWidth(width) && BigInt(high) >= width * 8n) {
    const last = width * 8n - 1n;
    return complain(at, `Bit ${high} is outside the register, which ends with bit ${last}`);
  }
  const seen = new Set<bigint>();
  const names = new Set<string>();
  for (const [text, value, meaning] of values) {
    const of = [...path, "enum", text];
    if (value === undefined) {
      complain(of, `"${text}" is no value of ${name}`, "write it as 2, 0x2 or 0b10");
    } else if (value >> BigInt(high - low + 1) !== 0n) {
      complain(
        of,
        `The value ${text} does not fit ${name}, which has ${plural(high - low + 1, "bit")}`,
      );
    } else if (seen.has(value)) {
      complain(of, `The value ${text} of ${name} has a name already`);
    } else if (names.has(meaning.toLowerCase())) {
      complain(of, `"${meaning}" is the name of another value of ${name}`);
    }
    if (value !== undefined) seen.add(value);
    names.add(meaning.toLowerCase());
  }
}

function checkFieldOverlaps(fields: readonly FieldDraft[], complain: Complain): void {
  const owners = new Map<number, FieldDraft>();
  for (const field of fields) {
    const { bits, path, name } = field;
    // Fields outside every register were reported.
    if (bits === undefined || bits.high > 63) continue;
    let other: FieldDraft | undefined;
    for (let bit = bits.low; bit <= bits.high; bit++) {
      other ??= owners.get(bit);
      owners.set(bit, owners.get(bit) ?? field);
    }
    if (other === undefined) continue;
    const theirs = bitsText(other.bits!);
    complain(
      [...path, "bits"],
      `${name} overlaps ${other.name}, which has the bits ${theirs}`,
    );
  }
}

/** One register, or one of an array. */
interface Extent {
  readonly start: number;
  readonly end: number;
  readonly register: RegisterDraft;
}

/** Registers may overlap if one of the two names the other in `overlaps`. */
function checkOverlaps(registers: readonly RegisterDraft[], complain: Complain): void {
  const regions = new Map<string, Span[]>();
  let total = 0;
  for (const register of registers) {
    if (!hasExtent(register)) continue;
    const span = spanOf(register);
    total += span.count;
    if (total > MAX_REGISTERS) {
      return complain(register.path, `The map has more than ${MAX_REGISTERS} registers`);
    }
    const key = register.region.toLowerCase();
    const spans = regions.get(key) ?? [];
    regions.set(key, spans);
    spans.push(span);
  }
  for (const spans of regions.values()) {
    if (!mayMeet(spans)) continue;
    const extents = spans.flatMap(({ register, count }) =>
      Array.from({ length: count }, (_, i) => extentOf(register, i))
    );
    checkExtents(extents, complain);
  }
}

/** A register, or an array as a whole. */
interface Span {
  readonly register: RegisterDraft;
  readonly start: number;
  readonly end: number;
  readonly width: number;
  readonly stride: number;
  readonly count: number;
}

function spanOf(register: RegisterDraft): Span {
  const count = Number(register.count ?? 1n);
  const [start, width] = [Number(register.offset), Number(register.width)];
  const stride = Number(register.stride ?? register.width);
  return { register, start, end: start + (count - 1) * stride + width, width, stride, count };
}

/**
 * Reports whether registers of two of the spans overlap, which may not. It is true too if that
 * takes long to find out: one by one they are looked at in the order of their offsets.
 */
function mayMeet(spans: readonly Span[]): boolean {
  const sorted = spans.toSorted((a, b) => a.start - b.start);
  let steps = 4 * sorted.reduce((sum, { count }) => sum + count, 0);
  for (const [i, span] of sorted.entries()) {
    for (let j = i + 1; j < sorted.length && sorted[j]!.start < span.end; j++) {
      const other = sorted[j]!;
      if (mayOverlap(span.register, other.register)) continue;
      steps -= span.count + other.count;
      if (steps < 0 || doMeet(span, other)) return true;
    }
  }
  return false;
}

/** Goes along both arrays, always on with the one that is behind. */
function doMeet(a: Span, b: Span): boolean {
  let [x, y] = [a.start, b.start];
  for (let i = 0, j = 0; i < a.count && j < b.count;) {
    if (x + a.width <= y) {
      i++;
      x += a.stride;
    } else if (y + b.width <= x) {
      j++;
      y += b.stride;
    } else {
      return true;
    }
  }
  return false;
}

function hasExtent({ offset, width, count, stride }: RegisterDraft): boolean {
  const known = isWidth(width) && offset !== undefined && offset <= Number.MAX_SAFE_INTEGER;
  if (!known || count === undefined) return known;
  return count >= 1n && count <= BigInt(MAX_COUNT) && (stride ?? width) >= width;
}

function extentOf(register: RegisterDraft, index: number): Extent {
  const { offset, width, stride } = register;
  const start = Number(offset) + index * Number(stride ?? width);
  return { start, end: start + Number(width), register };
}

function checkExtents(extents: Extent[], complain: Complain): void {
  extents.sort((a, b) => a.start - b.start);
  const told = new Set<RegisterDraft>();
  // No register is wider than 8 bytes, so that those which reach into one are few and near.
  for (const [i, extent] of extents.entries()) {
    let sharing = 0;
    for (let j = i - 1; j >= 0 && extents[j]!.start > extent.start - 8; j--) {
      const other = extents[j]!;
      if (other.end <= extent.start) continue;
      if (++sharing > MAX_SHARING) {
        const { name, path } = extent.register;
        return complain(path, `${name} is at the place of more than ${MAX_SHARING} others`);
      }
      if (mayOverlap(extent.register, other.register)) continue;
      const [first, second] = inOrder(other, extent);
      if (told.has(second.register)) break;
      told.add(second.register);
      complain(
        [...second.register.path, "offset"],
        `${second.register.name} overlaps ${first.register.name}, which is at ${rangeText(first)}`,
        `if that is meant, add "overlaps: ${first.register.name}"`,
      );
      break;
    }
  }
}

/**
 * Directly, or because both overlap a third on purpose, as a word of a long register and a byte of
 * that word do.
 */
function mayOverlap(a: RegisterDraft, b: RegisterDraft): boolean {
  return a.overlaps === b.name || b.overlaps === a.name ||
    (a.overlaps !== undefined && a.overlaps === b.overlaps);
}

/** As they are in the file. */
function inOrder(a: Extent, b: Extent): [Extent, Extent] {
  return Number(a.register.path[1]) <= Number(b.register.path[1]) ? [a, b] : [b, a];
}

function rangeText({ start, end }: Extent): string {
  return `${hex(start)} to ${hex(end - 1)}`;
}

function isWidth(width: bigint | undefined): width is bigint {
  return width === 1n || width === 2n || width === 4n || width === 8n;
}
