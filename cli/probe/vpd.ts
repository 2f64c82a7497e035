/**
 * Vital Product Data, of a device or a file.
 *
 * @module
 */

import {
  MAX_VPD_SIZE,
  parseVpd,
  type Vpd,
  type VpdField,
  type VpdResource,
} from "../../lib/pci/vpd.ts";
import { hex } from "../../lib/text/hex.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import type { Context, Output } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { type Cell, tableLines } from "../shared/table.ts";
import { isSavedFile } from "./collect.ts";
import { readBytes } from "./file.ts";
import { plural } from "../../lib/text/plural.ts";

/** Options of {@linkcode showVpd}. */
export interface VpdOptions extends ConnectionOptions {
  /** Write JSON. */
  json?: true | undefined;
}

/** Bytes of a value that are shown; JSON has all. */
const SHOWN_BYTES = 16;

/**
 * Shows the VPD of the device behind a socket, or what a file holds of one.
 *
 * @throws {Error} if the device has none
 */
export async function showVpd(
  context: Context,
  path: string,
  options: VpdOptions,
): Promise<void> {
  const bytes = isSavedFile(path)
    ? await readBytes(path, context.signal, MAX_VPD_SIZE)
    : await vpdOf(context, path, options);
  const vpd = parseVpd(bytes);
  context.out.write(options.json ? vpdJson(path, bytes, vpd) : vpdText(vpd, context.out));
}

async function vpdOf(context: Context, socket: string, options: VpdOptions): Promise<Uint8Array> {
  using connection = await connectTo(context, socket, options);
  const bytes = await connection.device.pci.vpd();
  if (bytes === undefined) {
    throw new Error(`Cannot read the VPD of ${socket}: the device has no VPD capability`);
  }
  return bytes;
}

const HEADINGS: Readonly<Record<VpdResource["kind"], string>> = {
  id: "identifier",
  read_only: "read-only",
  read_write: "read-write",
  unknown: "unknown",
};

/** The resources and their fields for a person. */
function vpdText(vpd: Vpd, { columns, style }: Output): string {
  const heading = ["resource", "key", "field", "value"]
    .map((text): Cell => ({ text, paint: style.dim }));
  const rows = vpd.resources.flatMap((resource) => rowsOf(resource, vpd));
  const lines = [
    style.bold(`Vital Product Data, ${plural(vpd.length, "byte")}`),
    ...(rows.length === 0 ? [] : tableLines([heading, ...rows], { columns, indent: 2 })),
    ...vpd.notes.map((note) => `  ${note}`),
  ];
  return lines.join("\n") + "\n";
}

function rowsOf(resource: VpdResource, vpd: Vpd): string[][] {
  const { kind, tag, length, text, fields } = resource;
  if (kind === "id") return [[HEADINGS.id, "", "", printable(text ?? "")]];
  if (kind === "unknown") return [[`type ${hex(tag)}`, "", "", plural(length, "byte")]];
  const rows = fields.map((field) => [
    printable(field.keyword),
    field.name ?? "",
    valueText(field, vpd),
  ]);
  return (rows.length === 0 ? [["", "", ""]] : rows)
    .map((row, i) => [i === 0 ? HEADINGS[kind] : "", ...row]);
}

function valueText({ keyword, bytes, text }: VpdField, { checksumGood }: Vpd): string {
  if (keyword === "RV" && checksumGood !== undefined) {
    return `${checksumGood ? "good" : "wrong"}, ${
      plural(Math.max(bytes.length - 1, 0), "byte")
    } reserved`;
  }
  if (keyword === "RW") return plural(bytes.length, "byte");
  if (text !== undefined) return text;
  const shown = bytes.subarray(0, SHOWN_BYTES).toHex();
  return bytes.length > SHOWN_BYTES ? `${shown}…` : shown;
}

/** The same as JSON, with the bytes. */
function vpdJson(path: string, bytes: Uint8Array, vpd: Vpd): string {
  const resources = vpd.resources.map((resource) => ({
    ...resource,
    fields: resource.fields.map((field) => ({ ...field, bytes: field.bytes.toHex() })),
  }));
  const json = {
    data: bytes.subarray(0, vpd.length).toHex(),
    resources,
    checksum_good: vpd.checksumGood ?? null,
    notes: vpd.notes,
  };
  return `${jsonText({ path, vpd: json }, 2)}\n`;
}
