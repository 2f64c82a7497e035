/**
 * A region as far as it can be read: what the device refuses is found out and left out.
 *
 * @module
 */

import { RemoteError } from "../../lib/base/errors.ts";
import type { Region } from "../../lib/client/region.ts";
import type { BulkOptions, Via } from "../../lib/client/region_options.ts";
import type { Width } from "../../lib/client/info.ts";
import { blocks, pipeline } from "../shared/pipeline.ts";

/** The byte that stands for a refused one: a bus answers so where no device does. */
export const REFUSED_BYTE = 0xff;

/** Sizes in which a refused block is read again. A width of accesses follows them. */
const SMALLER = [4096, 256] as const;
/**
 * Refused reads after which blocks are not divided any more: the rest would take too many messages.
 */
const MAX_REFUSALS = 2048;

/** Bytes that the device refused. */
export interface RefusedRange {
  /** The first, from the start of the region. */
  readonly start: number;
  /** Behind the last. */
  end: number;
  /** The device's answer. */
  readonly error: RemoteError;
}

/** The way to read: by message, or through mapped memory. */
export interface ReadableOptions {
  /** Bytes of each access; if undefined as many as a message carries. */
  width?: Width | undefined;
  /** The way to read, if the user forces one. */
  via?: Via | undefined;
}

/** Reads a range of a region, block by block. */
export class ReadableRegion {
  /** The ranges that were refused so far, in order. Ranges that adjoin are one. */
  readonly refused: RefusedRange[] = [];
  /** Bytes that were read. */
  readCount = 0;
  /** The lowest refused read as it was made. */
  #first: { readonly at: number; readonly count: number } | undefined;
  #refusals = 0;
  readonly #region: Region;
  readonly #width: Width | undefined;
  readonly #bulk: BulkOptions;

  /** Reads of `region`. */
  constructor(region: Region, { width, via }: ReadableOptions) {
    this.#region = region;
    this.#width = width;
    this.#bulk = { explain: false, ...(via && { via }), ...(width && { chunkSize: width }) };
  }

  /**
   * Reads from one offset to another. Refused bytes are {@linkcode REFUSED_BYTE} in what it yields.
   *
   * @throws as `Region.readAsync`, but for refusals
   */
  async *read(start: number, end: number): AsyncGenerator<Uint8Array> {
    const read = async ({ at, count }: { at: number; count: number }) => {
      const bytes = new Uint8Array(count).fill(REFUSED_BYTE);
      const refused = await this.#readInto(start + at, bytes);
      return { bytes, refused };
    };
    for await (const { bytes, refused } of pipeline(blocks(end - start), read)) {
      for (const range of refused) this.#note(range);
      yield bytes;
    }
  }

  /**
   * Asks for the first refused read once more, to find out more of its reason.
   *
   * @returns the error with its reason
   */
  async explain(): Promise<Error> {
    const { at, count } = this.#first!;
    try {
      await this.#region.readAsync(at, count, { ...this.#bulk, explain: true });
    } catch (error) {
      if (error instanceof Error) return error;
    }
    return this.refused[0]!.error;
  }

  /** Reads a block; if it is refused, in smaller and smaller pieces. Returns what can't be read. */
  async #readInto(at: number, into: Uint8Array<ArrayBuffer>): Promise<RefusedRange[]> {
    const { length } = into;
    const width = this.#width;
    const isMapped = this.#bulk.via !== "message" && this.#region.via(at, length) === "map";
    // Registers are read once: those of a refused block would be read again.
    const isWhole = isMapped || width === undefined || length === width;
    if (isWhole) {
      try {
        await this.#region.readAsync(at, length, { ...this.#bulk, into });
        this.readCount += length;
        return [];
      } catch (error) {
        if (!(error instanceof RemoteError)) throw error;
        into.fill(REFUSED_BYTE); // some of its messages may have been answered
        this.#refusals++;
        // Several are under way: the first is the lowest, and of those the largest.
        if (this.#first === undefined || at < this.#first.at) this.#first = { at, count: length };
        const smaller = this.#smallerThan(length);
        if (smaller === undefined) return [{ start: at, end: at + length, error }];
        return await this.#readPieces(at, into, smaller);
      }
    }
    return await this.#readPieces(at, into, width);
  }

  /**
   * The size of the pieces in which a refused block is read again; undefined if it is not divided.
   */
  #smallerThan(length: number): number | undefined {
    const width = this.#width;
    if (width !== undefined) return width < length ? width : undefined;
    return this.#refusals > MAX_REFUSALS ? undefined : SMALLER.find((size) => size < length);
  }

  async #readPieces(
    at: number,
    into: Uint8Array<ArrayBuffer>,
    size: number,
  ): Promise<RefusedRange[]> {
    const refused: RefusedRange[] = [];
    const offsets = Array.from({ length: Math.ceil(into.length / size) }, (_, i) => i * size);
    const read = (from: number) => this.#readInto(at + from, into.subarray(from, from + size));
    for await (const ranges of pipeline(offsets, read)) refused.push(...ranges);
    return refused;
  }

  #note(range: RefusedRange): void {
    const last = this.refused.at(-1);
    if (last?.end === range.start && last.error.errno === range.error.errno) last.end = range.end;
    else this.refused.push({ ...range });
  }
}
