/**
 * Time to take back what was set up on a device, after Ctrl-C.
 *
 * @module
 */

import type { Device } from "../../lib/client/device.ts";
import type { WaitOptions } from "../../lib/client/info.ts";
import { onAbort } from "./context.ts";

/** A server that takes longer is left alone: it sees the connection end. */
const GRACE_MS = 1000;

/** A signal that follows another one: at once, or, from `begin` on, a second later. */
export class Grace implements Disposable {
  readonly #controller = new AbortController();
  readonly #listener: Disposable;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #delayMs = 0;

  /** @param signal what to follow */
  constructor(signal: AbortSignal) {
    const abort = () => this.#controller.abort(signal.reason);
    this.#listener = onAbort(signal, () => {
      if (this.#delayMs === 0) abort();
      else this.#timer = setTimeout(abort, this.#delayMs);
    });
    if (signal.aborted) abort();
  }

  /** The signal that follows. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /**
   * From here on there may be something to take back. It is called before the first request that
   * sets something up: the server may have done that request when Ctrl-C comes before the reply.
   */
  begin(): void {
    this.#delayMs = GRACE_MS;
  }

  /** Follows no more. */
  [Symbol.dispose](): void {
    this.#listener[Symbol.dispose]();
    clearTimeout(this.#timer);
  }
}

/**
 * Does work on a device, then takes back what the work has set up, also if the work fails.
 * The failure of the work counts more than that of taking back.
 *
 * @param work ends with an error at Ctrl-C, or early
 * @param takeBack given the time limit of its requests, which is short if the work has failed
 * @returns the result of the work
 */
export async function thenTakeBack<T>(
  device: Device,
  work: () => Promise<T>,
  takeBack: (wait: WaitOptions) => Promise<void>,
): Promise<T> {
  let result: T;
  try {
    result = await work();
  } catch (error) {
    if (device.state === "CONNECTED") await takeBack({ timeoutMs: GRACE_MS }).catch(() => {});
    throw error;
  }
  if (device.state === "CONNECTED") await takeBack({});
  return result;
}
