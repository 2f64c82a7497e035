/**
 * IP-XACT (IEEE 1685-2009, 2014 and 2022): the memory maps of a component.
 *
 * @module
 */

import { MAX_COUNT } from "../check.ts";
import { accessOf, type AccessWords, noteUnsaid, readAccess } from "./access.ts";
import { evaluate, Parameters } from "./expression.ts";
import type { Findings } from "./findings.ts";
import type {
  HardwareField,
  HardwareFile,
  HardwareGroup,
  HardwareMember,
  HardwareRegister,
  Peripheral,
  Repeat,
} from "./hardware.ts";
import { child, childrenOf, textOf, wordsOf, type XmlElement } from "./xml.ts";

/** Reads what a file says about a component. */
export function readIpXact(root: XmlElement, findings: Findings): HardwareFile {
  const reader = new IpXactReader(root, findings);
  return {
    format: "IP-XACT",
    name: textOf(root, "name") ?? "component",
    peripherals: reader.peripherals(),
  };
}

class IpXactReader {
  readonly #root: XmlElement;
  readonly #findings: Findings;
  readonly #parameters: Parameters;
  #unitBits = 8n; // of an address

  constructor(root: XmlElement, findings: Findings) {
    this.#root = root;
    this.#findings = findings;
    this.#parameters = parametersOf(root);
  }

