/**
 * Hooks of a device for which no caller waits. Their failures must not end the server.
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

/**
 * Reports the failure of a hook that is asynchronous against its type: `void` stands for any
 * result.
 */
export function reportLater(result: unknown, report: (error: unknown) => void): void {
  if (result instanceof Promise) result.catch(report);
}
