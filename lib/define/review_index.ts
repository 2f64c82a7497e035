/**
 * The contents of a region by offset. A map may have tens of thousands of registers, and a client
 * reads all of them in one access.
 *
 * @module
 */

import type { RegionPart, RegionRange, RegionReview } from "./device_region.ts";

/** A part of a region, or of an array of them; or a range that the region answers by itself. */
export interface Found {
  readonly part?: RegionPart;
  readonly start: number;
  readonly end: number;
}

/** A part, and how far it and those ahead of it go. */
interface Placed {
  readonly part: RegionPart;
  /** Its place in the review: the first part that has a byte takes it. */
  readonly order: number;
  /** The furthest end of this one and of those that begin ahead of it. */
  reach: number;
}

/** Finds parts by their offset. */
export class ReviewIndex {
  readonly #parts: readonly Placed[]; // by offset
  readonly #ranges: readonly RegionRange[];

  constructor({ parts, ranges = [] }: RegionReview) {
    this.#ranges = ranges;
    this.#parts = parts.map((part, order) => ({ part, order, reach: endOf(part) }))
      .sort((a, b) => a.part.offset - b.part.offset);
    let reach = 0;
    for (const each of this.#parts) reach = each.reach = Math.max(reach, each.reach);
  }

  /** The part or range that has a byte. */
  at(offset: number): Found | undefined {
    let best: Placed | undefined;
    for (const each of this.#around(offset)) {
      if (best !== undefined && best.order < each.order) continue;
      const start = startIn(each.part, offset);
      if (offset < start + each.part.width) best = each;
    }
    if (best !== undefined) {
      const start = startIn(best.part, offset);
      return { part: best.part, start, end: start + best.part.width };
    }
    const range = this.#ranges.find((each) =>
      offset >= each.offset && offset < each.offset + each.size
    );
    return range && { start: range.offset, end: range.offset + range.size };
  }

  /** The start of the next part or range behind a byte, which is in none; at most `end`. */
  nextFrom(offset: number, end: number): number {
    const starts = [this.#parts[this.#countUpTo(offset)]?.part.offset ?? end];
    for (const { part } of this.#around(offset)) {
      const index = Math.floor((offset - part.offset) / part.stride) + 1;
      if (index < part.count) starts.push(part.offset + index * part.stride);
    }
    for (const range of this.#ranges) if (range.offset > offset) starts.push(range.offset);
    return Math.min(end, ...starts);
  }

  /** The parts that begin at a byte or ahead of it, as long as one may reach that far. */
  *#around(offset: number): Generator<Placed> {
    for (let i = this.#countUpTo(offset) - 1; i >= 0; i--) {
      if (this.#parts[i]!.reach <= offset) return;
      yield this.#parts[i]!;
    }
  }

  /** The number of parts that begin at a byte or ahead of it. */
  #countUpTo(offset: number): number {
    let [low, high] = [0, this.#parts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#parts[middle]!.part.offset <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function endOf({ offset, count, stride, width }: RegionPart): number {
  return offset + (count - 1) * stride + width;
}

/** The start of the element of a part that begins at a byte or ahead of it. */
function startIn({ offset, count, stride }: RegionPart, at: number): number {
  return offset + Math.min(count - 1, Math.floor((at - offset) / stride)) * stride;
}
