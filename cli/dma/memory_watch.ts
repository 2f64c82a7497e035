/**
 * Changes of shared memory, in which the device announces no access.
 *
 * @module
 */

import type { DmaSpace } from "../../lib/client/dma.ts";
import type { DmaMap } from "../../lib/client/dma_map.ts";
import { humanSize } from "../shared/size.ts";
import { type Entry, ENTRY_BYTES } from "./log.ts";

/** The changes since the last comparison. */
export interface Changes {
  /** The ranges that are shown, by address. */
  readonly entries: readonly Omit<Entry, "timeMs">[];
  /** The number of more ranges. */
  readonly omitted: number;
}

/**
 * Comparing more would keep the device's messages, and the user's Ctrl-C, waiting for longer than
 * 0.1 s.
 */
const MAX_WATCHED = 64n << 20n;
/** Ranges of one comparison that are shown. */
const MAX_SHOWN = 8;
/** Bytes that did not change between two that did, which still make one range of them. */
const MAX_GAP = 16;
/** Bytes that are compared as a whole first: a page, which no map is smaller than. */
const BLOCK_SIZE = 4096;

/** Copies of shared memory, to be compared with it. */
export class Snapshots {
  readonly #copies: ReadonlyMap<DmaMap, Uint8Array<ArrayBuffer>>;

  /**
   * Copies what is mapped and shared.
   *
   * @throws {RangeError} if that is more than can be compared again and again
   */
  constructor({ maps }: DmaSpace) {
    const shared = maps.filter(({ isShared }) => isShared);
    const size = shared.reduce((sum, map) => sum + BigInt(map.size), 0n);
    if (size > MAX_WATCHED) {
      throw new RangeError(
        `Cannot watch ${humanSize(size)} of shared memory for changes: ` +
          `${humanSize(MAX_WATCHED)} are possible`,
      );
    }
    this.#copies = new Map(shared.map((map) => [map, map.bytes.slice()]));
  }

  /** Finds what has changed since the last time, and copies it. */
  compare(): Changes {
    const entries: Changes["entries"][number][] = [];
    let omitted = 0;
    for (const [map, copy] of this.#copies) {
      for (const { start, end } of changedRanges(copy, map.bytes)) {
        copy.set(map.bytes.subarray(start, end), start);
        if (entries.length === MAX_SHOWN) {
          omitted++;
          continue;
        }
        entries.push({
          kind: "changed",
          iova: map.iova + BigInt(start),
          length: BigInt(end - start),
          bytes: copy.slice(start, Math.min(end, start + ENTRY_BYTES)),
          errno: 0,
        });
      }
    }
    return { entries, omitted };
  }
}

/**
 * Finds where two pieces of memory differ; both are whole pages, of the same length. Each range is
 * from its first byte to behind its last. The first piece may be written to between two ranges.
 */
export function* changedRanges(
  before: Uint8Array<ArrayBuffer>,
  after: Uint8Array<ArrayBuffer>,
): Generator<{ start: number; end: number }> {
  let start = -1;
  let end = 0;
  for (let block = 0; block < before.length; block += BLOCK_SIZE) {
    if (isSame(before, after, block)) continue;
    for (let at = block; at < block + BLOCK_SIZE; at++) {
      if (before[at] === after[at]) continue;
      if (start >= 0 && at - end > MAX_GAP) {
        yield { start, end };
        start = -1;
      }
      if (start < 0) start = at;
      end = at + 1;
    }
  }
  if (start >= 0) yield { start, end };
}

/** Reports whether a block is the same, looking at 4 bytes at a time. */
function isSame(
  before: Uint8Array<ArrayBuffer>,
  after: Uint8Array<ArrayBuffer>,
  start: number,
): boolean {
  const a = new Uint32Array(before.buffer, before.byteOffset + start, BLOCK_SIZE / 4);
  const b = new Uint32Array(after.buffer, after.byteOffset + start, BLOCK_SIZE / 4);
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
