/**
 * Configuration spaces that were saved in a file: of `lspci -x`, as raw bytes, or of `--json`.
 *
 * @module
 */

import { readInput } from "../../lib/base/input.ts";
import { isSlot, parseLspciDump } from "../../lib/pci/dump.ts";
import { CONFIG_HEADER_SIZE } from "../../lib/pci/config_space.ts";
import { configSpaceText } from "../../lib/pci/text.ts";
import { PCI_IDS_PATHS, PciIds } from "../../lib/pci/pci_ids.ts";
import { fileError } from "../../lib/text/file_error.ts";
import { type Output, untilAbort } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { humanSize } from "../shared/size.ts";
import { isReadable, type PciView, pciView } from "./collect.ts";
import { readInteger } from "../../lib/text/integer.ts";
import { type PciJson, pciViewJson } from "./json.ts";

/** Bytes of a file: a dump of a large machine has a few megabytes. */
const MAX_FILE_SIZE = 64 << 20;
/** Bytes of the largest configuration space. */
const MAX_CONFIG_SIZE = 4096;

/** A function in a file. */
export interface SavedFunction {
  /** Its slot, as "00:04.0"; undefined if the file has none. */
  readonly slot: string | undefined;
  /** Its configuration space. */
  readonly view: PciView;
}

/** A configuration space as a file has it. */
interface SavedSpace {
  readonly slot: string | undefined;
  readonly config: Uint8Array;
  /** Bytes of its regions, by index, if the file has them. */
  readonly sizes?: ReadonlyMap<number, bigint | undefined>;
}

/** The object that `vfu probe FILE --json` writes. */
export interface FileJson {
  /** The path that was given. */
  file: string;
  /** The functions in it, in order. */
  functions: { slot: string | null; pci: PciJson }[];
}

/**
 * Reads the bytes of a file, a pipe or standard input.
 *
 * @param most the bytes that it may have
 * @throws {Error} if it is too large, or can't be read; the message names it
 */
export async function readBytes(
  path: string,
  signal: AbortSignal,
  most = MAX_FILE_SIZE,
): Promise<Uint8Array> {
  const bytes = await untilAbort(signal, readInput(path, most)).catch((cause) => {
    signal.throwIfAborted();
    throw fileError(`read ${path}`, cause);
  });
  if (bytes !== undefined) return bytes;
  throw new Error(`Cannot decode ${path}: it has more than ${humanSize(BigInt(most))}`);
}

/** Reports whether bytes are those of an expansion ROM. */
export function isRom(bytes: Uint8Array): boolean {
  return bytes[0] === 0x55 && bytes[1] === 0xaa;
}

