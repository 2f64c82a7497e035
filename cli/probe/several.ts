/**
 * Several devices at once: a line each, or the differences of two.
 *
 * @module
 */

import { classNames } from "../../lib/pci/class.ts";
import type { ConfigSpace } from "../../lib/pci/config_space.ts";
import { hex, hexDigits } from "../../lib/text/hex.ts";
import { thrownText } from "../../lib/base/thrown.ts";
import { connectTo } from "../shared/connect.ts";
import type { Context } from "../shared/context.ts";
import { Reported } from "../shared/failure.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { humanSize } from "../shared/size.ts";
import { type Cell, tableLines } from "../shared/table.ts";
import { isSavedFile, type Probe, probeDevice } from "./collect.ts";
import { decodeSaved, readBytes, type SavedFunction, savedObject } from "./file.ts";
import { probeObject } from "./json.ts";
import type { ProbeOptions } from "./run.ts";
import { decodeProbe } from "./saved.ts";

/** A device as a line, or the functions that a file holds, or why there is none. */
type Summary =
  & { readonly socket: string }
  & (
    | { readonly probe: Probe }
    | { readonly saved: readonly SavedFunction[] }
    | { readonly saved: readonly SavedFunction[]; readonly probe: Probe } // all was saved
    | { readonly error: string }
  );

/**
 * Shows a line a device.
 *
 * @throws {Reported} if one could not be probed
 */
export async function summarize(
  context: Context,
  sockets: readonly string[],
  options: ProbeOptions,
): Promise<void> {
  const { out, signal } = context;
  const summaries = await Promise.all(sockets.map(async (socket): Promise<Summary> => {
    try {
      return isSavedFile(socket)
        ? await savedSummary(socket, signal)
        : { socket, probe: await probeAt(context, socket, options) };
    } catch (error) {
      signal.throwIfAborted();
      return { socket, error: thrownText(error) };
    }
  }));
  if (options.json) {
    const all = summaries.map((each) =>
      "saved" in each
        ? savedObject(each.socket, each.saved)
        : "probe" in each
        ? probeObject(each.socket, each.probe)
        : each
    );
    out.write(`${jsonText(all, 2)}\n`);
  } else {
    const { columns, style } = out;
    const heading = ["socket", "version", "PCI", "class, regions, interrupts"]
      .map((text): Cell => ({ text, paint: style.dim }));
    const rows = summaries.flatMap((each): Cell[][] => {
      const name = printable(each.socket);
      if ("error" in each) {
        return [[name, "-", "-", { text: printable(each.error), paint: style.red }]];
      }
      if ("probe" in each) return [[name, ...probeCells(each.probe)]];
      return each.saved.map(({ slot, view: { space } }) => [
        slot === undefined ? name : `${name} ${slot}`,
        "-",
        idsText(space),
        space === undefined ? "too short to have a header" : classText(space),
      ]);
    });
    out.write(tableLines([heading, ...rows], { columns, indent: 0 }).join("\n") + "\n");
  }
  if (summaries.some((each) => "error" in each)) throw new Reported(1);
}

async function savedSummary(socket: string, signal: AbortSignal): Promise<Summary> {
  const bytes = await readBytes(socket, signal);
  const whole = await decodeProbe(socket, bytes);
  if (whole !== undefined) return { socket, saved: whole.functions, probe: whole.probe };
  return { socket, saved: await decodeSaved(socket, bytes) };
}

async function probeAt(context: Context, socket: string, options: ProbeOptions): Promise<Probe> {
  using connection = await connectTo(context, socket, options);
  return await probeDevice(connection.device, { sparse: false, ioFds: options.ioFds });
}

function probeCells({ negotiated, pci, regions, irqs }: Probe): string[] {
  const space = pci !== undefined && "value" in pci ? pci.value.space : undefined;
  const parts = [
    ...(space === undefined ? [] : [`${classText(space)};`]),
    ...regions.flatMap((region) =>
      "value" in region && region.value.size > 0n
        ? [`${region.name}=${humanSize(region.value.size).replace(" ", "")}`]
        : []
    ),
    ...irqs.flatMap((irq) =>
      "value" in irq && irq.value.count > 0 ? [`${irq.name}=${irq.value.count}`] : []
    ),
  ];
  return [`${negotiated.major}.${negotiated.minor}`, idsText(space), parts.join(" ")];
}

function idsText(space: ConfigSpace | undefined): string {
  if (space === undefined) return "-";
  return `${hexDigits(space.vendorId, 4)}:${hexDigits(space.deviceId, 4)}`;
}

function classText({ classCode }: ConfigSpace): string {
  const { base, sub } = classNames(classCode);
  return sub ?? base ?? hex(classCode);
}

/**
 * Shows in which facts two devices, or files of such, differ: a line each.
 *
 * @throws {Reported} if they differ
 */
