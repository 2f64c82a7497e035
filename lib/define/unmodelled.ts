/**
 * Accesses of a client that a device does not model: bytes of no register, reserved bits, and polls
 * of registers that never change.
 *
 * @module
 */

import { littleEndian } from "../base/little_endian.ts";
import type { ServedAccess, ServedRegion } from "../server/served_device.ts";
import { ConfigRegion } from "../server/config.ts";
import { fieldMask } from "../registers/map.ts";
import type { RegionPart } from "./device_region.ts";
import { hasReview } from "./review.ts";
import { ReviewIndex } from "./review_index.ts";

/** Equal reads of a place after which they are a poll that spins. */
const SPINNING = 1000;
/** Places that are kept of each kind; further ones are counted. */
const MAX_PLACES = 4096;

/** Bytes that a client has accessed, and that belong to no register. */
export interface UnmodelledPlace {
  /** Index of the region. */
  readonly region: number;
  /** Bytes from the start of the region. */
  readonly offset: number;
  /** Bytes of each access, as far as they belong to no register. */
  readonly size: number;
  /** The number of reads. */
  reads: number;
  /** The number of writes. */
  writes: number;
  /** The bytes that were written last; undefined if none were. */
  written?: Uint8Array;
}

/** Reserved bits of a register that a client has changed from their reset values. */
export interface ReservedBits {
  /** Index of the region. */
  readonly region: number;
  /** Bytes from the start of the region. */
  readonly offset: number;
  /** Path of the register in its map. */
  readonly register: string;
  /** All such bits of all writes. */
  bits: bigint;
  /** The number of writes. */
  writes: number;
}

/** Reads of a place that showed the same value again and again, until the client gave up. */
export interface SpinningPoll {
  /** Index of the region. */
  readonly region: number;
  /** Bytes from the start of the region. */
  readonly offset: number;
  /** Bytes of each read. */
  readonly size: number;
  /** Path of the register in its map; undefined if the place belongs to none. */
  readonly register: string | undefined;
  /** The bytes that were read. */
  value: Uint8Array;
  /** The most equal reads in a row. */
  count: number;
}

/** The accesses of a client that a device does not model. */
export interface UnmodelledReport {
  /** True if the device is on the PCI bus, where regions have names. */
  readonly isPci: boolean;
  /** Bytes of no register, by region and offset. */
  readonly places: readonly UnmodelledPlace[];
  /** Reserved bits that were changed. */
  readonly reserved: readonly ReservedBits[];
  /** Polls that spun without end. */
  readonly polls: readonly SpinningPoll[];
  /** Accesses of further places, of which there were too many. */
  readonly others: number;
}

/** Reads of one place since its value has changed, or its region was written. */
interface Run extends SpinningPoll {
  /** The most equal reads of a row that is over. */
  spun: number;
  /** Equal reads up to now. */
  now: number;
  last: Uint8Array;
}

/**
 * Collects accesses that a device does not model. Of regions without registers, as memory and
 * callbacks, all is modelled; configuration space is left out. Accesses through a map are not seen.
 *
 * @example
 * ```ts
 * import { registers } from "./registers.ts";
 * import { Unmodelled } from "./unmodelled.ts";
 *
 * const region = registers({ registers: [{ name: "CTRL", offset: 0, width: 4 }] });
 * const unmodelled = new Unmodelled();
 * unmodelled.saw({ index: 0, region, offset: 8, bytes: new Uint8Array(4), isWrite: false });
 * console.assert(unmodelled.report().places[0]?.offset === 8);
 * ```
 */
export class Unmodelled {
  readonly #isPci: boolean;
  readonly #reviews = new WeakMap<ServedRegion, ReviewIndex>();
  readonly #places = new Map<string, UnmodelledPlace>();
  readonly #reserved = new Map<string, ReservedBits>();
  readonly #runs = new Map<string, Run>();
  #others = 0;

  /** @param isPci whether the device is on the PCI bus */
  constructor(isPci = true) {
    this.#isPci = isPci;
  }

  /** Takes notice of an access that was done. */
  saw(access: ServedAccess): void {
    const { index, region, offset, bytes, isWrite } = access;
    if (region instanceof ConfigRegion || bytes.length === 0) return;
    const review = this.#reviewOf(region);
    for (let at = 0; review !== undefined && at < bytes.length;) {
      const part = review.at(offset + at);
      const end = part === undefined
        ? review.nextFrom(offset + at, bytes.length + offset)
        : part.end;
      const piece = bytes.subarray(at, Math.min(bytes.length, end - offset));
      if (part === undefined) this.#note(access, offset + at, piece);
      else if (isWrite && part.part !== undefined) {
        this.#noteReserved(index, part.part, offset + at, part.start, piece);
      }
      at += piece.length;
    }
    if (isWrite) this.#endRuns(index);
    else this.#noteRead(access, review);
  }

