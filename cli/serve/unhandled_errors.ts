/**
 * Errors that no caller catches: of a device's promises that no hook returns, and of its timers.
 *
 * @module
 */

import { nextTurn } from "../../lib/base/turn.ts";

/**
 * Reports them until it is disposed of. Without it they end the process, and with it all devices.
 * Disposing waits a turn of the event loop: the runtime reports what was thrown late.
 *
 * @param tell is given what was thrown
 */
export function catchUnhandled(tell: (error: unknown) => void): AsyncDisposable {
  const onRejection = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    tell(event.reason);
  };
  const onError = (event: ErrorEvent) => {
    event.preventDefault();
    tell(event.error);
  };
  globalThis.addEventListener("unhandledrejection", onRejection);
  globalThis.addEventListener("error", onError);
  return {
    async [Symbol.asyncDispose]() {
      await nextTurn();
      globalThis.removeEventListener("unhandledrejection", onRejection);
      globalThis.removeEventListener("error", onError);
    },
  };
}
