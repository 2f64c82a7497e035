/**
 * The place where a device was defined, for what is found wrong with it later.
 *
 * @module
 */

const origins = new WeakMap<object, Error>();

/** Keeps the place that defines a device now. */
export function keepOrigin(definition: object): void {
  origins.set(definition, new Error("The device is defined here"));
}

/** An error whose stack says where a device was defined; undefined if `defineDevice` did not. */
export function originOf(definition: object): Error | undefined {
  return origins.get(definition);
}
