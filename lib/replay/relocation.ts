/**
 * The client's memory at other addresses than in a recording.
 *
 * @module
 */

import { type AccessedMemory, type AccessedRange, PAGE_BITS } from "./accessed.ts";

/** Names that are kept. */
const MAX_NAMES = 65_536;
/** Names of addresses in one page that are kept. */
const MAX_NAMES_OF_PAGE = 1024;
/** Bytes of a structure in memory that may have addresses of 32 bits at most. */
const MAX_NARROW = 256;
const IN_PAGE = (1n << PAGE_BITS) - 1n;

/** A moment of a play. */
export interface Moment {
  /** The number of the client's request that may change the device. */
  readonly turn: number;
  /** The index of the scene of the recording that it began. */
  readonly scene: number;
}

/** An address of the recording, and the client's own in its place. */
interface Name {
  readonly found: bigint;
  /** The moment in which the client told it. */
  readonly told: Moment;
  /** True once the client has unmapped it. */
  isUnmapped: boolean;
}

/** A range that a recorded client unmapped. */
export interface UnmappedRange {
  /** The index of the scene in which it did. */
  readonly scene: number;
  /** The first address. */
  readonly from: bigint;
  /** The first address behind it. */
  readonly end: bigint;
}

/** Options of {@linkcode Relocation.compare}. */
export interface CompareOptions {
  /** The register, or the kind of structure, that the data are of. */
  where?: string;
  /** Tells if the bytes at an offset are numbers that the client chooses. */
  isOwn?: (at: number) => boolean;
}

/**
 * Addresses of a recording, and those of the client that is served now. A driver tells addresses in
 * registers and in memory. What it tells in the place of a recorded address stands for that
 * address, until one of both tells something else there.
 *
 * @example
 * ```ts
 * import { AccessedMemory } from "./accessed.ts";
 * import { Relocation } from "./relocation.ts";
 *
 * const accessed = new AccessedMemory();
 * const access = { action: "read", offset: 0x5040n, count: 64n } as const;
 * accessed.add(access, undefined);
 * const relocation = new Relocation(accessed, () => true);
 * const [recorded, found] = [0x5000n, 0x9000n].map((address) =>
 *   new Uint8Array(BigUint64Array.of(address).buffer)
 * );
 * const moment = { turn: 1, scene: 1 };
 * relocation.tell(relocation.compare(recorded!, found!)!, moment);
 * console.assert(relocation.address(access, moment) === 0x9040n);
 * ```
 */
export class Relocation {
  readonly #accessed: AccessedMemory;
  readonly #isMapped: (address: bigint) => boolean;
  readonly #unmapped: readonly UnmappedRange[];
  /** Names by the page of the recorded address. */
  readonly #names = new Map<bigint, Map<bigint, Name>>();
  #count = 0;

  /**
   * @param isMapped tells if the client has memory at an address
   * @param unmapped ranges that the recorded client unmapped
   */
  constructor(
    accessed: AccessedMemory,
    isMapped: (address: bigint) => boolean,
    unmapped: readonly UnmappedRange[] = [],
  ) {
    this.#accessed = accessed;
    this.#unmapped = unmapped;
    this.#isMapped = isMapped;
  }

  /**
   * The client's address of a recorded access: as far behind the nearest name at or below as there.
   * Nothing is between but the same page, or pages that the recorded device took as one piece.
   *
   * @returns undefined if the client has not told it up to that moment; or has unmapped it since,
   *   where the recorded client did not
   */
  address({ offset }: Pick<AccessedRange, "offset">, now: Moment): bigint | undefined {
    for (let page = offset >> PAGE_BITS;; page--) {
      let base = -1n;
      const names = this.#names.get(page);
      for (const address of names?.keys() ?? []) {
        if (address <= offset && address > base) base = address;
      }
      if (base >= 0n) {
        const { found, told, isUnmapped } = names!.get(base)!;
        if (told.turn > now.turn) return undefined;
        // A VMM unmaps all memory for a moment when its layout changes.
        const isStale = isUnmapped &&
          !this.#unmapped.some(({ scene, from, end }) =>
            scene >= told.scene && scene <= now.scene && from <= base && base < end
          );
        return isStale ? undefined : found + offset - base;
      }
      if (!this.#accessed.isJoined(page)) return undefined;
    }
  }

