/**
 * Objects that refuse names which they do not have, so that a misspelt name is an error and not
 * `undefined`.
 *
 * The last object of their prototype chain is a proxy. A name that an object or its class has is
 * found ahead of the proxy, as fast as without it.
 *
 * @module
 */

import { alternatives } from "./mistakes.ts";

/** The function, on a sealed object or its prototype, by which messages call the object. */
const CALLED = Symbol("called");

/** Names that the language looks for in any object: `await` and `JSON.stringify` do. */
const ASKED = new Set(["then", "toJSON"]);

const base = {};

/** The end of the prototype chain of every sealed object. */
const REFUSER: object = new Proxy(base, {
  get(target, key, receiver) {
    if (typeof key === "symbol" || key in target || ASKED.has(key)) {
      return Reflect.get(target, key, receiver);
    }
    throw unknownName("read", receiver, key);
  },
  set(_target, key, _value, receiver) {
    throw unknownName("write", receiver, String(key));
  },
});

/** The name of an object in messages, and what they propose for a name that it does not have. */
export interface SealOptions<T> {
  /** Its path, as "options". */
  readonly path: string | ((self: T) => string);
  /** A remedy that is better than the nearest name, for some names. */
  readonly remedy?: (self: T, name: string) => string | undefined;
}

/**
 * Has the objects of a class refuse names that they do not have. A read or write of such a name
 * throws a `TypeError` with the nearest name.
 *
 * @param prototype of the class, which extends no other
 *
 * @example
 * ```ts
 * import { sealClass } from "./sealed.ts";
 *
 * class Lamp {
 *   isOn = false;
 *   static {
 *     sealClass<Lamp>(this.prototype, { path: "lamp" });
 *   }
 * }
 * let isRefused = false;
 * try {
 *   // Cannot write lamp.isOnn: unknown; did you mean "isOn"?
 *   Reflect.set(new Lamp(), "isOnn", true);
 * } catch {
 *   isRefused = true;
 * }
 * if (!isRefused) throw new Error();
 * ```
 */
export function sealClass<T extends object>(prototype: T, options: SealOptions<T>): void {
  Object.defineProperty(prototype, CALLED, { value: options });
  Object.setPrototypeOf(prototype, REFUSER);
}

/** Freezes an object, and has it refuse names as {@linkcode sealClass} does. Returns the object. */
export function sealed<T extends object>(object: T, options: SealOptions<T>): Readonly<T> {
  sealClass(object, options);
  return Object.freeze(object);
}

/** Tells whether an object is one of {@linkcode sealed}, with no prototype of its own. */
export function isSealedObject(object: object): boolean {
  return Object.getPrototypeOf(object) === REFUSER;
}

/**
 * Makes the part of an object that is handed out: the members of an interface, sealed.
 *
 * @param path by which messages call it
 * @param names all names of the interface
 */
export function handedOut<I extends object>(
  path: string,
  object: I,
  names: Readonly<Record<keyof I, true>>,
): I {
  const face = {};
  for (const name of Object.keys(names) as (keyof I & string)[]) {
    const prototype = Object.getPrototypeOf(object);
    const isAccessor = Object.getOwnPropertyDescriptor(prototype, name)?.get !== undefined;
    const member = isAccessor ? undefined : object[name];
    Object.defineProperty(
      face,
      name,
      isAccessor
        ? { enumerable: true, get: () => object[name] }
        : { enumerable: true, value: typeof member === "function" ? member.bind(object) : member },
    );
  }
  return sealed(face as I, { path }) as I;
}

function unknownName(verb: "read" | "write", object: object, name: string): TypeError {
  const { path, remedy } = (object as { [CALLED]: SealOptions<object> })[CALLED];
  const called = typeof path === "string" ? path : path(object);
  const hint = remedy?.(object, name) ?? alternatives(name, namesOf(object));
  return new TypeError(`Cannot ${verb} ${called}.${name}: unknown; ${hint}`);
}

/** Names of an object and its class. */
function namesOf(object: object): string[] {
  const names: string[] = [];
  for (let each = object; each !== REFUSER; each = Object.getPrototypeOf(each)) {
    names.push(...Object.getOwnPropertyNames(each).filter((name) => name !== "constructor"));
  }
  return names;
}
