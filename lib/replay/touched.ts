/**
 * Ranges of memory that were accessed, found by their pages.
 *
 * @module
 */

const PAGE = 4096n;

/** A range of memory. */
export interface Range {
  start: bigint;
  end: bigint;
}

/** Remembers ranges, of which a recording may have a million. */
export class TouchedRanges {
  readonly #byPage = new Map<bigint, Range[]>();

  /** Remembers a range. */
  add(range: Range): void {
    for (let page = range.start / PAGE; page * PAGE < range.end; page++) {
      const ranges = this.#byPage.get(page);
      if (ranges === undefined) this.#byPage.set(page, [range]);
      else if (!ranges.some((each) => isWithin(range, each))) ranges.push(range);
    }
  }

  /** Finds out whether a part of a range was accessed. */
  overlaps(range: Range): boolean {
    for (let page = range.start / PAGE; page * PAGE < range.end; page++) {
      const ranges = this.#byPage.get(page) ?? [];
      if (ranges.some(({ start, end }) => range.start < end && start < range.end)) return true;
    }
    return false;
  }
}

function isWithin(inner: Range, outer: Range): boolean {
  return inner.start >= outer.start && inner.end <= outer.end;
}