  /**
   * Compares data of the client with recorded ones, in which addresses may be others.
   *
   * @returns the client's addresses by those of the recording; undefined if anything else differs
   */
  compare(
    recorded: Uint8Array,
    found: Uint8Array,
    { where = "", isOwn = () => false }: CompareOptions = {},
  ): Map<bigint, bigint> | undefined {
    if (recorded.length !== found.length) return undefined;
    const names = new Map<bigint, bigint>();
    const other = viewOf(found);
    for (const { at, bits, value } of this.#words(recorded, where)) {
      const its = wordOf(other, at, bits);
      if (bits > 8 && this.#accessed.isAddress(value, bits as 32 | 64, where, at)) {
        if (this.#stands(value, its)) {
          // If the same address is told twice, the same one has to be in both its places.
          if ((names.get(value) ?? its) !== its) return undefined;
          names.set(value, its);
          continue;
        }
      }
      if (value === its) continue;
      for (let i = at; i < at + bits / 8; i++) {
        if (recorded[i] !== found[i] && !isOwn(i)) return undefined;
      }
    }
    return names;
  }

  /** Has the client's addresses stand for those of the recording from now on. */
  tell(names: ReadonlyMap<bigint, bigint>, told: Moment): void {
    for (const [recorded, found] of names) {
      const page = recorded >> PAGE_BITS;
      const known = this.#names.get(page) ?? new Map<bigint, Name>();
      if (!known.has(recorded)) {
        if (this.#count >= MAX_NAMES || known.size >= MAX_NAMES_OF_PAGE) continue;
        this.#count++;
      }
      this.#names.set(page, known);
      known.set(recorded, { found, told, isUnmapped: false });
    }
  }

  /** Forgets an address. */
  revoke(recorded: bigint): void {
    const page = recorded >> PAGE_BITS;
    const names = this.#names.get(page);
    if (!names?.delete(recorded)) return;
    this.#count--;
    if (names.size === 0) this.#names.delete(page);
  }

  /** Forgets all addresses that recorded data tell, which the client has not told in its turn. */
  revokeAll(recorded: Uint8Array): void {
    const view = viewOf(recorded);
    for (let at = 0; at + 4 <= recorded.length; at += 4) {
      this.revoke(wordOf(view, at, 32));
      if (at % 8 === 0 && at + 8 <= recorded.length) this.revoke(wordOf(view, at, 64));
    }
  }

  /** Notes that the client unmaps a range. */
  unmap(from: bigint, end: bigint): void {
    for (const names of this.#names.values()) {
      for (const name of names.values()) {
        if (name.found >= from && name.found < end) name.isUnmapped = true;
      }
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#names.clear();
    this.#count = 0;
  }

  /** Tells if the client's number can be in place of a recorded address. */
  #stands(recorded: bigint, found: bigint): boolean {
    const isAligned = ((recorded ^ found) & IN_PAGE) === 0n;
    return found >> PAGE_BITS !== 0n && (isAligned || this.#accessed.isStart(recorded)) &&
      this.#isMapped(found);
  }

  /** The numbers of recorded data: addresses of 64 bits where they are, else 32 bits, and bytes. */
  *#words(recorded: Uint8Array, where: string) {
    const view = viewOf(recorded);
    const size = recorded.length;
    for (let at = 0; at < size;) {
      const isWhole = at % 8 === 0 && size - at >= 8;
      const wide = isWhole ? wordOf(view, at, 64) : 0n;
      const isWide = isWhole &&
        (size > MAX_NARROW || this.#accessed.isAddress(wide, 64, where, at));
      const bits = isWide ? 64 : size - at >= 4 && size <= MAX_NARROW ? 32 : 8;
      yield { at, bits, value: wordOf(view, at, bits) } as const;
      at += bits / 8;
    }
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function wordOf(view: DataView, at: number, bits: 8 | 32 | 64): bigint {
  if (bits === 64) return view.getBigUint64(at, true);
  return BigInt(bits === 32 ? view.getUint32(at, true) : view.getUint8(at));
}