export async function showDifferences(
  context: Context,
  [first, second]: readonly [string, string],
  options: ProbeOptions,
): Promise<void> {
  const [a, b] = [
    await factsOf(context, first, options),
    await factsOf(context, second, options),
  ];
  const paths = [...new Set([...a.keys(), ...b.keys()])];
  const differences = paths.filter((path) => a.get(path) !== b.get(path))
    .map((path) => ({ path, a: a.get(path) ?? null, b: b.get(path) ?? null }));
  const { out } = context;
  if (options.json) {
    out.write(`${jsonText({ a: first, b: second, differences }, 2)}\n`);
  } else {
    const lines = differenceLines(differences, a, b);
    if (lines.length > 0) out.write(`${lines.join("\n")}\n`);
  }
  if (differences.length > 0) throw new Reported(1);
}

/** A fact in which two devices differ; null where one does not have it. */
interface Difference {
  readonly path: string;
  readonly a: string | null;
  readonly b: string | null;
}

/** The differences for a person: what only one device has is a line, whatever is in it. */
function differenceLines(differences: readonly Difference[], a: Facts, b: Facts): string[] {
  const [inA, inB] = [partsOf(a), partsOf(b)];
  const paths = new Set(differences.map(({ path }) => path));
  const lines = differences.flatMap((each) => {
    if (paths.has(`${each.path.replace(/\.flags$/, "")}.flag_names`)) return []; // says the same
    const missing = ancestors(each.path).find((part) => inA.has(part) !== inB.has(part));
    if (missing === undefined) return `${each.path}: ${factText(each.a)} -> ${factText(each.b)}`;
    return `${missing}: ${inA.has(missing) ? "there -> absent" : "absent -> there"}`;
  });
  return [...new Set(lines)].map(printable);
}

/** The paths of all objects and lists that have facts. */
function partsOf(facts: Facts): ReadonlySet<string> {
  return new Set([...facts.keys()].flatMap(ancestors));
}

/** The objects around a fact, the outermost first. */
function ancestors(path: string): string[] {
  const keys = path.split(".");
  return keys.slice(1).map((_, i) => keys.slice(0, i + 1).join("."));
}

/** A fact for a person; a number in both bases, as ids and sizes are known by either. */
function factText(fact: string | null): string {
  if (fact === null) return "absent";
  if (fact === "") return "none";
  return /^\d{2,}$/.test(fact) ? `${fact} (${hex(BigInt(fact))})` : fact;
}

/** Facts by their paths, as "regions.bar0.size". */
type Facts = ReadonlyMap<string, string>;

async function factsOf(
  context: Context,
  socket: string,
  options: ProbeOptions,
): Promise<Facts> {
  const object = isSavedFile(socket)
    ? await savedFacts(socket, context.signal)
    : plain(probeObject(socket, await probeAt(context, socket, options)));
  const facts = new Map<string, string>();
  try {
    flatten(object, "", facts);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new Error(`Cannot decode ${socket}: ${error.message}`, { cause: error });
  }
  return facts;
}

/** An object as text and back: integers are the same as in a file then. */
function plain(object: object): unknown {
  return JSON.parse(jsonText(object));
}

/** A saved probe is compared as a whole, another file by its first function. */
async function savedFacts(path: string, signal: AbortSignal): Promise<unknown> {
  const bytes = await readBytes(path, signal);
  const saved = await decodeSaved(path, bytes);
  const text = new TextDecoder().decode(bytes);
  if (text.trimStart().startsWith("{")) {
    const json = JSON.parse(text) as object;
    if ("regions" in json) return json;
  }
  const { functions } = savedObject(path, saved);
  return plain({ pci: functions[0]?.pci ?? null });
}

/** Objects and lists in one another. Those of a probe are seven. */
const MAX_DEPTH = 100;
/** Keys that say nothing of the device. */
const LEFT_OUT: ReadonlySet<string> = new Set(["socket", "file", "pci.config"]);

/** @throws {SyntaxError} if a file has objects in objects without an end */
function flatten(value: unknown, path: string, facts: Map<string, string>, depth = 0): void {
  if (LEFT_OUT.has(path)) return;
  if (depth > MAX_DEPTH) throw new SyntaxError("its JSON is no probe: it goes too deep");
  if (Array.isArray(value)) {
    if (value.every((each) => typeof each !== "object")) facts.set(path, value.join(" "));
    else value.forEach((each, i) => flatten(each, joined(path, keyOf(each, i)), facts, depth + 1));
  } else if (typeof value === "object" && value !== null) {
    for (const [key, each] of Object.entries(value)) {
      flatten(each, joined(path, key), facts, depth + 1);
    }
  } else {
    facts.set(path, String(value));
  }
}

/** The name of an element where it has one, or else its own index, or its place. */
function keyOf(value: unknown, place: number): string {
  const { name, index, offset } = (value ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof name !== "string") return String(typeof index === "number" ? index : place);
  // Capabilities may be there several times; the offset of a region is that of its file.
  return typeof index !== "number" && typeof offset === "number" ? `${name}@${hex(offset)}` : name;
}

function joined(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}
