/**
 * A device's state on its way out. The device's chunks become pieces of the sizes that the client
 * asks for.
 *
 * @module
 */

import type { ServedMigration } from "./served_device.ts";

type Chunks = ReturnType<ServedMigration["stopCopy"]>;
type Step = IteratorResult<Uint8Array, unknown>;

/** No bytes. */
const NOTHING = new Uint8Array(0);

/** The stream that a device in PRE_COPY or STOP_COPY is read as. */
export class SavedStream {
  #chunks: Iterator<Uint8Array> | AsyncIterator<Uint8Array>;
  #rest: Uint8Array = NOTHING; // of the chunk that is being read
  #gathered: Uint8Array = NOTHING; // where small chunks are put together
  #isAtEnd = false;
  #isStill: boolean; // whether the device stands still: an empty chunk then says nothing
  #wasAsked = false;
  #failure: { error: unknown } | undefined;

  /**
   * A stream of these chunks.
   *
   * @param isStill true if they are the whole state of a device that stands still. Of a device that
   *   works an empty chunk ends a read, because there is nothing for now. Of a device that stands
   *   still a read without bytes would be taken for the end
   */
  constructor(chunks: Chunks, isStill: boolean) {
    this.#chunks = iterate(chunks);
    this.#isStill = isStill;
  }

  /** True once the device was asked for a chunk. */
  get wasAsked(): boolean {
    return this.#wasAsked;
  }

  /**
   * Goes on with the chunks of a device that stands still. What was taken of those before is given
   * first.
   */
  async continueWith(makeChunks: () => Chunks): Promise<void> {
    await this.close();
    this.#chunks = iterate(makeChunks());
    this.#isStill = true;
    this.#isAtEnd = false;
  }

  /**
   * The next `size` bytes; fewer if there are no more, for now or at all. They hold until the next
   * call.
   *
   * @throws what the device has thrown, again and again: behind a gap nothing is of use
   */
  read(size: number): Uint8Array | Promise<Uint8Array> {
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#read(size, 0);
  }

  /** Asks for chunks until there are `size` bytes; `count` of them are gathered already. */
  #read(size: number, count: number): Uint8Array | Promise<Uint8Array> {
    while (true) {
      const { length } = this.#rest;
      if (count === 0 && length >= size) return this.#take(size); // from where it is
      if (length > 0) count = this.#gather(size, count);
      if (count === size || this.#isAtEnd) return this.#gathered.subarray(0, count);
      const step = this.#next();
      if (step instanceof Promise) {
        return step.then((step) =>
          this.#accept(step) ? this.#read(size, count) : this.#gathered.subarray(0, count)
        );
      }
      if (!this.#accept(step)) return this.#gathered.subarray(0, count);
    }
  }

  #next(): Step | Promise<Step> {
    this.#wasAsked = true;
    try {
      const step = this.#chunks.next();
      return step instanceof Promise ? step.catch((error) => this.#fail(error)) : step;
    } catch (error) {
      return this.#fail(error);
    }
  }

  #fail(error: unknown): never {
    this.#failure = { error };
    throw error;
  }

  /**
   * Takes what the device has given. Returns whether to go on: not at the end, nor if there is
   * nothing for now.
   */
  #accept({ done, value }: Step): boolean {
    this.#isAtEnd = done ?? false;
    this.#rest = done ? NOTHING : value as Uint8Array;
    return this.#rest.length > 0 || (this.#isStill && !this.#isAtEnd);
  }

  #take(size: number): Uint8Array {
    const taken = this.#rest.subarray(0, size);
    this.#rest = this.#rest.subarray(size);
    return taken;
  }

  #gather(size: number, count: number): number {
    if (this.#gathered.length < size) {
      const larger = new Uint8Array(size);
      larger.set(this.#gathered.subarray(0, count));
      this.#gathered = larger;
    }
    const taken = this.#take(Math.min(this.#rest.length, size - count));
    this.#gathered.set(taken, count);
    return count + taken.length;
  }

  /** Cancels the device's stream. Errors that the device throws then are ignored. */
  async close(): Promise<void> {
    // A chunk holds until the next is asked for, and so does the rest of it: the rest is kept
    // apart.
    this.#rest = this.#rest.slice();
    try {
      if (!this.#isAtEnd && this.#failure === undefined) await this.#chunks.return?.();
    } catch { /* it has ended all the same */ }
  }
}

function iterate(chunks: Chunks): Iterator<Uint8Array> | AsyncIterator<Uint8Array> {
  return Symbol.asyncIterator in chunks
    ? chunks[Symbol.asyncIterator]()
    : chunks[Symbol.iterator]();
}