  /** The memory maps, and of those that have several the blocks as well. */
  peripherals(): Peripheral[] {
    const maps = childrenOf(child(this.#root, "memoryMaps"), "memoryMap");
    if (maps.length === 0) {
      this.#findings.mistake(
        this.#root.at,
        "The component has no <memoryMaps> with a <memoryMap>",
        "address spaces and definitions in other files are not read",
      );
    }
    return maps.flatMap((map) => {
      const blocks = childrenOf(map, "addressBlock");
      const name = this.#nameOf(map);
      const single = (block: XmlElement): Peripheral => ({
        name: `${name}.${this.#nameOf(block)}`,
        description: textOf(block, "description"),
        at: block.at,
        members: () => this.#blocks(map, [block], true),
      });
      return [
        {
          name,
          description: textOf(map, "description") ?? textOf(map, "displayName"),
          at: map.at,
          members: () => this.#blocks(map, blocks, false),
        },
        ...(blocks.length > 1 ? blocks.map(single) : []),
      ];
    });
  }

  /** The registers of blocks, which count from the start of the map, or of the only block. */
  #blocks(map: XmlElement, blocks: readonly XmlElement[], isAlone: boolean): HardwareMember[] {
    const bits = child(map, "addressUnitBits");
    this.#unitBits = (bits && this.#value(bits)) ?? 8n;
    if (this.#unitBits < 1n) this.#unitBits = 8n;
    for (const each of map.children) {
      if (!["bank", "memoryRemap", "subspaceMap"].includes(each.name)) continue;
      if (!isAlone) this.#findings.note(each.at, `A <${each.name}> is left out`);
    }
    const members = blocks.flatMap((block): HardwareMember[] => {
      this.#noteDefinition(block);
      if (!this.#isPresent(block)) return [];
      const base = this.#bytes(block, "baseAddress") ?? 0n;
      const inside = this.#members(block, this.#accessWords(block));
      if (isAlone) return inside;
      return inside.map((each) => ({ ...each, offset: each.offset + base }));
    });
    if (members.length === 0) this.#findings.mistake(map.at, "The memory map has no registers");
    return members;
  }

  #members(parent: XmlElement, around: AccessWords): HardwareMember[] {
    return parent.children.flatMap((each): HardwareMember[] => {
      if (each.name !== "register" && each.name !== "registerFile") return [];
      this.#findings.count(each.at);
      this.#noteDefinition(each);
      if (!this.#isPresent(each)) return [];
      if (each.name === "registerFile") return [this.#group(each, around)];
      const register = this.#register(each, around, false);
      const others = childrenOf(child(each, "alternateRegisters"), "alternateRegister");
      return [
        register,
        ...others.map((other) => {
          const { offset, repeat, bits } = register;
          return { ...this.#register(other, around, true), offset, repeat, bits };
        }),
      ];
    });
  }

  #group(element: XmlElement, around: AccessWords): HardwareGroup {
    const own = this.#accessWords(element);
    const range = child(element, "range");
    const size = range && this.#value(range);
    const repeat = this.#repeatOf(element, size && this.#toBytes(size, element.at));
    return {
      kind: "group",
      name: this.#nameOf(element) + (repeat ? "%s" : ""),
      offset: this.#bytes(element, "addressOffset") ?? 0n,
      repeat,
      isAlternative: false,
      at: element.at,
      members: this.#members(element, { ...around, access: own.access ?? around.access }),
    };
  }

  #register(element: XmlElement, around: AccessWords, isAlternative: boolean): HardwareRegister {
    const size = child(element, "size");
    const value = size === undefined ? undefined : this.#value(size);
    const bits = value === undefined ? 32n : value;
    if (size !== undefined && bits < 1n) this.#findings.mistake(size.at, "A register has no bits");
    const words = this.#accessWords(element);
    const own = { ...words, access: words.access ?? around.access };
    const fields = childrenOf(element, "field").flatMap((each) => this.#fields(each, own));
    const right = accessOf(own);
    const repeat = this.#repeatOf(element, (bits + 7n) / 8n);
    return {
      kind: "register",
      name: this.#nameOf(element) + (repeat ? "%s" : ""),
      description: textOf(element, "description") ?? textOf(element, "displayName"),
      offset: isAlternative ? 0n : this.#bytes(element, "addressOffset") ?? 0n,
      bits: Number(bits > 4096n ? 4096n : bits),
      access: right.access,
      readChanges: right.readChanges || fields.some(({ field }) => field.readChanges),
      reset: this.#resetOf(element, fields),
      fields: fields.flatMap(({ field, isReserved }) => isReserved ? [] : [field]),
      repeat,
      isAlternative,
      at: element.at,
    };
  }

  /** The value of all of a register, or of those of its fields that say one. */
  #resetOf(element: XmlElement, fields: readonly FieldWithReset[]): bigint | undefined {
    const own = this.#maskedReset(child(element, "reset"));
    if (own !== undefined) return own;
    const known = fields.filter(({ reset }) => reset !== undefined);
    if (known.length === 0) return undefined;
    return known.reduce((sum, { field, reset }) => {
      return sum | (BigInt.asUintN(field.width, reset!) << BigInt(field.low));
    }, 0n);
  }

  #maskedReset(reset: XmlElement | undefined): bigint | undefined {
    const value = reset && child(reset, "value");
    if (reset === undefined || value === undefined) return undefined;
    const mask = child(reset, "mask");
    const [bits, of] = [this.#value(value), mask && this.#value(mask)];
    if (bits === undefined || of === 0n) return undefined;
    return of === undefined ? bits : bits & of;
  }

  /** One field, or each of several. */
  #fields(element: XmlElement, around: AccessWords): FieldWithReset[] {
    this.#findings.count(element.at);
    this.#noteDefinition(element);
    if (!this.#isPresent(element)) return [];
    const name = this.#nameOf(element);
    const [at, wide] = [child(element, "bitOffset"), child(element, "bitWidth")];
    if (at === undefined || wide === undefined) {
      const lacking = at === undefined ? "bitOffset" : "bitWidth";
      this.#findings.mistake(element.at, `The field ${name} has no <${lacking}>`);
      return [];
    }
    const [low, width] = [this.#value(at), this.#value(wide)];
    if (low === undefined || width === undefined) return [];
    if (width < 1n || low + width > 4096n) {
      this.#findings.mistake(wide.at, `The field ${name} can't have ${width} bits`);
      return [];
    }
    const own = this.#accessWords(element);
    const right = accessOf({ ...own, access: own.access ?? around.access });
    if (right.unsaid !== undefined) noteUnsaid(element.at, name, right.unsaid, this.#findings);
    const isOwn = own.access !== undefined || own.write !== undefined || own.read !== undefined;
    const field = {
      description: textOf(element, "description") ?? textOf(element, "displayName"),
      width: Number(width),
      access: isOwn ? right.access : undefined,
      readChanges: right.readChanges,
      values: this.#valuesOf(element),
      at: element.at,
    };
    const rest = {
      reset: this.#maskedReset(child(child(element, "resets") ?? element, "reset")),
      isReserved: this.#flag(element, "reserved", false) || name.toUpperCase() === "RESERVED",
    };
    const repeat = this.#repeatOf(element, width);
    if (repeat === undefined) return [{ field: { ...field, name, low: Number(low) }, ...rest }];
    if (repeat.count > 64) {
      this.#findings.mistake(element.at, `${repeat.count} fields do not fit a register`);
      return [];
    }
    return Array.from({ length: repeat.count }, (_, i) => ({
      field: { ...field, name: `${name}${i}`, low: Number(low + BigInt(i) * repeat.stride) },
      ...rest,
    }));
  }

  /** Values and names: those for reading first, if there are others for writing. */
  #valuesOf(field: XmlElement): (readonly [bigint, string])[] {
    const all = childrenOf(child(field, "enumeratedValues"), "enumeratedValue");
    const isWritten = (each: XmlElement) => each.attributes?.get("usage") === "write";
    return all.toSorted((a, b) => Number(isWritten(a)) - Number(isWritten(b))).flatMap((each) => {
      const name = textOf(each, "name") ?? textOf(each, "displayName");
      const value = child(each, "value");
      const number = value && this.#value(value);
      return name === undefined || number === undefined ? [] : [[number, name] as const];
    });
  }

  /** Reads `dim`, which there may be several of, or since 2022 `array`. */
  #repeatOf(element: XmlElement, size: bigint | undefined): Repeat | undefined {
    const array = child(element, "array");
    const dims = childrenOf(array ?? element, "dim");
    if (dims.length === 0) return undefined;
    const count = dims.reduce<bigint>((product, dim) => product * (this.#value(dim) ?? 1n), 1n);
    if (count < 1n || count > BigInt(MAX_COUNT)) {
      const message = `There are ${count} of them, not from 1 to ${MAX_COUNT}`;
      this.#findings.mistake(dims[0]!.at, message);
      return undefined;
    }
    const stride = array && child(array, "stride");
    const value = stride && this.#value(stride);
    const isField = element.name === "field";
    const own = value === undefined || isField ? value : this.#toBytes(value, element.at);
    if (own === undefined && size === undefined) {
      this.#findings.mistake(element.at, `<${element.name}> repeats, but has no <range>`);
      return undefined;
    }
    return { count: Number(count), stride: own ?? size!, labels: undefined };
  }

  #accessWords(element: XmlElement): AccessWords {
    const policy = child(child(element, "accessPolicies") ?? element, "accessPolicy") ??
      child(child(element, "fieldAccessPolicies") ?? element, "fieldAccessPolicy") ?? element;
    return {
      access: readAccess(child(policy, "access"), this.#findings, "no-access"),
      write: textOf(policy, "modifiedWriteValue"),
      read: textOf(policy, "readAction"),
    };
  }

  #isPresent(element: XmlElement): boolean {
    return this.#flag(element, "isPresent", true);
  }

  #flag(element: XmlElement, name: string, otherwise: boolean): boolean {
    const found = child(element, name);
    const value = found && this.#value(found);
    return value === undefined ? otherwise : value !== 0n;
  }

  /** Notes a reference to a definition in another file. */
  #noteDefinition(element: XmlElement): void {
    const reference = element.children.find(({ name }) => name.endsWith("DefinitionRef"));
    if (reference === undefined) return;
    const name = textOf(element, "name") ?? "";
    const what = `"${wordsOf(reference) ?? ""}"`;
    this.#findings.note(
      reference.at,
      `What ${name} has of ${what} is left out: definitions in other files are not read`,
    );
  }

