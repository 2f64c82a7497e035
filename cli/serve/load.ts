/**
 * Devices by name, or from modules of the user's.
 *
 * @module
 */

import type { DeviceDefinition } from "../../lib/define/definition.ts";
import type { ServedDevice } from "../../lib/server/device.ts";
import { nearest } from "../../lib/yaml/nearest.ts";
import { UsageError } from "./usage.ts";

/** What can be served: a device, what makes one, or a function that gives either. */
export type Source =
  | DeviceDefinition
  | ServedDevice
  | ((options: Record<string, string>) => unknown);

/** What was loaded, and under which name. */
export interface Loaded {
  /** A word for people: that of the definition, or of the file. */
  readonly name: string;
  readonly source: Source;
}

/** The devices that come with vfu, by the name that they are served under. */
const BUILT_IN: Readonly<Record<string, () => Promise<Source>>> = {
  demo: async () => {
    const { DemoDevice } = await import("../../lib/devices/demo.ts");
    return {
      name: "demo",
      title: "a device that shows one of each thing",
      options: {},
      create: () => new DemoDevice(),
    };
  },
};

const FORMS = "export default defineDevice({...}), a ServedDevice, or a function that returns one";

/**
 * Loads what is called `device`: the name of one that comes with vfu, or the path of a module.
 *
 * @throws {UsageError} if there is no such name
 * @throws {Error} if the module can't be loaded, or its default export is no device: the message says what to do
 */
export async function loadDevice(device: string): Promise<Loaded> {
  if (Object.hasOwn(BUILT_IN, device)) return { name: device, source: await BUILT_IN[device]!() };
  if (!isModule(device)) throw new UsageError(unknownName(device));
  const url = await urlOf(device);
  const name = device.replace(/^.*\//, "").replace(/\.[^.]*$/, "");
  const source = defaultExport(device, await importModule(device, url));
  return { name: isDefinition(source) ? source.name : name, source };
}

/** Whether it is made with options. */
export function isDefinition(value: unknown): value is DeviceDefinition {
  return isObject(value) && typeof value["create"] === "function" && isObject(value["options"]);
}

/** Whether it can be served as it is. */
export function isServedDevice(value: unknown): value is ServedDevice {
  return isObject(value) && typeof value["flags"] === "number" &&
    Array.isArray(value["regions"]) && Array.isArray(value["irqs"]) &&
    typeof value["reset"] === "function";
}

/** What is wrong with a value that is no device. */
export function notDevice(value: unknown): string {
  const what = value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
  if (!isObject(value)) return `${what.replace(/^a (?=[aeiou])/, "an ")}, not a device; ${FORMS}`;
  const missing = ["flags", "regions", "irqs", "reset"].filter((key) => !(key in value));
  const lack = missing.length === 0 ? "" : ` without ${missing.join(", ")}`;
  return `an object${lack}, not a device; ${FORMS}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** Whether a device is named by the path of a module. */
export function isModule(device: string): boolean {
  return device.includes("/") || /\.[cm]?[jt]sx?$/.test(device);
}

function unknownName(device: string): string {
  const meant = nearest(device, Object.keys(BUILT_IN));
  const hint = meant === undefined ? "" : ` did you mean "${meant}"?`;
  return `there is no device "${device}";${hint} There is demo, and any module by its path, as ./${device}.ts`;
}

/** Relative to the folder of this process. */
async function urlOf(path: string): Promise<URL> {
  const { pathToFileURL } = await import("node:url"); // takes as long to load as a small probe: only where it is needed
  return path.startsWith("file:") ? new URL(path) : pathToFileURL(path);
}

async function importModule(device: string, url: URL): Promise<Record<string, unknown>> {
  assertIsFile(device, url);
  try {
    return await import(url.href);
  } catch (cause) {
    throw new Error(`Cannot load ${device}: ${explain(cause)}`, { cause });
  }
}

/** Says at once what a failed import says of any module: that one is not there. */
function assertIsFile(device: string, url: URL): void {
  try {
    if (Deno.statSync(url).isFile) return;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) {
      throw new Error(`Cannot load ${device}: there is no such file`, { cause });
    }
    return; // the import says why
  }
  throw new Error(`Cannot load ${device}: it is not a file; give the path of a module`);
}

function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const [first, ...more] = error.message.split("\n");
  const place = /^ +at (file:.*)$/.exec(more.at(-1) ?? "")?.[1];
  const at = place === undefined ? "" : ` at ${place.replace("file://", "")}`;
  if (first!.startsWith("Requires read access")) {
    return "reading it takes a permission; run deno with --allow-read";
  }
  if (first!.includes("not a dependency and not in import map")) {
    return `${first}${at}; import what it needs of vfu from "@vfu/vfu", the rest by relative paths or npm: names`;
  }
  return `${first!.replace(/\.$/, "")}${at}`;
}

function defaultExport(device: string, module: Record<string, unknown>): Source {
  const source = module["default"];
  if (source === undefined) {
    throw new Error(`Cannot serve ${device}: it has no default export; ${FORMS}`);
  }
  if (typeof source === "function") {
    if (/^class\b/.test(Function.prototype.toString.call(source))) {
      const { name } = source;
      throw new Error(
        `Cannot serve ${device}: its default export is a class; export default () => new ${name}()`,
      );
    }
    return source as Source;
  }
  if (isDefinition(source) || isServedDevice(source)) return source;
  throw new Error(`Cannot serve ${device}: its default export is ${notDevice(source)}`);
}
