/**
 * Transfers of many bytes: how large their messages are, and how many are in flight together.
 *
 * @module
 */

import { inLanes } from "../base/lanes.ts";
import { WRITE_CHUNK_SIZE } from "../base/limits.ts";
import type { Negotiated } from "./info.ts";
import type { Part } from "./region_map.ts";
import type { BulkOptions } from "./region_options.ts";

/** Pieces of a large transfer that are under way together. */
const PIPELINE = 8;

/** Bytes that one read carries at most. */
export function readChunk({ chunkSize }: BulkOptions, { maxDataXferSize }: Negotiated): number {
  return Math.min(chunkSize ?? Infinity, maxDataXferSize);
}

/** Bytes that one write carries at most. */
export function writeChunk({ chunkSize }: BulkOptions, { maxDataXferSize }: Negotiated): number {
  return Math.min(chunkSize ?? WRITE_CHUNK_SIZE, maxDataXferSize);
}

/** The buffer of the caller, which must fit, or a new one. */
export function destination(
  into: Uint8Array<ArrayBuffer> | undefined,
  length: number,
): Uint8Array<ArrayBuffer> {
  if (into === undefined) return new Uint8Array(length);
  if (into.length === length) return into;
  throw new RangeError(`Cannot read ${length} bytes into ${into.length}`);
}

/** Runs the parts of a transfer, several under way together. */
export async function runParts(
  parts: Iterable<Part>,
  { onProgress }: BulkOptions,
  run: (at: number, bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  let done = 0;
  await inLanes(PIPELINE, parts, async ({ at, bytes, isDone }) => {
    const { length } = bytes;
    if (!isDone) await run(at, bytes);
    onProgress?.(done += length);
  });
}
