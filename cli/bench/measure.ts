/**
 * Measuring how fast a register is read.
 *
 * @module
 */

import { RemoteError } from "../../lib/base/errors.ts";
import type { Width } from "../../lib/client/info.ts";
import { nextTurn } from "../../lib/base/turn.ts";
import type { Target } from "../shared/target.ts";

/** Reads, and how long they took in all. */
export interface Rate {
  readonly reads: number;
  readonly seconds: number;
}

/** The length of the measurement. */
export interface Bounds {
  /** Reads of each part; undefined: as many as a second has. */
  readonly count: number | undefined;
  /** Ends it with the signal's reason. */
  readonly signal: AbortSignal;
}

/** Reads that are under way together in {@linkcode measurePipelined}. */
export const OUTSTANDING = 32;

const PART_MS = 1000;
/** The event loop, and so the user's Ctrl-C, is not kept waiting longer. */
const SLICE_MS = 50;
/** Mapped reads between two looks at the clock, which takes longer than many of them. */
const MAPPED_BATCH = 10_000;
/** Reads that are not counted: code is compiled meanwhile. A slow device has fewer. */
const WARM_UP = 200;

const BY_MESSAGE = { via: "message" } as const;
/** The same where the reason of a refusal is known from before. */
const AGAIN_BY_MESSAGE = { via: "message", explain: false } as const;

/** A way of reading that the device refuses, or the region does not allow. */
export interface Refused {
  /** The first failure. */
  readonly refused: Error;
}

/** The result of a measurement, or its refusal. Other failures are thrown. */
export async function unlessRefused<T>(work: Promise<T>): Promise<T | Refused> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof RemoteError || error instanceof TypeError) return { refused: error };
    throw error;
  }
}

/**
 * One read after another, each by message, waiting for its answer. The times of all are in
 * microseconds, ascending.
 */
export async function measureSynchronous(
  { region, offset }: Target,
  width: Width,
  { count, signal }: Bounds,
): Promise<Rate & { times: Float64Array }> {
  const times: number[] = [];
  let totalMs = 0;
  const slice = (reads: number | undefined) => {
    const sliceMs = performance.now();
    let beforeMs = sliceMs;
    while (beforeMs - sliceMs < SLICE_MS && times.length !== reads) {
      region.readWidth(offset, width, BY_MESSAGE);
      const afterMs = performance.now();
      times.push((afterMs - beforeMs) * 1000);
      beforeMs = afterMs;
    }
    totalMs += beforeMs - sliceMs;
  };
  const warmUp = Math.min(WARM_UP, count ?? WARM_UP);
  while (times.length < warmUp && totalMs < PART_MS) {
    slice(warmUp);
    await nextTurn();
    signal.throwIfAborted();
  }
  times.length = totalMs = 0;
  while (!isDone(times.length, totalMs, count)) {
    slice(count);
    await nextTurn();
    signal.throwIfAborted();
  }
  return { reads: times.length, seconds: totalMs / 1000, times: Float64Array.from(times).sort() };
}

/** Reads by message, of which {@linkcode OUTSTANDING} are always under way. */
export async function measurePipelined(
  { region, offset }: Target,
  width: Width,
  { count, signal }: Bounds,
): Promise<Rate> {
  const startMs = performance.now();
  let begun = 0;
  const lane = async () => {
    while (!isDone(begun, performance.now() - startMs, count)) {
      begun++;
      await region.readWidthAsync(offset, width, { ...AGAIN_BY_MESSAGE, signal });
      signal.throwIfAborted();
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: OUTSTANDING }, lane));
  const failure = lanes.find((each) => each.status === "rejected");
  if (failure !== undefined) throw failure.reason;
  return { reads: begun, seconds: (performance.now() - startMs) / 1000 };
}

/** Reads through the map; undefined if the register is not mapped. */
export async function measureMapped(
  { region, offset }: Target,
  width: Width,
  { count, signal }: Bounds,
): Promise<Rate | undefined> {
  if (region.via(offset, width) !== "map") return undefined;
  let reads = 0;
  let totalMs = 0;
  while (!isDone(reads, totalMs, count)) {
    const sliceMs = performance.now();
    let nowMs = sliceMs;
    while (nowMs - sliceMs < SLICE_MS && reads !== count) {
      const batch = Math.min(MAPPED_BATCH, (count ?? Infinity) - reads);
      for (let i = 0; i < batch; i++) region.readWidth(offset, width);
      reads += batch;
      nowMs = performance.now();
    }
    totalMs += nowMs - sliceMs;
    await nextTurn();
    signal.throwIfAborted();
  }
  return { reads, seconds: totalMs / 1000 };
}

function isDone(reads: number, elapsedMs: number, count: number | undefined): boolean {
  return count === undefined ? elapsedMs >= PART_MS : reads >= count;
}