/** The text of a JSON object; undefined if the bytes are none at first sight. */
export function objectText(bytes: Uint8Array): string | undefined {
  const text = textOf(bytes);
  return text !== undefined && /^\s*\{/.test(text) ? text : undefined;
}

/**
 * Finds the functions in the bytes of a file.
 *
 * @throws {Error} if there are none
 */
export async function decodeSaved(path: string, bytes: Uint8Array): Promise<SavedFunction[]> {
  let spaces: SavedSpace[];
  try {
    spaces = spacesOf(bytes);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new Error(`Cannot decode ${path}: ${error.message}`, { cause: error });
  }
  const ids = await PciIds.open(PCI_IDS_PATHS.filter(isReadable));
  return spaces.map(({ slot, config, sizes }) => ({
    slot,
    view: pciView(config, (index) => sizes?.get(index), ids),
  }));
}

function spacesOf(bytes: Uint8Array): SavedSpace[] {
  const text = textOf(bytes);
  if (text === undefined) return [{ slot: undefined, config: rawSpace(bytes) }];
  if (/^\s*[[{]/.test(text)) return spacesOfJson(JSON.parse(text));
  const entries = parseLspciDump(text).filter(({ config }) => config.length > 0);
  if (entries.length > 0) return entries;
  throw new SyntaxError(
    "it is not a socket, no output of lspci -x, no JSON of vfu probe, and no bytes of a " +
      "configuration space",
  );
}

/** The text of printable bytes; undefined for others, and for a space that reads as ones. */
function textOf(bytes: Uint8Array): string | undefined {
  const isText = bytes.every((byte) => byte >= 0x20 || byte === 9 || byte === 10 || byte === 13) &&
    bytes.some((byte) => byte < 0x80);
  return isText && bytes.length > 0 ? new TextDecoder().decode(bytes) : undefined;
}

/** Files of other commands by the bytes at their start, and the commands that show them. */
const OTHER_FILES = [
  ["0a0d0d0a", "it is a recording; vfu show shows it"],
  ["7666752d6d69670a", "it is a saved state; vfu migrate show shows it"],
] as const;

function rawSpace(bytes: Uint8Array): Uint8Array {
  const start = bytes.subarray(0, 8).toHex();
  for (const [magic, what] of OTHER_FILES) {
    if (start.startsWith(magic)) throw new SyntaxError(what);
  }
  if (bytes.length >= CONFIG_HEADER_SIZE && bytes.length <= MAX_CONFIG_SIZE) return bytes;
  throw new SyntaxError(
    `it is not a socket, and no saved configuration space: it has ${bytes.length} bytes, ` +
      `not ${CONFIG_HEADER_SIZE} to ${MAX_CONFIG_SIZE}`,
  );
}

/**
 * The spaces of a JSON: that of a probed device, of several (`--summary`), or of a file. Whoever
 * saved it may have been an earlier version, or an editor.
 */
function spacesOfJson(json: unknown): SavedSpace[] {
  const parts = Array.isArray(json) ? json : listOf(json, "functions") ?? [json];
  const spaces = parts.flatMap((part) => {
    const config = keyOf(keyOf(part, "pci"), "config");
    if (typeof config !== "string") return [];
    const slot = keyOf(part, "slot");
    return [{
      slot: typeof slot === "string" && isSlot(slot) ? slot : undefined,
      config: rawSpace(bytesOf(config)),
      sizes: sizesOf(listOf(part, "regions") ?? []),
    }];
  });
  if (spaces.length === 0) throw new SyntaxError('its JSON has no "pci.config"');
  return spaces;
}

/** @throws {SyntaxError} if the text is not hexadecimal */
function bytesOf(config: string): Uint8Array {
  try {
    return Uint8Array.fromHex(config);
  } catch {
    throw new SyntaxError('the "pci.config" of its JSON is not in hexadecimal digits');
  }
}

function sizesOf(regions: readonly unknown[]): Map<number, bigint> {
  const sizes = new Map<number, bigint>();
  for (const region of regions) {
    const index = keyOf(region, "index");
    const size = readInteger(String(keyOf(region, "size")));
    if (typeof index === "number" && size !== undefined && size >= 0n) sizes.set(index, size);
  }
  return sizes;
}

/** The value of a key; undefined if there is no object, or the key is not there. */
function keyOf(value: unknown, key: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
  return (value as Record<string, unknown>)[key];
}

function listOf(value: unknown, key: string): unknown[] | undefined {
  const list = keyOf(value, key);
  return Array.isArray(list) ? list : undefined;
}

/** The functions for a person. */
export function savedText(saved: readonly SavedFunction[], { style }: Output): string {
  return saved.map(({ slot, view }) => {
    const { config, space, names } = view;
    const place = slot === undefined ? "" : `${slot}, `;
    const heading = style.bold(`${place}PCI configuration space, ${config.length} bytes`);
    const lines = space === undefined
      ? [style.yellow("  too short to have a header")]
      : configSpaceText(space, names);
    return [heading, ...lines.map(printable)].join("\n") + "\n";
  }).join("\n");
}

/** The functions as JSON. */
export function savedJson(file: string, saved: readonly SavedFunction[]): string {
  return `${jsonText(savedObject(file, saved), 2)}\n`;
}

/** The functions as the object of that JSON. */
export function savedObject(file: string, saved: readonly SavedFunction[]): FileJson {
  const functions = saved.map(({ slot, view }) => ({ slot: slot ?? null, pci: pciViewJson(view) }));
  return { file, functions };
}
