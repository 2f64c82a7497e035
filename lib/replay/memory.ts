/**
 * The memory of a recorded client, as far as it is known.
 *
 * @module
 */

import { createMemfd, growMemfd } from "../../ffi/memory.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import type { RecordedDescriptor } from "../record/event.ts";

const PAGE = 4096n;
/** Pages that are remembered: 64 MiB. */
export const MAX_PAGES = 16_384;
/** Files that are made; a VMM has one or a few for all of its memory. */
const MAX_FILES = 64;
/** Bytes of all files together: 256 GiB. They are sparse: memory is taken where it is written. */
const MAX_FILE_BYTES = 1n << 38n;

/** A page: its bytes, and a bit for each that is known. */
interface Page {
  readonly bytes: Uint8Array;
  readonly known: Uint8Array;
}

/** Pages that several memories may have together. */
export class PageBudget {
  /** Pages that none of them has. */
  left = MAX_PAGES;
}

/** Contents of memory by address: those that accesses of the device have shown. */
export class KnownMemory {
  readonly #budget: PageBudget;
  /** By number, the longest unused first. */
  readonly #pages = new Map<bigint, Page>();

  #hasForgotten = false;

  /** @param budget of all memories that share it; its own if left out */
  constructor(budget = new PageBudget()) {
    this.#budget = budget;
  }

  /** True once pages were forgotten, since there were more than are remembered. */
  get hasForgotten(): boolean {
    return this.#hasForgotten;
  }

  /** The same contents in memory of their own, as far as a budget has pages for it. */
  copy(budget = new PageBudget()): KnownMemory {
    const copy = new KnownMemory(budget);
    for (const [number, { bytes, known }] of this.#pages) {
      if (budget.left === 0) break;
      budget.left--;
      copy.#pages.set(number, { bytes: bytes.slice(), known: known.slice() });
    }
    return copy;
  }

  /** Remembers contents. */
  write(address: bigint, data: Uint8Array): void {
    for (const { page, at, from, length } of pieces(address, data.length)) {
      const taken = this.#page(page);
      if (taken === undefined) continue;
      const { bytes, known } = taken;
      bytes.set(data.subarray(from, from + length), at);
      if (length === bytes.length) known.fill(0xff);
      else for (let i = at; i < at + length; i++) known[i >> 3]! |= 1 << (i & 7);
    }
  }

  /** The contents; zeros where they are unknown. */
  read(address: bigint, length: number): Uint8Array {
    const data = new Uint8Array(length);
    for (const { page, at, from, length: part } of pieces(address, length)) {
      const known = this.#pages.get(page);
      if (known !== undefined) data.set(known.bytes.subarray(at, at + part), from);
    }
    return data;
  }

  /** Tells if all of a range is known. */
  isKnown(address: bigint, length: number): boolean {
    for (const { page, at, length: part } of pieces(address, length)) {
      const known = this.#pages.get(page)?.known;
      if (known === undefined) return false;
      for (let i = at; i < at + part; i++) if ((known[i >> 3]! & 1 << (i & 7)) === 0) return false;
    }
    return true;
  }

  /** The page of that number; undefined if other memories have all pages. */
  #page(number: bigint): Page | undefined {
    let page = this.#pages.get(number);
    if (page !== undefined) this.#pages.delete(number);
    else if (this.#budget.left > 0) {
      this.#budget.left--;
      page = {
        bytes: new Uint8Array(Number(PAGE)),
        known: new Uint8Array(Number(PAGE) / 8),
      };
    } else {
      // The page that was unused for longest is used again: no new memory for each.
      this.#hasForgotten = true;
      const [oldest] = this.#pages;
      if (oldest === undefined) return undefined;
      this.#pages.delete(oldest[0]);
      page = oldest[1];
      page.bytes.fill(0);
      page.known.fill(0);
    }
    this.#pages.set(number, page);
    return page;
  }
}

function* pieces(address: bigint, length: number) {
  for (let from = 0; from < length;) {
    const place = address + BigInt(from);
    const at = Number(place % PAGE);
    const part = Math.min(length - from, Number(PAGE) - at);
    yield { page: place / PAGE, at, from, length: part };
    from += part;
  }
}

/** Files that stand for those with the memory of a recorded client. */
export class MemoryFiles implements Disposable {
  readonly #files = new Map<string, { readonly fd: OwnedFd; size: bigint }>();

  /**
   * Returns a file in place of a recorded one. It is the same one for the same file, which grows if
   * it has to. A recording without an identity has a file for each descriptor.
   *
   * @param least the bytes that it has to have at least
   * @throws {RangeError} if the recording says that it is too large, or has too many
   * @throws {SystemError} as memfd_create(2) and ftruncate(2) fail
   */
  file({ identity, size }: RecordedDescriptor, least: bigint): OwnedFd {
    const claimed = size !== null && size > least ? size : least;
    const wanted = claimed < 1n ? 1n : claimed; // a map of nothing has a file all the same
    const key = identity === null ? `none ${this.#files.size}` : `file ${identity}`;
    const known = this.#files.get(key);
    if (known !== undefined && known.size >= wanted) return known.fd;
    let others = 0n;
    for (const file of this.#files.values()) if (file !== known) others += file.size;
    if (wanted > MAX_FILE_BYTES - others) {
      throw new RangeError(
        `Cannot give the server memory: the recording claims a file of ${wanted} bytes, and ` +
          `all of its files together may have ${MAX_FILE_BYTES}; record a client with less memory`,
      );
    }
    if (known !== undefined) {
      growMemfd(known.fd, Number(wanted));
      known.size = wanted;
      return known.fd;
    }
    if (this.#files.size >= MAX_FILES) {
      throw new RangeError(
        `Cannot give the server memory: the recording has more than ${MAX_FILES} files of it; ` +
          "record a client whose memory is in fewer files",
      );
    }
    const fd = createMemfd("vfu-replay", Number(wanted), { canGrow: true });
    this.#files.set(key, { fd, size: wanted });
    return fd;
  }

  /** Closes them. */
  [Symbol.dispose](): void {
    for (const { fd } of this.#files.values()) fd[Symbol.dispose]();
    this.#files.clear();
  }
}
