/**
 * Work in pieces, several of them under way together.
 *
 * @module
 */

import { nextTurn } from "../../lib/base/turn.ts";

/** Pieces that are under way together. */
const AHEAD = 8;
/**
 * The bytes that every server takes in one write. An unfinished transfer loses no more than that.
 */
const BLOCK_SIZE = 32 << 10;
/** The event loop, and so the user's Ctrl-C, is not kept waiting longer. */
const TURN_MS = 50;

/**
 * Runs `work` for each item, a few at a time, and gives the results in the order of the items.
 * After a failure no more are begun.
 *
 * @throws what the first that failed, in that order, has thrown
 */
export async function* pipeline<T, R>(
  items: Iterable<T>,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const pending: Promise<R>[] = [];
  const iterator = items[Symbol.iterator]();
  const begin = () => {
    const next = iterator.next();
    if (next.done) return;
    const result = work(next.value);
    result.catch(() => {}); // looked at when it is its turn, if ever
    pending.push(result);
  };
  let turnedMs = performance.now();
  for (let i = 0; i < AHEAD; i++) begin();
  while (pending.length > 0) {
    yield await pending.shift()!;
    if (performance.now() - turnedMs > TURN_MS) {
      await nextTurn();
      turnedMs = performance.now();
    }
    begin();
  }
}

/** Cuts so many bytes into blocks of 32 KiB. */
export function* blocks(length: number): Generator<{ at: number; count: number }> {
  for (let at = 0; at < length; at += BLOCK_SIZE) {
    yield { at, count: Math.min(BLOCK_SIZE, length - at) };
  }
}
