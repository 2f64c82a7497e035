/**
 * The parts of Node.js that commander and yaml use, for a bundle. As CommonJS these ask for them
 * with `require`. Loading the real parts takes as long as the rest of a probe. They are loaded when
 * something is used that is not here.
 *
 * @module
 */

/** A listener of an event. */
type Listener = (...args: unknown[]) => void;

/** The events of commander's commands. */
class EventEmitter {
  readonly #listeners = new Map<string, Listener[]>();

  /** Adds a listener. */
  on(name: string, listener: Listener): this {
    const all = this.#listeners.get(name) ?? [];
    this.#listeners.set(name, [...all, listener]);
    return this;
  }

  /** Calls the listeners, and reports whether there are any. */
  emit(name: string, ...args: unknown[]): boolean {
    const all = this.#listeners.get(name) ?? [];
    for (const listener of all) listener.apply(this, args);
    return all.length > 0;
  }

  /** Returns the number of listeners. */
  listenerCount(name: string): number {
    return this.#listeners.get(name)?.length ?? 0;
  }
}

const realProcess = Object.getOwnPropertyDescriptor(globalThis, "process")!;

/** Reads the process of Node.js, which has all its modules. */
function real(): { getBuiltinModule(name: string): object } {
  return realProcess.get === undefined ? realProcess.value : realProcess.get.call(globalThis);
}

/** An object whose properties are those of `known`, and else of what `load` returns. */
function lazy(load: () => object, known: object = {}): object {
  return new Proxy(known, {
    get: (target, key) => Reflect.get(Object.hasOwn(target, key) ? target : load(), key),
    has: (target, key) => Object.hasOwn(target, key) || Reflect.has(load(), key),
  });
}

/** The environment looks empty: yaml and commander look into it for switches of their own. */
const process = lazy(real, { env: {} });

const PROVIDED: Readonly<Record<string, object>> = { process, events: { EventEmitter } };

/** Returns a module of Node.js. */
function require(name: string): object {
  const short = name.replace(/^node:/, "");
  return PROVIDED[short] ?? lazy(() => real().getBuiltinModule(name));
}

/** Makes `require` and `process` global, before a bundle is loaded. */
export function provideRequire(): void {
  Object.defineProperty(globalThis, "process", { value: process, writable: true });
  Object.assign(globalThis, { require });
}
