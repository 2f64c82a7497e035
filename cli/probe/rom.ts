/**
 * The file of an expansion ROM.
 *
 * @module
 */

import { parseRom, type Rom } from "../../lib/pci/rom.ts";
import { hex, hexDigits } from "../../lib/text/hex.ts";
import type { Output } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { type Cell, tableLines } from "../shared/table.ts";

const CODE_TYPES = ["PC BIOS", "Open Firmware", "PA-RISC", "EFI"];

/** The images of a ROM for a person. */
export function romText(bytes: Uint8Array, { columns, style }: Output): string {
  const { images, notes } = parseRom(bytes);
  const heading = ["image", "at", "bytes", "ids", "class", "revision", "code"]
    .map((text): Cell => ({ text, paint: style.dim }));
  const rows = images.map((image, i) => [
    String(i),
    hex(image.offset),
    String(image.length),
    `${hexDigits(image.vendorId, 4)}:${hexDigits(image.deviceId, 4)}`,
    hexDigits(image.classCode, 6),
    String(image.revision),
    CODE_TYPES[image.codeType] ?? `type ${image.codeType}`,
  ]);
  const lines = [
    style.bold(`Expansion ROM, ${bytes.length} bytes`),
    ...(rows.length === 0
      ? []
      : tableLines([heading, ...rows], { columns, indent: 2, right: [0, 2, 5] })),
    ...notes.map((note) => `  ${note}`),
  ];
  return lines.join("\n") + "\n";
}

/** The same as JSON. */
export function romJson(file: string, bytes: Uint8Array): string {
  const { images, notes }: Rom = parseRom(bytes);
  const rom = {
    images: images.map((image) => ({
      offset: image.offset,
      length: image.length,
      vendor_id: image.vendorId,
      device_id: image.deviceId,
      class_code: image.classCode,
      revision: image.revision,
      code_type: image.codeType,
      is_last: image.isLast,
    })),
    notes,
  };
  return `${jsonText({ file, rom }, 2)}\n`;
}
