/**
 * Several pieces of one piece of work under way at a time.
 *
 * @module
 */

/**
 * Runs pieces, a few at a time. After a failure none begins, and those under way are waited for:
 * the memory that they use is the caller's again when this has ended.
 *
 * @param count how many run at a time
 * @param run does a piece
 * @throws the first failure, of a piece or of the iterator
 *
 * @example
 * ```ts
 * import { inLanes } from "./lanes.ts";
 *
 * const done: number[] = [];
 * await inLanes(2, [1, 2, 3], async (piece) => void done.push(await piece));
 * console.assert(done.length === 3);
 * ```
 */
export async function inLanes<P>(
  count: number,
  pieces: Iterable<P>,
  run: (piece: P) => Promise<void>,
): Promise<void> {
  const iterator = pieces[Symbol.iterator]();
  let failure: { readonly reason: unknown } | undefined;
  const lane = async () => {
    try {
      for (let next = iterator.next(); !next.done && !failure; next = iterator.next()) {
        await run(next.value);
      }
    } catch (reason) {
      failure ??= { reason };
    }
  };
  await Promise.all(Array.from({ length: count }, lane));
  if (failure !== undefined) throw failure.reason;
}
