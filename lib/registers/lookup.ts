/**
 * Registers by their names.
 *
 * @module
 */

import { type Address, parseAddress } from "../client/address.ts";
import { readInteger } from "../text/integer.ts";
import { bitsText, type Register, type RegisterField, type RegisterMap } from "./map.ts";
import { nearest } from "../text/nearest.ts";
import { plural } from "../text/plural.ts";

/** A name that no map, register or field has. */
export class UnknownNameError extends RangeError {
  /** A name of what. */
  readonly what: "map" | "register" | "field";

  /** An error about the name of a `what`. */
  constructor(what: UnknownNameError["what"], message: string) {
    super(message);
    this.what = what;
  }
}

/** The address of a register that a map names. */
export interface RegisterAddress extends Address {
  /** The map that has it. */
  readonly map: RegisterMap;
  /** The register. `offset` is that of the one that is meant, if it is an array. */
  readonly register: Register;
  /** The field, if one was named. */
  readonly field?: RegisterField;
}

const FORM = /^(?:(\w+)\.)??(\w+)(?:\[(\d\w*)\])?(?:\.(\w+))?$/;

/**
 * Finds `MAP.REGISTER`, or `REGISTER` where one of the maps has it; `REGISTER[N]` of an array;
 * `.FIELD` after it. Upper and lower case are the same.
 *
 * @param written how errors quote it, if not as `text`
 * @throws {UnknownNameError} if no map has it; the message has the name that is nearest
 * @throws {RangeError} if more than one map has it, or its index is wrong
 *
 * @example
 * ```ts
 * import { loadRegisterMap } from "./load.ts";
 * import { lookupRegister } from "./lookup.ts";
 *
 * const maps = [await loadRegisterMap("nvme"), await loadRegisterMap("pci")];
 * const { offset, width } = lookupRegister(maps, "nvme.SQTDBL[3]");
 * if (offset !== 0x1018 || width !== 4) throw new Error();
 * const { register, field } = lookupRegister(maps, "CC.EN");
 * if (register.name !== "CC" || field?.name !== "EN") throw new Error();
 * ```
 */
export function lookupRegister(
  maps: readonly RegisterMap[],
  text: string,
  written: string = text,
): RegisterAddress {
  const match = FORM.exec(text);
  if (match === null) {
    const how = "write MAP.REGISTER, as nvme.CSTS";
    throw new UnknownNameError("register", `"${written}" is no register; ${how}`);
  }
  // "a.b" is a register of a map, or a field of a register.
  const names = [match[1], match[2], match[4]].filter((each) => each !== undefined);
  const [map, rest] = chooseMap(maps, names, written);
  const [registerName, fieldName] = match[3] === undefined ? rest : [match[2]!, match[4]];
  const found = findRegister(map === undefined ? maps : [map], registerName!, written);
  const { register } = found;
  const { base } = parseAddress(register.region);
  const offset = register.offset +
    indexOf(register, match[3], written) * (register.array?.stride ?? 0);
  const place = { text, base, offset, width: register.width, ...found };
  return fieldName === undefined
    ? place
    : { ...place, field: findField(register, fieldName, written) };
}

/** Takes the name of a map off `names`, if they begin with one. */
function chooseMap(
  maps: readonly RegisterMap[],
  names: readonly string[],
  text: string,
): [map: RegisterMap | undefined, rest: readonly string[]] {
  const map = names.length > 1 ? byName(maps, names[0]!) : undefined;
  if (map !== undefined) return [map, names.slice(1)];
  if (names.length === 3) throw unknown("map", names[0]!, maps, "", text);
  return [undefined, names];
}

function findRegister(
  maps: readonly RegisterMap[],
  name: string,
  text: string,
): { map: RegisterMap; register: Register } {
  const found = maps.flatMap((map) => {
    const register = byName(map.registers, name);
    return register === undefined ? [] : [{ map, register }];
  });
  if (found.length === 1) return found[0]!;
  if (found.length > 1) {
    const full = found.map(({ map, register }) => `${map.name}.${register.name}`);
    throw new RangeError(`"${text}" is in more than one map; write ${full.join(" or ")}`);
  }
  // The name before the dot may have been meant as that of a map.
  const others = text.toLowerCase().startsWith(`${name.toLowerCase()}.`) ? maps : [];
  const registers = [...maps.flatMap((map) => map.registers), ...others];
  throw unknown("register", name, registers, ` of ${maps.map((map) => map.name).join(", ")}`, text);
}

function findField(register: Register, name: string, text: string): RegisterField {
  const field = byName(register.fields, name);
  if (field !== undefined) return field;
  throw unknown("field", name, register.fields, ` of ${register.name}`, text);
}

function indexOf({ name, array }: Register, written: string | undefined, text: string): number {
  if (array === undefined) {
    if (written === undefined) return 0;
    throw new RangeError(`"${text}" has an index, but ${name} is a single register`);
  }
  const last = array.count - 1;
  if (written === undefined) {
    throw new RangeError(`"${text}" is an array; write ${name}[0] to ${name}[${last}]`);
  }
  const index = readInteger(written);
  if (index !== undefined && index <= BigInt(last)) return Number(index);
  throw new RangeError(`"${text}" is not there; ${name}[0] to ${name}[${last}] are`);
}

function byName<T extends { readonly name: string }>(all: readonly T[], name: string) {
  const lower = name.toLowerCase();
  return all.find((each) => each.name.toLowerCase() === lower);
}

function unknown(
  what: UnknownNameError["what"],
  name: string,
  all: readonly { readonly name: string }[],
  of: string,
  text: string,
): UnknownNameError {
  const meant = nearest(name, all.map((each) => each.name));
  const where = name === text ? "" : ` in "${text}"`;
  return new UnknownNameError(
    what,
    `"${name}"${where} is no ${what}${of}` +
      (meant === undefined ? "" : `; did you mean ${meant}?`),
  );
}

/**
 * Reads the value of a field: a number in any base, or the name of a value. In a name `_` and `-`
 * may stand for spaces.
 *
 * @throws {RangeError} if it is neither, or more than the field's bits can hold
 */
export function parseFieldValue(field: RegisterField, text: string): bigint {
  const value = readInteger(text) ?? valueNamed(field, text);
  const size = field.high - field.low + 1;
  if (value >> BigInt(size) === 0n) return value;
  throw new RangeError(
    `${text} does not fit ${field.name}, which has ${plural(size, "bit")}: ${bitsText(field)}`,
  );
}

function valueNamed({ name, enum: values }: RegisterField, text: string): bigint {
  const plain = (each: string) => each.toLowerCase().replaceAll(/[\s_-]+/g, " ");
  const found = [...values].find(([, each]) => plain(each) === plain(text));
  if (found !== undefined) return found[0];
  const meant = nearest(plain(text), [...values.values()].map(plain));
  const names = [...values.values()].map((each) => `"${each}"`).join(", ");
  throw new RangeError(
    `"${text}" is no value of ${name}; ` +
      (meant !== undefined
        ? `did you mean "${meant}"?`
        : `write a number${names === "" ? "" : ` or ${names}`}`),
  );
}
