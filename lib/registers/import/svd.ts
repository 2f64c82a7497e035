/**
 * CMSIS-SVD: the registers of the peripherals of a microcontroller.
 *
 * Sizes, access and reset values come from the elements around a register where it says nothing
 * itself; `derivedFrom` takes all else from another element.
 *
 * @module
 */

import { plural } from "../../text/plural.ts";
import { MAX_COUNT } from "../check.ts";
import { accessOf, type AccessWords, noteUnsaid, readAccess } from "./access.ts";
import type { Findings } from "./findings.ts";
import type {
  HardwareField,
  HardwareFile,
  HardwareMember,
  HardwareRegister,
  Peripheral,
  Repeat,
} from "./hardware.ts";
import { Derivations, type Scopes } from "./svd_derive.ts";
import { EnumeratedValues } from "./svd_enums.ts";
import { readBitRange, readSvdIndex, readSvdNumber, readSvdValues } from "./svd_values.ts";
import { child, childrenOf, MAX_DEPTH, textOf, wordsOf, type XmlElement } from "./xml.ts";

/** Properties that elements have from those around them. */
interface Inherited {
  readonly size: bigint;
  readonly access: string | undefined;
  readonly reset: bigint | undefined;
  readonly mask: bigint | undefined;
}

/** Reads what a file says about its peripherals. */
export function readSvd(root: XmlElement, findings: Findings): HardwareFile {
  const reader = new SvdReader(root, findings);
  return {
    format: "CMSIS-SVD",
    name: textOf(root, "name") ?? "device",
    peripherals: reader.peripherals(),
  };
}

class SvdReader {
  readonly #root: XmlElement;
  readonly #findings: Findings;
  readonly #derivations: Derivations;
  readonly #values: EnumeratedValues;
  #peripheral: XmlElement;

  constructor(root: XmlElement, findings: Findings) {
    this.#root = this.#peripheral = root;
    this.#findings = findings;
    this.#derivations = new Derivations(root, findings);
    this.#values = new EnumeratedValues(root);
  }

