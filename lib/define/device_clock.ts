/**
 * The clock of a device's timers.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { soon } from "../base/turn.ts";

/** A function that a clock calls. Its promise is settled when what it began has ended. */
export type ClockCall = () => Promise<void> | void;

/** A clock. The functions that it returns cancel the call. */
export interface DeviceClock {
  /** Milliseconds since some moment, with fractions; never goes back. */
  now(): number;
  /** Calls after so many milliseconds. */
  after(ms: number, call: ClockCall): () => void;
  /** Calls in the next turn of the event loop. */
  soon(call: ClockCall): () => void;
}

/** The clock of the machine. */
export const MACHINE_CLOCK: DeviceClock = {
  now: monotonicMs,
  after(ms, call) {
    const id = setTimeout(call, ms);
    return () => clearTimeout(id);
  },
  soon: (call) => soon(() => void call()),
};
