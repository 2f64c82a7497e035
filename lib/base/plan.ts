/**
 * Plans: work that is written once and done blocking or asynchronously.
 *
 * A plan is a generator. It yields steps, such as requests, and is given what each step came to. A
 * step that fails throws inside the plan, which may clean up or go on.
 *
 * @module
 */

/** Work that yields steps of type `S`, is given results of type `R`, and returns a `T`. */
export type Plan<S, R, T> = Generator<S, T, R>;

/**
 * Does a plan in one go.
 *
 * @param perform does a step
 * @returns what the plan returns
 * @throws what the plan throws; an error of `perform` unless the plan handles it
 *
 * @example
 * ```ts
 * import { drive, type Plan } from "./plan.ts";
 *
 * function* sum(): Plan<string, number, number> {
 *   return (yield "a") + (yield "bc");
 * }
 * console.assert(drive(sum(), (step) => step.length) === 3);
 * ```
 */
export function drive<S, R, T>(plan: Plan<S, R, T>, perform: (step: S) => R): T {
  let step = plan.next();
  while (!step.done) {
    let result: R;
    try {
      result = perform(step.value);
    } catch (error) {
      step = plan.throw(error);
      continue;
    }
    step = plan.next(result);
  }
  return step.value;
}

/**
 * Does a plan, and awaits each step.
 *
 * @param perform does a step
 * @returns what the plan returns
 * @throws as {@linkcode drive}
 */
export async function driveAsync<S, R, T>(
  plan: Plan<S, R, T>,
  perform: (step: S) => R | Promise<R>,
): Promise<T> {
  let step = plan.next();
  while (!step.done) {
    let result: R;
    try {
      result = await perform(step.value);
    } catch (error) {
      step = plan.throw(error);
      continue;
    }
    step = plan.next(result);
  }
  return step.value;
}
