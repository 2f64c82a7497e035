/**
 * Hooks of a device that nobody waits for. What they fail with must not end the server.
 *
 * @module
 */

/**
 * Calls a hook, and tells what it throws.
 *
 * @param report told at once, or later if the hook is asynchronous
 *
 * @example
 * ```ts
 * import { callHook } from "./device_hooks.ts";
 *
 * const errors: unknown[] = [];
 * callHook(() => {
 *   throw new Error("a mistake");
 * }, (error) => errors.push(error));
 * console.assert(errors.length === 1);
 * ```
 */
export function callHook(hook: () => unknown, report: (error: unknown) => void): void {
  try {
    reportLater(hook(), report);
  } catch (error) {
    report(error);
  }
}

/** Tells what a hook fails with that was called and, against its type, is asynchronous: `void` stands for any result. */
export function reportLater(result: unknown, report: (error: unknown) => void): void {
  if (result instanceof Promise) result.catch(report);
}