  /** The peripherals; each of an array on its own. */
  peripherals(): Peripheral[] {
    const all = childrenOf(child(this.#root, "peripherals"), "peripheral");
    if (all.length === 0) {
      this.#findings.mistake(this.#root.at, "The device has no <peripherals> with a <peripheral>");
    }
    return all.flatMap((element) => {
      const name = this.#nameOf(element);
      const { attributes, at } = element;
      const derived = attributes?.has("derivedFrom");
      const description = textOf(element, "description") ??
        (derived ? textOf(this.#derivations.resolve(element, []), "description") : undefined);
      const members = () => this.#membersOf(element);
      const repeat = this.#repeatOf(element);
      return namesOf(name, repeat).map((name) => ({ name, description, at, members }));
    });
  }

  #membersOf(element: XmlElement): HardwareMember[] {
    const peripheral = this.#derivations.resolve(element, []);
    this.#peripheral = peripheral;
    const first = { size: 32n, access: undefined, reset: undefined, mask: undefined };
    const inherited = this.#inherit(peripheral, this.#inherit(this.#root, first));
    const registers = child(peripheral, "registers");
    const [before, behind] = ["prependToName", "appendToName"].map((each) =>
      this.#findings.name(element.at, textOf(peripheral, each) ?? "")
    );
    const members = this.#members(registers?.children ?? [], [peripheral], inherited);
    if (members.length === 0) {
      this.#findings.mistake(
        element.at,
        `The peripheral ${this.#nameOf(element)} has no registers`,
      );
    }
    if (before === "" && behind === "") return members;
    return members.map((each) => ({ ...each, name: `${before}${each.name}${behind}` }));
  }

  /** The members of a peripheral or cluster. */
  #members(
    elements: readonly XmlElement[],
    scopes: Scopes,
    inherited: Inherited,
  ): HardwareMember[] {
    const members: HardwareMember[] = [];
    for (const each of elements) {
      if (each.name !== "register" && each.name !== "cluster") continue;
      this.#findings.count(each.at);
      if (scopes.length > MAX_DEPTH) {
        this.#findings.mistake(each.at, `There are more than ${MAX_DEPTH} clusters in one another`);
        return members;
      }
      const element = this.#derivations.resolve(each, scopes);
      const part = {
        name: this.#placeholder(this.#nameOf(element)),
        offset: this.#needed(element, "addressOffset") ?? 0n,
        repeat: this.#repeatOf(element),
        isAlternative: isAlternative(element),
        at: each.at,
      };
      const own = this.#inherit(element, inherited);
      const inside = [element, ...scopes];
      members.push(
        each.name === "register"
          ? { ...part, ...this.#register(element, inside, own) }
          : { ...part, kind: "group", members: this.#members(element.children, inside, own) },
      );
    }
    return members;
  }

  #register(
    element: XmlElement,
    scopes: Scopes,
    { size, access, reset, mask }: Inherited,
  ): Omit<HardwareRegister, "name" | "offset" | "repeat" | "isAlternative" | "at"> {
    const words = { ...this.#accessWords(element), access };
    const bits = Number(size > 4096n ? 4096n : size);
    const isOwn = child(element, "resetValue") !== undefined; // else it may be that of a wider one
    const value = reset === undefined || isOwn ? reset : BigInt.asUintN(bits, reset);
    const own = accessOf(words);
    const fields = childrenOf(child(element, "fields"), "field")
      .flatMap((each) => this.#fields(each, scopes, words));
    if (own.unsaid !== undefined) {
      noteUnsaid(element.at, this.#nameOf(element), own.unsaid, this.#findings);
    }
    return {
      kind: "register",
      description: textOf(element, "description") ?? textOf(element, "displayName"),
      bits,
      access: own.access,
      readChanges: own.readChanges || fields.some(({ readChanges }) => readChanges),
      reset: mask === 0n || value === undefined ? undefined : value & (mask ?? value),
      fields,
    };
  }

  /** One field, or each of several. */
  #fields(
    from: XmlElement,
    scopes: Scopes,
    { access, write, read }: AccessWords,
  ): (HardwareField & { readonly readChanges: boolean })[] {
    this.#findings.count(from.at);
    const element = this.#derivations.resolve(from, scopes);
    const { at } = from;
    const bits = this.#bitsOf(element);
    const name = this.#placeholder(this.#nameOf(element));
    if (bits === undefined) return [];
    const own = this.#accessWords(element);
    const right = accessOf({
      access: own.access ?? access,
      write: own.write ?? write,
      read: own.read ?? read,
    });
    if (own.write !== undefined && right.unsaid !== undefined) {
      noteUnsaid(from.at, this.#nameOf(from), own.write, this.#findings);
    }
    const isOwn = own.access !== undefined || own.write !== undefined || own.read !== undefined;
    this.#findings.look(at, scopes[0]!.children.length);
    const field = {
      description: textOf(element, "description"),
      width: bits.width,
      access: isOwn ? right.access : undefined,
      readChanges: right.readChanges,
      values: this.#valuesOf(element, textOf(scopes[0]!, "name") ?? ""),
      at,
    };
    const repeat = this.#repeatOf(element);
    if (repeat === undefined) return [{ ...field, name, low: bits.low }];
    if (repeat.count > 64) {
      this.#findings.mistake(at, `${repeat.count} fields do not fit a register`);
      return [];
    }
    return namesOf(name, repeat).map((name, i) => {
      return { ...field, name, low: bits.low + i * Number(repeat.stride) };
    });
  }

  /** Reads bitOffset and bitWidth, lsb and msb, or bitRange. */
  #bitsOf(element: XmlElement): { low: number; width: number } | undefined {
    const range = child(element, "bitRange");
    const text = wordsOf(range);
    if (range !== undefined && text !== undefined) {
      const bits = readBitRange(text);
      if (bits !== undefined && bits.high >= bits.low) {
        return { low: bits.low, width: bits.high - bits.low + 1 };
      }
      this.#findings.mistake(range.at, `"${text}" are no bits`, "write them as [7:4]");
      return undefined;
    }
    const isEnds = child(element, "lsb") !== undefined;
    const low = this.#needed(element, isEnds ? "lsb" : "bitOffset");
    const other = isEnds ? this.#needed(element, "msb") : this.#number(element, "bitWidth");
    if (low === undefined || low > 4096n || other !== undefined && other > 4096n) return undefined;
    const width = isEnds ? (other ?? low) - low + 1n : other ?? 1n;
    if (width >= 1n) return { low: Number(low), width: Number(width) };
    const end = isEnds ? "msb" : "bitWidth";
    this.#findings.mistake(
      child(element, end)!.at,
      `The field ${this.#nameOf(element)} has no bits`,
    );
  }

  /** Values and names: those for reading first, if there are others for writing. */
  #valuesOf(field: XmlElement, register: string): (readonly [bigint, string])[] {
    const lists = childrenOf(field, "enumeratedValues").map((each) => {
      const path = each.attributes?.get("derivedFrom");
      if (path === undefined) return each;
      const other = this.#values.find(path, register, this.#peripheral);
      if (other !== undefined) return other;
      this.#findings.mistake(
        each.at,
        `There are no <enumeratedValues> "${path}" to be derived from`,
      );
      return each;
    });
    const isWritten = (list: XmlElement) => textOf(list, "usage") === "write";
    const sorted = lists.toSorted((a, b) => Number(isWritten(a)) - Number(isWritten(b)));
    return sorted.flatMap((list) =>
      childrenOf(list, "enumeratedValue").flatMap((each) => {
        this.#findings.count(each.at);
        return this.#value(each);
      })
    );
  }

  #value(element: XmlElement): (readonly [bigint, string])[] {
    const value = child(element, "value");
    const name = textOf(element, "name") ?? textOf(element, "description");
    const text = wordsOf(value);
    if (value === undefined || text === undefined || name === undefined) return []; // the default
    const values = readSvdValues(text);
    if (values !== undefined) return values.map((each) => [each, name] as const);
    if (/^\+?(?:#|0[bB])[01xX]{1,64}$/.test(text)) {
      this.#findings.note(value.at, `"${text}" stands for too many values, and is left out`);
    } else {
      this.#findings.mistake(value.at, `"${text}" is no value`, "write it as 2, 0x2, 0b10 or 0b1x");
    }
    return [];
  }

  #repeatOf(element: XmlElement): Repeat | undefined {
    const dim = child(element, "dim");
    if (dim === undefined) return undefined;
    const count = this.#number(element, "dim");
    const stride = this.#needed(element, "dimIncrement");
    if (count === undefined || stride === undefined) return undefined;
    if (count < 1n || count > BigInt(MAX_COUNT)) {
      this.#findings.mistake(dim.at, `<dim> is ${count}, not a number from 1 to ${MAX_COUNT}`);
      return undefined;
    }
    const name = textOf(element, "name") ?? "";
    if (!name.includes("%s")) {
      this.#findings.mistake(dim.at, `${name} has <dim>, but no %s in its name`);
      return undefined;
    }
    this.#findings.count(dim.at, Number(count));
    const labels = this.#labelsOf(element, Number(count));
    const isArray = name.includes("[%s]") && labels.every((each, i) => each === String(i));
    return { count: Number(count), stride, labels: isArray ? undefined : labels };
  }

