/**
 * The memory that a session needs, as ranges: each becomes a buffer.
 *
 * @module
 */

import { turnUnless } from "../base/turn.ts";
import { accessesOf } from "../record/decode.ts";
import { DmaMapFlags } from "../wire/dma.ts";
import type { ServerPart } from "./part.ts";
import type { Range } from "./touched.ts";

/** Buffers of a session: QEMU's server takes 16. */
const MAX_BUFFERS = 16;
/** Bytes of a buffer; its pages take memory only when they are used. */
const MAX_BUFFER = 1n << 36n;
const PAGE = 4096n;
/** The end of addresses. */
const SPACE_END = 1n << 64n;

/** Pages that the device accessed, else all that was mapped, as ranges in order. */
export async function buffersOf(
  { scenes, maps }: ServerPart,
  signal?: AbortSignal,
): Promise<Range[]> {
  const accessed = new Map<bigint, Range>();
  for (const { effects } of scenes) {
    await turnUnless(signal);
    for (const effect of effects) {
      if (effect.kind !== "dma" || effect.step.answer?.errno !== 0) continue;
      const [access] = accessesOf(effect.step.asked.payload);
      if (access === undefined || access.count === 0n) continue;
      const pages = pagesOf(access.offset, access.count);
      const known = accessed.get(pages.start);
      if (known === undefined || known.end < pages.end) accessed.set(pages.start, pages);
    }
  }
  const mapped = maps.filter(({ flags }) => (flags & DmaMapFlags.READ) !== 0)
    .map(({ address, size }) => pagesOf(address, size));
  const ranges = merged(accessed.size > 0 ? [...accessed.values()] : mapped);
  return fewer(ranges).filter(({ end, start }) => end - start <= MAX_BUFFER && end <= SPACE_END);
}

/** As many ranges as a session has buffers: those with the smallest gaps between become one. */
function fewer(ranges: readonly Range[]): Range[] {
  const gaps = ranges.slice(1).map(({ start }, i) => ({ at: i + 1, size: start - ranges[i]!.end }));
  const widest = gaps.sort((a, b) => a.size > b.size ? -1 : a.size < b.size ? 1 : a.at - b.at);
  const starts = [0, ...widest.slice(0, MAX_BUFFERS - 1).map(({ at }) => at).sort((a, b) => a - b)];
  if (ranges.length === 0) return [];
  return starts.map((at, i) => ({
    start: ranges[at]!.start,
    end: ranges[(starts[i + 1] ?? ranges.length) - 1]!.end,
  }));
}

function merged(ranges: readonly Range[]): Range[] {
  const sorted = ranges.toSorted((a, b) => a.start < b.start ? -1 : a.start > b.start ? 1 : 0);
  const result: Range[] = [];
  for (const each of sorted) {
    const last = result.at(-1);
    if (last === undefined || last.end < each.start) result.push({ ...each });
    else if (each.end > last.end) last.end = each.end;
  }
  return result;
}

/** The pages that hold a range. */
function pagesOf(address: bigint, size: bigint): Range {
  return { start: floor(address), end: floor(address + size + PAGE - 1n) };
}

function floor(address: bigint): bigint {
  return address - address % PAGE;
}
