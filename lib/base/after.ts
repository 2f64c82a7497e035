/**
 * Work that is mostly done at once and sometimes late. A promise for each step of a hot loop costs
 * more than the step.
 *
 * @module
 */

/** A result, or the promise of one. */
export type Late<T> = T | Promise<T>;

/**
 * Goes on when something is done: at once, unless that is a promise. `then` and `failed` are called
 * as by `Promise.prototype.then`: what `then` throws does not reach `failed`.
 *
 * @param act does it, or begins to
 * @param then called with its result
 * @param failed called with what it threw, or rejected with; without it that passes on
 * @returns the result of `then` or `failed`: a promise if `act` returned a promise
 *
 * @example
 * ```ts
 * import { after } from "./after.ts";
 *
 * const next = (value: number | Promise<number>) => after(() => value, (number) => number + 1);
 * console.assert(next(1) === 2);
 * console.assert(await next(Promise.resolve(1)) === 2);
 * ```
 */
export function after<T, R>(
  act: () => Late<T>,
  then: (value: T) => Late<R>,
  failed?: (error: unknown) => Late<R>,
): Late<R> {
  let value: Late<T>;
  try {
    value = act();
  } catch (error) {
    if (failed === undefined) throw error;
    return failed(error);
  }
  return value instanceof Promise ? value.then(then, failed) : then(value);
}