  #labelsOf(element: XmlElement, count: number): string[] {
    const index = child(element, "dimIndex");
    const text = wordsOf(index);
    const plain = Array.from({ length: count }, (_, i) => String(i));
    if (index === undefined || text === undefined) return plain;
    const labels = readSvdIndex(text, MAX_COUNT);
    if (labels?.length === count) return labels;
    this.#findings.mistake(
      index.at,
      labels === undefined
        ? `"${text}" is no <dimIndex>`
        : `<dimIndex> has ${plural(labels.length, "name")}, and <dim> is ${count}`,
      "write it as 0-3, A-D or A,B,C",
    );
    return plain;
  }

  #inherit(element: XmlElement, around: Inherited): Inherited {
    const size = this.#number(element, "size");
    if (size === 0n) this.#findings.mistake(child(element, "size")!.at, "A register has no bits");
    return {
      size: size ?? around.size,
      access: this.#accessWords(element).access ?? around.access,
      reset: this.#number(element, "resetValue") ?? around.reset,
      mask: this.#number(element, "resetMask") ?? around.mask,
    };
  }

  #accessWords(element: XmlElement): AccessWords {
    return {
      access: readAccess(child(element, "access"), this.#findings),
      write: textOf(element, "modifiedWriteValues"),
      read: textOf(element, "readAction"),
    };
  }

  #nameOf(element: XmlElement): string {
    const name = textOf(element, "name");
    if (name !== undefined) return this.#findings.name(element.at, name);
    this.#findings.mistake(element.at, `<${element.name}> has no <name>`);
    return "";
  }

  /** A name whose index, if it has one, is `%s` alone. */
  #placeholder(name: string): string {
    return name.replace("[%s]", "%s");
  }

  #needed(element: XmlElement, name: string): bigint | undefined {
    if (child(element, name) !== undefined) return this.#number(element, name);
    this.#findings.mistake(element.at, `<${element.name}> has no <${name}>`);
  }

  #number(element: XmlElement, name: string): bigint | undefined {
    const found = child(element, name);
    if (found === undefined) return undefined;
    const text = wordsOf(found) ?? "";
    const number = readSvdNumber(text);
    if (number !== undefined) return number;
    const hint = "write it as 16, 0x10 or #10000";
    this.#findings.mistake(found.at, `<${name}> is "${text}", not a number`, hint);
  }
}

/** The names of all that repeat. */
function namesOf(name: string, repeat: Repeat | undefined): string[] {
  if (repeat === undefined) return [name];
  return Array.from({ length: repeat.count }, (_, i) => {
    const label = repeat.labels?.[i] ?? String(i);
    return name.replace("[%s]", label).replace("%s", label);
  });
}

function isAlternative(element: XmlElement): boolean {
  return ["alternateRegister", "alternateGroup", "alternateCluster"]
    .some((name) => child(element, name) !== undefined);
}
