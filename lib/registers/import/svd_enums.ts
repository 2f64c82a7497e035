/**
 * `enumeratedValues` of CMSIS-SVD that are those of another field. They are called by their name,
 * with as much of the path ahead as is needed: `ENABLED`, `CTRL.EN.ENABLED`.
 *
 * @module
 */

import { childrenOf, textOf, type XmlElement } from "./xml.ts";

/** The names of a path that are looked at, from its end. */
const MAX_NAMES = 4;

/** The elements on the way from a peripheral to values. */
const PATH: ReadonlySet<string> = new Set(["cluster", "register", "field", "enumeratedValues"]);
const LISTS: ReadonlySet<string> = new Set(["registers", "fields"]);

/** Finds values by their names. */
export class EnumeratedValues {
  readonly #peripherals: readonly XmlElement[];
  readonly #indexes = new Map<XmlElement, ReadonlyMap<string, XmlElement>>();
  #everywhere: ReadonlyMap<string, XmlElement> | undefined;

  /** @param device the outermost element */
  constructor(device: XmlElement) {
    const lists = childrenOf(device, "peripherals");
    this.#peripherals = lists.flatMap((each) => childrenOf(each, "peripheral"));
  }

  /**
   * Finds values: those of the register first, then of its peripheral, then of others.
   *
   * @param peripheral as it is after its derivation
   */
  find(path: string, register: string, peripheral: XmlElement): XmlElement | undefined {
    const own = this.#indexOf(peripheral);
    const near = own.get(`${register}/${path}`) ?? own.get(path);
    if (near !== undefined) return near;
    this.#everywhere ??= this.#all();
    return this.#everywhere.get(`/${path}`) ?? this.#everywhere.get(path);
  }

  /** The values of all peripherals: by their paths, and behind "/" and their peripheral. */
  #all(): ReadonlyMap<string, XmlElement> {
    const all = new Map<string, XmlElement>();
    const add = (key: string, element: XmlElement) => {
      if (!all.has(key)) all.set(key, element);
    };
    const names = new Set<string | undefined>();
    for (const each of this.#peripherals) {
      const name = textOf(each, "name");
      const isFirst = !names.has(name);
      names.add(name);
      for (const [path, element] of this.#indexOf(each)) {
        add(path, element);
        if (isFirst) add(`/${name}.${path}`, element);
      }
    }
    return all;
  }

  /** The values of a peripheral by the ends of their paths, alone and behind their register. */
  #indexOf(peripheral: XmlElement): ReadonlyMap<string, XmlElement> {
    const known = this.#indexes.get(peripheral);
    if (known !== undefined) return known;
    const index = new Map<string, XmlElement>();
    const add = (key: string, element: XmlElement) => {
      if (!index.has(key)) index.set(key, element);
    };
    const visit = (element: XmlElement, path: readonly string[], register: string) => {
      if (LISTS.has(element.name)) {
        return element.children.forEach((each) => visit(each, path, register));
      }
      const name = PATH.has(element.name) ? textOf(element, "name") : undefined;
      if (name === undefined) return;
      const names = [...path, name];
      if (element.name !== "enumeratedValues") {
        const around = element.name === "register" ? name : register;
        return element.children.forEach((each) => visit(each, names, around));
      }
      for (let i = 1; i <= MAX_NAMES && i <= names.length; i++) {
        const end = names.slice(-i).join(".");
        add(end, element);
        add(`${register}/${end}`, element);
      }
    };
    peripheral.children.forEach((each) => visit(each, [], ""));
    this.#indexes.set(peripheral, index);
    return index;
  }
}
