/**
 * Work on one register that takes several accesses, as plans: changing bits, waiting for a value.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { TimeoutError } from "../base/errors.ts";
import { DEFAULT_TIMEOUT_MS } from "../base/limits.ts";
import type { Plan } from "../base/plan.ts";
import { hex } from "../text/hex.ts";
import type { Width } from "./info.ts";
import type { PollOptions } from "./region_options.ts";
import { checkValue, merge } from "./register_value.ts";

/** A step of such work. */
export type RegisterStep =
  /** Reads the register, with a load that is never merged with another one. */
  | { readonly kind: "read" }
  /** Writes the register. */
  | { readonly kind: "write"; readonly value: number | bigint }
  /** Lets time pass, in milliseconds. */
  | { readonly kind: "pause"; readonly ms: number };

/** Work on a register. A step that reads comes to the value, others to undefined. */
export type RegisterPlan = Plan<RegisterStep, number | bigint | undefined, number | bigint>;

/** A register was not as wanted in time, though the server answered each read. */
export class UnmetError extends TimeoutError {}

const READ = { kind: "read" } as const;

/** Changes the bits of a register that `mask` selects. Returns what was written. */
export function* modifyPlan(
  width: Width,
  mask: number | bigint,
  value: number | bigint,
): RegisterPlan {
  checkValue(mask, width);
  const next = merge((yield READ)!, mask, value, width);
  yield { kind: "write", value: next };
  return next;
}

/**
 * Reads a register until its value is as wanted. Returns that value.
 *
 * @param place is called for the error alone, "bar0 at 0x10"
 * @throws {UnmetError} if that does not happen in time; its message has the last value
 */
export function* pollPlan(
  width: Width,
  predicate: (value: number | bigint) => boolean,
  { timeoutMs = DEFAULT_TIMEOUT_MS, intervalMs = 1 }: PollOptions,
  place: () => string,
): RegisterPlan {
  const deadline = monotonicMs() + timeoutMs;
  for (;;) {
    const value = (yield READ)!;
    if (predicate(value)) return value;
    const remaining = deadline - monotonicMs();
    if (remaining <= 0) {
      throw new UnmetError(
        `${place()} did not become as wanted within ${timeoutMs} ms; its last value was ${
          hex(value, width * 2)
        }`,
      );
    }
    yield { kind: "pause", ms: Math.min(intervalMs, remaining) };
  }
}
