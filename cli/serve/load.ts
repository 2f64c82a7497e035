/**
 * Devices by name, or from modules of the user's.
 *
 * @module
 */

import type { DeviceDefinition } from "../../lib/define/definition.ts";
import type { ServedDevice } from "../../lib/server/served_device.ts";
import { nearest } from "../../lib/text/nearest.ts";
import { pathOf } from "../shared/file_url.ts";
import type { Output } from "../shared/context.ts";
import { printable } from "../shared/printable.ts";
import { blamed, ModuleError } from "./blame.ts";
import { UsageError } from "./usage.ts";

/** A thing that can be served: a device, a definition, or a function that returns either. */
export type Source =
  | DeviceDefinition
  | ServedDevice
  | ((options: Record<string, string>) => unknown);

/** A loaded device, and its name. */
export interface Loaded {
  /** A word for people: that of the definition, or of the file. */
  readonly name: string;
  readonly source: Source;
}

/** The devices that come with vfu, by the name that they are served under. */
const BUILT_IN: Readonly<Record<string, () => Promise<Source>>> = {
  demo: async () => (await import("../../lib/devices/demo.ts")).demoDevice,
};

/** Names of the devices that come with `vfu`. */
export const BUILTIN_DEVICES: readonly string[] = Object.keys(BUILT_IN);

const FORMS = "export default defineDevice({...}), a ServedDevice, or a function that returns one";

/** Returns the URL by which a module is imported. */
export type Versions = (url: URL) => URL;

/** The time after which a module is late, in milliseconds: what it awaits may never come. */
export const LOAD_MS = 10_000;

/** The way in which a module is loaded. */
export interface LoadOptions {
  /** Default: the URL as it is. */
  readonly versions?: Versions | undefined;
  /** Hears that the module is late, which is waited for all the same. */
  readonly err?: Pick<Output, "write">;
}

/**
 * Loads what is called `device`: the name of one that comes with vfu, or the path of a module.
 *
 * @throws {UsageError} if there is no such name
 * @throws {Error} if the module can't be loaded, or its default export is no device: the message
 * says what to do
 */
export async function loadDevice(
  device: string,
  { versions = (url) => url, err }: LoadOptions = {},
): Promise<Loaded> {
  if (Object.hasOwn(BUILT_IN, device)) return { name: device, source: await BUILT_IN[device]!() };
  if (!isModule(device)) throw new UsageError(unknownName(device));
  const url = await urlOf(device);
  const name = device.replace(/^.*\//, "").replace(/\.[^.]*$/, "");
  const late = `${device} is not loaded after ${LOAD_MS / 1000} s: it awaits something`;
  const timer = setTimeout(() => err?.write(`${printable(late)}\n`), LOAD_MS);
  const module = await importModule(device, url, versions(url))
    .finally(() => clearTimeout(timer));
  const source = defaultExport(device, url, module);
  return { name: isDefinition(source) ? source.name : name, source };
}

/** Reports whether it is made with options. */
export function isDefinition(value: unknown): value is DeviceDefinition {
  return isObject(value) && typeof value["create"] === "function" && isObject(value["options"]);
}

/** Reports whether it can be served as it is. */
export function isServedDevice(value: unknown): value is ServedDevice {
  return isObject(value) && typeof value["flags"] === "number" &&
    Array.isArray(value["regions"]) && Array.isArray(value["irqs"]) &&
    typeof value["reset"] === "function";
}

/** Writes what is wrong with a value that is no device. */
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

/** Tells whether a device is named by the path of a module. */
export function isModule(device: string): boolean {
  return device.includes("/") || /\.[cm]?[jt]sx?$/.test(device);
}

function unknownName(device: string): string {
  const meant = nearest(device, Object.keys(BUILT_IN));
  const hint = meant === undefined ? "write" : `did you mean "${meant}"? Write`;
  const known = Object.keys(BUILT_IN).join(", ");
  const example = /^\w+$/.test(device) ? device : "device";
  return `there is no device "${device}"; ${hint} ${known}, or the path of a module, ` +
    `as ./${example}.ts`;
}

/** Relative to the folder of this process. */
export async function urlOf(path: string): Promise<URL> {
  // Takes as long to load as a small probe: only where it is needed
  const { pathToFileURL } = await import("node:url");
  return path.startsWith("file:") ? new URL(path) : pathToFileURL(path);
}

async function importModule(
  device: string,
  url: URL,
  version: URL,
): Promise<Record<string, unknown>> {
  assertIsFile(device, url);
  try {
    return await import(version.href);
  } catch (cause) {
    throw blamed(`Cannot load ${device}`, cause, { explain });
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

/** A message of the loader, with what to do about it. */
function explain(message: string): string {
  const [first = ""] = message.split("\n");
  if (first.startsWith("Requires read access")) {
    return "reading it takes a permission; run deno with --allow-read";
  }
  if (first.includes("not a dependency and not in import map")) {
    return `${first}; import what it needs of vfu from "@vfu/vfu", ` +
      "the rest by relative paths or npm: names";
  }
  return first.replace(/\.$/, "");
}

/** The exports of a module that `vfu serve` takes. */
function defaultExport(device: string, url: URL, module: Record<string, unknown>): Source {
  const source = module["default"];
  const refuse = (code: RegExp, reason: string): never => {
    const place = { file: pathOf(url.pathname), ...positionOf(url, code) };
    throw new ModuleError(place, `Cannot serve ${device}: ${reason}`);
  };
  if (source === undefined) {
    const [name] = Object.entries(module).find(([, each]) =>
      isDefinition(each) || isServedDevice(each)
    ) ?? [];
    return name === undefined ? refuse(/^/, `it has no default export; ${FORMS}`) : refuse(
      new RegExp(`\\bexport\\b.*\\b${name}\\b`),
      `it has no default export; write: export default ${name}`,
    );
  }
  const DEFAULT = /\bexport\s+default\b|\bas\s+default\b/;
  if (typeof source === "function") {
    if (/^class\b/.test(Function.prototype.toString.call(source))) {
      const { name } = source;
      return refuse(DEFAULT, `its default export is a class; export default () => new ${name}()`);
    }
    return source as Source;
  }
  if (isDefinition(source) || isServedDevice(source)) return source;
  return refuse(DEFAULT, `its default export is ${notDevice(source)}`);
}

/** The first place of some code in a module; its first line if that can't be read. */
function positionOf(url: URL, code: RegExp): { line: number; column: number } {
  let lines: string[] = [];
  try {
    lines = Deno.readTextFileSync(url).split("\n");
  } catch {
    // The module was loaded all the same.
  }
  const index = lines.findIndex((line) => code.test(line));
  return { line: Math.max(index, 0) + 1, column: Math.max(lines[index]?.search(code) ?? 0, 0) + 1 };
}
