/**
 * Waits for a descriptor on the event loop.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { watch } from "../../ffi/poller.ts";

/**
 * Waits until a descriptor, which stays open meanwhile, is ready.
 *
 * @param events POLLIN, POLLOUT or both
 * @param deadline in the milliseconds of `monotonicMs`
 * @returns false once the deadline has passed
 * @throws the signal's reason, once it is aborted
 */
export async function whenReady(
  fd: number,
  events: number,
  deadline: number,
  signal: AbortSignal,
): Promise<boolean> {
  signal.throwIfAborted();
  if (deadline <= monotonicMs()) return false;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const giveUp = () => resolve(false);
  using watching = watch(fd, events, (revents) => {
    watching.close();
    resolve(revents !== 0); // 0 at the deadline
  });
  watching.deadline = deadline;
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    const isReady = await promise;
    signal.throwIfAborted();
    return isReady;
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}
