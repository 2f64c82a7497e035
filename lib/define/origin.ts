/**
 * The place where a device, or a part of it, was written, for what is found wrong with it later.
 *
 * @module
 */

const origins = new WeakMap<object, Error>();

/**
 * Keeps the place that makes an object now.
 *
 * @param origin an error whose stack has the place; default the caller's
 */
export function keepOrigin(object: object, origin: Error = new Error("It is made here")): void {
  origins.set(object, origin);
}

/** An error whose stack says where an object was made; undefined if nothing kept that. */
export function originOf(object: object): Error | undefined {
  return origins.get(object);
}
