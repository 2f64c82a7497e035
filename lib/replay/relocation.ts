/**
 * The client's memory at other addresses than in a recording.
 *
 * @module
 */

/** Bits of an address within a page. */
const PAGE_BITS = 12n;
/** Pages whose new places are kept. */
const MAX_PAGES = 65_536;

/**
 * Addresses of a recording, and those of the client that is served now. A driver tells addresses in
 * registers and in memory: where the recording has one of a page that the device accessed, and the
 * driver tells another one, the page is there now.
 *
 * @example
 * ```ts
 * import { Relocation } from "./relocation.ts";
 *
 * const relocation = new Relocation();
 * relocation.add(0x5040n, 64n);
 * const [recorded, found] = [0x5000n, 0x9000n].map((address) =>
 *   new Uint8Array(BigUint64Array.of(address).buffer)
 * );
 * console.assert(relocation.learn(recorded!, found!));
 * console.assert(relocation.address(0x5040n) === 0x9040n);
 * ```
 */
export class Relocation {
  /** Pages that the recorded device accessed. */
  readonly #pages = new Set<bigint>();
  readonly #moved = new Map<bigint, bigint>();
  /** Addresses at which accesses of the recorded device began, and where these are now. */
  readonly #starts = new Set<bigint>();
  readonly #movedStarts = new Map<bigint, bigint>();

  /** Notes an access of the recorded device. */
  add(address: bigint, count: bigint): void {
    if (this.#starts.size < MAX_PAGES) this.#starts.add(address);
    const last = (address + count - 1n) >> PAGE_BITS;
    for (let page = address >> PAGE_BITS; page <= last; page++) {
      if (this.#pages.size >= MAX_PAGES) break;
      this.#pages.add(page);
    }
  }

  /** The address now of a recorded one. */
  address(recorded: bigint): bigint {
    const start = this.#movedStarts.get(recorded);
    if (start !== undefined) return start;
    const page = recorded >> PAGE_BITS;
    const moved = this.#moved.get(page);
    return moved === undefined ? recorded : recorded + ((moved - page) << PAGE_BITS);
  }

  /** Forgets all places. */
  clear(): void {
    this.#moved.clear();
    this.#movedStarts.clear();
  }

  /**
   * Learns from data in which addresses may be, at multiples of 4 bytes.
   *
   * @returns true if they are the same but for addresses
   */
  learn(recorded: Uint8Array, found: Uint8Array): boolean {
    if (recorded.length !== found.length) return false;
    const [a, b] = [recorded, found].map((bytes) =>
      new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    ) as [DataView, DataView];
    let isSame = true;
    let at = 0;
    while (at < recorded.length) {
      const left = recorded.length - at;
      if (
        at % 8 === 0 && left >= 8 &&
        this.#move(a.getBigUint64(at, true), b.getBigUint64(at, true))
      ) at += 8;
      else if (left >= 4) {
        const isOne = this.#move(BigInt(a.getUint32(at, true)), BigInt(b.getUint32(at, true)));
        isSame &&= isOne;
        at += 4;
      } else {
        isSame &&= recorded[at] === found[at];
        at++;
      }
    }
    return isSame;
  }

  /** Tells if two numbers are equal, or addresses of the same place. */
  #move(recorded: bigint, found: bigint): boolean {
    const page = recorded >> PAGE_BITS;
    if (page === 0n || !this.#pages.has(page) || found >> PAGE_BITS === 0n) {
      return recorded === found;
    }
    const isAligned = ((recorded ^ found) & ((1n << PAGE_BITS) - 1n)) === 0n;
    const isStart = this.#starts.has(recorded);
    if (isStart) this.#movedStarts.set(recorded, found);
    if (isAligned) this.#moved.set(page, found >> PAGE_BITS);
    return isStart || isAligned;
  }
}
