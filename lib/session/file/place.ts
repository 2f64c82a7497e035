/**
 * Reads places as a session names them.
 * Examples: `nvme.CC.EN`, `bar0+0x1000`, `CAP_MSIX+2.w`, `queue+${64 * tail}`, `dma+0x100000`.
 *
 * @module
 */

import { type Address, parseAddress } from "../../client/address.ts";
import { capabilityKey, findRegister } from "../../pci/names.ts";
import { lookupRegister, UnknownNameError } from "../../registers/lookup.ts";
import type { Register } from "../../registers/map.ts";
import type { Width } from "../../client/info.ts";
import { hex } from "../../text/hex.ts";
import { widthOfLetter } from "../../text/width.ts";
import { PciRegion, regionIndex } from "../../wire/region.ts";
import { BASE_NAMES, constantIn, type Definitions, meant, missingName } from "./definitions.ts";
import { binary, number } from "../expression.ts";
import { Marked, TERM } from "./interpolation.ts";
import type { Expression, Place, PlaceBase } from "../model.ts";
import { plural } from "../../text/plural.ts";

/** Bytes of configuration space. */
const CONFIG_SIZE = 4096n;

const FORM = new RegExp(
  `^(\\w+(?:@\\d+)?(?:\\.\\w+)?)(?:\\[(${TERM})\\])?` +
    `((?:\\.\\w+)*?)((?:\\+${TERM})*)(?:\\.([bwlqBWLQ]))?$`,
);

const HOW =
  "write REGION+OFFSET, as bar0+0x1c.l, a capability, as CAP_MSIX+2.w, a register of a map, " +
  "as nvme.CC, a buffer, or dma+IOVA";

/**
 * Reads a place.
 *
 * @throws {SyntaxError} if it is none
 * @throws {RangeError} if it names what is not there, or an offset or index that is outside
 * @throws {EvaluationError} if an expression in it can't have a value
 *
 * @example
 * ```ts
 * import { newDefinitions } from "./definitions.ts";
 * import { parsePlace } from "./place.ts";
 *
 * const { base, width } = parsePlace("bar0+0x10+4K.w", newDefinitions());
 * if (base.kind !== "region" || base.index !== 0 || width !== 2) throw new Error();
 * ```
 */
export function parsePlace(written: string, definitions: Definitions): Place {
  const marked = new Marked(written);
  const match = FORM.exec(marked.text);
  if (match === null) throw new SyntaxError(`"${written}" is no place; ${HOW}`);
  const [, head, index, tail = "", terms = "", suffix] = match;
  const isPlain = index === undefined && tail === "";
  const place =
    (isPlain ? memoryBase(written, head!, terms, suffix, marked, definitions) : undefined) ??
      registerPlace(written, match, marked, definitions) ??
      addressPlace(written, match, marked, definitions);
  checkExtent(place, place.width ?? 1, definitions);
  return place;
}

/**
 * Reads a place that has to be in memory of the device's IOVA space.
 * Throws as {@linkcode parsePlace}.
 */
export function parseMemoryPlace(written: string, definitions: Definitions): Place {
  const place = parsePlace(written, definitions);
  if (place.base.kind === "buffer" || place.base.kind === "dma") return place;
  throw new RangeError(`"${written}" is no memory; write the name of a buffer, or dma+IOVA`);
}

/** A buffer, or the IOVA space. */
function memoryBase(
  text: string,
  head: string,
  terms: string,
  suffix: string | undefined,
  marked: Marked,
  definitions: Definitions,
): Place | undefined {
  // The width of a buffer without an offset looks like a part of its name.
  const [name, letter = suffix, more] = head.split(".");
  const width = letter === undefined ? undefined : widthOfLetter(letter);
  const base: PlaceBase | undefined = definitions.buffers.has(name!)
    ? { kind: "buffer", name: name! }
    : name === "dma"
    ? { kind: "dma" }
    : undefined;
  if (base === undefined) return undefined;
  if (more !== undefined || (letter !== undefined && width === undefined)) {
    throw new SyntaxError(
      `"${letter}" in "${text}" is no width; write .b, .w, .l or .q` +
        (base.kind === "buffer" ? `, or \${${name}.${letter}} for a number` : ""),
    );
  }
  const offset = sum(number(0), terms, marked, definitions);
  return { text, base, offset, ...(width !== undefined && { width }) };
}

/** A register of a map, unless there is an offset after it. */
function registerPlace(
  text: string,
  [, head, index, tail, terms, suffix]: RegExpExecArray,
  marked: Marked,
  definitions: Definitions,
): Place | undefined {
  const { maps } = definitions;
  if (maps.length === 0 || head!.includes("@") || terms !== "") return undefined;
  const ending = tail! + (suffix === undefined ? "" : `.${suffix}`);
  // An index is a number only when the session runs: the register is looked up by the index 0.
  const withIndex = (of: string) => `${head}${index === undefined ? "" : `[${of}]`}${ending}`;
  const asWritten = withIndex(marked.original(index ?? ""));
  try {
    const { base, offset, width, register, field } = lookupRegister(
      maps,
      withIndex("0"),
      asWritten,
    );
    const at = index === undefined
      ? number(offset)
      : elementOffset(offset, register, marked.term(index, definitions), definitions);
    return { text, base, offset: at, width: width!, register, ...(field && { field }) };
  } catch (error) {
    if (index === undefined && isAddress(`${head}${ending}`)) return undefined;
    throw index === undefined ? betterRegisterError(error, head!, definitions) : error;
  }
}

