/**
 * `derivedFrom` of CMSIS-SVD: elements that are like another one, but for what they say themselves.
 *
 * @module
 */

import { nearest } from "../../text/nearest.ts";
import type { Findings } from "./findings.ts";
import { child, MAX_DEPTH, textOf, type XmlElement } from "./xml.ts";

/** Lists in an element, whose members are added to those of the other one. */
const LISTS: ReadonlySet<string> = new Set(["registers", "fields"]);
/** Elements that a path leads through, and those that have such elements in them. */
const NAMED: ReadonlySet<string> = new Set(["peripheral", "register", "cluster", "field"]);
const CONTAINERS: ReadonlySet<string> = new Set(["peripherals", "registers", "fields"]);
/** Properties of an element that another one does not have from it. */
const OWN: ReadonlySet<string> = new Set([
  "alternatePeripheral",
  "alternateRegister",
  "alternateGroup",
  "alternateCluster",
]);
const REPETITION = /^dim/;
/** Names that are looked at for one that was probably meant. */
const MAX_HINTS = 1000;

/** The elements around one, from the inside out: each as it is after its own derivation. */
export type Scopes = readonly XmlElement[];

/** An element, with those around it. */
interface Found {
  readonly element: XmlElement;
  readonly scopes: Scopes;
}

/** Finds what elements are derived from. */
export class Derivations {
  readonly #device: XmlElement;
  readonly #findings: Findings;
  readonly #done = new Map<XmlElement, XmlElement>();
  readonly #doing = new Set<XmlElement>();
  readonly #names = new Map<XmlElement, ReadonlyMap<string, XmlElement>>();

  /** @param device the outermost element */
  constructor(device: XmlElement, findings: Findings) {
    this.#device = device;
    this.#findings = findings;
  }

  /**
   * The element with all that it takes from others. A name that there is not, and a circle, are
   * noted as mistakes.
   */
  resolve(element: XmlElement, scopes: Scopes): XmlElement {
    const path = element.attributes?.get("derivedFrom");
    if (path === undefined) return element;
    const done = this.#done.get(element);
    if (done !== undefined) return done;
    if (this.#doing.has(element)) {
      this.#findings.mistake(
        element.at,
        `<${element.name}> is derived from itself, over "${path}"`,
      );
      return element;
    }
    if (this.#doing.size === MAX_DEPTH) {
      this.#findings.mistake(element.at, `It is derived over more than ${MAX_DEPTH} others`);
      return element;
    }
    this.#doing.add(element);
    const resolved = this.#derive(element, path, scopes);
    this.#doing.delete(element);
    this.#done.set(element, resolved);
    return resolved;
  }

  #derive(element: XmlElement, path: string, scopes: Scopes): XmlElement {
    const all = [...scopes, this.#device];
    for (const [i, scope] of all.entries()) {
      const base = this.#follow(scope, path.split("."), element.name, scopes.slice(i));
      if (base === undefined || base.element === element) continue;
      const from = this.resolve(base.element, base.scopes);
      this.#findings.look(element.at, sizeOf(from) + sizeOf(element));
      return merged(from, element);
    }
    const prefix = `${element.name} `;
    const names = all.flatMap((each) => [...this.#namesIn(each).keys().take(MAX_HINTS)])
      .flatMap((key) => key.startsWith(prefix) ? [key.slice(prefix.length)] : []);
    const meant = nearest(path, names);
    this.#findings.mistake(
      element.at,
      `There is no <${element.name}> "${path}" to be derived from`,
      meant && `did you mean "${meant}"?`,
    );
    return element;
  }

  /** Follows a path of names down from a scope. */
  #follow(
    scope: XmlElement,
    [name, ...rest]: readonly string[],
    kind: string,
    scopes: Scopes,
  ): Found | undefined {
    const names = this.#namesIn(scope);
    if (rest.length === 0) {
      const element = names.get(`${kind} ${name}`);
      return element && { element, scopes };
    }
    const next = names.get(name!);
    if (next === undefined) return undefined;
    const inner = this.resolve(next, scopes);
    return this.#follow(inner, rest, kind, [inner, ...scopes]);
  }

  /** The elements in a scope that have names: by the name, and by kind and name. */
  #namesIn(scope: XmlElement): ReadonlyMap<string, XmlElement> {
    const known = this.#names.get(scope);
    if (known !== undefined) return known;
    const names = new Map<string, XmlElement>();
    const add = (key: string, element: XmlElement) => {
      if (!names.has(key)) names.set(key, element);
    };
    const visit = (element: XmlElement) => {
      if (CONTAINERS.has(element.name)) return element.children.forEach(visit);
      const name = NAMED.has(element.name) ? textOf(element, "name") : undefined;
      if (name === undefined) return;
      for (const each of [name, plainName(name)]) {
        add(each, element);
        add(`${element.name} ${each}`, element);
      }
    };
    scope.children.forEach(visit);
    this.#names.set(scope, names);
    return names;
  }
}

/** A name as others call it: `CH` for `CH[%s]`. */
function plainName(name: string): string {
  return name.replace("[%s]", "").replace("%s", "");
}

/** Elements in an element, and in its lists. */
function sizeOf({ children }: XmlElement): number {
  const lists = children.filter(({ name }) => LISTS.has(name));
  return lists.reduce((sum, list) => sum + list.children.length, children.length);
}

/** An element with what it lacks taken from another. */
function merged(base: XmlElement, own: XmlElement): XmlElement {
  const names = new Set(own.children.map(({ name }) => name));
  const repeats = textOf(own, "name")?.includes("%s") ?? false;
  const isTaken = ({ name }: XmlElement) =>
    !names.has(name) && !OWN.has(name) && !isMember(base, name) &&
    (repeats || !REPETITION.test(name));
  const taken = base.children.filter(isTaken);
  const children = own.children.filter(({ name }) => !isMember(own, name)).map((each) => {
    const other = LISTS.has(each.name) ? child(base, each.name) : undefined;
    return other ? { ...each, children: both(other.children, each.children) } : each;
  });
  const membersOf = (of: XmlElement) => of.children.filter(({ name }) => isMember(of, name));
  return { ...own, children: [...children, ...taken, ...both(membersOf(base), membersOf(own))] };
}

/** The registers of a cluster are in no list of their own. */
function isMember({ name: kind }: XmlElement, name: string): boolean {
  return kind === "cluster" && (name === "register" || name === "cluster");
}

/** Members of two lists: those of the second take the place of those with their names. */
function both(base: readonly XmlElement[], own: readonly XmlElement[]): XmlElement[] {
  const names = new Set(own.map((each) => textOf(each, "name")));
  return [...base.filter((each) => !names.has(textOf(each, "name"))), ...own];
}
