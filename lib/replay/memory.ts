/**
 * The memory of a recorded client, as far as it is known.
 *
 * @module
 */

import { createMemfd } from "../../ffi/memory.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import type { RecordedDescriptor } from "../record/event.ts";

const PAGE = 4096n;
/** Pages that are remembered: 64 MiB. */
const MAX_PAGES = 16_384;
/** Files that are made; a VMM has one or a few for all of its memory. */
const MAX_FILES = 64;

/** Contents of memory by address: those that accesses of the device have shown. */
export class KnownMemory {
  /** By number, the longest unused first. */
  readonly #pages = new Map<bigint, Uint8Array>();

  /** The same contents in memory of their own. */
  copy(): KnownMemory {
    const copy = new KnownMemory();
    for (const [number, page] of this.#pages) copy.#pages.set(number, page.slice());
    return copy;
  }

  /** Remembers contents. */
  write(address: bigint, data: Uint8Array): void {
    for (const { page, at, from, length } of pieces(address, data.length)) {
      this.#page(page).set(data.subarray(from, from + length), at);
    }
  }

  /** The contents; zeros where they are unknown. */
  read(address: bigint, length: number): Uint8Array {
    const data = new Uint8Array(length);
    for (const { page, at, from, length: part } of pieces(address, length)) {
      const known = this.#pages.get(page);
      if (known !== undefined) data.set(known.subarray(at, at + part), from);
    }
    return data;
  }

  #page(number: bigint): Uint8Array {
    const page = this.#pages.get(number) ?? new Uint8Array(Number(PAGE));
    this.#pages.delete(number);
    this.#pages.set(number, page);
    if (this.#pages.size > MAX_PAGES) this.#pages.delete(this.#pages.keys().next().value!);
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
  readonly #files = new Map<string, { readonly fd: OwnedFd; readonly size: number }>();

  /**
   * A file in place of a recorded one; the same one for the same file.
   *
   * @param size the bytes that it has to have at least
   * @throws {RangeError} if the recording says that it is too large, or has too many
   * @throws {SystemError} as memfd_create(2) fails
   */
  file({ identity, size }: RecordedDescriptor, least: bigint): OwnedFd {
    const wanted = Number(size !== null && size > least ? size : least);
    const key = identity ?? `none ${this.#files.size}`;
    const known = this.#files.get(key);
    if (known !== undefined && known.size >= wanted) return known.fd;
    if (this.#files.size >= MAX_FILES) {
      throw new RangeError(`Cannot give the server memory: more than ${MAX_FILES} files of it`);
    }
    const fd = createMemfd("vfu-replay", wanted);
    this.#files.set(known === undefined ? key : `${key} ${this.#files.size}`, { fd, size: wanted });
    return fd;
  }

  /** Closes them. */
  [Symbol.dispose](): void {
    for (const { fd } of this.#files.values()) fd[Symbol.dispose]();
    this.#files.clear();
  }
}
