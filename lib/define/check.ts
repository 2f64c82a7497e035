/**
 * Mistakes in a device as it is written. Types tell of most of them, but modules are run without their types being checked.
 *
 * @module
 */

import { nearest } from "../yaml/nearest.ts";

/** The regions that a device may have. */
export const REGION_NAMES = [
  "bar0",
  "bar1",
  "bar2",
  "bar3",
  "bar4",
  "bar5",
  "rom",
  "vga",
] as const;

const SPEC_KEYS = ["name", "title", "options", "pci", "create"];
const PART_KEYS = ["regions", "reset", "connected", "disconnected", "close", "state"];

/**
 * Checks what `defineDevice` is given.
 *
 * @throws {TypeError} that says what is missing, or what there is not
 */
export function checkSpec(spec: unknown): void {
  if (!isObject(spec) || typeof spec["name"] !== "string" || spec["name"] === "") {
    throw new TypeError('Cannot define a device without a name; give it a word, as name: "gpio"');
  }
  const doing = `Cannot define the device ${spec["name"]}`;
  if (!isObject(spec["pci"]) && typeof spec["pci"] !== "function") {
    throw new TypeError(`${doing}: pci is missing, as pci: { vendor: 0x1234, device: 0x0001 }`);
  }
  if (typeof spec["create"] !== "function") {
    throw new TypeError(`${doing}: create is missing, the function that makes one`);
  }
  checkKeys(doing, "key", spec, SPEC_KEYS);
}

/**
 * Checks what the `create` of a device has given.
 *
 * @throws {TypeError} that says what is missing, or what there is not
 */
export function checkParts(name: string, parts: unknown): void {
  const doing = `Cannot make the device ${name}`;
  if (parts instanceof Promise) {
    parts.catch(() => {}); // it is of no use any more
    throw new TypeError(
      `${doing}: its create is asynchronous; await what it needs ahead of defineDevice`,
    );
  }
  if (!isObject(parts) || !isObject(parts["regions"])) {
    throw new TypeError(`${doing}: its create gives no regions; return { regions: { bar0 } }`);
  }
  checkKeys(doing, "key", parts, PART_KEYS);
  const { regions } = parts;
  checkKeys(doing, "region", regions, REGION_NAMES);
  for (const [key, region] of Object.entries(regions)) {
    if (region === undefined || isRegion(region)) continue;
    throw new TypeError(
      `${doing}: its ${key} is no region; registers, memory, callbacks and overlay make them`,
    );
  }
}

function isRegion(value: unknown): boolean {
  return isObject(value) && isObject(value["bar"]) && typeof value["size"] === "number" &&
    typeof value["read"] === "function" && typeof value["write"] === "function";
}

function checkKeys(doing: string, what: string, object: object, known: readonly string[]): void {
  const wrong = Object.keys(object).find((key) => !known.includes(key));
  if (wrong === undefined) return;
  const meant = nearest(wrong, known);
  const hint = meant === undefined ? `there are ${known.join(", ")}` : `did you mean ${meant}?`;
  throw new TypeError(`${doing}: there is no ${what} ${wrong}; ${hint}`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
