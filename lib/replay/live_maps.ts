/**
 * The memory that the client of a mock has mapped.
 *
 * @module
 */

import { EEXIST, EINVAL, ENOSPC } from "../../ffi/errno.ts";
import { DmaMapFlags, type DmaMapRequest, type DmaUnmap, DmaUnmapFlags } from "../wire/dma.ts";
import type { AccessedRange } from "./accessed.ts";

/** Maps that a client may have. */
const MAX_MAPS = 65_535;
const END = 1n << 64n;

/** A range of addresses. */
interface Range {
  readonly address: bigint;
  readonly end: bigint;
  readonly flags: number;
}

/** The ranges that a client has mapped now. */
export class LiveMaps {
  /** By their first addresses. */
  readonly #maps: Range[] = [];

  /**
   * Maps a range.
   *
   * @returns 0, or an errno: EINVAL if it is none, EEXIST if it overlaps, ENOSPC for too many
   */
  map({ address, size, flags }: DmaMapRequest): number {
    const end = address + size;
    if (size === 0n || end > END) return EINVAL;
    const at = this.#indexBehind(address);
    const before = this.#maps[at - 1];
    if (before?.address === address && before.end === end && before.flags === flags) return 0;
    if ((before !== undefined && before.end > address) || (this.#maps[at]?.address ?? end) < end) {
      return EEXIST;
    }
    if (this.#maps.length >= MAX_MAPS) return ENOSPC;
    this.#maps.splice(at, 0, { address, end, flags });
    return 0;
  }

  /**
   * Takes back all maps that have a part of a range.
   *
   * @returns the range that is gone; undefined if the request names none
   */
  unmap({ flags, address, size }: DmaUnmap): readonly [from: bigint, end: bigint] | undefined {
    const isAll = (flags & DmaUnmapFlags.ALL) !== 0;
    if (!isAll && (size === 0n || address + size > END)) return undefined;
    const [from, end] = isAll ? [0n, END] : [address, address + size];
    let first = this.#indexBehind(from);
    if (first > 0 && this.#maps[first - 1]!.end > from) first--;
    let last = first;
    while (last < this.#maps.length && this.#maps[last]!.address < end) last++;
    const gone = this.#maps.splice(first, last - first);
    if (gone.length === 0) return [from, end];
    return [min(from, gone[0]!.address), max(end, gone.at(-1)!.end)];
  }

  /** Tells if an address is mapped. */
  has(address: bigint): boolean {
    const before = this.#maps[this.#indexBehind(address) - 1];
    return before !== undefined && address < before.end;
  }

  /** Tells if the device may do an access: all of its range is mapped, for its direction. */
  allows({ action, offset, count }: AccessedRange): boolean {
    const right = action === "read" ? DmaMapFlags.READ : DmaMapFlags.WRITE;
    const end = offset + count;
    let reached = offset;
    for (let at = this.#indexBehind(offset) - 1; reached < end; at++) {
      const map = this.#maps[at];
      if (map === undefined || map.address > reached || map.end <= reached) return false;
      if ((map.flags & right) === 0) return false;
      reached = map.end;
    }
    return true;
  }

  /** The index of the first map behind an address. */
  #indexBehind(address: bigint): number {
    let [low, high] = [0, this.#maps.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#maps[middle]!.address <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
