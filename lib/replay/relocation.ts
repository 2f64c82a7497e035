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
 * relocation.add(0x5040n);
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

  /** Notes an address that the recorded device accessed. */
  add(address: bigint): void {
    if (this.#pages.size < MAX_PAGES) this.#pages.add(address >> PAGE_BITS);
  }

  /** The address now of a recorded one. */
  address(recorded: bigint): bigint {
    const page = recorded >> PAGE_BITS;
    const moved = this.#moved.get(page);
    return moved === undefined ? recorded : recorded + ((moved - page) << PAGE_BITS);
  }

  /** Forgets all places. */
  clear(): void {
    this.#moved.clear();
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
        isSame &&= this.#move(BigInt(a.getUint32(at, true)), BigInt(b.getUint32(at, true)));
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
    const isAddress = page !== 0n && this.#pages.has(page);
    const isMoved = isAddress && ((recorded ^ found) & ((1n << PAGE_BITS) - 1n)) === 0n;
    if (isMoved && (recorded !== found || this.#moved.has(page))) {
      this.#moved.set(page, found >> PAGE_BITS);
    }
    return recorded === found || (isMoved && found !== 0n);
  }
}
