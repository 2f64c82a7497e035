/**
 * Wrappers of devices and regions: the same but for some members, for programs that watch or alter
 * what a device does.
 *
 * @module
 */

import type { ServedDevice, ServedRegion } from "./served_device.ts";

/**
 * Wraps a device: the result does as the device does, except for the members that are given.
 *
 * Spread (`{ ...device }`) leaves the methods of its class out. A `Proxy` calls them with itself in
 * place of the device, and lacks the private fields. Here methods are called
 * with the device. The device calls its own methods, not those of the wrapper.
 *
 * @param device serve the wrapper alone, which closes the device
 *
 * @example Counts the reads of a region
 * ```ts
 * import { DemoDevice } from "../devices/demo_device.ts";
 * import { embed } from "./embedded.ts";
 * import { wrapDevice, wrapRegion } from "./wrap.ts";
 * import { connect } from "../client/connect.ts";
 *
 * let reads = 0;
 * const demo = new DemoDevice();
 * const [bar0, ...others] = demo.regions;
 * const counted = wrapRegion(bar0!, {
 *   read(offset, into) {
 *     reads++;
 *     return bar0!.read(offset, into);
 *   },
 * });
 * const device = wrapDevice(demo, { regions: [counted, ...others] });
 * using client = await connect(embed(device).fd);
 * await client.regionInfo(0);
 * await client.region("bar0").read32Async(0);
 * console.assert(reads === 1);
 * ```
 */
export function wrapDevice<T extends ServedDevice>(
  device: T,
  members: Partial<ServedDevice>,
): T {
  return wrap(device, members);
}

/**
 * Wraps a region, as {@linkcode wrapDevice} does a device: one of a served device, or one that
 * `registers`, `memory`, `callbacks` or `overlay` has made.
 *
 * @example A region that forgets what is written
 * ```ts
 * import { registers } from "../define/registers.ts";
 * import { wrapRegion } from "./wrap.ts";
 *
 * const map = { registers: [{ name: "A", offset: 0, width: 4 }] } as const;
 * const bar0 = wrapRegion(registers(map), { write: () => {} });
 * bar0.write(0, new Uint8Array([1]));
 * console.assert(bar0.regs.A.value === 0);
 * ```
 */
export function wrapRegion<T extends ServedRegion>(region: T, members: Partial<ServedRegion>): T {
  return wrap(region, members);
}

function wrap<T extends object>(target: T, members: object): T {
  const descriptors: PropertyDescriptorMap = {};
  for (const key of keysOf(target)) descriptors[key as string] = through(target, key as keyof T);
  Object.assign(descriptors, Object.getOwnPropertyDescriptors(members));
  // Of the target's class, all of whose members are hidden: `instanceof` holds for both.
  return Object.create(Object.getPrototypeOf(target), descriptors);
}

/** The names of all members, also those of classes. */
function keysOf(target: object): Set<PropertyKey> {
  const keys = new Set<PropertyKey>();
  for (let each = target; each !== Object.prototype && each !== null;) {
    for (const key of Reflect.ownKeys(each)) if (key !== "constructor") keys.add(key);
    each = Object.getPrototypeOf(each);
  }
  return keys;
}

/** A member that is that of the target: a method is called with the target. */
function through<T extends object>(target: T, key: keyof T): PropertyDescriptor {
  const isMethod = !isAccessor(target, key) && typeof target[key] === "function";
  if (isMethod) {
    const method = target[key] as (...args: unknown[]) => unknown;
    return { value: method.bind(target), enumerable: true, configurable: true, writable: true };
  }
  return {
    get: () => target[key],
    set: (value) => void (target[key] = value),
    enumerable: true,
    configurable: true,
  };
}

function isAccessor(target: object, key: PropertyKey): boolean {
  for (let each = target; each !== null; each = Object.getPrototypeOf(each)) {
    const found = Object.getOwnPropertyDescriptor(each, key);
    if (found !== undefined) return found.get !== undefined;
  }
  return false;
}
