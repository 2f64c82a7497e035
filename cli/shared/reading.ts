/**
 * Values that were read at an address, and the forms to show them in.
 *
 * @module
 */

import { DEFAULT_WIDTH } from "../../lib/client/address.ts";
import type { Region } from "../../lib/client/region.ts";
import type { Via } from "../../lib/client/region_options.ts";
import type { Width } from "../../lib/client/info.ts";
import { bytesOf, hexdumpLines, valuesOf } from "./hexdump.ts";
import { assertAligned, type Target } from "./target.ts";
import { type Base, formatValue } from "./value.ts";
import { jsonInteger } from "../../lib/text/hex.ts";

/** Values that were read. */
export interface Reading extends Target {
  /** One value, values that were read one by one, or bytes that were read together. */
  readonly kind: "value" | "values" | "bytes";
  /** Bytes of each value; 1 for bytes. */
  readonly width: Width;
  /** All of it, in the order of the addresses. */
  readonly bytes: Uint8Array;
  /** The way in which it was read; "mixed" if only part of it is mapped. */
  readonly via: Via | "mixed";
}

/** The values to read at a place. */
export interface ReadingOptions {
  /** Bytes of each value, if the address says. */
  width?: Width | undefined;
  /** The number of values; one if undefined. */
  count?: number | undefined;
  /** The way to read, if the user forces one. */
  via?: Via | undefined;
}

/** A reading as JSON. */
export interface ReadingJson {
  /** The address as it was written. */
  address: string;
  /** "bar0", "config", "region 9". */
  region: string;
  /** Bytes from the region's start. */
  offset: number;
  /** Bytes of each value. */
  width: number;
  /** One value. Above 2^53 - 1 it is text, as "0x8000000000000000". */
  value?: number | string;
  /** Values that were read one by one. */
  values?: (number | string)[];
  /** Bytes that were read together, in hexadecimal. */
  data?: string;
  /** The way in which it was read. */
  via: Via | "mixed";
}

/**
 * Reads one value, or with a count values of the width one by one, or without a width bytes
 * together.
 *
 * @throws as `Region.read32`
 */
export async function takeReading(
  target: Target,
  { width, count, via }: ReadingOptions,
): Promise<Reading> {
  const { region, offset } = target;
  const options = via === undefined ? {} : { via };
  if (count === undefined) {
    const one = width ?? DEFAULT_WIDTH;
    const bytes = bytesOf(await region.readWidthAsync(offset, one, options), one);
    return { ...target, kind: "value", width: one, bytes, via: viaOf(region, offset, one, via) };
  }
  if (width !== undefined) assertAligned(region, offset, width);
  const unit = width ?? 1;
  const length = count * unit;
  // A piece a value: registers mind the width of an access.
  const pieces = width === undefined ? options : { ...options, chunkSize: width };
  const bytes = await region.readAsync(offset, length, pieces);
  const kind = width === undefined ? "bytes" : "values";
  return { ...target, kind, width: unit, bytes, via: viaOf(region, offset, length, via) };
}

function viaOf(region: Region, offset: number, length: number, forced?: Via): Via | "mixed" {
  if (forced !== undefined || region.via(offset, length) === "map") return forced ?? "map";
  const isTouched = region.mappedAreas.some((area) =>
    area.offset < offset + length && offset < area.offset + area.size
  );
  return isTouched ? "mixed" : "message";
}

/** Lines for people and scripts: a value, or a dump. */
export function readingLines(
  { kind, width, bytes, offset }: Reading,
  base: Base,
): string[] {
  if (kind !== "value") return hexdumpLines(bytes, { start: offset, width, base });
  return valuesOf(bytes, width).map((value) => formatValue(value, width, base));
}

/** The reading as a JSON object. */
export function readingJson(reading: Reading): ReadingJson {
  const { text, region, offset, kind, width, bytes, via } = reading;
  const values = valuesOf(bytes, width).map(jsonInteger);
  const what = kind === "value"
    ? { value: values[0]! }
    : kind === "values"
    ? { values }
    : { data: bytes.toHex() };
  return { address: text, region: region.name, offset, width, ...what, via };
}
