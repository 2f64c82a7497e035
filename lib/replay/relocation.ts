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
  /** The client's own; undefined if it told none in its turn, or took it back. */
  readonly found: bigint | undefined;
  /** The moment in which the client told it. */
  readonly told: Moment;
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
  readonly #unmapped: ReadonlyMap<number, readonly UnmappedRange[]>;
  /** Names by the page of the recorded address. */
  readonly #names = new Map<bigint, Map<bigint, Name>>();
  /** Recorded addresses by the page in which the client's own are. */
  readonly #byFound = new Map<bigint, Set<bigint>>();
  #count = 0;
  /** True once a name was not kept: then none stands, as the nearest one below may be another. */
  #isFull = false;

  /**
   * @param isMapped tells if the client has memory at an address
   * @param unmapped ranges that the recorded client unmapped, by their scenes
   */
  constructor(
    accessed: AccessedMemory,
    isMapped: (address: bigint) => boolean,
    unmapped: ReadonlyMap<number, readonly UnmappedRange[]> = new Map(),
  ) {
    this.#accessed = accessed;
    this.#unmapped = unmapped;
    this.#isMapped = isMapped;
  }

  /**
   * The client's address of a recorded access: as far behind the nearest name at or below as there.
   * Nothing is between but the same page, or pages that the recorded device took as one piece. The
   * client's own may be elsewhere in its page. Then what is between has to be in that page, too, or
   * the access went on where the one before had ended.
   *
   * @returns undefined if the client has not told it up to that moment
   */
  address({ offset }: Pick<AccessedRange, "offset">, now: Moment): bigint | undefined {
    if (this.#isFull || this.#accessed.isFull) return undefined;
    for (let page = offset >> PAGE_BITS;; page--) {
      let base = -1n;
      const names = this.#names.get(page);
      for (const address of names?.keys() ?? []) {
        if (address <= offset && address > base) base = address;
      }
      if (base >= 0n) {
        const { found, told } = names!.get(base)!;
        if (found === undefined || told.turn > now.turn) return undefined;
        const address = found + offset - base;
        const isNear = isAligned(base, found) || address >> PAGE_BITS === found >> PAGE_BITS;
        return isNear || this.#accessed.goesOn(offset) ? address : undefined;
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
    for (const [recorded, found] of names) this.#set(recorded, { found, told });
  }

  /** Forgets all addresses that recorded data tell, which the client has not told in its turn. */
  revokeAll(recorded: Uint8Array): void {
    const view = viewOf(recorded);
    for (let at = 0; at + 4 <= recorded.length; at += 4) {
      this.#revoke(wordOf(view, at, 32));
      if (at % 8 === 0 && at + 8 <= recorded.length) this.#revoke(wordOf(view, at, 64));
    }
  }

  /**
   * Forgets addresses in a range that the client unmaps. A VMM unmaps all memory for a moment when
   * its layout changes: addresses stay that the recorded client unmapped at the same time.
   */
  unmap(from: bigint, end: bigint, { scene }: Moment): void {
    const together = [scene - 1, scene, scene + 1].flatMap((at) => this.#unmapped.get(at) ?? []);
    const pages = ((end - 1n) >> PAGE_BITS) - (from >> PAGE_BITS) + 1n;
    const inRange = pages > this.#byFound.size
      ? this.#byFound.values().flatMap((addresses) => addresses)
      : pagesOf(from, end).flatMap((page) => this.#byFound.get(page) ?? []);
    for (const recorded of [...inRange]) {
      const { found, told } = this.#names.get(recorded >> PAGE_BITS)!.get(recorded)!;
      if (found === undefined || found < from || found >= end) continue;
      const isTogether = together.some((each) =>
        each.scene >= told.scene && each.from <= recorded && recorded < each.end
      );
      if (!isTogether) this.#set(recorded, { found: undefined, told });
    }
  }

  /** Forgets everything that the client told. */
  clear(): void {
    for (const names of this.#names.values()) {
      for (const [recorded, { told }] of names) names.set(recorded, { found: undefined, told });
    }
    this.#byFound.clear();
  }

  /**
   * Has no address stand for a recorded one. The name stays: what is there is not a part of the
   * memory whose name is below.
   */
  #revoke(recorded: bigint): void {
    const known = this.#names.get(recorded >> PAGE_BITS)?.has(recorded) ?? false;
    if (!known && !this.#accessed.isAddress(recorded, 64)) return;
    this.#set(recorded, { found: undefined, told: { turn: 0, scene: 0 } });
  }

  #set(recorded: bigint, name: Name): void {
    const page = recorded >> PAGE_BITS;
    const names = this.#names.get(page) ?? new Map<bigint, Name>();
    const before = names.get(recorded);
    if (before === undefined) {
      if (this.#count >= MAX_NAMES) {
        this.#isFull = true;
        return;
      }
      if (names.size >= MAX_NAMES_OF_PAGE) {
        // Not known which one is there: none is.
        for (const [other, { told }] of names) this.#set(other, { found: undefined, told });
        return;
      }
      this.#count++;
    } else if (before.found !== undefined) {
      const foundPage = before.found >> PAGE_BITS;
      const addresses = this.#byFound.get(foundPage)!;
      addresses.delete(recorded);
      if (addresses.size === 0) this.#byFound.delete(foundPage);
    }
    this.#names.set(page, names);
    names.set(recorded, name);
    if (name.found === undefined) return;
    const foundPage = name.found >> PAGE_BITS;
    const addresses = this.#byFound.get(foundPage) ?? new Set<bigint>();
    this.#byFound.set(foundPage, addresses);
    addresses.add(recorded);
  }

  /** Tells if the client's number can be in place of a recorded address. */
  #stands(recorded: bigint, found: bigint): boolean {
    return found >> PAGE_BITS !== 0n && this.#isMapped(found) &&
      (isAligned(recorded, found) || this.#accessed.isStart(recorded));
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

/** Tells if two addresses are at the same place of their pages. */
function isAligned(one: bigint, other: bigint): boolean {
  return ((one ^ other) & IN_PAGE) === 0n;
}

function* pagesOf(from: bigint, end: bigint): Generator<bigint> {
  for (let page = from >> PAGE_BITS; page <= (end - 1n) >> PAGE_BITS; page++) yield page;
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function wordOf(view: DataView, at: number, bits: 8 | 32 | 64): bigint {
  if (bits === 64) return view.getBigUint64(at, true);
  return BigInt(bits === 32 ? view.getUint32(at, true) : view.getUint8(at));
}
