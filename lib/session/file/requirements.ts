/**
 * Reads the requirements of a session on a device.
 *
 * @module
 */

import { hex } from "../../text/hex.ts";
import { RegionFlags, regionIndex } from "../../wire/region.ts";
import { partOf, type Path } from "../../yaml/document.ts";
import { validate } from "../../yaml/validate.ts";
import { readSize } from "../../text/size.ts";
import { BASE_NAMES, meant } from "./definitions.ts";
import type { SessionFile } from "./files.ts";
import { parseIrqIndex } from "./irq_selection.ts";
import type { Requirements } from "../model.ts";
import { isMistake } from "./reading.ts";
import { regionSchema } from "./schema.ts";
import { readIndex } from "../../text/integer.ts";

const FLAGS: Readonly<Record<string, number>> = {
  read: RegionFlags.READ,
  write: RegionFlags.WRITE,
  mmap: RegionFlags.MMAP,
};

/** The keys of ids, and what they are called in the model. */
const IDS = {
  "vendor": "vendor",
  "device": "device",
  "subsystem vendor": "subsystemVendor",
  "subsystem": "subsystem",
} as const;

/** Reads `requires`. What is wrong is noted. */
export function parseRequirements(file: SessionFile): Requirements {
  const raw = file.raw["requires"];
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    return { regions: [], irqs: [] };
  }
  const all = raw as Record<string, unknown>;
  const ids = Object.entries(IDS).flatMap(([key, name]) =>
    typeof all[key] === "bigint" ? [[name, Number(all[key])]] : []
  );
  const classCode = all["class"] === undefined ? undefined : parseClass(file);
  return {
    source: { file: file.name, ...file.document.keyAt(["requires"]) },
    ...Object.fromEntries(ids),
    ...(classCode !== undefined && { classCode }),
    regions: entriesOf(all["regions"]).flatMap(([name, value]) => parseRegion(name, value, file)),
    irqs: entriesOf(all["irqs"]).flatMap(([name, count]) => parseIrqCount(name, count, file)),
  };
}

function entriesOf(value: unknown): [string, unknown][] {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.entries(value)
    : [];
}

/** Reads a class code as it is written, because 0108 is 108 to YAML. */
function parseClass(file: SessionFile): string | undefined {
  const path = ["requires", "class"];
  const text = file.document.written(path) ?? "";
  const digits = /^0x([\da-f]{1,6})$/i.exec(text)?.[1]?.padStart(6, "0") ??
    /^(?:[\da-f]{2}){1,3}$/i.exec(text)?.[0];
  if (digits === undefined) {
    file.report(
      path,
      `"${text}" is no class code`,
      "write 0x010802, or digits from its first on, as 0108",
    );
  }
  return digits?.toLowerCase();
}

function parseRegion(name: string, value: unknown, file: SessionFile): Requirements["regions"] {
  const path = ["requires", "regions", name];
  const index = readIndex(name) ?? regionIndex(name.toLowerCase());
  if (index === undefined) {
    const hint = meant(
      name,
      BASE_NAMES,
      "write bar0 to bar5, rom, config, vga, or a region's index",
    );
    file.reportKey(path, `"${name}" is no region`, hint);
    return [];
  }
  if (typeof value !== "object" || value === null) {
    const size = parseRegionSize(value, path, file);
    return size === undefined ? [] : [{ index, size, flags: 0 }];
  }
  validate(regionSchema, partOf(file.document, value, path), file.reportAt);
  const { size: raw, flags } = value as { size?: unknown; flags?: unknown };
  const size = raw === undefined ? 1n : parseRegionSize(raw, [...path, "size"], file);
  if (size === undefined) return [];
  const names = Array.isArray(flags) ? flags.map(String) : [];
  return [{ index, size, flags: names.reduce((sum, each) => sum | (FLAGS[each] ?? 0), 0) }];
}

function parseRegionSize(value: unknown, path: Path, { report }: SessionFile): bigint | undefined {
  const size = typeof value === "bigint" ? value : readSize(String(value));
  if (size !== undefined && size >= 0n && size < 1n << 64n) return size;
  const found = size === undefined ? `"${value}"` : hex(size);
  report(path, `${found} is no size`, "write it as 4096, 0x1000, 16K or 2MiB");
}

function parseIrqCount(name: string, count: unknown, file: SessionFile): Requirements["irqs"] {
  if (typeof count !== "bigint" || count < 0n) return []; // was complained of
  try {
    return [{ index: parseIrqIndex(name), count: Number(count) }];
  } catch (error) {
    if (!isMistake(error)) throw error;
    file.reportKey(["requires", "irqs", name], error.message);
    return [];
  }
}