  #nameOf(element: XmlElement): string {
    const name = textOf(element, "name");
    if (name !== undefined) return this.#findings.name(element.at, name);
    this.#findings.mistake(element.at, `<${element.name}> has no <name>`);
    return "";
  }

  /** An address as bytes; a missing one is a mistake. */
  #bytes(element: XmlElement, name: string): bigint | undefined {
    const found = child(element, name);
    if (found !== undefined) {
      const value = this.#value(found);
      return value === undefined ? undefined : this.#toBytes(value, found.at);
    }
    this.#findings.mistake(element.at, `<${element.name}> has no <${name}>`);
  }

  #toBytes(units: bigint, at: number): bigint {
    const bits = units * this.#unitBits;
    if (bits % 8n === 0n) return bits / 8n;
    this.#findings.mistake(at, `It is at bit ${bits}, which is no start of a byte`);
    return 0n;
  }

  #value(element: XmlElement): bigint | undefined {
    const text = wordsOf(element) ?? "";
    try {
      const value = evaluate(text, this.#parameters);
      if (value >= 0n) return value;
      this.#findings.mistake(element.at, `<${element.name}> is ${value}, which is below 0`);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      this.#findings.mistake(
        element.at,
        `<${element.name}> is "${text}", which can't be computed: ${error.message}`,
      );
    }
  }
}

/** A field, its value after a reset, and if it is only there to fill its place. */
interface FieldWithReset {
  readonly field: HardwareField & { readonly readChanges: boolean };
  readonly reset: bigint | undefined;
  readonly isReserved: boolean;
}

/** Parameters by the names that expressions have for them: an id, or else the name. */
function parametersOf(root: XmlElement): Parameters {
  const found = new Map<string, string>();
  for (const parameter of childrenOf(child(root, "parameters"), "parameter")) {
    const value = child(parameter, "value");
    const text = wordsOf(value);
    if (text === undefined) continue;
    const names = [
      parameter.attributes?.get("parameterId"),
      value!.attributes?.get("id"),
      textOf(parameter, "name"),
    ];
    for (const name of names) {
      if (name !== undefined && !found.has(name)) found.set(name, text);
    }
  }
  return new Parameters(found);
}