  /** All that was noticed, by place. */
  report(): UnmodelledReport {
    const byPlace = <T extends { region: number; offset: number }>(all: Iterable<T>) =>
      [...all].sort((a, b) => a.region - b.region || a.offset - b.offset);
    const polls = [...this.#runs.values()].flatMap(({ spun, now, last, ...run }) => {
      const count = Math.max(spun, now);
      return count < SPINNING ? [] : [{ ...run, value: now >= spun ? last : run.value, count }];
    });
    return {
      isPci: this.#isPci,
      places: byPlace(this.#places.values()),
      reserved: byPlace(this.#reserved.values()),
      polls: byPlace(polls),
      others: this.#others,
    };
  }

  /** Forgets what was noticed. */
  clear(): void {
    for (const each of [this.#places, this.#reserved, this.#runs]) each.clear();
    this.#others = 0;
  }

  #reviewOf(region: ServedRegion): ReviewIndex | undefined {
    if (!hasReview(region)) return undefined;
    let review = this.#reviews.get(region);
    if (review === undefined) {
      this.#reviews.set(region, review = new ReviewIndex(region.review()));
    }
    return review;
  }

  #note({ index, isWrite }: ServedAccess, offset: number, bytes: Uint8Array): void {
    const place = this.#entry<UnmodelledPlace>(
      this.#places,
      `${index} ${offset} ${bytes.length}`,
      () => ({
        region: index,
        offset,
        size: bytes.length,
        reads: 0,
        writes: 0,
      }),
    );
    if (place === undefined) return;
    if (!isWrite) return void place.reads++;
    place.writes++;
    place.written = bytes.slice(0, 8);
  }

  /** Looks for bits of no field, which are to be written as they are after a reset. */
  #noteReserved(
    index: number,
    { register, path, width }: RegionPart,
    at: number,
    start: number,
    bytes: Uint8Array,
  ): void {
    if (register === undefined || register.fields.length === 0) return;
    const known = register.fields.reduce((mask, each) => mask | fieldMask(each), 0n);
    const shift = BigInt(8 * (at - start));
    const written = ((1n << BigInt(8 * bytes.length)) - 1n) << shift;
    const reserved = BigInt.asUintN(8 * width, ~known) & written;
    const bits = ((littleEndian(bytes) << shift) ^ (register.reset ?? 0n)) & reserved;
    if (bits === 0n) return;
    const entry = this.#entry(this.#reserved, `${index} ${start} ${path}`, () => ({
      region: index,
      offset: start,
      register: path,
      bits: 0n,
      writes: 0,
    }));
    if (entry === undefined) return;
    entry.bits |= bits;
    entry.writes++;
  }

  #noteRead(
    { index, offset, bytes }: ServedAccess,
    review: ReviewIndex | undefined,
  ): void {
    if (bytes.length > 8) return; // nothing that is polled
    const run = this.#entry(this.#runs, `${index} ${offset} ${bytes.length}`, () => ({
      region: index,
      offset,
      size: bytes.length,
      register: review?.at(offset)?.part?.path,
      value: bytes.slice(),
      count: 0,
      spun: 0,
      now: 0,
      last: bytes.slice(),
    }));
    if (run === undefined) return;
    if (bytes.every((byte, i) => byte === run.last[i])) return void run.now++;
    run.last = bytes.slice(); // what was waited for has come
    run.now = 1;
  }

  /** A client that writes has given up to wait, or waits for something else. */
  #endRuns(index: number): void {
    for (const run of this.#runs.values()) {
      if (run.region !== index || run.now === 0) continue;
      if (run.now >= SPINNING && run.now > run.spun) {
        run.spun = run.now;
        run.value = run.last;
      }
      run.now = 0;
    }
  }

  #entry<T>(entries: Map<string, T>, key: string, make: () => T): T | undefined {
    let entry = entries.get(key);
    if (entry !== undefined) return entry;
    if (entries.size >= MAX_PLACES) {
      this.#others++;
      return undefined;
    }
    entries.set(key, entry = make());
    return entry;
  }
}
