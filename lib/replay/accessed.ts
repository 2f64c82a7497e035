/**
 * The memory that a recorded device accessed, by the addresses of its client.
 *
 * @module
 */

/** Bits of an address within a page. */
export const PAGE_BITS = 12n;
/** Pages, and starts of accesses, that are kept: with more, the memory is not known. */
const MAX_KEPT = 65_536;
/** Bytes of accesses that are entries of a ring, each behind the one before: fewer than these. */
const MAX_ENTRY = 4096n;
/** Bytes of data with a place for each number; larger ones have one place for all. */
const MAX_PLACES = 256;

/** A DMA of a recorded device. */
export interface AccessedRange {
  /** Its direction. */
  readonly action: "read" | "write";
  /** Its first address. */
  readonly offset: bigint;
  /** Bytes. */
  readonly count: bigint;
}

/** Addresses at which a recorded device accessed memory, and pages that it took as one piece. */
export class AccessedMemory {
  /** Addresses at which an access began. */
  readonly #starts = new Set<bigint>();
  /** The same, but for accesses that went on where the one before had ended. */
  readonly #firstStarts = new Set<bigint>();
  /** Pages in which an access began. */
  readonly #pages = new Set<bigint>();
  /** Halves of addresses beyond 4 GiB, which drivers write by 32 bits. */
  readonly #halves = new Set<bigint>();
  /** Pages that go on with the page before. */
  readonly #joined = new Set<bigint>();
  /** Accesses that end, or begin, at the border of two pages. */
  readonly #borders = new Set<string>();
  /** Places at which the recorded client also told numbers that are no addresses. */
  readonly #others = new Set<string>();
  #last = { scene: {} as unknown, action: "", end: -1n };
  #isFull = false;

  /** True if there were too many accesses: an address may belong to one that was left out. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /**
   * Notes an access. The scene is any object that is the same for accesses which follow the same
   * request.
   */
  add({ action, offset, count }: AccessedRange, scene: unknown): void {
    if (count < 1n) return;
    const end = offset + count;
    const { scene: before, action: same, end: behind } = this.#last;
    const goesOn = before === scene && same === action && behind === offset;
    this.#last = { scene, action, end };
    this.#keep(this.#starts, offset);
    if (offset >> 32n !== 0n) {
      this.#keep(this.#halves, offset >> 32n);
      this.#keep(this.#halves, offset & 0xffff_ffffn);
    }
    if (!goesOn) this.#keep(this.#firstStarts, offset);
    const first = offset >> PAGE_BITS;
    const last = (end - 1n) >> PAGE_BITS;
    this.#keep(this.#pages, first);
    for (let page = first + 1n; page <= last && !this.#isFull; page++) {
      this.#keep(this.#joined, page);
    }
    if (goesOn && isBorder(offset)) this.#keep(this.#joined, first);
    if (count >= MAX_ENTRY) return;
    // Entries of one ring: the last one of a page, and the first one of the next.
    for (const [border, own, other] of [[offset, "from", "to"], [end, "to", "from"]] as const) {
      if (!isBorder(border)) continue;
      const key = `${action} ${count} ${border}`;
      this.#keep(this.#borders, `${own} ${key}`);
      if (this.#borders.has(`${other} ${key}`)) this.#keep(this.#joined, border >> PAGE_BITS);
    }
  }

  /**
   * Notes data that the recorded client told, once all accesses are noted. Where it told a number
   * that is no address, as a length, no number is one. In more than 256 bytes that is all of them.
   *
   * @param where the register, or the kind of structure
   */
  see(where: string, data: Uint8Array): void {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    if (data.length > MAX_PLACES) {
      for (let at = 0; at + 8 <= data.length; at += 8) {
        const wide = view.getBigUint64(at, true);
        if (wide !== 0n && !this.#isAccessed(wide)) return this.#keep(this.#others, where);
      }
      return;
    }
    for (let at = 0; at + 4 <= data.length; at += 4) {
      const narrow = BigInt(view.getUint32(at, true));
      if (narrow !== 0n && !this.#firstStarts.has(narrow)) {
        this.#keep(this.#others, `${where} ${at} 32`);
      }
      if (at % 8 !== 0 || at + 8 > data.length) continue;
      const wide = view.getBigUint64(at, true);
      if (wide !== 0n && !this.#isAccessed(wide)) this.#keep(this.#others, `${where} ${at} 64`);
    }
  }

  /**
   * Tells if a number that the client told can be an address of the device's accesses. A number of
   * 32 bits is one only if an access began there.
   *
   * @param where as for {@linkcode see}
   * @param at the offset of the number in the data
   */
  isAddress(value: bigint, bits: 32 | 64, where = "", at = 0): boolean {
    if (value >> PAGE_BITS === 0n) return false;
    const isKnown = bits === 32 ? this.#firstStarts.has(value) : this.#isAccessed(value);
    return isKnown && !this.#others.has(where) && !this.#others.has(`${where} ${at} ${bits}`);
  }

  /** Tells if a number is half of an address beyond 4 GiB. */
  isHalf(value: bigint): boolean {
    return this.#halves.has(value);
  }

  /** Tells if an access went on there where the one before had ended, and none began there. */
  goesOn(value: bigint): boolean {
    return this.#starts.has(value) && !this.#firstStarts.has(value);
  }

  #keep<T>(set: Set<T>, value: T): void {
    if (set.size < MAX_KEPT) set.add(value);
    else if (!set.has(value)) this.#isFull = true;
  }

  #isAccessed(value: bigint): boolean {
    return this.#starts.has(value) || this.#pages.has(value >> PAGE_BITS);
  }

  /** Tells if an access began there. */
  isStart(value: bigint): boolean {
    return this.#starts.has(value);
  }

  /** Tells if a page goes on with the page before: the same ring, or the same piece of memory. */
  isJoined(page: bigint): boolean {
    return this.#joined.has(page);
  }
}

function isBorder(address: bigint): boolean {
  return (address & ((1n << PAGE_BITS) - 1n)) === 0n;
}
