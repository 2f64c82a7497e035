/**
 * The reader of a capability's decoder.
 *
 * @module
 */

import { type Bar, parseBars, type RegionSizes } from "./bar.ts";
import type { ConfigView } from "./view.ts";
import { hex } from "../text/hex.ts";

/** The facts of a function that the decoders of its capabilities use. */
export interface FunctionContext {
  /** Vendor id of the function. */
  vendorId: number;
  /** Sizes of its regions. */
  regionSizes: RegionSizes;
  /** True of a root port or an event collector. */
  isRoot?: boolean;
  /** True of a bridge to another bus. */
  isBridge?: boolean;
}

/** Reads of one capability structure, at offsets from its own start. They cannot fail. */
export class CapabilityReader {
  /** Mistakes found in the structure. */
  readonly notes: string[] = [];
  readonly #view: ConfigView;

  /** A reader of the structure at `offset` of `view`. */
  constructor(
    view: ConfigView,
    readonly offset: number,
    readonly context: FunctionContext,
  ) {
    this.#view = view;
  }

  /** The byte at `offset` of the structure. */
  u8(offset: number): number {
    return this.#view.u8(this.offset + offset);
  }

  /** The two bytes at `offset` of the structure. */
  u16(offset: number): number {
    return this.#view.u16(this.offset + offset);
  }

  /** The four bytes at `offset` of the structure. */
  u32(offset: number): number {
    return this.#view.u32(this.offset + offset);
  }

  /** The eight bytes at `offset` of the structure. */
  u64(offset: number): bigint {
    return this.#view.u64(this.offset + offset);
  }

  /**
   * Reports whether `length` bytes at `offset` of the structure are inside the space. If not, the
   * structure counts as one that reaches past its end.
   */
  has(offset: number, length: number): boolean {
    const isInside = this.offset + offset + length <= this.#view.size;
    if (!isInside) this.#view.overrun = true;
    return isInside;
  }

  /** The `width` bytes at `offset` of the structure, as an unsigned integer. */
  unsigned(offset: number, width: 1 | 2 | 4 | 8): bigint {
    return width === 8 ? this.u64(offset) : BigInt(this.#view.uint(this.offset + offset, width));
  }

  /** The base address registers at `offset` of the structure, `count` at most. */
  bars(offset: number, count: number): Bar[] {
    return parseBars(this.#view, count, () => undefined, this.offset + offset);
  }

  /** A copy of up to `length` bytes at `offset` of the structure. */
  bytes(offset: number, length: number): Uint8Array {
    return this.#view.bytes(this.offset + offset, length);
  }

  /**
   * Notes if `length` bytes at `start` of BAR `bar` are not inside its region, as far as that is
   * known.
   */
  checkInBar(what: string, bar: number, start: number | bigint, length: number | bigint): void {
    if (bar > 5) {
      this.notes.push(`${what} is in BAR ${bar}, which does not exist`);
      return;
    }
    const size = this.context.regionSizes(bar);
    const end = BigInt(start) + BigInt(length);
    if (size !== undefined && end > size) {
      this.notes.push(
        `${what} ends at ${hex(end)} of BAR ${bar}, which has ${hex(size)} bytes`,
      );
    }
  }
}