/** A single word that is no register may have been meant for something else. */
function betterRegisterError(error: unknown, head: string, definitions: Definitions): unknown {
  const isSingle = /^\w+$/.test(head);
  return error instanceof UnknownNameError && error.what === "register" && isSingle
    ? unknownBase(head, definitions)
    : error;
}

/** The offset of one register of an array. */
function elementOffset(
  first: number,
  { name, array }: Register,
  index: Expression,
  definitions: Definitions,
): Expression {
  const { count, stride } = array!;
  const checked: Expression = {
    kind: "below",
    operand: index,
    limit: BigInt(count),
    what: `The index of ${name}`,
  };
  constantIn(checked, definitions); // throws if it is outside
  return binary(
    number(first),
    "+",
    binary(index.kind === "number" ? index : checked, "*", number(stride)),
  );
}

/** A region, a capability, or a register that setpci knows. */
function addressPlace(
  text: string,
  [, head, index, tail, terms, suffix]: RegExpExecArray,
  marked: Marked,
  definitions: Definitions,
): Place {
  const ending = tail! + (suffix === undefined ? "" : `.${suffix}`);
  const { maps } = definitions;
  // An offset that follows a register of a map counts from the register.
  const address = addressOf(`${head}${ending}`) ??
    (maps.length > 0 && terms !== "" && index === undefined
      ? { ...lookupRegister(maps, `${head}${tail}`), width: widthOfLetter(suffix ?? "") }
      : undefined);
  if (address === undefined || index !== undefined) {
    throw unknownBase(/^\w+$/.test(head!) ? head! : text, definitions);
  }
  const { base, offset, width } = address;
  const at = sum(number(offset), terms!, marked, definitions);
  return { text, base, offset: at, ...(width !== undefined && { width }) };
}

function unknownBase(name: string, definitions: Definitions): RangeError {
  const hint = meant(name, placeWords(definitions), HOW);
  return missingName(
    definitions,
    `"${name}" is no region, capability, register or buffer; ${hint}`,
  );
}

/** The names that a place may begin with. */
export function placeWords({ maps, buffers }: Definitions): string[] {
  return [
    ...buffers.keys(),
    ...BASE_NAMES,
    ...maps.map((map) => map.name),
    ...maps.flatMap((map) => map.registers.map((register) => register.name)),
  ];
}

function isAddress(text: string): boolean {
  return addressOf(text) !== undefined;
}

function addressOf(text: string): Pick<Address, "base" | "offset" | "width"> | undefined {
  try {
    return parseAddress(text);
  } catch {
    return undefined;
  }
}

/** `start` and all of `+A+B`. */
function sum(
  start: Expression,
  terms: string,
  marked: Marked,
  definitions: Definitions,
): Expression {
  let total = start;
  for (const term of terms.split("+").slice(1)) {
    const next = marked.term(term, definitions);
    const isZero = total.kind === "number" && total.value === 0n;
    total = isZero ? next : binary(total, "+", next);
  }
  return total;
}

/**
 * The place with a width, of 4 bytes unless it has one.
 *
 * @throws {RangeError} if so many are outside
 */
export function withWidth(
  place: Place,
  definitions: Definitions,
): Place & { readonly width: Width } {
  const { width = 4 } = place;
  if (place.width === undefined) checkExtent(place, width, definitions);
  return { ...place, width };
}

/**
 * Checks an offset that is known against what is known of the size.
 *
 * @param length bytes from there
 * @throws {RangeError} if they are outside
 */
export function checkExtent(
  { text, base, offset: expression }: Place,
  length: number,
  definitions: Definitions,
): void {
  const offset = constantIn(expression, definitions);
  if (offset === undefined) return;
  if (offset < 0n) throw new RangeError(`The offset of "${text}" is negative: ${offset}`);
  const end = offset + BigInt(length);
  const [what, verb] = length === 1
    ? [`"${text}"`, "is"]
    : [`${plural(length, "byte")} at "${text}"`, "reach"];
  if (base.kind === "buffer") {
    const { size } = definitions.buffers.get(base.name)!;
    const limit = constantIn(size, definitions);
    if (limit === undefined || end <= limit) return;
    throw new RangeError(`${what} ${verb} outside ${base.name}, which has ${hex(limit)} bytes`);
  }
  if (base.kind === "region" && base.index === PciRegion.CONFIG && end > CONFIG_SIZE) {
    throw new RangeError(`${what} ${verb} outside the configuration space, which has 0x1000 bytes`);
  }
  if (end > 1n << 64n) throw new RangeError(`The offset of "${text}" is beyond 2^64`);
}

/** The present meaning of a name, as "a region"; undefined if the name is free for a buffer. */
export function takenBy(name: string, { maps }: Pick<Definitions, "maps">): string | undefined {
  const lower = name.toLowerCase();
  if (lower === "dma") return "the IOVA space";
  if (regionIndex(lower) !== undefined) return "a region";
  if (capabilityKey(name) !== undefined) return "a capability";
  if (findRegister(name.toUpperCase()) !== undefined) {
    return "a register of the configuration space";
  }
  const map = maps.find(({ registers }) =>
    registers.some((register) => register.name.toLowerCase() === lower)
  );
  return map && `a register of ${map.name}`;
}
